-- What may change in a command: its status, one step at a time; its turn (priority, not_before,
-- expires_at, in_order) by the caller; and what the recorder writes, together with a step of the
-- status. What was ordered never changes, and no row is deleted.

CREATE FUNCTION outbox_check_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    refusal text;
    is_step boolean := NEW.status IS DISTINCT FROM OLD.status;
    -- A step to one of these shows that the command was never sent.
    is_sent_step boolean := is_step AND NEW.status NOT IN ('withdrawn', 'expired', 'refused');
BEGIN
    refusal := CASE
        WHEN (NEW.account, NEW.outbox_id, NEW.client_msg_id, NEW.command, NEW.payload,
            NEW.created_at, NEW.created_by, NEW.requeue_of) IS DISTINCT FROM (OLD.account,
            OLD.outbox_id, OLD.client_msg_id, OLD.command, OLD.payload,
            OLD.created_at, OLD.created_by, OLD.requeue_of)
            THEN 'what was ordered can not be changed; queue a new command'
        -- Back to queued is for a rate limit only: the exchange reported that it placed nothing.
        WHEN is_step AND coalesce(OLD.status || '>' || NEW.status, '') NOT IN (
                'queued>sending', 'queued>expired', 'queued>withdrawn', 'queued>refused',
                'sending>sent', 'sending>in_doubt', 'sending>queued',
                'sent>acknowledged', 'sent>rejected', 'sent>in_doubt', 'sent>queued',
                'acknowledged>accepted', 'acknowledged>rejected',
                'in_doubt>acknowledged', 'in_doubt>accepted', 'in_doubt>rejected', 'in_doubt>not_placed',
                'not_placed>acknowledged', 'not_placed>accepted', 'not_placed>rejected')
            THEN format('status can not change from %s to %s; see docs/reference/outbox.md',
                OLD.status, coalesce(NEW.status, '<NULL>'))
        WHEN NEW.attempts IS DISTINCT FROM OLD.attempts
                + CAST(is_step AND NEW.status IS NOT DISTINCT FROM 'queued' AS integer)
            THEN 'attempts rises by one when a rate limit puts a command back to queued, and never else'
        WHEN NEW.not_before NOT BETWEEN
            '0001-01-02 00:00:00+00' AND '9999-12-30 00:00:00+00'
            THEN 'not_before must lie in the years 1 to 9999; leave it out for none'
        WHEN NEW.expires_at NOT BETWEEN
            '0001-01-02 00:00:00+00' AND '9999-12-30 00:00:00+00'
            THEN 'expires_at must lie in the years 1 to 9999; leave it out for none'
        -- The position of the sent event is corrected while the command is sending.
        WHEN NEW.epoch IS DISTINCT FROM OLD.epoch AND NOT is_sent_step
            THEN 'epoch changes with the status alone, by the recorder'
        WHEN NEW.connection_id IS DISTINCT FROM OLD.connection_id AND NOT is_sent_step
            THEN 'connection_id changes with the status alone, by the recorder'
        WHEN NEW.customer_order_id IS DISTINCT FROM OLD.customer_order_id AND NOT is_sent_step
            THEN 'customer_order_id changes with the status alone, by the recorder'
        WHEN NEW.order_id IS DISTINCT FROM OLD.order_id AND NOT is_sent_step
            THEN 'order_id changes with the status alone, by the recorder'
        WHEN NEW.modify_request_id IS DISTINCT FROM OLD.modify_request_id AND NOT is_sent_step
            THEN 'modify_request_id changes with the status alone, by the recorder'
        WHEN NEW.sent_position IS DISTINCT FROM OLD.sent_position
            AND NOT (is_sent_step OR OLD.status = 'sending')
            THEN 'sent_position changes with the status alone, by the recorder'
        WHEN NEW.acknowledged_position IS DISTINCT FROM OLD.acknowledged_position AND NOT is_sent_step
            THEN 'acknowledged_position changes with the status alone, by the recorder'
        WHEN NEW.resolved_position IS DISTINCT FROM OLD.resolved_position AND NOT is_sent_step
            THEN 'resolved_position changes with the status alone, by the recorder'
        WHEN NEW.reason IS DISTINCT FROM OLD.reason AND NOT is_step
            THEN 'reason changes with the status alone, by the recorder'
        WHEN NEW.updated_at IS DISTINCT FROM OLD.updated_at AND NOT is_step
            THEN 'updated_at changes with the status alone, by the recorder'
    END;
    IF refusal IS NOT NULL THEN
        RAISE EXCEPTION USING MESSAGE = 'outbox: ' || refusal,
            ERRCODE = 'check_violation', CONSTRAINT = 'outbox_check_change';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER outbox_check_change BEFORE UPDATE ON outbox
    FOR EACH ROW EXECUTE FUNCTION outbox_check_change();

CREATE TRIGGER outbox_no_delete BEFORE DELETE OR TRUNCATE ON outbox
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
