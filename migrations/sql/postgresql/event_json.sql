-- The events whose payload is JSON, so that no query stops at a payload that is something else.

-- jsonb refuses more than it declares invalid: depth beyond the stack, sizes beyond its headers.
CREATE FUNCTION event_document(payload text, encoding text) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL RESTRICTED AS $$
BEGIN
    IF encoding = 'text' THEN
        RETURN payload::jsonb;
    END IF;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;

-- OFFSET 0 keeps the planner from reading each payload twice.
CREATE VIEW event_json AS
SELECT account, position, received_at, connection_id, origin, type, document AS payload
FROM events, LATERAL (SELECT event_document(payload, encoding) AS document OFFSET 0) AS reading
WHERE document IS NOT NULL;
