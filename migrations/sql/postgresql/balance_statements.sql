-- What the exchange reported as held, with its own time where it gave one. `whole`, `nano` and
-- `atto` are the amount's digits before the point, the next nine and the nine after those. Each has
-- the amount's sign, so each adds up alone, in integers. All three are null where the amount has
-- more than 18 places or doesn't fit 64 bits.

CREATE VIEW balance_statements AS
SELECT account, currency, position,
    CASE WHEN basis <> 'inferred_zero' AND updated_at IS NOT NULL THEN updated_at ELSE received_at END
        AS at,
    total,
    CASE WHEN fits THEN CAST(trunc(total) AS bigint) END AS whole,
    CASE WHEN fits THEN CAST(trunc(nanos) AS bigint) END AS nano,
    CASE WHEN fits THEN CAST((nanos - trunc(nanos)) * 1000000000 AS bigint) END AS atto,
    basis, updated_at, received_at
FROM (
    SELECT *,
        (total - trunc(total)) * 1000000000 AS nanos,
        scale(trim_scale(total)) <= 18 AND abs(trunc(total)) <= 9223372036854775807 AS fits
    FROM balance_history
) AS measured;
