-- The trading switch. UPDATE controls SET trading = 'off' is enough: who and when are filled in.

-- The next start would create a missing row, and switch trading on.
CREATE TRIGGER controls_no_delete BEFORE DELETE ON controls BEGIN
    SELECT RAISE(ROLLBACK, 'controls: the switch can not be deleted; set trading to off');
END;

CREATE TRIGGER controls_sign AFTER UPDATE OF trading ON controls
WHEN NEW.changed_at IS OLD.changed_at BEGIN
    UPDATE controls
    SET changed_at = strftime('%Y-%m-%d %H:%M:%f000', 'now'), changed_by = 'sqlite'
    WHERE account = NEW.account;
END;
