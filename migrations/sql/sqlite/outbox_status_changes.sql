-- What may change in a command: its status, one step at a time; its turn (priority, not_before,
-- expires_at, in_order) by the caller; and what the recorder writes, together with a step of the
-- status. What was ordered never changes, and no row is deleted.

CREATE TRIGGER outbox_check_change BEFORE UPDATE ON outbox BEGIN
    SELECT CASE
        WHEN NEW.account IS NOT OLD.account OR NEW.outbox_id IS NOT OLD.outbox_id
            OR NEW.client_msg_id IS NOT OLD.client_msg_id OR NEW.command IS NOT OLD.command
            OR NEW.payload IS NOT OLD.payload OR NEW.created_at IS NOT OLD.created_at
            OR NEW.created_by IS NOT OLD.created_by OR NEW.requeue_of IS NOT OLD.requeue_of
            THEN RAISE(ROLLBACK,
                'outbox: what was ordered can not be changed; queue a new command')
        -- Back to queued is for a rate limit only: the exchange reported that it placed nothing.
        WHEN is_step AND coalesce(OLD.status || '>' || NEW.status, '') NOT IN (
                'queued>sending', 'queued>expired', 'queued>withdrawn', 'queued>refused',
                'sending>sent', 'sending>in_doubt', 'sending>queued',
                'sent>acknowledged', 'sent>rejected', 'sent>in_doubt', 'sent>queued',
                'acknowledged>accepted', 'acknowledged>rejected',
                'in_doubt>acknowledged', 'in_doubt>accepted', 'in_doubt>rejected', 'in_doubt>not_placed',
                'not_placed>acknowledged', 'not_placed>accepted', 'not_placed>rejected')
            THEN RAISE(ROLLBACK, 'outbox: status can not change this way; see docs/reference/outbox.md')
        WHEN NEW.attempts IS NOT OLD.attempts + (is_step AND NEW.status IS 'queued')
            THEN RAISE(ROLLBACK,
                'outbox: attempts rises by one when a rate limit puts a command back to queued, and never else')
        WHEN NEW.in_order NOT IN (0, 1) THEN RAISE(ROLLBACK, 'outbox: in_order must be 0 or 1')
        -- The position of the sent event is corrected while the command is sending.
        WHEN NEW.epoch IS NOT OLD.epoch AND NOT is_sent_step
            THEN RAISE(ROLLBACK, 'outbox: epoch changes with the status alone, by the recorder')
        WHEN NEW.connection_id IS NOT OLD.connection_id AND NOT is_sent_step
            THEN RAISE(ROLLBACK, 'outbox: connection_id changes with the status alone, by the recorder')
        WHEN NEW.customer_order_id IS NOT OLD.customer_order_id AND NOT is_sent_step
            THEN RAISE(ROLLBACK, 'outbox: customer_order_id changes with the status alone, by the recorder')
        WHEN NEW.order_id IS NOT OLD.order_id AND NOT is_sent_step
            THEN RAISE(ROLLBACK, 'outbox: order_id changes with the status alone, by the recorder')
        WHEN NEW.modify_request_id IS NOT OLD.modify_request_id AND NOT is_sent_step
            THEN RAISE(ROLLBACK, 'outbox: modify_request_id changes with the status alone, by the recorder')
        WHEN NEW.sent_position IS NOT OLD.sent_position
            AND NOT (is_sent_step OR OLD.status = 'sending')
            THEN RAISE(ROLLBACK, 'outbox: sent_position changes with the status alone, by the recorder')
        WHEN NEW.acknowledged_position IS NOT OLD.acknowledged_position AND NOT is_sent_step
            THEN RAISE(ROLLBACK, 'outbox: acknowledged_position changes with the status alone, by the recorder')
        WHEN NEW.resolved_position IS NOT OLD.resolved_position AND NOT is_sent_step
            THEN RAISE(ROLLBACK, 'outbox: resolved_position changes with the status alone, by the recorder')
        WHEN NEW.reason IS NOT OLD.reason AND NOT is_step
            THEN RAISE(ROLLBACK, 'outbox: reason changes with the status alone, by the recorder')
        WHEN NEW.updated_at IS NOT OLD.updated_at AND NOT is_step
            THEN RAISE(ROLLBACK, 'outbox: updated_at changes with the status alone, by the recorder')
    END
    -- A step to one of these shows that the command was never sent.
    FROM (SELECT NEW.status IS NOT OLD.status AS is_step,
        NEW.status IS NOT OLD.status AND NEW.status NOT IN ('withdrawn', 'expired', 'refused')
            AS is_sent_step);
END;

-- Times and texts as in outbox_insert_checks.sql.
CREATE TRIGGER outbox_check_times BEFORE UPDATE OF not_before, expires_at ON outbox BEGIN
    SELECT CASE name
        WHEN 'not_before' THEN RAISE(ROLLBACK, 'outbox: not_before must be UTC as YYYY-MM-DD HH:MM:SS')
        WHEN 'expires_at' THEN RAISE(ROLLBACK, 'outbox: expires_at must be UTC as YYYY-MM-DD HH:MM:SS')
    END
    FROM (
        SELECT 'not_before' AS name, NEW.not_before AS value
        UNION ALL SELECT 'expires_at', NEW.expires_at
    )
    WHERE value IS NOT NULL
        AND (strftime('%Y-%m-%d %H:%M:%S', substr(value, 1, 19), '+0 days') IS NOT substr(value, 1, 19)
            OR value < '0001' OR length(value) NOT IN (19, 23, 26)
            OR substr(value, 20) <> ''
                AND substr(value, 20) NOT GLOB '.[0-9][0-9][0-9]'
                AND substr(value, 20) NOT GLOB '.[0-9][0-9][0-9][0-9][0-9][0-9]');
END;

CREATE TRIGGER outbox_check_reason BEFORE UPDATE OF reason ON outbox BEGIN
    SELECT RAISE(ROLLBACK, 'outbox: reason must be UTF-8 without NUL')
    FROM (SELECT NEW.reason AS text)
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
END;

CREATE TRIGGER outbox_no_delete BEFORE DELETE ON outbox BEGIN
    SELECT RAISE(ROLLBACK, 'outbox: rows are never deleted; set status to withdrawn');
END;
