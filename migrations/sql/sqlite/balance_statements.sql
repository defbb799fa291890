-- What the exchange reported as held, with its own time where it gave one. `whole`, `nano` and
-- `atto` are the amount's digits before the point, the next nine and the nine after those. Each has
-- the amount's sign, so each adds up alone, in integers. All three are null where the amount has
-- more than 18 places or doesn't fit 64 bits.

CREATE VIEW balance_statements AS
SELECT account, currency, position,
    CASE WHEN basis <> 'inferred_zero' AND updated_at IS NOT NULL THEN updated_at ELSE received_at END
        AS at,
    total,
    CASE WHEN fits THEN direction * CAST(before AS INTEGER) END AS whole,
    CASE WHEN fits THEN direction * CAST(substr(behind || '000000000000000000', 1, 9) AS INTEGER)
        END AS nano,
    CASE WHEN fits THEN direction * CAST(substr(behind || '000000000000000000', 10, 9) AS INTEGER)
        END AS atto,
    basis, updated_at, received_at
FROM (
    SELECT *,
        length(behind) <= 18 AND (length(before) < 19
            OR (length(before) = 19 AND before <= '9223372036854775807')) AS fits
    FROM (
        SELECT *,
            CASE WHEN substr(total, 1, 1) = '-' THEN -1 ELSE 1 END AS direction,
            substr(digits, 1, instr(digits || '.', '.') - 1) AS before,
            substr(digits, instr(digits || '.', '.') + 1) AS behind
        FROM (SELECT *, ltrim(total, '-') AS digits FROM balance_history)
    )
);
