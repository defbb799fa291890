-- The events whose payload is JSON, so that no query stops at a payload that is something else.

-- CASE as well as WHERE: SQLite may evaluate a query's own conditions before the view's.
CREATE VIEW event_json AS
SELECT account, position, received_at, connection_id, origin, type,
    CASE WHEN encoding = 'text' AND json_valid(payload) THEN payload END AS payload
FROM events
WHERE encoding = 'text' AND json_valid(payload);
