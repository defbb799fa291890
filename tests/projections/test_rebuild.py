from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from sqlalchemy import Connection, inspect

from recorder.database.engine import Database, in_unit
from recorder.errors import StorageUnavailable
from recorder.exchange.frames import frame_type
from recorder.log.sql import read
from recorder.projections import PROJECTIONS
from recorder.projections.rules.fold import Projection
from recorder.projections.sql.rebuild import Checked, Difference, Rebuilt, check, rebuild
from recorder.projections.sql.tables import Memory, Progress, project
from tests.log.drafts import NOW, frame, run_sql, write
from tests.projections.toy import Toy, answer

FRAMES = Path(__file__).resolve().parents[1] / "frames"


def folded(database: Database, count: int, toy: Toy | None = None) -> None:
    def unit(connection: Connection) -> Progress:
        projection = toy or Toy()
        return project(connection, projection, Memory(), "main", up_to=count, limit=999, now=NOW)

    in_unit(database.projector, unit)


@pytest.fixture
def log(database: Database) -> Database:
    """Six events of the toy, all but the last of them folded; and another account's rows."""
    write(
        database,
        answer("COUNT", name="a"),
        answer("COUNT", name="b"),
        answer("ADD", id="t"),
        answer("BAD"),
        answer("ADD", id=None),
        answer("COUNT", name="a"),
        answer("COUNT", name="a", account="other"),
    )
    folded(database, 5)
    run_sql(
        database,
        "INSERT INTO open_orders (account, order_id, position) VALUES ('other', 'a', 1)",
    )
    return database


def differences(database: Database) -> list[Difference]:
    return check(database, "main", Toy(), lambda position: None).differences


def test_sound_tables_show_no_difference_up_to_their_checkpoint(log: Database) -> None:
    assert check(log, "main", Toy(), lambda position: None) == Checked(5, [])


def test_an_account_without_a_checkpoint_shows_no_difference(database: Database) -> None:
    assert check(database, "main", Toy(), lambda position: None) == Checked(0, [])


@pytest.mark.parametrize(
    ("statement", "difference"),
    [
        ("DELETE FROM open_orders WHERE order_id = 'a'", ("open_orders", ("a",), "missing")),
        (
            "UPDATE open_orders SET pair = '' WHERE order_id = 'a'",
            ("open_orders", ("a",), "different"),
        ),
        (
            "UPDATE open_orders SET price = '2' WHERE order_id = 'b'",
            ("open_orders", ("b",), "different"),
        ),
        ("UPDATE trades SET trade_id = 'x' WHERE position = 5", ("trades", (5, 0), "different")),
        ("DELETE FROM trades WHERE position = 5", ("trades", (5, 0), "missing")),
        (
            "INSERT INTO open_orders (account, order_id, position) VALUES ('main', 'z', 9)",
            ("open_orders", ("z",), "extra"),
        ),
        ("DELETE FROM fold_failures", ("fold_failures", ("toy", 4), "missing")),
    ],
)
def test_a_row_that_does_not_follow_from_the_log_is_named(
    log: Database, statement: str, difference: tuple[str, tuple[object, ...], str]
) -> None:
    if log.dialect == "postgresql":
        statement = statement.replace("price = '2'", "price = 2")
    run_sql(log, statement.replace("WHERE order_id", "WHERE account = 'main' AND order_id"))
    assert differences(log) == [Difference(*difference)]


def test_equal_amounts_are_no_difference_however_they_are_written(postgres: Database) -> None:
    write(postgres, answer("COUNT", name="a", by="1.50"))
    folded(postgres, 1)
    run_sql(postgres, "UPDATE open_orders SET price = 1.5000")
    assert differences(postgres) == []


def test_a_check_changes_nothing(log: Database) -> None:
    run_sql(log, "UPDATE open_orders SET pair = 'wrong'")
    before = everything(log)
    assert differences(log)
    assert everything(log) == before


def everything(database: Database) -> list[object]:
    tables = ("open_orders", "trades", "fold_failures", "projections")
    return [run_sql(database, f"SELECT * FROM {table} ORDER BY 1, 2, position") for table in tables]


def test_a_check_runs_beside_a_writer(log: Database) -> None:
    seen: list[int] = []

    def write_on(position: int) -> None:
        write(log, frame("meanwhile"))
        seen.append(position)

    assert check(log, "main", Toy(), write_on).differences == []
    assert seen


def test_a_table_that_differs_everywhere_is_shown_by_a_few_rows(database: Database) -> None:
    write(database, *(answer("COUNT", name=str(number)) for number in range(50)))
    folded(database, 50)
    run_sql(database, "UPDATE open_orders SET pair = 'wrong'")
    found = differences(database)
    assert len(found) == 20
    assert {difference.how for difference in found} == {"different"}


def test_a_rebuild_makes_the_tables_again_up_to_the_head(log: Database) -> None:
    run_sql(log, "UPDATE open_orders SET pair = 'wrong'", "DELETE FROM trades")
    reported: list[int] = []
    assert rebuild(log, "main", Toy(version=2), reported.append, now=NOW) == Rebuilt(6, 1)
    assert reported[-1] == 6
    asked = "SELECT order_id, position, pair FROM open_orders WHERE account = 'main' ORDER BY 1"
    assert run_sql(log, asked) == [("a", 6, None), ("b", 2, None)]
    assert run_sql(log, "SELECT position, version FROM projections") == [(6, 2)]
    assert run_sql(log, "SELECT position FROM trades ORDER BY 1") == [(3,), (5,)]
    assert run_sql(log, "SELECT position FROM fold_failures") == [(4,)]
    assert run_sql(log, "SELECT pair FROM open_orders WHERE account = 'other'") == [("wrong",)]
    assert check(log, "main", Toy(version=2), lambda position: None) == Checked(6, [])


def test_a_rebuild_needs_no_tables_to_begin_with(database: Database) -> None:
    write(database, answer("COUNT", name="a"))
    rebuild(database, "main", Toy(), lambda position: None, now=NOW)
    assert run_sql(database, "SELECT order_id FROM open_orders") == [("a",)]
    folded(database, 1)


def test_a_rebuild_beside_a_projector_is_given_up_and_changes_nothing(log: Database) -> None:
    def interfere(position: int) -> None:
        folded(log, 6)

    with pytest.raises(StorageUnavailable, match="stop the daemon"):
        rebuild(log, "main", Toy(), interfere, now=NOW)
    assert run_sql(log, "SELECT position FROM projections") == [(6,)]
    assert differences(log) == []


def test_nothing_temporary_is_left_behind(log: Database) -> None:
    tables = set(inspect(log.writer).get_table_names())
    for _ in range(2):
        rebuild(log, "main", Toy(), lambda position: None, now=NOW)
        assert differences(log) == []
    for engine in (log.writer, log.projector, log.reader):
        assert in_unit(engine, lambda c: inspect(c).get_temp_table_names()) == []
        assert set(in_unit(engine, lambda c: inspect(c).get_table_names())) == tables


@pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda projection: str(projection.name))
def test_the_real_projections_rebuild_to_what_the_daemon_folds(
    database: Database, projection: Projection
) -> None:
    texts = [path.read_text() for path in sorted(FRAMES.glob("*.json"))]
    write(database, *(frame(text, kind=frame_type(text)) for text in texts))

    def unit(connection: Connection) -> Progress:
        up_to = len(texts)
        return project(connection, projection, Memory(), "main", up_to=up_to, limit=9999, now=NOW)

    in_unit(database.projector, unit)
    assert check(database, "main", projection, lambda position: None) == Checked(len(texts), [])


def test_a_long_log_is_folded_again_in_bounded_memory(database: Database) -> None:
    note = "x" * 1_000_000
    for _ in range(10):
        write(database, *(answer("COUNT", name="a", note=note) for _ in range(4)))
    tracemalloc.start()
    check(database, "main", Toy(), lambda position: None)
    rebuild(database, "main", Toy(), lambda position: None, now=NOW)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * read.PAGE_BYTES
