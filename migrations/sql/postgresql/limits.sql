-- Limits: who changed one, and when, is filled in.

CREATE TRIGGER limits_sign BEFORE UPDATE ON limits
    FOR EACH ROW WHEN (NEW.changed_at IS NOT DISTINCT FROM OLD.changed_at)
    EXECUTE FUNCTION sign_change();
