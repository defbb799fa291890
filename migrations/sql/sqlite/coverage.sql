-- The time since the first start, cut into stretches that were observed, unobserved, or unobserved
-- and healed since. Of several causes at once the first in the list below is named.

CREATE VIEW coverage AS
WITH present AS MATERIALIZED (SELECT strftime('%Y-%m-%d %H:%M:%f', 'now') || '000' AS at),
-- The gaps, and after the last frame the time that no gap has claimed yet.
spans AS (
    SELECT gaps.account, unobserved_from AS from_at,
        coalesce(unobserved_until, present.at) AS until_at,
        cause, CASE WHEN state = 'healed' THEN 1 ELSE 0 END AS healed
    FROM gaps, present WHERE unobserved_from IS NOT NULL
    UNION ALL
    SELECT known.account,
        (SELECT received_at FROM events WHERE events.account = known.account
            AND events.origin = 'received' ORDER BY events.position DESC LIMIT 1),
        present.at,
        CASE WHEN EXISTS (SELECT 1 FROM leases WHERE leases.account = known.account
            AND leases.expires_at > present.at) THEN 'unconfirmed' ELSE 'not_running' END,
        0
    FROM (SELECT DISTINCT account FROM gaps) AS known, present
    WHERE NOT EXISTS (SELECT 1 FROM gaps
        WHERE gaps.account = known.account AND gaps.state = 'open')
),
-- What lies beyond the present (the clock was set back) is cut off.
cut AS (
    SELECT account, min(from_at, present.at) AS from_at,
        min(until_at, present.at) AS until_at, cause, healed
    FROM spans, present WHERE from_at IS NOT NULL
),
-- Where a span begins and ends; also the very beginning and the present.
edges AS (
    SELECT account, from_at AS at, cause, healed, 1 AS step FROM cut WHERE from_at < until_at
    UNION ALL
    SELECT account, until_at, cause, healed, -1 FROM cut WHERE from_at < until_at
    UNION ALL
    SELECT account, min(from_at), '', 0, 0 FROM cut GROUP BY account
    UNION ALL
    SELECT account, present.at, '', 0, 0 FROM (SELECT DISTINCT account FROM cut) AS known, present
),
-- How many spans of each kind and cause are under way from each edge to the next.
running AS (
    SELECT account, at AS from_at, lead(at) OVER passing AS until_at,
        sum(step) FILTER (WHERE healed = 0) OVER passing AS u_any,
        sum(step) FILTER (WHERE healed = 0 AND cause = 'first_start')
            OVER passing AS u_first_start,
        sum(step) FILTER (WHERE healed = 0 AND cause = 'killed')
            OVER passing AS u_killed,
        sum(step) FILTER (WHERE healed = 0 AND cause = 'stopped')
            OVER passing AS u_stopped,
        sum(step) FILTER (WHERE healed = 0 AND cause = 'asleep')
            OVER passing AS u_asleep,
        sum(step) FILTER (WHERE healed = 0 AND cause = 'clock_set_back')
            OVER passing AS u_clock_set_back,
        sum(step) FILTER (WHERE healed = 0 AND cause = 'connection_lost')
            OVER passing AS u_connection_lost,
        sum(step) FILTER (WHERE healed = 0 AND cause = 'silent')
            OVER passing AS u_silent,
        sum(step) FILTER (WHERE healed = 0 AND cause = 'no_pong')
            OVER passing AS u_no_pong,
        sum(step) FILTER (WHERE healed = 0 AND cause = 'queue_full')
            OVER passing AS u_queue_full,
        sum(step) FILTER (WHERE healed = 0 AND cause = 'undecodable')
            OVER passing AS u_undecodable,
        sum(step) FILTER (WHERE healed = 0 AND cause = 'not_running')
            OVER passing AS u_not_running,
        sum(step) FILTER (WHERE healed = 0 AND cause = 'unconfirmed')
            OVER passing AS u_unconfirmed,
        sum(step) FILTER (WHERE healed = 1) OVER passing AS h_any,
        sum(step) FILTER (WHERE healed = 1 AND cause = 'first_start')
            OVER passing AS h_first_start,
        sum(step) FILTER (WHERE healed = 1 AND cause = 'killed')
            OVER passing AS h_killed,
        sum(step) FILTER (WHERE healed = 1 AND cause = 'stopped')
            OVER passing AS h_stopped,
        sum(step) FILTER (WHERE healed = 1 AND cause = 'asleep')
            OVER passing AS h_asleep,
        sum(step) FILTER (WHERE healed = 1 AND cause = 'clock_set_back')
            OVER passing AS h_clock_set_back,
        sum(step) FILTER (WHERE healed = 1 AND cause = 'connection_lost')
            OVER passing AS h_connection_lost,
        sum(step) FILTER (WHERE healed = 1 AND cause = 'silent')
            OVER passing AS h_silent,
        sum(step) FILTER (WHERE healed = 1 AND cause = 'no_pong')
            OVER passing AS h_no_pong,
        sum(step) FILTER (WHERE healed = 1 AND cause = 'queue_full')
            OVER passing AS h_queue_full,
        sum(step) FILTER (WHERE healed = 1 AND cause = 'undecodable')
            OVER passing AS h_undecodable,
        sum(step) FILTER (WHERE healed = 1 AND cause = 'not_running')
            OVER passing AS h_not_running,
        sum(step) FILTER (WHERE healed = 1 AND cause = 'unconfirmed')
            OVER passing AS h_unconfirmed
    FROM edges WINDOW passing AS (PARTITION BY account ORDER BY at)
),
measured AS (
    SELECT account, from_at, until_at,
        -- Seconds by the calendar, and the six digits after the point as integers: no float is exact.
        (CAST(strftime('%s', substr(until_at, 1, 19)) AS INTEGER)
            - CAST(strftime('%s', substr(from_at, 1, 19)) AS INTEGER)) * 1000000
            + CAST(substr(until_at, 21) AS INTEGER) - CAST(substr(from_at, 21) AS INTEGER) AS microseconds,
        CASE WHEN u_any > 0 THEN 'unobserved' WHEN h_any > 0 THEN 'healed' ELSE 'observed' END
            AS kind,
        CASE
            WHEN u_first_start > 0 THEN 'first_start'
            WHEN u_killed > 0 THEN 'killed'
            WHEN u_stopped > 0 THEN 'stopped'
            WHEN u_asleep > 0 THEN 'asleep'
            WHEN u_clock_set_back > 0 THEN 'clock_set_back'
            WHEN u_connection_lost > 0 THEN 'connection_lost'
            WHEN u_silent > 0 THEN 'silent'
            WHEN u_no_pong > 0 THEN 'no_pong'
            WHEN u_queue_full > 0 THEN 'queue_full'
            WHEN u_undecodable > 0 THEN 'undecodable'
            WHEN u_not_running > 0 THEN 'not_running'
            WHEN u_unconfirmed > 0 THEN 'unconfirmed'
            WHEN u_any > 0 THEN 'other'
            WHEN h_first_start > 0 THEN 'first_start'
            WHEN h_killed > 0 THEN 'killed'
            WHEN h_stopped > 0 THEN 'stopped'
            WHEN h_asleep > 0 THEN 'asleep'
            WHEN h_clock_set_back > 0 THEN 'clock_set_back'
            WHEN h_connection_lost > 0 THEN 'connection_lost'
            WHEN h_silent > 0 THEN 'silent'
            WHEN h_no_pong > 0 THEN 'no_pong'
            WHEN h_queue_full > 0 THEN 'queue_full'
            WHEN h_undecodable > 0 THEN 'undecodable'
            WHEN h_not_running > 0 THEN 'not_running'
            WHEN h_unconfirmed > 0 THEN 'unconfirmed'
            WHEN h_any > 0 THEN 'other'
        END AS cause
    FROM running WHERE until_at > from_at
)
SELECT account, from_at, until_at, microseconds / 1000000.0 AS seconds, microseconds, kind, cause
FROM measured;
