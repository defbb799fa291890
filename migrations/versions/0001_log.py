"""The log: events, append-only by the database's own triggers.

Why: a record that can be edited proves nothing, and a log with holes proves little more. The
triggers refuse UPDATE, DELETE, TRUNCATE and REPLACE, and every position but the next one.
A running old daemon: there is none before this.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "events",
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("position", LONG, nullable=False, autoincrement=False),
        sa.Column("received_at", TIME, nullable=False),
        sa.Column("elapsed_ns", LONG),
        sa.Column("connection_id", sa.Text),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("encoding", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("account", "position", name="events_pkey"),
        sa.CheckConstraint("position >= 1", name="events_position"),
        sa.CheckConstraint(
            "origin IN ('received', 'sent', 'fetched', 'noted')", name="events_origin"
        ),
        sa.CheckConstraint("encoding IN ('text', 'base64')", name="events_encoding"),
        sa.CheckConstraint("length(digest) = 32", name="events_digest"),
        sqlite_strict=True,
    )
    triggers = SQLITE if op.get_context().dialect.name == "sqlite" else POSTGRESQL
    for statement in triggers:
        op.execute(statement)


def downgrade() -> None:
    op.drop_table("events")
    if op.get_context().dialect.name == "postgresql":
        op.execute("DROP FUNCTION events_follow()")
        op.execute("DROP FUNCTION refuse_change()")


SQLITE = [
    """
    CREATE TRIGGER events_no_update BEFORE UPDATE ON events BEGIN
        SELECT RAISE(ABORT, 'events: the log is append-only; UPDATE is refused');
    END
    """,
    """
    CREATE TRIGGER events_no_delete BEFORE DELETE ON events BEGIN
        SELECT RAISE(ABORT, 'events: the log is append-only; DELETE is refused');
    END
    """,
    # REPLACE deletes without firing the trigger above unless the connection asked for it, but it
    # needs a row that stands already: no such position is the next one, and a rowid that somebody
    # spells out must be new. (Not spelt out it reads as -1 here.)
    """
    CREATE TRIGGER events_follow BEFORE INSERT ON events BEGIN
        SELECT RAISE(ABORT, 'events: position does not follow the last one of its account')
        WHERE NEW.position IS NOT
            (SELECT coalesce(max(position), 0) + 1 FROM events WHERE account = NEW.account);
        SELECT RAISE(ABORT, 'events: the log is append-only; REPLACE is refused')
        WHERE EXISTS (SELECT 1 FROM events WHERE rowid = NEW.rowid);
    END
    """,
    # So that the -1 above is never a row.
    """
    CREATE TRIGGER events_rowid AFTER INSERT ON events WHEN NEW.rowid < 1 BEGIN
        SELECT RAISE(ABORT, 'events: the rowid is SQLite''s to choose');
    END
    """,
]

POSTGRESQL = [
    """
    CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION '%: append-only; % is refused', TG_TABLE_NAME, TG_OP
            USING ERRCODE = 'insufficient_privilege';
    END $$
    """,
    """
    CREATE TRIGGER events_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON events
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
    """,
    # Also while session_replication_role switches ordinary triggers off.
    "ALTER TABLE events ENABLE ALWAYS TRIGGER events_no_change",
    # Once per statement, however many rows: two look-ups in the primary key per account.
    """
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
    END $$
    """,
    """
    CREATE TRIGGER events_follow AFTER INSERT ON events REFERENCING NEW TABLE AS added
        FOR EACH STATEMENT EXECUTE FUNCTION events_follow()
    """,
]
