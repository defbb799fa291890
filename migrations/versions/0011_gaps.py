"""What is known about each gap, and the view of what was observed and what wasn't.

Why: "closed" says nothing about what was missed. A gap keeps its evidence, every further loss while
it was open, and the verdict on it; `coverage` cuts the time since the first start into stretches
that were observed, blind, or blind and healed since.
A running old daemon: writes gaps without the new columns, which the view leaves out; stop it first.
The new one folds them again from the log at its start.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")

COLUMNS: dict[str, sa.types.TypeEngine[Any]] = {
    "blind_from": TIME,
    "blind_until": TIME,
    "evidence": sa.Text(),
    "losses": LONG,
    "causes": sa.Text(),
    "last_loss": sa.Text(),
    "last_loss_position": LONG,
    "verdict": sa.Text(),
    "verdict_at": TIME,
    "verdict_position": LONG,
}
GRANTS = {"recorder_reader": "SELECT ON coverage", "recorder_daemon": "SELECT ON coverage"}


def upgrade() -> None:
    is_sqlite = op.get_context().dialect.name == "sqlite"
    for name, kind in COLUMNS.items():
        op.add_column("gaps", sa.Column(name, kind))
    op.execute(FILL)
    op.execute(view(SQLITE if is_sqlite else POSTGRESQL))
    if not is_sqlite:
        for role in present_roles():
            op.execute(f"GRANT {GRANTS[role]} TO {role}")


def downgrade() -> None:
    op.execute("DROP VIEW coverage")
    for name in reversed(COLUMNS):
        op.drop_column("gaps", name)


# What old rows don't know: the first start has no beginning, so its note's time stands for it.
FILL = """
    UPDATE gaps SET losses = 1, causes = cause, last_loss_position = gap_id,
        blind_until = until_at,
        blind_from = CASE WHEN from_at > until_at THEN until_at ELSE coalesce(from_at,
            (SELECT received_at FROM events
                WHERE events.account = gaps.account AND events.position = gaps.gap_id)) END
"""

#: Of several causes at once the first is named.
CAUSES = (
    "first_start",
    "killed",
    "stopped",
    "asleep",
    "clock_set_back",
    "connection_lost",
    "silent",
    "no_pong",
    "queue_full",
    "undecodable",
    "not_running",
    "unconfirmed",
)

SQLITE = {
    "now": "strftime('%Y-%m-%d %H:%M:%f', 'now') || '000'",
    "least": "min",
    # Down to the second by the calendar, and the six digits behind it apart: no float is exact.
    "microseconds": """(CAST(strftime('%s', substr(until_at, 1, 19)) AS INTEGER)
            - CAST(strftime('%s', substr(from_at, 1, 19)) AS INTEGER)) * 1000000
            + CAST(substr(until_at, 21) AS INTEGER) - CAST(substr(from_at, 21) AS INTEGER)""",
    "seconds": "microseconds / 1000000.0",
}
POSTGRESQL = {
    "now": "clock_timestamp()",
    "least": "least",
    "microseconds": "CAST(EXTRACT(EPOCH FROM until_at - from_at) * 1000000 AS bigint)",
    "seconds": "microseconds / 1000000.0",
}


def view(words: dict[str, str]) -> str:
    """The edges of all blind stretches in order, and how many of each kind are under way.

    `spans` has the gaps, and behind the last frame the time that no gap has claimed yet. What lies
    beyond the present (the clock was set back) is cut off. `counted` is one row per moment at which
    something begins or ends; `running` adds up what is under way from there to the next.
    """
    step = "sum(CASE WHEN healed = {healed} AND cause = '{cause}' THEN step ELSE 0 END)"
    every = "sum(CASE WHEN healed = {healed} THEN step ELSE 0 END)"
    names = {"b": 0, "h": 1}
    sums = [f"{every.format(healed=h)} AS {k}_all" for k, h in names.items()]
    sums += [
        f"{step.format(healed=h, cause=cause)} AS {k}_{cause}"
        for k, h in names.items()
        for cause in CAUSES
    ]
    columns = [f"{k}_{cause}" for k in names for cause in ("all", *CAUSES)]
    running = [f"sum({column}) OVER passing AS {column}" for column in columns]

    def cause_of(kind: str) -> str:
        cases = [f"WHEN {kind}_{cause} > 0 THEN '{cause}'" for cause in CAUSES]
        return f"CASE {' '.join(cases)} ELSE 'other' END"

    now, least = words["now"], words["least"]
    return f"""
    CREATE VIEW coverage AS
    WITH present AS MATERIALIZED (SELECT {now} AS at),
    spans AS (
        SELECT gaps.account, blind_from AS from_at, coalesce(blind_until, present.at) AS until_at,
            cause, CASE WHEN state = 'healed' THEN 1 ELSE 0 END AS healed
        FROM gaps, present WHERE blind_from IS NOT NULL
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
    cut AS (
        SELECT account, {least}(from_at, present.at) AS from_at,
            {least}(until_at, present.at) AS until_at, cause, healed
        FROM spans, present WHERE from_at IS NOT NULL
    ),
    edges AS (
        SELECT account, from_at AS at, cause, healed, 1 AS step FROM cut WHERE from_at < until_at
        UNION ALL
        SELECT account, until_at, cause, healed, -1 FROM cut WHERE from_at < until_at
        UNION ALL
        SELECT account, min(from_at), '', 0, 0 FROM cut GROUP BY account
        UNION ALL
        SELECT account, present.at, '', 0, 0 FROM (SELECT DISTINCT account FROM cut) AS known,
            present
    ),
    counted AS (SELECT account, at, {", ".join(sums)} FROM edges GROUP BY account, at),
    running AS (
        SELECT account, at AS from_at, lead(at) OVER passing AS until_at, {", ".join(running)}
        FROM counted WINDOW passing AS (PARTITION BY account ORDER BY at)
    ),
    measured AS (
        SELECT account, from_at, until_at, {words["microseconds"]} AS microseconds,
            CASE WHEN b_all > 0 THEN 'blind' WHEN h_all > 0 THEN 'healed' ELSE 'observed' END
                AS kind,
            CASE WHEN b_all > 0 THEN {cause_of("b")} WHEN h_all > 0 THEN {cause_of("h")} END
                AS cause
        FROM running WHERE until_at IS NOT NULL
    )
    SELECT account, from_at, until_at, {words["seconds"]} AS seconds, microseconds, kind, cause
    FROM measured
    """


def present_roles() -> list[str]:
    """The roles that stand; where we may not create them, somebody else can, and grant later."""
    names = sa.text("SELECT rolname FROM pg_roles WHERE rolname = ANY(:names)")
    found = op.get_bind().execute(names, {"names": list(GRANTS)})
    return sorted(found.scalars())
