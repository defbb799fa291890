"""Which positions and conditional orders stood at a moment, against a fold of the log up to it."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest
from attrs import evolve
from sqlalchemy import Connection

from recorder.database.engine import Database, in_unit
from recorder.log.rules.event import Draft, Note, noted
from recorder.projections.rules.futures import Futures
from recorder.projections.sql.tables import Memory, project
from recorder.queries.as_of import (
    CONDITIONALS,
    POSITIONS,
    AsOfTable,
    known_at,
    true_at,
)
from recorder.timestamps import from_us, to_us
from tests.log.drafts import NOW_US, run_sql, write
from tests.outbox.trading import Account
from tests.projections.test_futures import closing, conditional, position, reduction, removal

BOTH = [POSITIONS, CONDITIONALS]


def fold(database: Database, up_to: int) -> None:
    options: dict[str, Any] = {"up_to": up_to, "limit": 1_000, "now": from_us(NOW_US)}
    in_unit(database.projector, project, Futures(), Memory(), "main", **options)


def current_rows(connection: Connection, kept: AsOfTable) -> list[tuple[object, ...]]:
    """Return what is open in the table of states as it stands."""
    rows = connection.execute(kept.states.select().where(kept.states.c.is_open)).mappings()
    return sorted((row[kept.key], row["quantity"], row["basis"]) for row in rows)


def history_of(rng: random.Random) -> list[Draft]:
    """Return positions and conditional orders that come, change and go, over two connections."""
    frames = [conditional("00"), position("1", "00", positionId="p-1")]
    for step in range(30):
        at, name = f"{step:02}", rng.choice(("1", "2"))
        frames.append(
            rng.choice(
                (
                    position(str(rng.randint(1, 4)), at, positionId=f"p-{name}"),
                    position(str(rng.randint(1, 4)), at, positionId=f"p-{name}"),
                    reduction(positionId=f"p-{name}"),
                    closing(position_id=f"p-{name}"),
                    conditional(at),
                    removal(),
                )
            )
        )
    facts = {"complete": True, "balances": True, "open_orders": True}
    end = noted("main", NOW_US, Note.SNAPSHOT_COMPLETE, facts, connection_id="c-2")
    drafts = [
        evolve(each, connection_id="c-1" if step < 15 else "c-2")
        for step, each in enumerate(frames)
    ]
    drafts.insert(18, end)
    return [evolve(each, received_us=NOW_US + step * 1000) for step, each in enumerate(drafts)]


@pytest.mark.parametrize("seed", range(4))
def test_what_was_known_at_each_position_is_the_fold_up_to_it(
    database: Database, seed: int
) -> None:
    written, stood = write(database, *history_of(random.Random(seed))), []
    for each in written:
        fold(database, each.position)
        stood.append([in_unit(database.reader, current_rows, kept) for kept in BOTH])

    for each, rows in zip(written, stood, strict=True):
        for kept, open_then in zip(BOTH, rows, strict=True):
            known = in_unit(database.reader, known_at, "main", each.position, kept)
            reported = sorted((row[kept.key], row["quantity"], row["basis"]) for row in known)
            assert reported == open_then
            assert all(row["certain"] == (row["basis"] == "reported") for row in known)
    assert any(rows[0] for rows in stood)
    assert any(rows[1] for rows in stood)


@pytest.mark.parametrize("seed", range(4))
def test_what_was_true_at_a_time_is_what_the_exchange_held_then(
    database: Database, seed: int
) -> None:
    account, stood = Account(random.Random(seed)), {}
    for _ in range(80):
        account.live(1)
        held = account.exchange.futures.held
        stood[account.clock()] = {each.position_id: each.quantity for each in held.values()}
    fold(database, write(database, *account.log)[-1].position)

    for moment, then in stood.items():
        rows = in_unit(database.reader, true_at, "main", moment, POSITIONS)
        assert {row["position_id"]: row["quantity"] for row in rows} == then
        assert all(row["certain"] for row in rows)
    assert any(stood.values())


def test_what_a_new_connection_did_not_name_may_have_ended_at_any_time_before(
    database: Database,
) -> None:
    facts = {"complete": True, "balances": True, "open_orders": True}
    reported = position("1", "01", positionId="p-1")
    at_us = to_us(from_us(NOW_US))
    drafts = [
        evolve(reported, connection_id="c-1", received_us=at_us),
        noted("main", at_us + 9_000_000, Note.SNAPSHOT_COMPLETE, facts, connection_id="c-2"),
    ]
    fold(database, write(database, *drafts)[-1].position)

    (row,) = in_unit(
        database.reader, true_at, "main", from_us(at_us) + timedelta(seconds=5), POSITIONS
    )
    later = from_us(at_us) + timedelta(seconds=9)

    assert (row["quantity"], row["certain"]) == (1, False)
    assert in_unit(database.reader, true_at, "main", later, POSITIONS) == []


@pytest.mark.parametrize("kept", BOTH)
def test_each_costs_a_look_into_the_key_of_its_history(database: Database, kept: AsOfTable) -> None:
    is_sqlite = database.dialect == "sqlite"
    time: object = "2026-03-01 12:00:00.000000" if is_sqlite else from_us(NOW_US)
    walks = ("SCAN h", "SCAN e", f"Seq Scan on {kept.history.name}")
    for query, at in ((kept.query(kept.known), 7), (kept.query(kept.true), time)):
        asked = f"EXPLAIN QUERY PLAN {query}" if is_sqlite else f"EXPLAIN {query}"
        before = [] if is_sqlite else ["SET LOCAL enable_seqscan = off"]
        steps = [str(row) for row in run_sql(database, *before, asked, account="main", at=at)]
        assert any(kept.history.name in step or "SEARCH h" in step for step in steps)
        assert [step for step in steps if any(walk in step for walk in walks)] == []
