-- Positions of an account count 1, 2, 3 … without a hole. This is also the fence: of two processes
-- that append to the same account, the second one fails.

-- Runs once per statement, however many rows: two look-ups in the primary key per account.
CREATE FUNCTION events_follow() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    run record;
BEGIN
    FOR run IN
        SELECT account, min(position) AS first, max(position) AS last, count(*) AS rows
        FROM added GROUP BY account
    LOOP
        IF run.last - run.first + 1 <> run.rows
            OR run.last <> (SELECT max(position) FROM events WHERE account = run.account)
            OR (run.first > 1 AND NOT EXISTS (SELECT FROM events
                WHERE account = run.account AND position = run.first - 1))
        THEN
            RAISE EXCEPTION 'events: position % does not follow the last one of account %',
                run.first, run.account
                USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'events_follow';
        END IF;
    END LOOP;
    RETURN NULL;
END $$;

CREATE TRIGGER events_follow AFTER INSERT ON events REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION events_follow();
