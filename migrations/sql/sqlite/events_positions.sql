-- Positions of an account count 1, 2, 3 … without a hole. This is also the fence: of two processes
-- that append to the same account, the second one fails.

-- REPLACE deletes a row without firing events_no_delete, unless the connection set
-- recursive_triggers. It needs an existing row. Its position can't be the next one, so only a rowid
-- that the caller gives could match. A rowid left out reads as -1 here.
CREATE TRIGGER events_follow BEFORE INSERT ON events BEGIN
    SELECT RAISE(ROLLBACK, 'events: position does not follow the last one of its account')
    WHERE NEW.position IS NOT
        (SELECT coalesce(max(position), 0) + 1 FROM events WHERE account = NEW.account);
    SELECT RAISE(ROLLBACK, 'events: the log is append-only; REPLACE is refused')
    WHERE EXISTS (SELECT 1 FROM events WHERE rowid = NEW.rowid);
END;

-- So that no row ever has the rowid -1.
CREATE TRIGGER events_rowid AFTER INSERT ON events WHEN NEW.rowid < 1 BEGIN
    SELECT RAISE(ROLLBACK, 'events: the rowid is SQLite''s to choose');
END;
