-- Every change of a command's status is written to outbox_transitions, also one made by hand. The
-- transitions are append-only.

-- Runs with its owner's rights: a role that may queue need not be able to write history.
CREATE FUNCTION outbox_write_transition() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO outbox_transitions
            (account, outbox_id, seq, to_status, reason, client_msg_id, changed_at, changed_by)
        VALUES (NEW.account, NEW.outbox_id, 1, NEW.status, NEW.reason, NEW.client_msg_id,
            clock_timestamp(), session_user);
    ELSE
        INSERT INTO outbox_transitions (account, outbox_id, seq, from_status, to_status, reason,
            client_msg_id, changed_at, changed_by)
        SELECT NEW.account, NEW.outbox_id, max(seq) + 1, OLD.status, NEW.status, NEW.reason,
            NEW.client_msg_id,
            CASE WHEN NEW.updated_at IS DISTINCT FROM OLD.updated_at
                THEN NEW.updated_at ELSE clock_timestamp() END,
            session_user
        FROM outbox_transitions WHERE account = NEW.account AND outbox_id = NEW.outbox_id;
    END IF;
    RETURN NULL;
END $$;

-- A function with its owner's rights must not look up its tables where the caller's path leads.
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION outbox_write_transition() SET search_path = %I, pg_temp',
        current_schema());
END $$;

CREATE TRIGGER outbox_first_transition AFTER INSERT ON outbox
    FOR EACH ROW EXECUTE FUNCTION outbox_write_transition();

CREATE TRIGGER outbox_next_transition AFTER UPDATE OF status ON outbox
    FOR EACH ROW WHEN (NEW.status IS DISTINCT FROM OLD.status)
    EXECUTE FUNCTION outbox_write_transition();

CREATE TRIGGER outbox_transitions_no_change BEFORE UPDATE OR DELETE OR TRUNCATE
    ON outbox_transitions FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
