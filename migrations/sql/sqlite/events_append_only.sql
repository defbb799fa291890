-- The log is append-only: nothing changes or deletes an event. REPLACE is refused by the trigger in
-- events_positions.sql.

CREATE TRIGGER events_no_update BEFORE UPDATE ON events BEGIN
    SELECT RAISE(ROLLBACK, 'events: the log is append-only; UPDATE is refused');
END;

CREATE TRIGGER events_no_delete BEFORE DELETE ON events BEGIN
    SELECT RAISE(ROLLBACK, 'events: the log is append-only; DELETE is refused');
END;
