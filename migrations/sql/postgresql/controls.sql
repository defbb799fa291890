-- The trading switch. UPDATE controls SET trading = 'off' is enough: who and when are filled in.

-- The next start would create a missing row, and switch trading on.
CREATE FUNCTION controls_no_delete() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'controls: the switch can not be deleted; set trading to off'
        USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE TRIGGER controls_no_delete BEFORE DELETE OR TRUNCATE ON controls
    FOR EACH STATEMENT EXECUTE FUNCTION controls_no_delete();

-- Also used by limits.sql.
CREATE FUNCTION sign_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.changed_by := session_user;
    NEW.changed_at := clock_timestamp();
    RETURN NEW;
END $$;

CREATE TRIGGER controls_sign BEFORE UPDATE OF trading ON controls
    FOR EACH ROW WHEN (NEW.changed_at IS NOT DISTINCT FROM OLD.changed_at)
    EXECUTE FUNCTION sign_change();
