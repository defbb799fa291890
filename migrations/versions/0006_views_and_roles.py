"""The view of events as JSON, and PostgreSQL's roles.

Why: payloads are stored as they came, and not all of them are JSON; a query over all of them must
not stop at the one that isn't. The roles give a person or a program what it needs and no more:
reading, queueing commands, or being the daemon.
A running old daemon: sees no difference, unless it logs in as a role without the daemon's grants.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_context().dialect.name == "sqlite":
        op.execute(SQLITE_VIEW)
        return
    op.execute(POSTGRESQL_DOCUMENT)
    op.execute(POSTGRESQL_VIEW)
    op.execute(CREATE_ROLES)
    for role in present_roles():
        for grant in GRANTS[role]:
            op.execute(f"GRANT {grant} TO {role}")


def downgrade() -> None:
    """Take the grants back. The roles stay: other databases of the server may use them."""
    op.execute("DROP VIEW event_json")
    if op.get_context().dialect.name == "sqlite":
        return
    op.execute("DROP FUNCTION event_document(text, text)")
    for role in present_roles():
        for grant in GRANTS[role]:
            # The view took its own grants with it.
            if not grant.endswith("event_json"):
                op.execute(f"REVOKE {grant} FROM {role}")


# CASE, not only WHERE: a query's own conditions may be evaluated before the view's.
SQLITE_VIEW = """
    CREATE VIEW event_json AS
    SELECT account, position, received_at, connection_id, origin, type,
        CASE WHEN encoding = 'text' AND json_valid(payload) THEN payload END AS payload
    FROM events
    WHERE encoding = 'text' AND json_valid(payload)
"""

# jsonb refuses more than it declares invalid: depth beyond the stack, sizes beyond its headers.
POSTGRESQL_DOCUMENT = """
    CREATE FUNCTION event_document(payload text, encoding text) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE PARALLEL RESTRICTED AS $$
    BEGIN
        IF encoding = 'text' THEN
            RETURN payload::jsonb;
        END IF;
        RETURN NULL;
    EXCEPTION WHEN OTHERS THEN
        RETURN NULL;
    END $$
"""

# OFFSET 0 keeps the planner from reading each payload twice.
POSTGRESQL_VIEW = """
    CREATE VIEW event_json AS
    SELECT account, position, received_at, connection_id, origin, type, document AS payload
    FROM events, LATERAL (SELECT event_document(payload, encoding) AS document OFFSET 0) AS reading
    WHERE document IS NOT NULL
"""

# Roles belong to the server: another database may have made them, or be making them now.
CREATE_ROLES = """
    DO $$
    DECLARE
        wanted text;
    BEGIN
        FOREACH wanted IN ARRAY
            ARRAY['recorder_reader', 'recorder_enqueuer', 'recorder_daemon']
        LOOP
            CONTINUE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = wanted);
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
            EXCEPTION
                WHEN duplicate_object OR unique_violation THEN NULL;
                WHEN insufficient_privilege THEN
                    RAISE NOTICE 'role % not created: %', wanted, SQLERRM;
            END;
        END LOOP;
    END $$
"""

PROJECTED = (
    "projections, fold_failures, connections, gaps, balances, balance_history, open_orders,"
    " orders, order_history, trades, ledger, transfers"
)
GRANTS = {
    "recorder_reader": [
        "SELECT ON events, event_json",
        f"SELECT ON {PROJECTED}",
        "SELECT ON outbox, outbox_transitions, controls, leases, alembic_version",
    ],
    # Nothing of the account can be read with it: only what RETURNING, ON CONFLICT and WHERE need.
    "recorder_enqueuer": [
        "INSERT (account, command, payload, client_msg_id, priority, not_before, expires_at)"
        " ON outbox",
        "SELECT (account, outbox_id, client_msg_id, status) ON outbox",
        "SELECT ON controls",
        "UPDATE (trading, reason) ON controls",
    ],
    "recorder_daemon": [
        "SELECT, INSERT ON events",
        "SELECT ON event_json",
        f"SELECT, INSERT, UPDATE, DELETE ON {PROJECTED}",
        "SELECT, INSERT, UPDATE ON outbox",
        "SELECT ON outbox_transitions",
        "SELECT, INSERT, UPDATE ON controls",
        "SELECT, INSERT, UPDATE ON leases",
        "SELECT ON alembic_version",
    ],
}


def present_roles() -> list[str]:
    """The roles that stand; where we may not create them, somebody else can, and grant later."""
    names = sa.text("SELECT rolname FROM pg_roles WHERE rolname = ANY(:names)")
    found = op.get_bind().execute(names, {"names": list(GRANTS)})
    return sorted(found.scalars())
