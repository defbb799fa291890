"""What was looked up about commands in doubt, and which command is a resend of which.

Why: "not placed" rests on absence, so what was asked, when, and what each answer said has to stand
beside the row for as long as the row does. And a resend is a person's act: a new command that
points to the old one, which must be settled before.
A running old daemon: sees no difference; it looks nothing up.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")

FINDINGS = "'effect', 'refused', 'absent', 'unchanged', 'unclear', 'no_answer'"
OPEN = "'queued', 'sending', 'sent', 'acknowledged', 'in_doubt'"
KEPT = "outbox: what was ordered can not be changed; queue a new command"
SETTLED = "outbox: requeue_of must name a command of this account whose fate is settled"


def upgrade() -> None:
    is_sqlite = op.get_context().dialect.name == "sqlite"
    create_lookups()
    kind = "INTEGER" if is_sqlite else "bigint"
    op.execute(f"ALTER TABLE outbox ADD COLUMN requeue_of {kind}")
    resent = sa.text("requeue_of IS NOT NULL")
    op.create_index(
        "outbox_requeue_of",
        "outbox",
        ["account", "requeue_of"],
        postgresql_where=resent,
        sqlite_where=resent,
    )
    # A frame that comes late overturns "not placed": whoever judges frames asks for these rows.
    not_placed = sa.text("status = 'not_placed'")
    op.create_index(
        "outbox_not_placed",
        "outbox",
        ["account", "outbox_id"],
        postgresql_where=not_placed,
        sqlite_where=not_placed,
    )
    for statement in SQLITE if is_sqlite else POSTGRESQL:
        op.execute(statement)
    if not is_sqlite:
        for role in present_roles():
            op.execute(f"GRANT {GRANTS[role]} TO {role}")


def downgrade() -> None:
    is_sqlite = op.get_context().dialect.name == "sqlite"
    where = "" if is_sqlite else " ON outbox"
    op.execute(f"DROP TRIGGER outbox_requeue_settled{where}")
    op.execute(f"DROP TRIGGER outbox_requeue_keep{where}")
    op.drop_index("outbox_not_placed", "outbox")
    op.drop_index("outbox_requeue_of", "outbox")
    op.execute("ALTER TABLE outbox DROP COLUMN requeue_of")
    op.drop_table("outbox_lookups")
    if not is_sqlite:
        op.execute("DROP FUNCTION outbox_requeue_settled()")
        op.execute("DROP FUNCTION outbox_requeue_keep()")


def create_lookups() -> None:
    op.create_table(
        "outbox_lookups",
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("outbox_id", LONG, nullable=False, autoincrement=False),
        sa.Column("seq", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("looked_at", TIME, nullable=False),
        sa.Column("asked", sa.Text, nullable=False),
        sa.Column("position", LONG),
        sa.Column("finding", sa.Text, nullable=False),
        sa.Column("said", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("account", "outbox_id", "seq", name="outbox_lookups_pkey"),
        sa.CheckConstraint(f"finding IN ({FINDINGS})", name="outbox_lookups_finding"),
        sqlite_strict=True,
    )


SQLITE = [
    f"""
    CREATE TRIGGER outbox_requeue_keep BEFORE UPDATE ON outbox
    WHEN NEW.requeue_of IS NOT OLD.requeue_of BEGIN
        SELECT RAISE(ABORT, '{KEPT}');
    END
    """,
    f"""
    CREATE TRIGGER outbox_requeue_settled BEFORE INSERT ON outbox
    WHEN NEW.requeue_of IS NOT NULL BEGIN
        SELECT RAISE(ABORT, '{SETTLED}')
        WHERE NOT EXISTS (SELECT 1 FROM outbox WHERE account = NEW.account
            AND outbox_id = NEW.requeue_of AND status NOT IN ({OPEN}));
    END
    """,
    """
    CREATE TRIGGER outbox_lookups_no_update BEFORE UPDATE ON outbox_lookups BEGIN
        SELECT RAISE(ABORT, 'outbox_lookups: append-only; UPDATE is refused');
    END
    """,
    """
    CREATE TRIGGER outbox_lookups_no_delete BEFORE DELETE ON outbox_lookups BEGIN
        SELECT RAISE(ABORT, 'outbox_lookups: append-only; DELETE is refused');
    END
    """,
    # REPLACE fires no DELETE trigger for most programs: the next number is all that goes in.
    """
    CREATE TRIGGER outbox_lookups_follow BEFORE INSERT ON outbox_lookups BEGIN
        SELECT RAISE(ABORT, 'outbox_lookups: seq does not follow the last one')
        WHERE NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM outbox_lookups
            WHERE account = NEW.account AND outbox_id = NEW.outbox_id);
        SELECT RAISE(ABORT, 'outbox_lookups: append-only; REPLACE is refused')
        WHERE EXISTS (SELECT 1 FROM outbox_lookups WHERE rowid = NEW.rowid);
    END
    """,
]

POSTGRESQL = [
    f"""
    CREATE FUNCTION outbox_requeue_keep() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION '{KEPT}'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'outbox_requeue_keep';
    END $$
    """,
    """
    CREATE TRIGGER outbox_requeue_keep BEFORE UPDATE ON outbox
        FOR EACH ROW WHEN (NEW.requeue_of IS DISTINCT FROM OLD.requeue_of)
        EXECUTE FUNCTION outbox_requeue_keep()
    """,
    f"""
    CREATE FUNCTION outbox_requeue_settled() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NOT EXISTS (SELECT FROM outbox WHERE account = NEW.account
            AND outbox_id = NEW.requeue_of AND status NOT IN ({OPEN}))
        THEN
            RAISE EXCEPTION '{SETTLED}'
                USING ERRCODE = 'check_violation', CONSTRAINT = 'outbox_requeue_settled';
        END IF;
        RETURN NEW;
    END $$
    """,
    """
    CREATE TRIGGER outbox_requeue_settled BEFORE INSERT ON outbox
        FOR EACH ROW WHEN (NEW.requeue_of IS NOT NULL)
        EXECUTE FUNCTION outbox_requeue_settled()
    """,
    """
    CREATE TRIGGER outbox_lookups_no_change BEFORE UPDATE OR DELETE OR TRUNCATE
        ON outbox_lookups FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
    """,
]

GRANTS = {
    "recorder_reader": "SELECT ON outbox_lookups",
    "recorder_daemon": "SELECT, INSERT ON outbox_lookups",
}


def present_roles() -> list[str]:
    """The roles that stand; where we may not create them, somebody else can, and grant later."""
    names = sa.text("SELECT rolname FROM pg_roles WHERE rolname = ANY(:names)")
    found = op.get_bind().execute(names, {"names": list(GRANTS)})
    return sorted(found.scalars())
