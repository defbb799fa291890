"""Whatever is done to a log, both verifiers find it, name it, and report where it begins.

Both are asked by the same cases: they share no code, so that they can't share a mistake.
"""

from __future__ import annotations

import gzip
import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recorder.database.engine import Database, open_database
from recorder.log.rules.event import Event
from recorder.log.sql.checkpoint_file import make_keys
from tests.cli.scene import ask
from tests.cli.tampering import (
    PersistentConnection,
    Verdict,
    keep,
    rechain,
    run_script,
    tamper,
)

MOVE = "UPDATE events SET position = {} WHERE account = 'main' AND position = {}"


@pytest.fixture
def kept(database: Database, database_url: str, tmp_path: Path) -> PersistentConnection:
    """A log of ten events with checkpoints at 3, 6, 9 and 10."""
    folder = tmp_path / "outside"
    folder.mkdir()
    return keep(database, database_url, folder)


def both(kept: PersistentConnection) -> Iterator[Verdict]:
    """Ask both verifiers."""
    yield kept.verify()
    yield kept.verify_independently()


def assert_found(kept: PersistentConnection, *damage: tuple[str, int | None]) -> None:
    """Check that both find exactly this."""
    for found in both(kept):
        assert (found.code, found.damage) == (1, list(damage)), found.lines


def test_what_was_written_is_sound_for_both_and_they_list_what_they_compared(
    kept: PersistentConnection,
) -> None:
    for found in both(kept):
        assert (found.code, found.damage) == (0, []), found.lines
        (sentence,) = found.lines
        assert (sentence["position"], sentence["checkpoints"], sentence["signatures"]) == (
            10,
            4,
            "checked",
        )


CONTENT = [
    ("payload", "'frame 0 '"),
    ("received_at", "'2026-03-01 12:00:00.123457'"),
    ("connection_id", "'c-2'"),
    ("connection_id", "NULL"),
    ("origin", "'sent'"),
    ("origin", "'noted'"),
    ("type", "'PING'"),
    ("encoding", "'base64'"),
]


@pytest.mark.parametrize(("column", "value"), CONTENT)
@pytest.mark.parametrize("position", [1, 5, 10])
def test_a_changed_event(
    kept: PersistentConnection, column: str, value: str, position: int
) -> None:
    tamper(kept.database, f"UPDATE events SET {column} = {value} WHERE position = {position}")

    assert_found(kept, ("altered", position))


def test_a_changed_digest(kept: PersistentConnection) -> None:
    digest = "decode(repeat('ab', 32), 'hex')"
    if kept.database.dialect == "sqlite":
        digest = f"x'{'ab' * 32}'"
    tamper(kept.database, f"UPDATE events SET digest = {digest} WHERE position = 7")

    assert_found(kept, ("altered", 7))


#: How an owner of the database gets past the triggers.
PAST_THE_TRIGGERS = {
    "sqlite": [
        "PRAGMA writable_schema = ON;"
        "DELETE FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'events'",
        "DROP TRIGGER events_no_update",
    ],
    "postgresql": [
        "DROP TRIGGER events_no_change ON events",
        "ALTER TABLE events DISABLE TRIGGER events_no_change",
        "ALTER TABLE events DISABLE TRIGGER ALL",
        "ALTER TABLE events ENABLE REPLICA TRIGGER events_no_change",
    ],
}


@pytest.mark.parametrize("way", range(4))
def test_no_way_past_the_triggers_is_a_way_past_the_verifiers(
    kept: PersistentConnection, way: int
) -> None:
    ways = PAST_THE_TRIGGERS[kept.database.dialect]
    change = "UPDATE events SET payload = 'forged' WHERE position = 4"
    if kept.database.dialect == "postgresql":
        with psycopg.connect(kept.url) as server:
            with pytest.raises(psycopg.Error), server.transaction():
                server.execute(change)
            server.execute(ways[way])
            server.execute(change)
    else:
        kept.database.close()
        path = kept.url.removeprefix("sqlite:///")
        for statement in (ways[way % 2], change):
            with closing(sqlite3.connect(path)) as editor:
                editor.executescript(statement + ";")

    assert_found(kept, ("altered", 4))


@pytest.mark.parametrize("position", [1, 4, 9])
def test_an_event_that_was_taken_out_of_the_middle(
    kept: PersistentConnection, position: int
) -> None:
    tamper(kept.database, f"DELETE FROM events WHERE position = {position}")

    assert_found(kept, ("altered", position))


def test_a_hole_that_was_closed_by_renumbering(kept: PersistentConnection) -> None:
    closed = [MOVE.format(number - 1, number) for number in range(5, 11)]
    tamper(kept.database, "DELETE FROM events WHERE position = 4", *closed)

    assert_found(kept, ("altered", 4))


def test_events_that_changed_places(kept: PersistentConnection) -> None:
    tamper(kept.database, MOVE.format(99, 4), MOVE.format(4, 5), MOVE.format(5, 99))

    assert_found(kept, ("altered", 4))


def test_positions_that_all_moved_on(kept: PersistentConnection) -> None:
    tamper(kept.database, *(MOVE.format(number + 1, number) for number in range(10, 0, -1)))

    assert_found(kept, ("altered", 1))


@pytest.mark.parametrize("last", [9, 8, 5, 3, 1])
def test_a_tail_that_was_cut_off(kept: PersistentConnection, last: int) -> None:
    tamper(kept.database, f"DELETE FROM events WHERE position > {last}")

    assert_found(kept, ("cut_tail", last + 1))


def test_a_log_that_was_emptied(kept: PersistentConnection) -> None:
    tamper(kept.database, "DELETE FROM events")

    assert_found(kept, ("cut_tail", 1))


@pytest.mark.parametrize(("changed", "known"), [(1, 3), (3, 3), (4, 6), (7, 9), (9, 9), (10, 10)])
def test_a_log_that_was_rechained_from_a_position_on(
    kept: PersistentConnection, changed: int, known: int
) -> None:
    events = kept.events()
    events[changed - 1] = evolve(events[changed - 1], payload="what never came")
    rechain(kept, events)

    assert_found(kept, ("rewritten", known))
    without = kept.verify("--checkpoints", "none")
    assert without.code == 0, "in itself the forgery is sound"
    assert "as was asked for" in without.lines[0]["not_compared"]


def test_an_event_that_was_left_out_and_the_rest_rechained(kept: PersistentConnection) -> None:
    events = kept.events()
    del events[4]
    rechain(kept, events)

    # What came later stands a place earlier now; that doesn't make it a log that ran on.
    assert_found(kept, ("rewritten", 6))


@pytest.mark.parametrize("copied_at", [3, 5, 9])
@pytest.mark.parametrize("ran_on", [1, 4, 30])
def test_an_older_copy_that_was_restored_and_ran_on(
    kept: PersistentConnection, copied_at: int, ran_on: int
) -> None:
    tamper(kept.database, f"DELETE FROM events WHERE position > {copied_at}")
    kept.record(ran_on, words="after the restore")
    head = copied_at + ran_on
    first_known = next((known for known in (3, 6, 9, 10) if copied_at < known <= head), None)

    assert_found(kept, ("restored", first_known or head + 1))
    # It is found as well once the recorder has gone on writing checkpoints.
    kept.checkpoint()
    assert [found.code for found in both(kept)] == [1, 1]


def test_an_older_copy_that_was_not_run_on_lacks_its_tail(kept: PersistentConnection) -> None:
    tamper(kept.database, "DELETE FROM events WHERE position > 6")

    assert_found(kept, ("cut_tail", 7))


def test_an_account_that_was_taken_out_with_all_its_traces(kept: PersistentConnection) -> None:
    kept.record(2, account="other")
    kept.checkpoint("other")
    tamper(kept.database, "DELETE FROM events WHERE account = 'other'")

    for found in both(kept):
        assert (found.code, found.damage) == (1, [("cut_tail", 1)])
        assert [sentence["account"] for sentence in found.lines] == ["main", "other"]


def line_changed(kept: PersistentConnection, number: int, **values: object) -> None:
    lines = kept.file.read_text().splitlines()
    lines[number - 1] = json.dumps(json.loads(lines[number - 1]) | values)
    kept.file.write_text("".join(line + "\n" for line in lines))


@pytest.mark.parametrize(
    "values",
    [
        {"position": 7},
        {"digest": "ab" * 32},
        {"at": "2026-03-01T12:00:00.000000Z"},
        {"account": "other"},
        {"signature": "00" * 64},
    ],
)
def test_a_checkpoint_that_was_changed(
    kept: PersistentConnection, values: dict[str, object]
) -> None:
    line_changed(kept, 2, **values)

    for found in both(kept):
        assert found.code == 1
        assert found.damage == [("bad_signature", values.get("position", 6))]
        assert found.lines[0]["line"] == 2


def test_a_checkpoint_of_an_untrusted_key(kept: PersistentConnection) -> None:
    kept.checkpoint(key=make_keys(kept.folder / "forged"))

    assert_found(kept, ("unknown_key", 10))


def test_a_signature_that_was_taken_off(kept: PersistentConnection) -> None:
    line_changed(kept, 4, key=None, signature=None)

    assert_found(kept, ("unsigned", 10))


@pytest.mark.parametrize("line", ["{}", '{"a":}', "[]}", '{"format":"recorder-checkpoint-2"}'])
def test_a_line_that_no_recorder_wrote(kept: PersistentConnection, line: str) -> None:
    with kept.file.open("a") as file:
        file.write(line + "\n")

    assert_found(kept, ("unreadable", None))


@pytest.mark.parametrize("torn", [b'{"format":"recorder-che', b"\x00" * 100, b"\n\n"])
def test_a_line_that_was_torn_by_a_crash_is_no_tampering(
    kept: PersistentConnection, torn: bytes
) -> None:
    with kept.file.open("ab") as file:
        file.write(torn)
    kept.checkpoint()

    for found in both(kept):
        assert (found.code, found.damage) == (0, []), found.lines


def test_a_forged_log_under_forged_checkpoints(kept: PersistentConnection) -> None:
    forger = make_keys(kept.folder / "forged")
    rechain(kept, [evolve(event, payload="forged") for event in kept.events()])
    kept.file.unlink()
    kept.checkpoint(key=forger)

    for found in both(kept):
        assert found.code == 1
        assert found.damage[0] == ("unknown_key", 10)


def test_checkpoints_that_are_gone_are_no_proof(kept: PersistentConnection) -> None:
    kept.file.write_text("")
    assert [found.code for found in both(kept)] == [2, 2]
    kept.file.unlink()
    assert [found.code for found in both(kept)] == [2, 2]
    assert "recorder checkpoint" in kept.verify().err


def test_rotated_checkpoints_are_read_too(kept: PersistentConnection) -> None:
    lines = kept.file.read_text().splitlines(keepends=True)
    kept.file.with_name("heads.jsonl.2.gz").write_bytes(gzip.compress(lines[0].encode()))
    kept.file.with_name("heads.jsonl-20260301").write_text(lines[1])
    kept.file.with_name("heads.jsonl.bak").write_text("not ours")
    kept.file.write_text("".join(lines[2:]))

    found = kept.verify()

    assert found.code == 0
    assert found.lines[0]["checkpoints"] == 4


def test_without_a_public_key_checkpoints_are_compared_and_signatures_are_not(
    kept: PersistentConnection,
) -> None:
    environment = {"RECORDER_CHECKPOINT_FILE": str(kept.file)}
    answer = ask(kept.url, "verify", "--json", environment=environment)
    differences = run_script(kept.url, "--checkpoints", str(kept.file))

    assert (answer.code, answer.rows[0]["signatures"]) == (0, "unchecked")
    assert (differences.code, differences.lines[0]["signatures"]) == (0, "unchecked")
    shown = ask(kept.url, "verify", "--table", environment=environment).out
    assert "signatures were not checked" in shown
    tamper(kept.database, "DELETE FROM events WHERE position > 9")
    assert ask(kept.url, "verify", environment=environment).code == 1


def test_with_no_checkpoints_at_all_both_report_it(kept: PersistentConnection) -> None:
    answer = ask(kept.url, "verify", "--json")
    differences = run_script(kept.url)

    for sentence in (answer.rows[0], differences.lines[0]):
        assert sentence["result"] == "sound"
        assert "no checkpoint to compare with" in sentence["not_compared"]
    assert (answer.code, differences.code) == (0, 0)


# The same, of an export.


def exported(kept: PersistentConnection, change: str = "") -> Verdict:
    path = kept.export()
    lines = path.read_text().splitlines(keepends=True)
    if change == "payload":
        lines[4] = lines[4].replace("frame", "freme").replace("after", "aftet")
    elif change == "order":
        lines[4], lines[5] = lines[5], lines[4]
    elif change == "hole":
        del lines[4]
    elif change == "tail":
        del lines[9:]
    elif change == "garbage":
        lines[4] = "{}\n"
    elif change == "time":
        lines[4] = lines[4].replace("+00:00", "+02:00")
    # In two files, one of them packed.
    first, second = kept.folder / "a.jsonl.gz", kept.folder / "b.jsonl"
    first.write_bytes(gzip.compress("".join(lines[:6]).encode()))
    second.write_text("".join(lines[6:]))
    return kept.verify_independently(str(first), str(second))


def test_an_export_verifies_on_its_own(kept: PersistentConnection) -> None:
    found = exported(kept)

    assert (found.code, found.damage) == (0, [])
    assert found.lines[0]["checkpoints"] == 4


@pytest.mark.parametrize("change", ["payload", "order", "hole", "garbage", "time"])
def test_an_export_that_was_changed(kept: PersistentConnection, change: str) -> None:
    assert exported(kept, change).damage == [("altered", 5)]


def test_an_export_whose_tail_was_cut_off(kept: PersistentConnection) -> None:
    assert exported(kept, "tail").damage == [("cut_tail", 10)]


def test_an_export_of_a_log_that_was_rechained(kept: PersistentConnection) -> None:
    events = kept.events()
    events[6] = evolve(events[6], payload="what never came")
    rechain(kept, events)

    assert exported(kept).damage == [("rewritten", 9)]


# The file of SQLite, changed with a hex editor.


@pytest.fixture(scope="module")
def sound_file(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> PersistentConnection:
    """A SQLite file of some pages, which no process has open, and its checkpoints."""
    folder = tmp_path_factory.mktemp("outside")
    path = folder / "sound.db"
    shutil.copyfile(sqlite_template, path)
    with open_database(f"sqlite:///{path}") as database:
        kept = keep(database, f"sqlite:///{path}", folder)
        kept.record(60, words="x" * 300)
        kept.checkpoint()
    return kept


def spoilt(kept: PersistentConnection, content: bytes) -> PersistentConnection:
    """Return the same with another content of the database file."""
    path = kept.folder / "spoilt.db"
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.write_bytes(content)
    return evolve(kept, url=f"sqlite:///{path}")


def content_of(kept: PersistentConnection) -> bytes:
    return Path(kept.url.removeprefix("sqlite:///")).read_bytes()


@pytest.mark.parametrize("kept_bytes", [0, 1, 100, 4096, 0.3, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_never_called_sound(
    sound_file: PersistentConnection, kept_bytes: float
) -> None:
    content = content_of(sound_file)
    length = int(kept_bytes * len(content)) if kept_bytes and kept_bytes < 1 else int(kept_bytes)
    broken = spoilt(sound_file, content[:length])

    for found in both(broken):
        assert found.code in (1, 2), found
        assert found.damage or found.err


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.floats(0, 1, exclude_max=True), value=st.binary(min_size=1, max_size=64))
def test_flipped_bytes_end_in_a_verdict_and_never_in_a_traceback(
    sound_file: PersistentConnection, place: float, value: bytes
) -> None:
    content = bytearray(content_of(sound_file))
    at = int(place * len(content))
    content[at : at + len(value)] = value
    broken = spoilt(sound_file, bytes(content[: len(content_of(sound_file))]))

    found = broken.verify()

    # Bytes that no event is read from may be anything.
    assert found.code in (0, 1, 2)
    assert found.code == 0 or found.damage or found.err
    if found.code == 0:
        assert [sentence["position"] for sentence in found.lines] == [70]


def test_a_schema_whose_words_are_no_text_is_a_damaged_database(
    sound_file: PersistentConnection,
) -> None:
    # SQLite quotes what it can't parse, and its driver can't read the quotation.
    content = content_of(sound_file).replace(b"CREATE TRIGGER outbox", b"CREATE TRI\x80GER outbox")
    broken = spoilt(sound_file, content)

    for found in both(broken):
        assert (found.code, found.lines) == (2, [])
    status = ask(broken.url, "status")
    assert status.code == 3
    assert "damaged" in status.err


@pytest.mark.parametrize("part", ["payload", "digest"])
def test_one_flipped_bit_of_an_event_is_found_by_both(
    sound_file: PersistentConnection, part: str
) -> None:
    event: Event = last_of(sound_file)
    content = content_of(sound_file)
    bits = event.payload.encode() if part == "payload" else event.digest
    assert content.count(bits) >= 1
    broken = spoilt(sound_file, content.replace(bits, bytes([bits[0] ^ 1]) + bits[1:]))

    for found in both(broken):
        assert (found.code, found.damage) == (1, [("altered", event.position)])


def last_of(kept: PersistentConnection) -> Event:
    with open_database(kept.url) as database:
        return evolve(kept, database=database).events()[-1]
