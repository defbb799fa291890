-- Three roles without log-in. Grant them to users: recorder_reader reads everything,
-- recorder_enqueuer queues commands and sets the trading switch, recorder_daemon is for the
-- recorder itself.

-- Roles belong to the server: another database may have created them, or may be doing so now.
-- Where we may not create them, a superuser can, and can then run the GRANTs below.
DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY
        ARRAY['recorder_reader', 'recorder_enqueuer', 'recorder_daemon']
    LOOP
        CONTINUE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = role_name);
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN NULL;
            WHEN insufficient_privilege THEN
                RAISE NOTICE 'role % not created: %', role_name, SQLERRM;
        END;
    END LOOP;
END $$;

DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'recorder_reader') THEN
        GRANT SELECT ON
            events, event_json, projections, fold_failures, connections, gaps, coverage,
            balances, balance_history, balance_movements, balance_statements,
            open_orders, orders, order_history, foreign_orders, trades, ledger, transfers,
            positions, position_history, conditional_orders, conditional_order_history,
            outbox, outbox_transitions, outbox_lookups, controls, limits, leases,
            backfills, backfill_runs, backfill_lists,
            reconciliation_requests, reconciliations, differences, alembic_version
            TO recorder_reader;
    END IF;
END $$;

-- The enqueuer reads nothing of the account: only what RETURNING, ON CONFLICT and WHERE need.
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'recorder_enqueuer') THEN
        GRANT INSERT (account, command, payload, client_msg_id, priority, not_before, expires_at,
            in_order) ON outbox TO recorder_enqueuer;
        GRANT SELECT (account, outbox_id, client_msg_id, status) ON outbox TO recorder_enqueuer;
        GRANT SELECT ON controls, limits TO recorder_enqueuer;
        GRANT UPDATE (trading, reason) ON controls TO recorder_enqueuer;
    END IF;
END $$;

DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'recorder_daemon') THEN
        GRANT SELECT, INSERT ON events, outbox_lookups TO recorder_daemon;
        GRANT SELECT, INSERT, UPDATE ON
            outbox, controls, leases, backfills, reconciliation_requests TO recorder_daemon;
        -- What is folded from the log.
        GRANT SELECT, INSERT, UPDATE, DELETE ON
            projections, fold_failures, connections, gaps, balances, balance_history,
            open_orders, orders, order_history, trades, ledger, transfers,
            positions, position_history, conditional_orders, conditional_order_history,
            backfill_runs, backfill_lists, reconciliations, differences TO recorder_daemon;
        GRANT SELECT ON
            event_json, coverage, balance_movements, balance_statements, foreign_orders,
            outbox_transitions, limits, alembic_version TO recorder_daemon;
    END IF;
END $$;
