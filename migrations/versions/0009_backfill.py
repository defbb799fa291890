"""What is fetched after a gap: who told of a row, how it was joined, and the fetching itself.

Why: a page of a history is one event with many rows, so the place within the answer joins the key
of `trades`, `ledger` and `transfers`. Each row says who told of it first, and fills and
transactions also how they are told from equal ones. `backfills` is where a person asks for a
period; `backfill_runs` and `backfill_lists` are folded from the log: how far each fetching is.
A running old daemon: goes on. What it writes has the defaults, and the next version folds it again.
"""

from __future__ import annotations

import re

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
FLAG = sa.Boolean(create_constraint=False).with_variant(sa.Integer(), "sqlite")
#: The clock in the form in which SQLite's columns hold times (it knows milliseconds).
SQLITE_NOW = "strftime('%Y-%m-%d %H:%M:%f000', 'now')"

REKEYED = ("trades", "ledger", "transfers")
JOINED = {"trades": "traded_at", "ledger": "event_at"}
STATES = "'asked', 'running', 'complete', 'incomplete'"


def upgrade() -> None:
    is_sqlite = op.get_context().dialect.name == "sqlite"
    for table in REKEYED:
        add(table, "item integer NOT NULL DEFAULT 0")
        rekey(table, ["account", "position", "item"], is_sqlite=is_sqlite)
    for table, at in JOINED.items():
        add(table, "natural_id text")
        add(table, "source text NOT NULL DEFAULT 'stream'")
        add(table, "joined text NOT NULL DEFAULT 'id'")
        # What a fold finds rows by: their identity, and all of one moment.
        op.create_index(f"{table}_natural_id", table, ["account", "natural_id"], unique=True)
        op.create_index(f"{table}_{at}", table, ["account", at])
    add("transfers", "source text NOT NULL DEFAULT 'stream'")
    add("transfers", f"index_in_transaction {'integer' if is_sqlite else 'bigint'}")
    op.create_index("transfers_transaction_hash", "transfers", ["account", "transaction_hash"])
    add("orders", "source text NOT NULL DEFAULT 'stream'")
    create_backfills(is_sqlite)
    create_runs()
    if not is_sqlite:
        for role in present_roles():
            for grant in GRANTS[role]:
                op.execute(f"GRANT {grant} TO {role}")


def downgrade() -> None:
    is_sqlite = op.get_context().dialect.name == "sqlite"
    for table in ("backfill_lists", "backfill_runs", "backfills"):
        op.drop_table(table)
    # The recorder of before folds them again, without what was fetched.
    for table in ("orders", "order_history", *REKEYED):
        op.execute(f"DELETE FROM {table}")
    folds = ", ".join(f"'{name}'" for name in ("orders", *REKEYED))
    op.execute(f"UPDATE projections SET position = 0 WHERE projection IN ({folds})")
    op.execute("DELETE FROM projections WHERE projection = 'backfills'")
    op.execute("ALTER TABLE orders DROP COLUMN source")
    op.drop_index("transfers_transaction_hash", "transfers")
    for table, at in JOINED.items():
        op.drop_index(f"{table}_{at}", table)
        op.drop_index(f"{table}_natural_id", table)
        for column in ("natural_id", "source", "joined"):
            op.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    for column in ("source", "index_in_transaction"):
        op.execute(f"ALTER TABLE transfers DROP COLUMN {column}")
    for table in REKEYED:
        rekey(table, ["account", "position"], is_sqlite=is_sqlite)
        op.execute(f"ALTER TABLE {table} DROP COLUMN item")


def add(table: str, column: str) -> None:
    op.execute(f"ALTER TABLE {table} ADD COLUMN {column}")


def rekey(table: str, key: list[str], *, is_sqlite: bool) -> None:
    """Give the table another primary key; SQLite can do that to a new table only."""
    columns = ", ".join(key)
    if not is_sqlite:
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT {table}_pkey")
        op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {table}_pkey PRIMARY KEY ({columns})")
        return
    asked = sa.text("SELECT type, sql FROM sqlite_master WHERE tbl_name = :table AND sql <> ''")
    found = op.get_bind().execute(asked, {"table": table}).all()
    (made,) = (sql for kind, sql in found if kind == "table")
    again = re.sub(r"PRIMARY KEY \([^)]*\)", f"PRIMARY KEY ({columns})", made, count=1)
    again = re.sub(rf'CREATE TABLE "?{table}"?', f"CREATE TABLE {table}_again", again, count=1)
    op.execute(again)
    op.execute(f"INSERT INTO {table}_again SELECT * FROM {table}")
    op.execute(f"DROP TABLE {table}")
    op.execute(f"ALTER TABLE {table}_again RENAME TO {table}")
    for kind, sql in found:
        if kind == "index":
            op.execute(sql)


def create_backfills(is_sqlite: bool) -> None:
    random = "(lower(hex(randomblob(16))))" if is_sqlite else "gen_random_uuid()::text"
    now, someone = (f"({SQLITE_NOW})", "'sqlite'") if is_sqlite else ("now()", "session_user")
    checks = [
        sa.CheckConstraint(f"state IN ({STATES})", name="backfills_state"),
        sa.CheckConstraint("until_at > from_at", name="backfills_period"),
    ]
    if is_sqlite:
        checks += [sa.CheckConstraint(is_time(name), name=f"backfills_{name}") for name in TIMES]
    op.create_table(
        "backfills",
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("backfill_id", sa.Text, nullable=False, server_default=sa.text(random)),
        sa.Column("from_at", TIME, nullable=False),
        sa.Column("until_at", TIME, nullable=False),
        sa.Column("requested_by", sa.Text, nullable=False, server_default=sa.text(someone)),
        sa.Column("requested_at", TIME, nullable=False, server_default=sa.text(now)),
        sa.Column("state", sa.Text, nullable=False, server_default=sa.text("'asked'")),
        sa.Column("run_id", LONG),
        sa.Column("reason", sa.Text),
        sa.Column("updated_at", TIME),
        sa.PrimaryKeyConstraint("account", "backfill_id", name="backfills_pkey"),
        *checks,
        sqlite_strict=True,
    )


TIMES = ("from_at", "until_at")


def is_time(column: str) -> str:
    """SQLite's times are texts that sort: UTC, to the second or finer, nothing else."""
    again = f"strftime('%Y-%m-%d %H:%M:', {column}) || substr({column}, 18)"
    return f"length({column}) IN (19, 23, 26) AND {again} IS {column}"


def create_runs() -> None:
    op.create_table(
        "backfill_runs",
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("run_id", LONG, nullable=False, autoincrement=False),
        sa.Column("gap_id", LONG),
        sa.Column("backfill_id", sa.Text),
        sa.Column("from_at", TIME, nullable=False),
        sa.Column("until_at", TIME, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("is_open", FLAG, nullable=False),
        sa.Column("pages", sa.Integer, nullable=False),
        sa.Column("answers", sa.Integer, nullable=False),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("ended_at", TIME),
        sa.Column("last_position", LONG, nullable=False),
        sa.PrimaryKeyConstraint("account", "run_id", name="backfill_runs_pkey"),
        sqlite_strict=True,
    )
    op.create_index("backfill_runs_gap_id", "backfill_runs", ["account", "gap_id"])
    op.create_table(
        "backfill_lists",
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("run_id", LONG, nullable=False, autoincrement=False),
        sa.Column("list", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("pages", sa.Integer, nullable=False),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("unread", sa.Integer, nullable=False),
        sa.Column("next", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("last_position", LONG, nullable=False),
        sa.PrimaryKeyConstraint("account", "run_id", "list", name="backfill_lists_pkey"),
        sqlite_strict=True,
    )


GRANTS = {
    "recorder_reader": ["SELECT ON backfills, backfill_runs, backfill_lists"],
    "recorder_daemon": [
        "SELECT, INSERT, UPDATE ON backfills",
        "SELECT, INSERT, UPDATE, DELETE ON backfill_runs, backfill_lists",
    ],
}


def present_roles() -> list[str]:
    """The roles that stand; where we may not create them, somebody else can, and grant later."""
    names = sa.text("SELECT rolname FROM pg_roles WHERE rolname = ANY(:names)")
    found = op.get_bind().execute(names, {"names": list(GRANTS)})
    return sorted(found.scalars())
