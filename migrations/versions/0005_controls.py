"""The switch and the lease: whether an account may trade, and which process does.

Why: both are rows, so that both can be read and the switch be thrown with plain SQL while all else
is in trouble, and so that the statement that takes a command for sending can ask them.
A running old daemon: records on, without a lease of its own; stop it before a new one starts.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
#: The clock in the form in which SQLite's columns hold times (it knows milliseconds).
SQLITE_NOW = "strftime('%Y-%m-%d %H:%M:%f000', 'now')"


def upgrade() -> None:
    is_sqlite = op.get_context().dialect.name == "sqlite"
    someone = sa.text("'sqlite'" if is_sqlite else "session_user")
    now = sa.text(f"({SQLITE_NOW})" if is_sqlite else "now()")
    op.create_table(
        "controls",
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("trading", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("changed_by", sa.Text, nullable=False, server_default=someone),
        sa.Column("changed_at", TIME, nullable=False, server_default=now),
        sa.PrimaryKeyConstraint("account", name="controls_pkey"),
        sa.CheckConstraint("trading IN ('on', 'cancel_only', 'off')", name="controls_trading"),
        sqlite_strict=True,
    )
    op.create_table(
        "leases",
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("epoch", LONG, nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("taken_at", TIME, nullable=False),
        sa.Column("renewed_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("account", name="leases_pkey"),
        sqlite_strict=True,
    )
    for statement in SQLITE if is_sqlite else POSTGRESQL:
        op.execute(statement)


def downgrade() -> None:
    op.drop_table("leases")
    op.drop_table("controls")
    if op.get_context().dialect.name == "postgresql":
        op.execute("DROP FUNCTION controls_stay()")
        op.execute("DROP FUNCTION controls_sign()")
        op.execute("DROP FUNCTION controls_tell()")


# Whoever is in a hurry types UPDATE controls SET trading = 'off'; who and when are filled in. A row
# that is gone would be made anew, and switched on, by the next start.
SQLITE = [
    """
    CREATE TRIGGER controls_stay BEFORE DELETE ON controls BEGIN
        SELECT RAISE(ABORT, 'controls: the switch can not be deleted; set trading to off');
    END
    """,
    f"""
    CREATE TRIGGER controls_sign AFTER UPDATE OF trading ON controls
    WHEN NEW.changed_at IS OLD.changed_at BEGIN
        UPDATE controls SET changed_at = {SQLITE_NOW}, changed_by = 'sqlite'
        WHERE account = NEW.account;
    END
    """,
]

POSTGRESQL = [
    """
    CREATE FUNCTION controls_stay() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'controls: the switch can not be deleted; set trading to off'
            USING ERRCODE = 'insufficient_privilege';
    END $$
    """,
    """
    CREATE TRIGGER controls_stay BEFORE DELETE OR TRUNCATE ON controls
        FOR EACH STATEMENT EXECUTE FUNCTION controls_stay()
    """,
    """
    CREATE FUNCTION controls_sign() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.changed_by := session_user;
        NEW.changed_at := clock_timestamp();
        RETURN NEW;
    END $$
    """,
    """
    CREATE TRIGGER controls_sign BEFORE UPDATE OF trading ON controls
        FOR EACH ROW WHEN (NEW.changed_at IS NOT DISTINCT FROM OLD.changed_at)
        EXECUTE FUNCTION controls_sign()
    """,
    """
    CREATE FUNCTION controls_tell() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_notify('recorder_outbox', NEW.account);
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER controls_tell AFTER INSERT OR UPDATE ON controls
        FOR EACH ROW EXECUTE FUNCTION controls_tell()
    """,
]
