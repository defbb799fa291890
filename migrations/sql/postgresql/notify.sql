-- Wakes the recorder: NOTIFY recorder_outbox with the account. PostgreSQL delivers it with the
-- caller's COMMIT, once per account and transaction.

CREATE FUNCTION notify_recorder() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('recorder_outbox', NEW.account);
    RETURN NULL;
END $$;

CREATE TRIGGER outbox_notify AFTER INSERT ON outbox
    FOR EACH ROW EXECUTE FUNCTION notify_recorder();

CREATE TRIGGER controls_notify AFTER INSERT OR UPDATE ON controls
    FOR EACH ROW EXECUTE FUNCTION notify_recorder();

-- A command is queued again, or its turn was changed.
CREATE TRIGGER outbox_notify_requeued
    AFTER UPDATE OF status, priority, not_before, expires_at, in_order ON outbox
    FOR EACH ROW WHEN (NEW.status = 'queued') EXECUTE FUNCTION notify_recorder();

-- A command that waits in strict order may go as soon as the ones before it are settled.
CREATE FUNCTION notify_waiting() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM outbox
        WHERE account = NEW.account AND status = 'queued' AND in_order)
    THEN
        PERFORM pg_notify('recorder_outbox', NEW.account);
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER outbox_notify_waiting AFTER UPDATE OF status ON outbox
    FOR EACH ROW WHEN (NEW.status IN
        ('accepted', 'rejected', 'not_placed', 'expired', 'withdrawn', 'refused'))
    EXECUTE FUNCTION notify_waiting();
