-- The log is append-only: nothing changes or deletes an event.

-- Also used by outbox_status_changes.sql, outbox_transitions.sql and outbox_lookups.sql.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%: append-only; % is refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE TRIGGER events_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Fires even where session_replication_role switches ordinary triggers off.
ALTER TABLE events ENABLE ALWAYS TRIGGER events_no_change;
