-- Look-ups are the evidence for "not placed", so they are append-only.

CREATE TRIGGER outbox_lookups_no_update BEFORE UPDATE ON outbox_lookups BEGIN
    SELECT RAISE(ROLLBACK, 'outbox_lookups: append-only; UPDATE is refused');
END;

CREATE TRIGGER outbox_lookups_no_delete BEFORE DELETE ON outbox_lookups BEGIN
    SELECT RAISE(ROLLBACK, 'outbox_lookups: append-only; DELETE is refused');
END;

-- REPLACE fires no DELETE trigger for most programs, so only the next number is accepted.
CREATE TRIGGER outbox_lookups_follow BEFORE INSERT ON outbox_lookups BEGIN
    SELECT RAISE(ROLLBACK, 'outbox_lookups: seq does not follow the last one')
    WHERE NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM outbox_lookups
        WHERE account = NEW.account AND outbox_id = NEW.outbox_id);
    SELECT RAISE(ROLLBACK, 'outbox_lookups: append-only; REPLACE is refused')
    WHERE EXISTS (SELECT 1 FROM outbox_lookups WHERE rowid = NEW.rowid);
END;
