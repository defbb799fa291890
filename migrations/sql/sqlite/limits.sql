-- Limits: who changed one, and when, is filled in.

CREATE TRIGGER limits_sign AFTER UPDATE ON limits
WHEN NEW.changed_at IS OLD.changed_at BEGIN
    UPDATE limits
    SET changed_at = strftime('%Y-%m-%d %H:%M:%f000', 'now'), changed_by = 'sqlite'
    WHERE account = NEW.account AND pair = NEW.pair;
END;
