-- Every change of a command's status is written to outbox_transitions, also one made by hand. The
-- transitions are append-only.

CREATE TRIGGER outbox_first_transition AFTER INSERT ON outbox BEGIN
    SELECT RAISE(ROLLBACK, 'outbox: outbox_id must be positive; leave it out')
    WHERE NEW.outbox_id < 1;
    -- REPLACE would delete a command that was sent and queue it again. The transition that the
    -- deleted row left shows it. INSERT OR IGNORE never gets to this trigger.
    SELECT RAISE(ROLLBACK, 'outbox: rows are never replaced; this client_msg_id exists already')
    WHERE EXISTS (SELECT 1 FROM outbox_transitions
        WHERE account = NEW.account AND client_msg_id = NEW.client_msg_id AND seq = 1);
    INSERT INTO outbox_transitions
        (account, outbox_id, seq, to_status, reason, client_msg_id, changed_at, changed_by)
    VALUES (NEW.account, NEW.outbox_id, 1, NEW.status, NEW.reason, NEW.client_msg_id,
        strftime('%Y-%m-%d %H:%M:%f000', 'now'), NEW.created_by);
END;

-- A change made by the recorder. SQLite knows no users, but only the recorder names updated_at in
-- its UPDATE. This runs before the change, so that the next trigger sees whether it ran.
CREATE TRIGGER outbox_recorder_transition BEFORE UPDATE OF updated_at ON outbox
WHEN NEW.status IS NOT OLD.status BEGIN
    INSERT INTO outbox_transitions (account, outbox_id, seq, from_status, to_status, reason,
        client_msg_id, changed_at, changed_by)
    SELECT account, outbox_id, max(seq) + 1, OLD.status, NEW.status, NEW.reason,
        client_msg_id, NEW.updated_at, 'recorder'
    FROM outbox_transitions WHERE account = NEW.account AND outbox_id = NEW.outbox_id;
END;

-- A change made by any other program. No status follows itself, so the last transition shows
-- whether this change is written already.
CREATE TRIGGER outbox_other_transition AFTER UPDATE OF status ON outbox
WHEN NEW.status IS NOT OLD.status BEGIN
    INSERT INTO outbox_transitions (account, outbox_id, seq, from_status, to_status, reason,
        client_msg_id, changed_at, changed_by)
    SELECT account, outbox_id, seq + 1, OLD.status, NEW.status, NEW.reason,
        client_msg_id, strftime('%Y-%m-%d %H:%M:%f000', 'now'), 'sqlite'
    FROM outbox_transitions
    WHERE account = NEW.account AND outbox_id = NEW.outbox_id
        AND to_status IS NOT NEW.status
        AND seq = (SELECT max(seq) FROM outbox_transitions
            WHERE account = NEW.account AND outbox_id = NEW.outbox_id);
END;

CREATE TRIGGER outbox_transitions_no_update BEFORE UPDATE ON outbox_transitions BEGIN
    SELECT RAISE(ROLLBACK, 'outbox_transitions: append-only; UPDATE is refused');
END;

CREATE TRIGGER outbox_transitions_no_delete BEFORE DELETE ON outbox_transitions BEGIN
    SELECT RAISE(ROLLBACK, 'outbox_transitions: append-only; DELETE is refused');
END;

-- REPLACE fires no DELETE trigger for most programs, so only the next number is accepted.
CREATE TRIGGER outbox_transitions_follow BEFORE INSERT ON outbox_transitions BEGIN
    SELECT RAISE(ROLLBACK, 'outbox_transitions: seq does not follow the last one')
    WHERE NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM outbox_transitions
        WHERE account = NEW.account AND outbox_id = NEW.outbox_id);
    SELECT RAISE(ROLLBACK, 'outbox_transitions: append-only; REPLACE is refused')
    WHERE EXISTS (SELECT 1 FROM outbox_transitions WHERE rowid = NEW.rowid);
END;
