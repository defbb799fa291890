"""recorder statement, on both databases: what it writes, what it admits, and its exit codes."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from attrs import define
from sqlalchemy import insert

import recorder.statement.writing as writing
from recorder.database.engine import Database, in_unit
from recorder.database.schema import reconciliations
from recorder.errors import FilesFailed
from recorder.log.rules.event import Note
from recorder.statement.writing import TABLES
from tests.cli.scene import Answer, ask, fold
from tests.log.drafts import write
from tests.outbox.trading import Account, record_of

MADE_LAST = {"statement.html", "manifest.json"}


@define
class Scene:
    """An account that has traded for a while, and the two ends of a period."""

    database: Database
    folder: Path
    account: Account
    begin: datetime
    end: datetime

    @property
    def url(self) -> str:
        return self.database.url.render_as_string(hide_password=False)

    def state(self, name: str = "out", *argv: str) -> Answer:
        ends = ("--from", self.begin.isoformat(), "--to", self.end.isoformat())
        return ask(self.url, "statement", str(self.folder / name), *ends, *argv)

    def rows(self, table: str, name: str = "out") -> list[dict[str, str]]:
        path = self.folder / name / f"{table}.csv"
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def manifest(self, name: str = "out") -> Any:
        return json.loads((self.folder / name / "manifest.json").read_bytes())

    def page(self, name: str = "out") -> str:
        return (self.folder / name / "statement.html").read_text(encoding="utf-8")

    def record(self) -> None:
        """Write all that was received, and fold it."""
        write(self.database, *self.account.log)
        fold(self.database)

    def compare(self) -> None:
        """Let a comparison with the exchange have been made."""
        row = {
            "account": "main",
            "reconciliation_id": 1,
            "requested_by": "schedule",
            "state": "clean",
            "is_open": False,
            "answers": 2,
            "differences": 0,
            "started_at": self.end,
            "ended_at": self.end,
            "last_position": 1,
        }
        in_unit(self.database.writer, lambda c: c.execute(insert(reconciliations).values(row)))


@pytest.fixture
def scene(database: Database, tmp_path: Path) -> Scene:
    """Let an account trade, and take the part of its time in which it was received."""
    account = Account(random.Random(21), net=True)
    begin = account.clock() + timedelta(seconds=1)
    account.live(60)
    return Scene(database, tmp_path, account, begin, account.clock())


def test_a_sound_period_is_exit_code_0_and_its_files_prove_themselves(scene: Scene) -> None:
    scene.record()
    scene.compare()
    scene.end = last_frame(scene)
    answer = scene.state()
    assert (answer.code, answer.rows[0]["caveats"]) == (0, []), answer.out
    reported = scene.manifest()
    assert (reported["sound"], reported["caveats"], reported["account"]) == (True, [], "main")
    assert {each["path"] for each in reported["files"]} | {"manifest.json"} == {
        path.name for path in (scene.folder / "out").iterdir()
    }
    for each in reported["files"]:
        text = (scene.folder / "out" / each["path"]).read_bytes()
        assert (each["bytes"], each["sha256"]) == (len(text), sha256(text).hexdigest())
        if each["table"]:
            assert each["rows"] == len(scene.rows(each["table"]))
    assert "No caveat was found" in scene.page()
    assert reported["heads"]["head"]["position"] == len(scene.account.log)


def last_frame(scene: Scene) -> datetime:
    """Return when the exchange was last received: behind that, nothing was observed."""
    (row,) = ask(scene.url, "gaps").rows
    return datetime.fromisoformat(row["last_good_time"])


def test_the_figures_are_those_of_the_exchange(scene: Scene) -> None:
    scene.record()
    scene.state()
    held = scene.account.exchange.account.books.balances
    for row in scene.rows("balances"):
        assert Decimal(row["closing"]) == held[row["currency"]].total
        assert Decimal(row["opening"]) + Decimal(row["moved"]) == Decimal(row["closing"])
        lines = [each for each in scene.rows("books") if each["currency"] == row["currency"]]
        assert sum(Decimal(each["amount"]) for each in lines) == Decimal(row["moved"])
        moved = [each for each in scene.rows("movements") if each["currency"] == row["currency"]]
        assert sum(Decimal(each["amount"]) for each in moved) == Decimal(row["moved"])
    reported = [each.payload for each in scene.account.log if each.type == "NEW_ACCOUNT_TRADE"]
    fills = {row["id"]: row["tradedAt"] for row in (json.loads(each)["data"] for each in reported)}
    inside = {key for key, at in fills.items() if datetime.fromisoformat(at) > scene.begin}
    assert {row["trade_id"] for row in scene.rows("trades")} == inside < set(fills)
    # No command of ours placed any of them.
    assert {row["foreign"] for row in scene.rows("orders")} == {"true"}
    assert f"{len(scene.rows('orders')):,} orders existed in the period" in scene.page()


def test_what_nothing_explains_is_exit_code_1_and_at_the_top(scene: Scene) -> None:
    log = scene.account.log
    numbers = [n for n, each in enumerate(log) if each.type == "NEW_ACCOUNT_HISTORY_RECORD"]
    swallowed = record_of(log.pop(numbers[len(numbers) // 2]))
    scene.record()
    answer = scene.state()
    assert answer.code == 1
    (lost,) = (
        each
        for each in scene.account.exchange.account.books.ledger
        if each.transaction_id == swallowed["id"]
    )
    left = {row["currency"]: Decimal(row["residual"]) for row in scene.rows("balances")}
    assert left == {currency: lost.change_of(currency) for currency in left}
    residuals = [row for row in scene.rows("books") if row["kind"] == "residual"]
    assert {row["currency"]: Decimal(row["amount"]) for row in residuals} == left
    top = scene.page().split("<h2>Balances</h2>")[0]
    assert "is explained by no movement" in top
    assert scene.manifest()["sound"] is False


def test_a_gap_is_shaded_counted_and_doubted(scene: Scene) -> None:
    account = scene.account
    lost_at = account.clock()
    facts = {"reason": "cut", "by": "network", "code": None, "last_frame_at": lost_at.isoformat()}
    account.note(Note.CONNECTION_CLOSED, **facts)
    account.clock.pass_s(90)
    account.connect()
    account.live(20)
    scene.end = account.clock()
    scene.record()
    assert scene.state().code == 1
    unobserved = [row for row in scene.rows("coverage") if row["cause"] == "connection_lost"]
    assert [(row["part"], row["seconds"]) for row in unobserved] == [("unobserved", "90")]
    (row,) = (row for row in scene.rows("gaps") if row["cause"] == "connection_lost")
    assert row["state"] == "closed"
    seconds = sum(Decimal(row["seconds"]) for row in scene.rows("coverage"))
    assert seconds == Decimal(str((scene.end - scene.begin).total_seconds()))
    assert "url(#unobserved)" in scene.page() and "connection_lost 1 min 30 s" in scene.page()


def test_made_again_the_tables_are_the_same_bytes(scene: Scene) -> None:
    scene.record()
    scene.state("one")
    scene.state("two")
    for path in (scene.folder / "one").iterdir():
        if path.name not in MADE_LAST:
            assert path.read_bytes() == (scene.folder / "two" / path.name).read_bytes()


def test_parquet_has_the_rows_of_csv(scene: Scene) -> None:
    scene.record()
    scene.state("csv")
    scene.state("parquet", "--format", "parquet")
    for table, fields in TABLES.items():
        path = scene.folder / "parquet" / f"{table}.parquet"
        rows = pyarrow.parquet.read_table(path).to_pylist()
        assert [text_of(row) for row in rows] == scene.rows(table, "csv"), table
        assert [each.name for each in fields] == pyarrow.parquet.read_schema(path).names


def text_of(row: Mapping[str, Any]) -> dict[str, str]:
    def text(value: object) -> str:
        match value:
            case None:
                return ""
            case bool():
                return str(value).lower()
            case datetime():
                return value.isoformat(timespec="microseconds")
            case bytes():
                return value.hex()
            case _:
                return str(value)

    return {name: text(value) for name, value in row.items()}


@pytest.mark.parametrize(
    ("ends", "sentence"),
    [
        (("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"), "ends before it begins"),
        (("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"), "ends before it begins"),
        (("2026-01-01T00:00:00Z", "2999-01-01T00:00:00Z"), "isn't over"),
        (("1999-01-01T00:00:00Z", "1999-02-01T00:00:00Z"), "nothing of account 'main' is recorded"),
    ],
)
def test_a_period_without_a_statement_is_exit_code_2(
    scene: Scene, ends: tuple[str, str], sentence: str
) -> None:
    scene.record()
    answer = ask(
        scene.url, "statement", str(scene.folder / "x"), "--from", ends[0], "--to", ends[1]
    )
    assert answer.code == 2 and sentence in answer.err
    assert list(scene.folder.glob("*x*")) == []


def test_an_unknown_account_is_exit_code_2(scene: Scene) -> None:
    scene.record()
    answer = scene.state("x", "--account", "other")
    assert answer.code == 2 and "no account 'other'" in answer.err


def test_a_folder_with_something_in_it_is_left_alone(scene: Scene) -> None:
    scene.record()
    kept = scene.folder / "out" / "kept"
    kept.parent.mkdir()
    kept.write_text("mine")
    answer = scene.state()
    assert answer.code == 2 and "is not empty" in answer.err
    assert [path.name for path in kept.parent.iterdir()] == ["kept"]


def test_what_fails_on_the_way_leaves_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.record()

    def full(*_: object) -> str:
        raise FilesFailed("the disk is full")

    monkeypatch.setattr(writing, "render", full)
    answer = scene.state()
    assert answer.code == 2 and "the disk is full" in answer.err
    assert list(scene.folder.iterdir()) == [] or not list(scene.folder.glob("*out*"))


def test_a_damaged_log_is_the_first_doubt(scene: Scene) -> None:
    scene.record()
    alter(scene.database)
    answer = scene.state()
    assert answer.code == 1
    assert "log is damaged: position 3" in answer.rows[0]["caveats"][0]
    assert "log was not verified" in scene.state("more", "--no-verify").rows[0]["caveats"][0]


def alter(database: Database) -> None:
    """Change an event as who owns the database may."""
    triggers = {
        "sqlite": ["DROP TRIGGER events_no_update"],
        "postgresql": ["ALTER TABLE events DISABLE TRIGGER ALL"],
    }[database.dialect]
    change = "UPDATE events SET type = 'PONG' WHERE position = 3"
    with database.writer.begin() as connection:
        for statement in (*triggers, change):
            connection.exec_driver_sql(statement)
