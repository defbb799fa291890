from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from recorder.database.engine import Database, in_unit
from recorder.database.schema import metadata
from recorder.errors import StorageUnavailable
from recorder.exchange.frames import frame_type
from recorder.log.rules.event import Draft
from recorder.projections import PROJECTIONS, projection_named
from recorder.projections.rules.fold import Projection
from recorder.projections.sql.folding import ROWS_REMEMBERED_MAX
from recorder.projections.sql.tables import Memory, Progress, move_checkpoint, project, record_error
from tests.log.drafts import NOW, frame, run_sql, write
from tests.projections.toy import Toy, answer

FRAMES = Path(__file__).resolve().parents[1] / "frames"


def step(
    database: Database,
    projection: Projection,
    memory: Memory | None = None,
    *,
    up_to: int = 10_000,
    limit: int = 100,
    account: str = "main",
) -> Progress:
    def unit(connection: Connection) -> Progress:
        kept = Memory() if memory is None else memory
        return project(connection, projection, kept, account, up_to=up_to, limit=limit, now=NOW)

    return in_unit(database.projector, unit)


def counters(database: Database) -> dict[object, Decimal]:
    asked = "SELECT order_id, price FROM open_orders WHERE account = 'main'"
    return {name: Decimal(str(price)) for name, price in run_sql(database, asked)}


def checkpoint(database: Database) -> tuple[object, ...]:
    asked = "SELECT position, version, error FROM projections WHERE account = 'main'"
    [row] = run_sql(database, asked)
    return tuple(row)


def test_rows_and_checkpoint_move_together(database: Database) -> None:
    write(database, answer("COUNT", name="a"), frame("other"), answer("COUNT", name="a"))
    assert step(database, Toy(), up_to=3) == Progress(3, 2, ())
    assert counters(database) == {"a": Decimal(2)}
    assert checkpoint(database) == (3, 1, None)


def test_a_unit_takes_so_many_events_and_the_next_goes_on_there(database: Database) -> None:
    write(database, *(answer("COUNT", name="a") for _ in range(5)))
    memory, toy = Memory(), Toy()
    taken = [step(database, toy, memory, up_to=5, limit=2) for _ in range(4)]
    assert [(done.position, done.events) for done in taken] == [(2, 2), (4, 2), (5, 1), (5, 0)]
    assert counters(database) == {"a": Decimal(5)}


def test_events_of_other_types_only_move_the_checkpoint(database: Database) -> None:
    write(database, frame("x"), frame("y"))
    assert step(database, Toy(), up_to=2) == Progress(2, 0, ())


def test_nothing_beyond_what_is_asked_is_folded(database: Database) -> None:
    write(database, *(answer("COUNT", name="a") for _ in range(5)))
    assert step(database, Toy(), up_to=3).position == 3
    assert counters(database) == {"a": Decimal(3)}
    assert step(database, Toy(), up_to=1) == Progress(3, 0, ())


def test_accounts_are_folded_separately(database: Database) -> None:
    write(database, answer("COUNT", name="a"), answer("COUNT", name="a", account="other"))
    step(database, Toy(), up_to=1)
    step(database, Toy(), up_to=1, account="other")
    assert counters(database) == {"a": Decimal(1)}
    assert run_sql(database, "SELECT count(*) FROM open_orders") == [(2,)]


def test_an_event_that_can_not_be_folded_is_passed_and_written_down(database: Database) -> None:
    write(database, answer("COUNT", name="a"), answer("BAD"), answer("COUNT", name="a"))
    [failure] = step(database, Toy(), up_to=3).failures
    assert (failure.position, failure.reason) == (2, "bad on purpose ")
    assert counters(database) == {"a": Decimal(2)}
    assert run_sql(database, "SELECT projection, position, reason FROM fold_failures") == [
        ("toy", 2, "bad on purpose ")
    ]
    assert checkpoint(database) == (3, 1, "event 2: bad on purpose ")


def test_an_unreadable_time_costs_the_time_and_not_the_amount(database: Database) -> None:
    data = {"currency": "BTC", "available": "1", "total": "1.5", "updatedAt": "soon"}
    payload = json.dumps({"type": "BALANCE_UPDATE", "data": data})
    write(database, frame(payload, kind="BALANCE_UPDATE"))
    projection = projection_named("balances")
    assert projection is not None
    [failure] = step(database, projection, up_to=1).failures
    assert failure.reason == ("folded in part: data.updatedAt is not an ISO-8601 time but 'soon'")
    assert run_sql(database, "SELECT currency, total, updated_at FROM balances") == [
        ("BTC", "1.5" if database.dialect == "sqlite" else Decimal("1.5"), None)
    ]
    assert run_sql(database, "SELECT projection, position, reason FROM fold_failures") == [
        ("balances", 1, failure.reason)
    ]


def test_a_reason_is_stored_whatever_it_quotes(database: Database) -> None:
    write(database, answer("BAD", why="\ud800\x00" + "x" * 5000))
    [failure] = step(database, Toy(), up_to=1).failures
    assert run_sql(database, "SELECT reason FROM fold_failures") == [(failure.reason,)]
    assert len(failure.reason) <= 500


def test_what_is_reported_twice_is_kept_once_and_what_has_no_name_each_time(
    database: Database,
) -> None:
    names: list[object] = ["t", "u", "t", None, None]
    write(database, *(answer("ADD", id=name) for name in names))
    toy, memory = Toy(), Memory()
    for up_to in (2, 5):
        step(database, toy, memory, up_to=up_to)
    asked = "SELECT position, trade_id FROM trades ORDER BY position"
    assert run_sql(database, asked) == [(1, "t"), (2, "u"), (4, None), (5, None)]


def test_a_removed_row_starts_from_nothing(database: Database) -> None:
    write(database, answer("COUNT", name="a"), answer("DROP", name="a"), answer("COUNT", name="a"))
    memory, toy = Memory(), Toy()
    for up_to in (1, 2, 3):
        step(database, toy, memory, up_to=up_to)
    assert counters(database) == {"a": Decimal(1)}


#: Values that the column takes in Python, and that some database refuses.
UNSTORABLE = ["\ud800", "a\x00b", "x" * 1_000_000]


@pytest.mark.parametrize("text", UNSTORABLE)
def test_a_row_the_database_refuses_fails_its_own_event_alone(
    database: Database, text: str
) -> None:
    write(
        database,
        answer("COUNT", name="a"),
        answer("COUNT", name=text, note=text),
        answer("COUNT", name="a"),
        answer("COUNT", name="b"),
    )
    done = step(database, Toy(), up_to=4)
    found = counters(database)
    assert {"a": found["a"], "b": found["b"]} == {"a": Decimal(2), "b": Decimal(1)}
    assert done.position == 4
    # Either the row stands, or its event is named: nothing vanishes.
    assert len(found) == 3 or [failure.position for failure in done.failures] == [2]


def test_a_failed_unit_leaves_no_trace_in_memory_either(database: Database) -> None:
    write(database, answer("COUNT", name="a"), answer("COUNT", name="a"))
    memory, toy = Memory(), Toy()
    step(database, toy, memory, up_to=1)

    def broken(connection: Connection) -> None:
        project(connection, toy, memory, "main", up_to=2, limit=9, now=NOW)
        raise RuntimeError("the database went away")

    with pytest.raises(RuntimeError):
        in_unit(database.projector, broken)
    assert counters(database) == {"a": Decimal(1)}
    step(database, toy, memory, up_to=2)
    assert counters(database) == {"a": Decimal(2)}


def test_rows_that_another_process_folded_are_read_again(database: Database) -> None:
    write(database, *(answer("COUNT", name="a") for _ in range(3)))
    mine = Memory()
    step(database, Toy(), mine, up_to=1)
    step(database, Toy(), Memory(), up_to=2)
    step(database, Toy(), mine, up_to=3)
    assert counters(database) == {"a": Decimal(3)}


def test_of_two_that_fold_the_same_step_one_is_turned_away(database: Database) -> None:
    write(database, answer("COUNT", name="a"), answer("COUNT", name="a"))
    step(database, Toy(), up_to=1)

    def overtaken(connection: Connection) -> None:
        # The other one's step, in the eyes of this transaction.
        project(connection, Toy(), Memory(), "main", up_to=2, limit=9, now=NOW)
        move_checkpoint(connection, "toy", "main", 1, 2, (), NOW)

    with pytest.raises(StorageUnavailable, match="another process folds 'toy'"):
        in_unit(database.projector, overtaken)
    assert counters(database) == {"a": Decimal(1)}


def test_a_new_version_folds_everything_again(database: Database) -> None:
    write(database, answer("COUNT", name="a"), answer("BAD"), answer("ADD", id="t"))
    write(database, answer("COUNT", name="a", account="other"))
    step(database, Toy(), up_to=3)
    step(database, Toy(), up_to=1, account="other")
    memory = Memory()
    assert step(database, Toy(version=2), memory, up_to=1).position == 1
    assert counters(database) == {"a": Decimal(1)}
    assert run_sql(database, "SELECT * FROM trades") == []
    assert run_sql(database, "SELECT * FROM fold_failures") == []
    assert run_sql(database, "SELECT count(*) FROM open_orders WHERE account = 'other'") == [(1,)]
    assert checkpoint(database) == (1, 2, None)


def test_memory_is_bounded(database: Database) -> None:
    write(database, answer("COUNT", name="a"))
    count = ROWS_REMEMBERED_MAX + 10
    for start in range(0, count, 1000):
        names = range(start, min(start + 1000, count))
        write(database, *(answer("COUNT", name=str(name)) for name in names))
    memory, toy = Memory(), Toy()
    position = 0
    while position <= count:
        position = step(database, toy, memory, up_to=count + 1, limit=1000).position
    assert sum(map(len, memory.rows.tables.values())) <= ROWS_REMEMBERED_MAX
    write(database, answer("COUNT", name="a"))
    step(database, toy, memory, up_to=count + 2)
    assert counters(database)["a"] == 2


def test_why_a_projector_stopped_is_kept(database: Database) -> None:
    in_unit(database.projector, record_error, Toy(), "main", "KeyError: 'a\x00'", NOW)
    assert checkpoint(database) == (0, 1, "KeyError: 'a�'")


def test_amounts_are_exact_in_the_tables(database: Database) -> None:
    amount = "123456789012345678901234567890.000000000000000000000000000001"
    write(database, answer("COUNT", name="a", by=amount), answer("COUNT", name="a", by="0.10"))
    toy = Toy()
    for up_to in (1, 2):
        step(database, toy, Memory(), up_to=up_to)
    assert counters(database) == {"a": Decimal(amount) + Decimal("0.10")}


COMMANDS = st.one_of(
    st.builds(
        answer, st.just("COUNT"), name=st.sampled_from("abc"), by=st.sampled_from(["1", "-2"])
    ),
    st.builds(answer, st.just("DROP"), name=st.sampled_from("abc")),
    st.builds(answer, st.just("ADD"), id=st.sampled_from(["t", "u", None])),
    st.builds(answer, st.just("BAD")),
)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(drafts=st.lists(COMMANDS, min_size=1, max_size=12), limit=st.integers(1, 5))
def test_the_batches_make_no_difference(
    database: Database, drafts: Sequence[Draft], limit: int
) -> None:
    [(taken,)] = run_sql(database, "SELECT count(DISTINCT account) FROM events")
    tables = []
    for way, size in (("whole", 100), ("cut", limit)):
        account = f"{way}-{taken}"
        write(database, *(sent_to(account, draft) for draft in drafts))
        memory, position = Memory(), 0
        while position < len(drafts):
            done = step(database, Toy(), memory, up_to=len(drafts), limit=size, account=account)
            position = done.position
        tables.append(rows_of(database, account, ("open_orders", "trades", "fold_failures")))
    assert tables[0] == tables[1]


def sent_to(account: str, draft: Draft) -> Draft:
    return frame(draft.payload, kind=draft.type, account=account)


def rows_of(database: Database, account: str, names: Sequence[str]) -> list[object]:
    found: list[object] = []
    for name in names:
        table = metadata.tables[name]
        columns = ", ".join(c.name for c in table.c if c.name != "account")
        keys = ", ".join(c.name for c in table.primary_key)
        asked = f"SELECT {columns} FROM {name} WHERE account = :account ORDER BY {keys}"
        found.append(run_sql(database, asked, account=account))
    return found


def published_frames() -> list[Draft]:
    texts = [path.read_text() for path in sorted(FRAMES.glob("*.json"))]
    return [frame(text, kind=frame_type(text)) for text in texts]


@pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda projection: str(projection.name))
def test_every_published_frame_is_folded_into_the_real_tables(
    database: Database, projection: Projection
) -> None:
    drafts = published_frames()
    write(database, *drafts)
    whole = step(database, projection, up_to=len(drafts), limit=1000)
    assert whole.position == len(drafts)
    names = [table.name for table in projection.tables]
    at_once = rows_of(database, "main", names)
    run_sql(database, "DELETE FROM projections", "DELETE FROM fold_failures")
    run_sql(database, *(f"DELETE FROM {name}" for name in names))
    memory = Memory()
    for position in range(1, len(drafts) + 1):
        step(database, projection, memory, up_to=position, limit=1)
    assert rows_of(database, "main", names) == at_once


def test_published_frames_fill_the_tables(database: Database) -> None:
    drafts = published_frames()
    write(database, *drafts)
    for projection in PROJECTIONS:
        step(database, projection, up_to=len(drafts), limit=1000)
    for table in ("balances", "balance_history", "open_orders", "orders", "trades", "ledger"):
        assert run_sql(database, f"SELECT count(*) > 0 FROM {table}")[0][0], table


HOSTILE: list[object] = [
    *(None, True, 1, "x", [], {}, [[]], {"data": None}, {"data": []}, {"data": {"a": "\ud800"}}),
    *({"data": {"orderId": "o" * 10_000}}, {"data": {"orderId": "a\x00"}}, {"data": [{}] * 3}),
]


def test_no_hostile_frame_stops_a_projector(database: Database) -> None:
    kinds = sorted({kind for projection in PROJECTIONS for kind in projection.types})
    drafts = []
    for kind in kinds:
        for body in HOSTILE:
            text = json.dumps({"type": kind, **body} if isinstance(body, dict) else body)
            drafts.append(frame(text, kind=kind))
        drafts.append(frame('{"type":"' + kind + '","data":{"price":1e999999}}', kind=kind))
        drafts.append(frame("[" * 100_000, kind=kind))
    write(database, *drafts)
    for projection in PROJECTIONS:
        assert step(database, projection, up_to=len(drafts), limit=1000).position == len(drafts)


def test_rows_of_any_size_are_written(database: Database) -> None:
    # A pipeline of psycopg may wait for ever for the answers to what it has not sent yet.
    [ledger] = [projection for projection in PROJECTIONS if projection.name == "ledger"]
    texts = []
    for number, size in enumerate((10, 3_000_000, 100, 3_000_000)):
        data = {
            "transactionType": {"type": "X"},
            "id": str(number),
            "additionalInfo": {"note": "x" * size},
        }
        texts.append(json.dumps({"type": "NEW_ACCOUNT_HISTORY_RECORD", "data": data}))
    write(database, *(frame(text, kind="NEW_ACCOUNT_HISTORY_RECORD") for text in texts))
    step(database, ledger, up_to=4)
    [[count]] = run_sql(database, "SELECT count(*) FROM ledger")
    assert count == 4
