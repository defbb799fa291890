"""What a recorder that can't go on reports, and with which code it leaves."""

from __future__ import annotations

import os
import re
import resource
import signal
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
import trio

from recorder.simulator import Simulator
from tests.daemon.scene import (
    SECRET,
    Books,
    assert_chained,
    books_of,
    exchange,
    received,
    until,
)
from tests.processes.scene import call, ended, environment_for, recorder, stopped_at_last

REWARD = Decimal("0.01")
#: No file of the process may grow beyond this: for a database what a full disk is.
FILE_BYTES_MAX = 600_000
COMPLETE = "type = 'SNAPSHOT_COMPLETE'"


@pytest.mark.parametrize(
    ("url", "answer"),
    [
        ("mysql://user:{secret}@host/db", "no database driver"),
        ("not a url {secret}", "can't be read"),
        ("sqlite://", "needs a file"),
    ],
)
async def test_an_address_that_is_no_database_is_a_wrong_setting(
    tmp_path: Path, url: str, answer: str
) -> None:
    last = await call(tmp_path, environment_for(tmp_path, url.format(secret=SECRET)), "run")

    assert last.code == 2
    assert answer in last.err
    assert SECRET not in last.err
    assert "Traceback" not in last.err


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("RECORDER_TRADING", "maybe"),
        ("RECORDER_WS_URL", "http://127.0.0.1"),
        ("RECORDER_CONFIG", "/nowhere/at/all.toml"),
        ("VALR_API_SECRET", ""),
        ("VALR_API_KEY_FILE", "/nowhere/at/all"),
    ],
)
async def test_a_wrong_setting_is_named_before_anything_is_made(
    tmp_path: Path, variable: str, value: str
) -> None:
    path = tmp_path / "recorder.db"
    environment = environment_for(tmp_path, f"sqlite:///{path}") | {variable: value}
    last = await call(tmp_path, environment, "run")

    assert last.code == 2
    assert variable in last.err or value in last.err
    assert "Traceback" not in last.err
    assert not path.exists()


async def test_a_server_that_is_not_there_is_a_failed_database(tmp_path: Path) -> None:
    url = f"postgresql://intruder:{SECRET}@127.0.0.1:1/none"
    last = await call(tmp_path, environment_for(tmp_path, url), "run")

    assert last.code == 3
    assert SECRET not in last.err
    assert "Traceback" not in last.err


async def test_a_folder_that_is_not_there_is_a_failed_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'nowhere' / 'recorder.db'}"
    last = await call(tmp_path, environment_for(tmp_path, url), "run")

    assert last.code == 3
    assert "can't be opened" in last.err
    assert "Traceback" not in last.err


async def test_a_schema_of_another_version_is_left_alone(sqlite_url: str, tmp_path: Path) -> None:
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
        database.commit()
    last = await call(tmp_path, environment_for(tmp_path, sqlite_url), "run")

    assert last.code == 2
    assert "newer" in last.err
    assert "Traceback" not in last.err


async def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "recorder.db"
    path.write_text("these are my notes\n" * 1000, encoding="utf-8")
    last = await call(tmp_path, environment_for(tmp_path, f"sqlite:///{path}"), "run")

    assert last.code == 3
    assert "Traceback" not in last.err
    assert path.read_text(encoding="utf-8").startswith("these are my notes")


def limit_files() -> None:
    """Let no file of this process grow beyond the limit. Python ignores SIGXFSZ by itself."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES_MAX, FILE_BYTES_MAX))


async def keep_talking(simulator: Simulator) -> None:
    while True:
        await simulator.reward("USDC", REWARD)
        await trio.sleep(0.001)


async def test_a_full_disk_ends_it_with_the_number_of_events_not_written(
    sqlite_url: str, tmp_path: Path
) -> None:
    async with exchange() as simulator:
        environment = environment_for(tmp_path, sqlite_url, simulator)
        process = recorder(tmp_path, environment, "run", before=limit_files)
        with stopped_at_last(process):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(keep_talking, simulator)
                last = await ended(tmp_path, process)
                nursery.cancel_scope.cancel()
        assert last.code == 3, last.err
        assert "not written" in last.err
        assert "damaged" not in last.err, "what is there is sound"
        assert "Traceback" not in last.err
        with books_of(sqlite_url) as books:
            assert_chained(books)
            received_facts = received(books)
            assert received_facts == simulator.sent[: len(received_facts)]
            # What is there verifies, and with room again the next one goes on.
            verified = await call(tmp_path, environment, "verify")
            assert verified.code == 0, verified.err
            before = books.count("events", COMPLETE)
            with stopped_at_last(recorder(tmp_path, environment, "run")) as again:
                await until(lambda: books.count("events", COMPLETE) > before)
                again.terminate()
                assert (await ended(tmp_path, again)).code == 0


def lose_the_schema(books: Books) -> None:
    """Change the schema under a running recorder, as a careless administrator might."""
    books.do("ALTER TABLE events RENAME TO elsewhere")


def forbid_writing(books: Books) -> None:
    """Refuse each INSERT with the code of a replica that took over."""
    books.do(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE EXCEPTION 'cannot execute INSERT in a read-only transaction'"
        " USING ERRCODE = '25006'; END $$"
    )
    books.do(
        "CREATE TRIGGER refuse BEFORE INSERT ON events FOR EACH STATEMENT EXECUTE FUNCTION refuse()"
    )


@pytest.mark.parametrize(
    ("kind", "spoil", "answer"),
    [
        ("sqlite_url", lose_the_schema, "run `recorder migrate`"),
        ("postgres_url", lose_the_schema, "run `recorder migrate`"),
        ("postgres_url", forbid_writing, "the database can't be written"),
    ],
)
async def test_what_only_a_person_can_fix_ends_it_with_the_number_of_events_not_written(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    kind: str,
    spoil: Callable[[Books], None],
    answer: str,
) -> None:
    url: str = request.getfixturevalue(kind)
    async with exchange() as simulator:
        process = recorder(tmp_path, environment_for(tmp_path, url, simulator), "run")
        with stopped_at_last(process), books_of(url) as books:
            await until(lambda: books.count("events", COMPLETE) > 0)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(keep_talking, simulator)
                spoil(books)
                last = await ended(tmp_path, process)
                nursery.cancel_scope.cancel()
    assert last.code == 3, last.err
    assert answer in last.err
    assert re.search(r"\n[1-9][0-9]* events were received but not written", last.err)
    assert "Traceback" not in last.err


async def test_a_server_that_stands_still_does_not_keep_a_stop_from_ending(
    postgres_url: str, tmp_path: Path
) -> None:
    async with exchange() as simulator:
        environment = environment_for(tmp_path, postgres_url, simulator)
        process = recorder(tmp_path, environment | {"RECORDER_STOP_GRACE_S": "1"}, "run")
        with stopped_at_last(process), books_of(postgres_url) as books:
            await until(lambda: books.count("events", COMPLETE) > 0)
            with frozen(backends(postgres_url)):
                await simulator.reward("USDC", REWARD)
                await trio.sleep(0.5)
                process.terminate()
                last = await ended(tmp_path, process)
    assert last.code == 3, last.err
    assert re.search(
        r"does not answer; .*\n[1-9][0-9]* events were received but not written", last.err
    )
    assert "Traceback" not in last.err


def backends(url: str) -> list[int]:
    """Return the server's processes that a recorder talks to."""
    others = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
    with psycopg.connect(url) as connection:
        ours = connection.info.backend_pid
        return [pid for (pid,) in connection.execute(others).fetchall() if pid != ours]


@contextmanager
def frozen(pids: Sequence[int]) -> Iterator[None]:
    """Let these processes stand still."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
