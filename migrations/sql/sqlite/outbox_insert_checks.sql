-- What a new command must hold, checked when it is typed: the program that makes a mistake sees it at
-- once, named by its field. The checks run in this order, and the first that fails is reported.
-- RAISE(ROLLBACK) ends the caller's transaction, as a refusal does on PostgreSQL.
-- RAISE takes nothing but a literal on SQLite before 3.47, so each message is spelled out.

CREATE TRIGGER outbox_check BEFORE INSERT ON outbox BEGIN
    -- Texts must be UTF-8 without NUL. Split into characters and joined again, a text with other
    -- bytes differs from what it was. This runs on pieces of 512 characters, since SQLite counts from
    -- the beginning to find a character. '[0,0,0]' makes the numbers 0 to 2. LIMIT keeps SQLite from
    -- cutting a piece more than once.
    SELECT CASE name
        WHEN 'account' THEN RAISE(ROLLBACK, 'outbox: account must be UTF-8 without NUL')
        WHEN 'client_msg_id' THEN RAISE(ROLLBACK, 'outbox: client_msg_id must be UTF-8 without NUL')
        WHEN 'payload' THEN RAISE(ROLLBACK, 'outbox: payload must be UTF-8 without NUL')
        WHEN 'created_by' THEN RAISE(ROLLBACK, 'outbox: created_by must be UTF-8 without NUL')
        WHEN 'reason' THEN RAISE(ROLLBACK, 'outbox: reason must be UTF-8 without NUL')
    END
    FROM (
        SELECT 'account' AS name, NEW.account AS text
        UNION ALL SELECT 'client_msg_id', NEW.client_msg_id
        UNION ALL SELECT 'payload', NEW.payload
        UNION ALL SELECT 'created_by', NEW.created_by
        UNION ALL SELECT 'reason', NEW.reason
    )
    WHERE (length(CAST(text AS BLOB)) <> length(text)
            OR text GLOB '*[^' || char(1) || '-' || char(127) || ']*')
        AND (instr(text, char(0)) > 0 OR EXISTS (
            SELECT 1 FROM (
                SELECT substr(text, 512 * key + 1, 512) AS piece
                FROM json_each('[0'
                    || replace(hex(zeroblob((length(text) - 1) / 512)), '00', ',0') || ']')
                LIMIT -1
            )
            WHERE piece IS NOT (
                SELECT group_concat(char(unicode(substr(piece, key + 1, 1))), '')
                FROM json_each('[0'
                    || replace(hex(zeroblob(length(piece) - 1)), '00', ',0') || ']')
            )
        ));

    SELECT RAISE(ROLLBACK, 'outbox: account must be given') WHERE NEW.account = '';

    -- Times are texts that sort: UTC, to the second or finer. datetime('now', '+5 minutes') is one.
    -- A day that its month doesn't have becomes another day in any arithmetic, hence '+0 days'.
    SELECT CASE name
        WHEN 'not_before' THEN RAISE(ROLLBACK, 'outbox: not_before must be UTC as YYYY-MM-DD HH:MM:SS')
        WHEN 'expires_at' THEN RAISE(ROLLBACK, 'outbox: expires_at must be UTC as YYYY-MM-DD HH:MM:SS')
        WHEN 'created_at' THEN RAISE(ROLLBACK, 'outbox: created_at must be UTC as YYYY-MM-DD HH:MM:SS')
    END
    FROM (
        SELECT 'not_before' AS name, NEW.not_before AS value
        UNION ALL SELECT 'expires_at', NEW.expires_at
        UNION ALL SELECT 'created_at', NEW.created_at
    )
    WHERE value IS NOT NULL
        AND (strftime('%Y-%m-%d %H:%M:%S', substr(value, 1, 19), '+0 days') IS NOT substr(value, 1, 19)
            OR value < '0001' OR length(value) NOT IN (19, 23, 26)
            OR substr(value, 20) <> ''
                AND substr(value, 20) NOT GLOB '.[0-9][0-9][0-9]'
                AND substr(value, 20) NOT GLOB '.[0-9][0-9][0-9][0-9][0-9][0-9]');

    SELECT CASE
        WHEN NEW.epoch IS NOT NULL
            THEN RAISE(ROLLBACK, 'outbox: epoch is for the recorder to set; leave it out')
        WHEN NEW.connection_id IS NOT NULL
            THEN RAISE(ROLLBACK, 'outbox: connection_id is for the recorder to set; leave it out')
        WHEN NEW.customer_order_id IS NOT NULL
            THEN RAISE(ROLLBACK, 'outbox: customer_order_id is for the recorder to set; leave it out')
        WHEN NEW.order_id IS NOT NULL
            THEN RAISE(ROLLBACK, 'outbox: order_id is for the recorder to set; leave it out')
        WHEN NEW.modify_request_id IS NOT NULL
            THEN RAISE(ROLLBACK, 'outbox: modify_request_id is for the recorder to set; leave it out')
        WHEN NEW.sent_position IS NOT NULL
            THEN RAISE(ROLLBACK, 'outbox: sent_position is for the recorder to set; leave it out')
        WHEN NEW.acknowledged_position IS NOT NULL
            THEN RAISE(ROLLBACK, 'outbox: acknowledged_position is for the recorder to set; leave it out')
        WHEN NEW.resolved_position IS NOT NULL
            THEN RAISE(ROLLBACK, 'outbox: resolved_position is for the recorder to set; leave it out')
        WHEN NEW.updated_at IS NOT NULL
            THEN RAISE(ROLLBACK, 'outbox: updated_at is for the recorder to set; leave it out')
        WHEN NEW.status <> 'queued'
            THEN RAISE(ROLLBACK, 'outbox: status of a new command must be queued')
        WHEN NEW.attempts <> 0 THEN RAISE(ROLLBACK, 'outbox: attempts of a new command must be 0')
        WHEN NEW.in_order NOT IN (0, 1) THEN RAISE(ROLLBACK, 'outbox: in_order must be 0 or 1')
        WHEN EXISTS (SELECT 1 FROM outbox WHERE outbox_id = NEW.outbox_id)
            THEN RAISE(ROLLBACK, 'outbox: outbox_id exists already; leave it out')
        WHEN NEW.requeue_of IS NOT NULL AND NOT EXISTS (SELECT 1 FROM outbox
            WHERE account = NEW.account AND outbox_id = NEW.requeue_of AND status NOT IN
                ('queued', 'sending', 'sent', 'acknowledged', 'in_doubt'))
            THEN RAISE(ROLLBACK,
                'outbox: requeue_of must name a command of this account whose outcome is settled')
    END;

    SELECT CASE
        WHEN NEW.command NOT IN ('PLACE_LIMIT_ORDER', 'PLACE_MARKET_ORDER', 'CANCEL_ORDER',
            'MODIFY_ORDER', 'PLACE_BATCH_ORDERS')
            THEN RAISE(ROLLBACK, 'outbox: command must be one of PLACE_LIMIT_ORDER, PLACE_MARKET_ORDER, CANCEL_ORDER, MODIFY_ORDER, PLACE_BATCH_ORDERS')
        WHEN length(NEW.payload) > 100000
            OR NOT json_valid(NEW.payload) OR json_type(NEW.payload) <> 'object'
            THEN RAISE(ROLLBACK, 'outbox: payload must be a JSON object of at most 100000 characters')
        WHEN instr(NEW.payload, '\u0000') > 0
            OR EXISTS (SELECT 1 FROM json_tree(NEW.payload)
                WHERE typeof(key) = 'text' GROUP BY parent, key HAVING count(*) > 1)
            THEN RAISE(ROLLBACK, 'outbox: payload names a field twice, or holds an escape that is no character')
        WHEN NEW.command = 'PLACE_BATCH_ORDERS'
            AND (CASE json_type(NEW.payload, '$.requests') WHEN 'array'
                THEN json_array_length(NEW.payload, '$.requests') ELSE 0 END) NOT BETWEEN 1 AND 20
            THEN RAISE(ROLLBACK, 'outbox: requests must be an array of 1 to 20 orders')
    END;

    -- Each request of a batch has a type and an object of data.
    SELECT RAISE(ROLLBACK, 'outbox: requests[] must be objects')
    FROM json_each(NEW.payload, '$.requests')
    WHERE NEW.command = 'PLACE_BATCH_ORDERS' AND type <> 'object';
    SELECT CASE
        WHEN coalesce(value ->> '$.type', '')
            NOT IN ('PLACE_LIMIT', 'PLACE_MARKET', 'MODIFY_ORDER', 'CANCEL_ORDER')
            THEN RAISE(ROLLBACK, 'outbox: requests[].type must be one of PLACE_LIMIT, PLACE_MARKET, MODIFY_ORDER, CANCEL_ORDER')
        WHEN coalesce(json_type(value, '$.data'), '') <> 'object'
            THEN RAISE(ROLLBACK, 'outbox: requests[].data must be an object')
    END
    FROM json_each(NEW.payload, '$.requests')
    WHERE NEW.command = 'PLACE_BATCH_ORDERS';

    -- What each field of each request must be: rules of (order, field, kind, must it be given,
    -- commands). A missing field and null are the same.
    SELECT CASE broken
        WHEN 'side side' THEN RAISE(ROLLBACK, 'outbox: side must be "BUY" or "SELL"')
        WHEN 'quantity amount'
            THEN RAISE(ROLLBACK, 'outbox: quantity must be a positive decimal in a string, like "0.001"')
        WHEN 'price amount'
            THEN RAISE(ROLLBACK, 'outbox: price must be a positive decimal in a string, like "0.001"')
        WHEN 'baseAmount amount'
            THEN RAISE(ROLLBACK, 'outbox: baseAmount must be a positive decimal in a string, like "0.001"')
        WHEN 'quoteAmount amount'
            THEN RAISE(ROLLBACK, 'outbox: quoteAmount must be a positive decimal in a string, like "0.001"')
        WHEN 'orderId text' THEN RAISE(ROLLBACK, 'outbox: orderId must be a string')
        WHEN 'modifyMatchStrategy text'
            THEN RAISE(ROLLBACK, 'outbox: modifyMatchStrategy must be a string')
        WHEN 'pair text' THEN RAISE(ROLLBACK, 'outbox: pair must be a string')
        WHEN 'customerOrderId text' THEN RAISE(ROLLBACK, 'outbox: customerOrderId must be a string')
        WHEN 'pair pair'
            THEN RAISE(ROLLBACK, 'outbox: pair must be 1 to 40 letters, digits, dashes or underscores')
        WHEN 'customerOrderId name'
            THEN RAISE(ROLLBACK, 'outbox: customerOrderId must be 1 to 50 letters, digits or dashes')
        WHEN 'orderId id'
            THEN RAISE(ROLLBACK, 'outbox: orderId must be 1 to 64 letters, digits or dashes')
        WHEN 'timeInForce force'
            THEN RAISE(ROLLBACK, 'outbox: timeInForce must be "GTC", "FOK" or "IOC"')
        WHEN 'reduceOnly flag' THEN RAISE(ROLLBACK, 'outbox: reduceOnly must be true or false')
        WHEN 'allowMargin flag' THEN RAISE(ROLLBACK, 'outbox: allowMargin must be true or false')
        WHEN 'postOnly flag' THEN RAISE(ROLLBACK, 'outbox: postOnly must be true or false')
        WHEN 'postOnlyReprice flag'
            THEN RAISE(ROLLBACK, 'outbox: postOnlyReprice must be true or false')
        WHEN 'modifyMatchStrategy strategy'
            THEN RAISE(ROLLBACK, 'outbox: modifyMatchStrategy must be "RETAIN_ORIGINAL", "CANCEL_ORIGINAL" or "REPRICE"')
        WHEN 'newPrice amount'
            THEN RAISE(ROLLBACK, 'outbox: newPrice must be a positive decimal in a string, like "0.001"')
        WHEN 'newRemainingQuantity amount'
            THEN RAISE(ROLLBACK, 'outbox: newRemainingQuantity must be a positive decimal in a string, like "0.001"')
        WHEN 'newTotalQuantity amount'
            THEN RAISE(ROLLBACK, 'outbox: newTotalQuantity must be a positive decimal in a string, like "0.001"')
        WHEN 'requests[].data.side side'
            THEN RAISE(ROLLBACK, 'outbox: requests[].data.side must be "BUY" or "SELL"')
        WHEN 'requests[].data.quantity amount'
            THEN RAISE(ROLLBACK, 'outbox: requests[].data.quantity must be a positive decimal in a string, like "0.001"')
        WHEN 'requests[].data.price amount'
            THEN RAISE(ROLLBACK, 'outbox: requests[].data.price must be a positive decimal in a string, like "0.001"')
        WHEN 'requests[].data.baseAmount amount'
            THEN RAISE(ROLLBACK, 'outbox: requests[].data.baseAmount must be a positive decimal in a string, like "0.001"')
        WHEN 'requests[].data.quoteAmount amount'
            THEN RAISE(ROLLBACK, 'outbox: requests[].data.quoteAmount must be a positive decimal in a string, like "0.001"')
        WHEN 'requests[].data.pair pair'
            THEN RAISE(ROLLBACK, 'outbox: requests[].data.pair must be 1 to 40 letters, digits, dashes or underscores')
        WHEN 'requests[].data.customerOrderId name'
            THEN RAISE(ROLLBACK, 'outbox: requests[].data.customerOrderId must be 1 to 50 letters, digits or dashes')
        WHEN 'requests[].data.orderId id'
            THEN RAISE(ROLLBACK, 'outbox: requests[].data.orderId must be 1 to 64 letters, digits or dashes')
        WHEN 'requests[].data.timeInForce force'
            THEN RAISE(ROLLBACK, 'outbox: requests[].data.timeInForce must be "GTC", "FOK" or "IOC"')
        WHEN 'requests[].data.reduceOnly flag'
            THEN RAISE(ROLLBACK, 'outbox: requests[].data.reduceOnly must be true or false')
        WHEN 'requests[].data.allowMargin flag'
            THEN RAISE(ROLLBACK, 'outbox: requests[].data.allowMargin must be true or false')
        WHEN 'requests[].data.postOnly flag'
            THEN RAISE(ROLLBACK, 'outbox: requests[].data.postOnly must be true or false')
        WHEN 'requests[].data.postOnlyReprice flag'
            THEN RAISE(ROLLBACK, 'outbox: requests[].data.postOnlyReprice must be true or false')
        WHEN 'requests[].data.modifyMatchStrategy strategy'
            THEN RAISE(ROLLBACK, 'outbox: requests[].data.modifyMatchStrategy must be "RETAIN_ORIGINAL", "CANCEL_ORIGINAL" or "REPRICE"')
        WHEN 'requests[].data.newPrice amount'
            THEN RAISE(ROLLBACK, 'outbox: requests[].data.newPrice must be a positive decimal in a string, like "0.001"')
        WHEN 'requests[].data.newRemainingQuantity amount'
            THEN RAISE(ROLLBACK, 'outbox: requests[].data.newRemainingQuantity must be a positive decimal in a string, like "0.001"')
        WHEN 'requests[].data.newTotalQuantity amount'
            THEN RAISE(ROLLBACK, 'outbox: requests[].data.newTotalQuantity must be a positive decimal in a string, like "0.001"')
    END
    FROM (
        SELECT request.place || rule.field || ' ' || rule.kind AS broken
        FROM (
            SELECT '' AS place, NEW.command AS command, NEW.payload AS fields
            WHERE NEW.command <> 'PLACE_BATCH_ORDERS'
            UNION ALL
            SELECT 'requests[].data.',
                CASE value ->> '$.type'
                    WHEN 'PLACE_LIMIT' THEN 'PLACE_LIMIT_ORDER'
                    WHEN 'PLACE_MARKET' THEN 'PLACE_MARKET_ORDER'
                    ELSE value ->> '$.type'
                END,
                value -> '$.data'
            FROM json_each(NEW.payload, '$.requests')
            WHERE NEW.command = 'PLACE_BATCH_ORDERS'
        ) AS request,
        (SELECT column1 AS position, column2 AS field, column3 AS kind, column4 AS is_required,
            column5 AS commands FROM (VALUES
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
        )) AS rule
        WHERE (rule.commands = 'every command' OR instr(rule.commands, request.command) > 0)
            AND (rule.kind <> 'text' OR request.place = '')
            AND CASE coalesce(json_type(request.fields, '$.' || rule.field), 'null')
                WHEN 'null' THEN rule.is_required
                WHEN 'true' THEN rule.kind <> 'flag'
                WHEN 'false' THEN rule.kind <> 'flag'
                WHEN 'text' THEN NOT (SELECT CASE rule.kind
                        WHEN 'text' THEN text <> ''
                        WHEN 'pair' THEN length(text) BETWEEN 1 AND 40
                            AND text NOT GLOB '*[^0-9A-Za-z_-]*'
                        WHEN 'name' THEN length(text) BETWEEN 1 AND 50
                            AND text NOT GLOB '*[^0-9A-Za-z-]*'
                        WHEN 'id' THEN length(text) BETWEEN 1 AND 64
                            AND text NOT GLOB '*[^0-9A-Za-z-]*'
                        WHEN 'side' THEN text IN ('BUY', 'SELL')
                        WHEN 'force' THEN text IN ('GTC', 'FOK', 'IOC')
                        WHEN 'strategy'
                            THEN text IN ('RETAIN_ORIGINAL', 'CANCEL_ORIGINAL', 'REPRICE')
                        WHEN 'amount' THEN length(text) <= 64
                            -- Digits, at most one point, and that between digits; not all zeros.
                            AND trim(text, '0123456789') IN ('', '.')
                            AND text NOT LIKE '.%' AND text NOT LIKE '%.' AND trim(text, '0.') <> ''
                        ELSE 0
                    END
                    FROM (SELECT request.fields ->> ('$.' || rule.field) AS text))
                ELSE 1
            END
        ORDER BY rule.position LIMIT 1
    );

    -- Fields of which exactly one, at most one or at least one is given.
    SELECT CASE place || CASE
        WHEN command = 'PLACE_MARKET_ORDER' AND base + quote <> 1 THEN 'market'
        WHEN command IN ('CANCEL_ORDER', 'MODIFY_ORDER') AND id + name <> 1 THEN 'target'
        WHEN command = 'MODIFY_ORDER' AND remaining + total > 1 THEN 'quantity'
        WHEN command = 'MODIFY_ORDER' AND price + remaining + total = 0 THEN 'change'
    END
        WHEN 'market'
            THEN RAISE(ROLLBACK, 'outbox: exactly one of baseAmount and quoteAmount must be given')
        WHEN 'target'
            THEN RAISE(ROLLBACK, 'outbox: exactly one of orderId and customerOrderId must be given')
        WHEN 'quantity'
            THEN RAISE(ROLLBACK, 'outbox: at most one of newRemainingQuantity and newTotalQuantity must be given')
        WHEN 'change'
            THEN RAISE(ROLLBACK, 'outbox: at least one of newPrice, newRemainingQuantity and newTotalQuantity must be given')
        WHEN 'requests[].data.market'
            THEN RAISE(ROLLBACK, 'outbox: requests[].data.exactly one of baseAmount and quoteAmount must be given')
        WHEN 'requests[].data.target'
            THEN RAISE(ROLLBACK, 'outbox: requests[].data.exactly one of orderId and customerOrderId must be given')
        WHEN 'requests[].data.quantity'
            THEN RAISE(ROLLBACK, 'outbox: requests[].data.at most one of newRemainingQuantity and newTotalQuantity must be given')
        WHEN 'requests[].data.change'
            THEN RAISE(ROLLBACK, 'outbox: requests[].data.at least one of newPrice, newRemainingQuantity and newTotalQuantity must be given')
    END
    FROM (
        SELECT place, command,
            nullif(json_type(fields, '$.baseAmount'), 'null') IS NOT NULL AS base,
            nullif(json_type(fields, '$.quoteAmount'), 'null') IS NOT NULL AS quote,
            nullif(json_type(fields, '$.orderId'), 'null') IS NOT NULL AS id,
            nullif(json_type(fields, '$.customerOrderId'), 'null') IS NOT NULL AS name,
            nullif(json_type(fields, '$.newPrice'), 'null') IS NOT NULL AS price,
            nullif(json_type(fields, '$.newRemainingQuantity'), 'null') IS NOT NULL AS remaining,
            nullif(json_type(fields, '$.newTotalQuantity'), 'null') IS NOT NULL AS total
        FROM (
            SELECT '' AS place, NEW.command AS command, NEW.payload AS fields
            WHERE NEW.command <> 'PLACE_BATCH_ORDERS'
            UNION ALL
            SELECT 'requests[].data.',
                CASE value ->> '$.type'
                    WHEN 'PLACE_LIMIT' THEN 'PLACE_LIMIT_ORDER'
                    WHEN 'PLACE_MARKET' THEN 'PLACE_MARKET_ORDER'
                    ELSE value ->> '$.type'
                END,
                value -> '$.data'
            FROM json_each(NEW.payload, '$.requests')
            WHERE NEW.command = 'PLACE_BATCH_ORDERS'
        )
    );

    -- The CHECK of the table would only end the statement.
    SELECT RAISE(ROLLBACK, 'CHECK constraint failed: outbox_client_msg')
    WHERE length(NEW.client_msg_id) NOT BETWEEN 1 AND 100;
END;
