-- Look-ups are the evidence for "not placed", so they are append-only.

CREATE TRIGGER outbox_lookups_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON outbox_lookups
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
