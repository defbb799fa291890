-- What a new command must hold, checked when it is typed: the program that makes a mistake sees it at
-- once, named by its field. The checks run in this order, and the first that fails is reported.

CREATE FUNCTION outbox_check() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    refusal text;
    document json;
BEGIN
    -- PostgreSQL itself accepts no text but UTF-8 without NUL, and no flag but true or false.
    refusal := CASE
        WHEN NEW.payload IS NULL
            THEN 'payload must be a JSON object of at most 100000 characters'
        WHEN NEW.account = '' THEN 'account must be given'
        -- Other programs' calendars have no other times, in whatever zone they show them.
        WHEN NEW.not_before NOT BETWEEN
            '0001-01-02 00:00:00+00' AND '9999-12-30 00:00:00+00'
            THEN 'not_before must lie in the years 1 to 9999; leave it out for none'
        WHEN NEW.expires_at NOT BETWEEN
            '0001-01-02 00:00:00+00' AND '9999-12-30 00:00:00+00'
            THEN 'expires_at must lie in the years 1 to 9999; leave it out for none'
        WHEN NEW.created_at NOT BETWEEN
            '0001-01-02 00:00:00+00' AND '9999-12-30 00:00:00+00'
            THEN 'created_at must lie in the years 1 to 9999; leave it out for none'
        WHEN NEW.epoch IS NOT NULL THEN 'epoch is for the recorder to set; leave it out'
        WHEN NEW.connection_id IS NOT NULL
            THEN 'connection_id is for the recorder to set; leave it out'
        WHEN NEW.customer_order_id IS NOT NULL
            THEN 'customer_order_id is for the recorder to set; leave it out'
        WHEN NEW.order_id IS NOT NULL THEN 'order_id is for the recorder to set; leave it out'
        WHEN NEW.modify_request_id IS NOT NULL
            THEN 'modify_request_id is for the recorder to set; leave it out'
        WHEN NEW.sent_position IS NOT NULL
            THEN 'sent_position is for the recorder to set; leave it out'
        WHEN NEW.acknowledged_position IS NOT NULL
            THEN 'acknowledged_position is for the recorder to set; leave it out'
        WHEN NEW.resolved_position IS NOT NULL
            THEN 'resolved_position is for the recorder to set; leave it out'
        WHEN NEW.updated_at IS NOT NULL THEN 'updated_at is for the recorder to set; leave it out'
        WHEN NEW.status <> 'queued' THEN 'status of a new command must be queued'
        WHEN NEW.attempts <> 0 THEN 'attempts of a new command must be 0'
        WHEN NEW.command NOT IN ('PLACE_LIMIT_ORDER', 'PLACE_MARKET_ORDER', 'CANCEL_ORDER',
            'MODIFY_ORDER', 'PLACE_BATCH_ORDERS')
            THEN 'command must be one of PLACE_LIMIT_ORDER, PLACE_MARKET_ORDER, CANCEL_ORDER, MODIFY_ORDER, PLACE_BATCH_ORDERS'
    END;

    -- A statement of its own: other commands work where the caller's path doesn't lead to the table.
    IF refusal IS NULL AND NEW.requeue_of IS NOT NULL THEN
        IF NOT EXISTS (SELECT FROM outbox
            WHERE account = NEW.account AND outbox_id = NEW.requeue_of AND status NOT IN
                ('queued', 'sending', 'sent', 'acknowledged', 'in_doubt'))
        THEN
            refusal := 'requeue_of must name a command of this account whose outcome is settled';
        END IF;
    END IF;

    IF refusal IS NULL THEN
        BEGIN
            refusal := CASE
                WHEN length(NEW.payload) > 100000 OR NEW.payload IS NOT JSON OBJECT
                    THEN 'payload must be a JSON object of at most 100000 characters'
                WHEN NEW.payload IS NOT JSON OBJECT WITH UNIQUE KEYS
                    THEN 'payload names a field twice, or holds an escape that is no character'
            END;
        EXCEPTION WHEN statement_too_complex THEN
            -- Nested too deep for the server's stack.
            refusal := 'payload must be a JSON object of at most 100000 characters';
        END;
    END IF;

    IF refusal IS NULL THEN
        document := NEW.payload;
        IF NEW.command = 'PLACE_BATCH_ORDERS' AND (CASE json_typeof(document -> 'requests')
            WHEN 'array' THEN json_array_length(document -> 'requests') ELSE 0 END)
            NOT BETWEEN 1 AND 20
        THEN
            refusal := 'requests must be an array of 1 to 20 orders';
        END IF;
    END IF;

    -- Each request of a batch has a type and an object of data.
    IF refusal IS NULL AND NEW.command = 'PLACE_BATCH_ORDERS' THEN
        SELECT CASE
            WHEN json_typeof(value) <> 'object' THEN 'requests[] must be objects'
            WHEN coalesce(value ->> 'type', '')
                NOT IN ('PLACE_LIMIT', 'PLACE_MARKET', 'MODIFY_ORDER', 'CANCEL_ORDER')
                THEN 'requests[].type must be one of PLACE_LIMIT, PLACE_MARKET, MODIFY_ORDER, CANCEL_ORDER'
            ELSE 'requests[].data must be an object'
        END
        INTO refusal
        FROM json_array_elements(document -> 'requests') AS element (value)
        WHERE json_typeof(value) <> 'object'
            OR coalesce(value ->> 'type', '')
                NOT IN ('PLACE_LIMIT', 'PLACE_MARKET', 'MODIFY_ORDER', 'CANCEL_ORDER')
            OR coalesce(json_typeof(value -> 'data'), '') <> 'object'
        LIMIT 1;
    END IF;

    -- What each field of each request must be: rules of (order, field, kind, must it be given,
    -- commands). A missing field and null are the same.
    IF refusal IS NULL THEN
        SELECT request.place || rule.field || ' ' || CASE rule.kind
                WHEN 'text' THEN 'must be a string'
                WHEN 'pair' THEN 'must be 1 to 40 letters, digits, dashes or underscores'
                WHEN 'name' THEN 'must be 1 to 50 letters, digits or dashes'
                WHEN 'id' THEN 'must be 1 to 64 letters, digits or dashes'
                WHEN 'side' THEN 'must be "BUY" or "SELL"'
                WHEN 'force' THEN 'must be "GTC", "FOK" or "IOC"'
                WHEN 'strategy' THEN 'must be "RETAIN_ORIGINAL", "CANCEL_ORIGINAL" or "REPRICE"'
                WHEN 'flag' THEN 'must be true or false'
                WHEN 'amount' THEN 'must be a positive decimal in a string, like "0.001"'
            END
        INTO refusal
        FROM (
            SELECT '' AS place, NEW.command AS command, document AS fields
            WHERE NEW.command <> 'PLACE_BATCH_ORDERS'
            UNION ALL
            SELECT 'requests[].data.',
                CASE value ->> 'type'
                    WHEN 'PLACE_LIMIT' THEN 'PLACE_LIMIT_ORDER'
                    WHEN 'PLACE_MARKET' THEN 'PLACE_MARKET_ORDER'
                    ELSE value ->> 'type'
                END,
                value -> 'data'
            FROM json_array_elements(CASE NEW.command WHEN 'PLACE_BATCH_ORDERS'
                THEN document -> 'requests' ELSE '[]' END) AS element (value)
        ) AS request,
        (VALUES
            (1, 'side', 'side', 1, 'PLACE_LIMIT_ORDER PLACE_MARKET_ORDER'),
            (2, 'quantity', 'amount', 1, 'PLACE_LIMIT_ORDER'),
            (3, 'price', 'amount', 1, 'PLACE_LIMIT_ORDER'),
            (4, 'baseAmount', 'amount', 0, 'PLACE_MARKET_ORDER'),
            (5, 'quoteAmount', 'amount', 0, 'PLACE_MARKET_ORDER'),
            (6, 'orderId', 'text', 0, 'CANCEL_ORDER MODIFY_ORDER'),
            (7, 'modifyMatchStrategy', 'text', 1, 'MODIFY_ORDER'),
            (8, 'pair', 'text', 1, 'every command'),
            (9, 'customerOrderId', 'text', 0, 'every command'),
            (10, 'pair', 'pair', 1, 'every command'),
            (11, 'customerOrderId', 'name', 0, 'every command'),
            (12, 'orderId', 'id', 0, 'CANCEL_ORDER MODIFY_ORDER'),
            (13, 'timeInForce', 'force', 0, 'PLACE_LIMIT_ORDER PLACE_MARKET_ORDER'),
            (14, 'reduceOnly', 'flag', 0, 'PLACE_LIMIT_ORDER PLACE_MARKET_ORDER'),
            (15, 'allowMargin', 'flag', 0, 'PLACE_LIMIT_ORDER PLACE_MARKET_ORDER'),
            (16, 'postOnly', 'flag', 0, 'PLACE_LIMIT_ORDER'),
            (17, 'postOnlyReprice', 'flag', 0, 'PLACE_LIMIT_ORDER'),
            (18, 'modifyMatchStrategy', 'strategy', 1, 'MODIFY_ORDER'),
            (19, 'newPrice', 'amount', 0, 'MODIFY_ORDER'),
            (20, 'newRemainingQuantity', 'amount', 0, 'MODIFY_ORDER'),
            (21, 'newTotalQuantity', 'amount', 0, 'MODIFY_ORDER')
        ) AS rule (position, field, kind, is_required, commands)
        WHERE (rule.commands = 'every command' OR strpos(rule.commands, request.command) > 0)
            AND (rule.kind <> 'text' OR request.place = '')
            AND CASE coalesce(json_typeof(request.fields -> rule.field), 'null')
                WHEN 'null' THEN rule.is_required = 1
                WHEN 'boolean' THEN rule.kind <> 'flag'
                WHEN 'string' THEN NOT (SELECT CASE rule.kind
                        WHEN 'text' THEN text <> ''
                        WHEN 'pair' THEN text ~ '^[0-9A-Za-z_-]{1,40}$'
                        WHEN 'name' THEN text ~ '^[0-9A-Za-z-]{1,50}$'
                        WHEN 'id' THEN text ~ '^[0-9A-Za-z-]{1,64}$'
                        WHEN 'side' THEN text IN ('BUY', 'SELL')
                        WHEN 'force' THEN text IN ('GTC', 'FOK', 'IOC')
                        WHEN 'strategy'
                            THEN text IN ('RETAIN_ORIGINAL', 'CANCEL_ORIGINAL', 'REPRICE')
                        WHEN 'amount' THEN length(text) <= 64
                            -- Digits, at most one point, and that between digits; not all zeros.
                            AND text ~ '^[0-9]+([.][0-9]+)?$' AND text ~ '[1-9]'
                        ELSE false
                    END
                    FROM (SELECT request.fields ->> rule.field AS text) AS field)
                ELSE true
            END
        ORDER BY rule.position LIMIT 1;
    END IF;

    -- Fields of which exactly one, at most one or at least one is given.
    IF refusal IS NULL THEN
        SELECT place || broken INTO refusal
        FROM (
            SELECT '' AS place, NEW.command AS command, document AS fields
            WHERE NEW.command <> 'PLACE_BATCH_ORDERS'
            UNION ALL
            SELECT 'requests[].data.',
                CASE value ->> 'type'
                    WHEN 'PLACE_LIMIT' THEN 'PLACE_LIMIT_ORDER'
                    WHEN 'PLACE_MARKET' THEN 'PLACE_MARKET_ORDER'
                    ELSE value ->> 'type'
                END,
                value -> 'data'
            FROM json_array_elements(CASE NEW.command WHEN 'PLACE_BATCH_ORDERS'
                THEN document -> 'requests' ELSE '[]' END) AS element (value)
        ) AS request,
        LATERAL (SELECT
            num_nonnulls(fields ->> 'baseAmount', fields ->> 'quoteAmount') AS amounts,
            num_nonnulls(fields ->> 'orderId', fields ->> 'customerOrderId') AS targets,
            num_nonnulls(fields ->> 'newRemainingQuantity', fields ->> 'newTotalQuantity')
                AS quantities,
            num_nonnulls(fields ->> 'newPrice') AS prices
        ) AS given,
        LATERAL (SELECT CASE
            WHEN command = 'PLACE_MARKET_ORDER' AND amounts <> 1
                THEN 'exactly one of baseAmount and quoteAmount must be given'
            WHEN command IN ('CANCEL_ORDER', 'MODIFY_ORDER') AND targets <> 1
                THEN 'exactly one of orderId and customerOrderId must be given'
            WHEN command = 'MODIFY_ORDER' AND quantities > 1
                THEN 'at most one of newRemainingQuantity and newTotalQuantity must be given'
            WHEN command = 'MODIFY_ORDER' AND prices + quantities = 0
                THEN 'at least one of newPrice, newRemainingQuantity and newTotalQuantity must be given'
        END AS broken) AS choice
        WHERE broken IS NOT NULL LIMIT 1;
    END IF;

    IF refusal IS NOT NULL THEN
        RAISE EXCEPTION USING MESSAGE = 'outbox: ' || refusal,
            ERRCODE = 'check_violation', CONSTRAINT = 'outbox_check';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER outbox_check BEFORE INSERT ON outbox
    FOR EACH ROW EXECUTE FUNCTION outbox_check();
