"""The doctor names what is wrong and what to do; `status` names the program in the way."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from recorder import machine
from recorder.cli import doctor
from recorder.database import blockers
from recorder.database.engine import open_database
from recorder.database.migrate import downgrade
from recorder.machine import (
    FAILED,
    OK,
    WARNING,
    Finding,
    look_at_disk,
    look_at_file,
    look_at_file_size,
    look_at_file_system,
    look_at_files,
    look_at_memory,
    looks_while_running,
    time_fsync,
)
from tests.cli.scene import Answer, ask, own, record_scene
from tests.database.pooler import transaction_pooler
from tests.log.test_wal_checkpointer import holder

KEYS = {
    "VALR_API_KEY": "key-of-a-test",
    "VALR_API_SECRET": "secret-of-a-test",
    # Nothing listens there.
    "RECORDER_WS_URL": "ws://127.0.0.1:9",
}


def examined(url: str) -> tuple[Answer, dict[str, dict[str, Any]]]:
    answer = ask(url, "doctor", "--json", environment=KEYS)
    return answer, {row["check"]: row for row in answer.rows}


def test_all_is_well_but_for_an_exchange_that_is_away(database_url: str) -> None:
    answer, found = examined(database_url)
    assert answer.code == 0
    wrong = {check for check, row in found.items() if row["level"] != OK}
    # The server of the tests does not sync; nothing there has to outlive the machine.
    assert wrong <= {"exchange", "key of main", "server settings", "database file", "disk"}
    assert {"exchange", "key of main"} <= wrong
    assert found["schema"]["found"] == "0017"
    assert {"open files", "memory", "commit", "in the way"} <= found.keys()
    assert "secret-of-a-test" not in answer.out + answer.err


def test_an_older_schema_is_a_failure_with_the_command_to_run(database_url: str) -> None:
    with open_database(database_url) as database:
        downgrade(database, "0016")
    answer, found = examined(database_url)
    assert (answer.code, found["schema"]["level"]) == (2, FAILED)
    assert "recorder migrate" in found["schema"]["advice"]


def test_a_pooler_in_transaction_mode_is_a_failure_of_the_database(postgres_url: str) -> None:
    with transaction_pooler(postgres_url) as url:
        answer, found = examined(url)
    assert (answer.code, found["database"]["level"]) == (3, FAILED)
    assert "connection pooler in transaction" in found["database"]["found"]


def test_a_file_that_others_can_read_is_named_with_the_command(
    sqlite_url: str, tmp_path: Path
) -> None:
    Path(sqlite_url.removeprefix("sqlite:///")).chmod(0o644)
    _, found = examined(sqlite_url)
    assert found["database file"]["level"] == WARNING
    assert found["database file"]["advice"].startswith("chmod 600 ")
    assert look_at_file("key", tmp_path / "missing").level == FAILED


def test_who_holds_the_lock_of_a_sqlite_file_is_named(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blockers, "LASTING_S", 0.01)
    with open_database(sqlite_url) as database:
        record_scene(database)
    with holder(sqlite_url, "BEGIN IMMEDIATE") as bot:
        _, found = examined(sqlite_url)
        named = f"process {bot.pid} (python"
        assert found["in the way"]["found"].startswith(named)
        [status] = ask(sqlite_url, "status", "--json").rows
        assert status["in_the_way"][0].startswith(named)
    [status] = ask(sqlite_url, "status", "--json").rows
    assert status["in_the_way"] == []


def test_a_recorder_is_not_in_its_own_way(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blockers, "LASTING_S", 0.01)
    with open_database(sqlite_url) as database:
        own(database)
    with holder(sqlite_url, "BEGIN IMMEDIATE") as recorder:
        monkeypatch.setattr(doctor, "pid_here", lambda _: recorder.pid)
        _, found = examined(sqlite_url)
    assert found["in the way"]["level"] == OK


def test_a_reader_that_keeps_the_log_from_being_emptied_is_named(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blockers, "WAL_LONG_BYTES", 0)
    monkeypatch.setattr(blockers, "LASTING_S", 0.01)
    with open_database(sqlite_url) as database:
        record_scene(database)
        with holder(sqlite_url, "BEGIN", "SELECT count(*) FROM events") as reader:
            [status] = ask(sqlite_url, "status", "--json").rows
    assert any(
        each.startswith(f"process {reader.pid} (python") and "holds a snapshot" in each
        for each in status["in_the_way"]
    )


def test_an_old_snapshot_and_a_lock_on_a_server_are_named(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = blockers.OLD
    for name in ("_SESSIONS", "_PREPARED"):
        monkeypatch.setattr(blockers, name, getattr(blockers, name).replace(old, "0 seconds"))
    with open_database(postgres_url) as database:
        record_scene(database)
    with psycopg.connect(postgres_url, application_name="analyst") as analyst:
        analyst.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        analyst.execute("SELECT count(*) FROM events")
        [status] = ask(postgres_url, "status", "--json").rows
        [named] = status["in_the_way"]
        assert f"process {analyst.info.backend_pid} (analyst, role postgres)" in named
        assert "holds a snapshot since" in named
        assert "SELECT count(*) FROM events" in named


def test_a_lock_that_the_recorder_waits_for_is_named(postgres_url: str) -> None:
    with (
        psycopg.connect(postgres_url, application_name="admin") as admin,
        psycopg.connect(postgres_url, application_name="recorder") as recorder,
        open_database(postgres_url) as database,
    ):
        admin.execute("LOCK TABLE events")
        recorder.pgconn.send_query(b"SELECT count(*) FROM events")
        named: list[str] = []
        while not named:
            time.sleep(0.01)
            named = blockers.find_blockers(database)
        assert f"process {admin.info.backend_pid} (admin" in named[0]
        assert "holds a lock that the recorder waits for since" in named[0]
        assert named[0].endswith(": LOCK TABLE events")
        admin.rollback()
        while recorder.pgconn.get_result() is not None:
            pass


class Left:
    """What a file system reports that is nearly full."""

    f_frsize, f_files, f_favail, f_flag, f_bavail = 4_096, 1_000_000, 500_000, 0, 10**9


@pytest.mark.parametrize(
    ("changed", "level", "word"),
    [
        ({}, OK, "free at"),
        ({"f_bavail": 1_000}, FAILED, "3.9 MiB free"),
        ({"f_bavail": 100_000}, WARNING, "390.6 MiB free"),
        ({"f_favail": 12}, WARNING, "12 inodes free"),
        ({"f_flag": os.ST_RDONLY}, FAILED, "mounted read-only"),
    ],
)
def test_a_disk_that_runs_short_is_named_before_it_is_full(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changed: dict[str, int], level: str, word: str
) -> None:
    left = type("Changed", (Left,), changed)
    monkeypatch.setattr(os, "statvfs", lambda _: left)
    finding = look_at_disk(tmp_path)
    assert finding.level == level
    assert word in finding.found
    assert bool(finding.advice) == (level != OK)


def test_limits_of_files_and_memory_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))
    assert look_at_files().level == WARNING
    assert look_at_file_size().found == "at most 64 bytes"
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert (look_at_files().level, look_at_file_size().level) == (OK, OK)
    monkeypatch.setattr(machine, "_memory_limits", lambda: iter([2**30, 100 * 2**20]))
    assert look_at_memory(64 * 2**20).found == "at most 100 MiB"
    assert look_at_memory(64 * 2**20).level == WARNING


def test_a_network_file_system_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert look_at_file_system(tmp_path).level == OK
    monkeypatch.setattr(machine, "_file_system", lambda _: "nfs4")
    assert look_at_file_system(tmp_path).level == FAILED


def test_a_slow_disk_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert time_fsync(tmp_path).check == "fsync"
    monkeypatch.setattr(machine, "SLOW_FSYNC_S", 0.0)
    assert time_fsync(tmp_path).level == WARNING


async def test_a_running_recorder_logs_a_change_once(
    autojump_clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    import logging

    import trio

    levels = [OK, WARNING, WARNING, FAILED, FAILED, OK, OK]

    def look() -> Finding:
        level = levels.pop(0) if levels else OK
        return Finding("disk", level, f"it is {level}", "free some space")

    async def aside(work: Callable[[], Finding]) -> Finding:
        return work()

    with caplog.at_level(logging.INFO), trio.move_on_after(300):
        await machine.watch([look], aside)
    assert [record.getMessage() for record in caplog.records] == [
        "disk: it is warning; free some space",
        "disk: it is failed; free some space",
        "disk: well again, it is ok",
    ]


def test_what_is_looked_at_while_running_is_well_here(tmp_path: Path) -> None:
    found = [look() for look in looks_while_running(2**20, tmp_path)]
    names = {each.check for each in found}
    assert names == {"open files", "file size", "memory", "disk", "file system"}
