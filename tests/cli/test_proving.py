"""verify, rebuild and migrate, on both databases."""

from __future__ import annotations

from pathlib import Path

import pytest

from recorder.database.engine import Database
from recorder.database.migrate import EXPECTED
from recorder.projections import PROJECTIONS
from tests.cli.scene import ask, balance, fold, own, record_scene, start_notes
from tests.log.drafts import frame, run_sql, write


def tamper(database: Database, statement: str) -> None:
    """Change the log as an attacker would who owns the database and drops its triggers."""
    triggers = run_sql(database, _TRIGGERS[database.dialect])
    on = " ON events" if database.dialect == "postgresql" else ""
    run_sql(database, *(f"DROP TRIGGER {name}{on}" for (name,) in triggers), statement)


_TRIGGERS = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'events'",
    "postgresql": "SELECT tgname FROM pg_trigger WHERE tgrelid = 'events'::regclass"
    " AND NOT tgisinternal",
}


def test_a_whole_log_is_sound_and_its_head_is_shown(database: Database, database_url: str) -> None:
    written = record_scene(database)

    answer = ask(database_url, "verify")

    assert answer.code == 0
    assert answer.rows == [
        {
            "account": "main",
            "result": "sound",
            "events": len(written),
            "position": len(written),
            "digest": written[-1].digest.hex(),
            "checkpoints": None,
            "checkpoint_position": None,
            "signatures": None,
            "not_compared": "no checkpoint to compare with, so a cut tail would not show",
        }
    ]
    page = ask(database_url, "verify", "--table").out
    assert f"sound, {len(written)} events; head {len(written)} {written[-1].digest.hex()}" in page


def test_a_changed_event_is_damage_at_its_position(database: Database, database_url: str) -> None:
    record_scene(database)
    tamper(database, "UPDATE events SET payload = '{}' WHERE position = 4")

    answer = ask(database_url, "verify")

    assert answer.code == 1
    assert (answer.rows[0]["result"], answer.rows[0]["position"]) == ("damaged", 4)
    assert "DAMAGED at position 4" in ask(database_url, "verify", "--table").out


def test_a_log_whose_tail_was_cut_is_damaged_where_tables_stand_further(
    database: Database, database_url: str
) -> None:
    written = record_scene(database)
    tamper(database, "DELETE FROM events WHERE position > 5")

    answer = ask(database_url, "verify")

    assert answer.code == 1
    assert answer.rows[0]["position"] == 6
    assert f"up to position {len(written)}" in answer.rows[0]["what"]


def test_a_log_that_was_emptied_is_damaged_too(database: Database, database_url: str) -> None:
    record_scene(database)
    tamper(database, "DELETE FROM events")

    answer = ask(database_url, "verify")

    assert answer.code == 1
    assert answer.rows[0]["position"] == 1


def test_one_damaged_account_is_not_hidden_behind_sound_ones(
    database: Database, database_url: str
) -> None:
    write(database, frame(account="a"), frame(account="b"), frame(account="c"))
    tamper(database, "UPDATE events SET connection_id = 'x' WHERE account = 'b'")

    answer = ask(database_url, "verify")

    assert answer.code == 1
    assert [row["result"] for row in answer.rows] == ["sound", "damaged", "sound"]


@pytest.mark.parametrize("argv", [("verify",), ("verify", "--account", "unknown")])
def test_where_there_is_nothing_to_verify_nothing_is_called_sound(
    argv: tuple[str, ...], database_url: str
) -> None:
    answer = ask(database_url, *argv)

    assert answer.code == 2
    assert answer.out == ""
    assert "nothing to verify" in answer.err


def test_a_database_that_can_not_be_read_could_not_be_verified(tmp_path: Path) -> None:
    path = tmp_path / "noise.db"
    path.write_bytes(b"no database at all" * 100)

    answer = ask(f"sqlite:///{path}", "verify")

    assert answer.code == 2
    assert "could not be verified" in answer.err


def test_tables_that_equal_the_log_pass_the_check_beside_a_running_recorder(
    database: Database, database_url: str
) -> None:
    record_scene(database)

    answer = ask(database_url, "rebuild", "--check")

    assert answer.code == 0
    assert {row["result"] for row in answer.rows} == {"same"}
    assert [row["projection"] for row in answer.rows] == [each.name for each in PROJECTIONS]


def test_a_table_that_was_changed_is_found_and_the_row_is_named(
    database: Database, database_url: str
) -> None:
    record_scene(database)
    run_sql(database, "UPDATE balances SET total = '7' WHERE currency = 'BTC'")

    answer = ask(database_url, "rebuild", "--check", "balances")
    page = ask(database_url, "rebuild", "--check", "balances", "--table").out

    assert answer.code == 1
    assert answer.rows[0]["differences"] == [
        {"table": "balances", "key": ["BTC"], "how": "different"}
    ]
    assert "balances (BTC): the table holds something else than the log makes" in page


def test_a_rebuild_makes_the_tables_equal_the_log_and_releases_the_lease(
    database: Database, database_url: str
) -> None:
    own(database, ended=True)
    write(database, *start_notes(), balance("BTC", "1"))
    fold(database)
    run_sql(database, "UPDATE balances SET total = '7'")

    answer = ask(database_url, "rebuild", "--all")
    again = ask(database_url, "rebuild", "--all")

    assert answer.code == again.code == 0
    assert {row["result"] for row in answer.rows} == {"rebuilt"}
    assert ask(database_url, "balances").rows[0]["total"] == "1"
    assert ask(database_url, "rebuild", "--check").code == 0


@pytest.mark.parametrize(
    "argv",
    [
        ("rebuild", "--all"),
        ("rebuild", "--all", "--check"),
        ("export", "nowhere"),
        ("checkpoint",),
        ("reconcile", "--past"),
    ],
)
def test_an_account_that_was_mistyped_is_neither_proved_nor_made(
    database: Database, database_url: str, argv: tuple[str, ...]
) -> None:
    record_scene(database)

    answer = ask(database_url, *argv, "--account", "mian")

    assert (answer.code, answer.out) == (2, "")
    assert "the database knows no account 'mian': name one with --account: 'main'" in answer.err
    assert [row["account"] for row in ask(database_url, "status").rows] == ["main"]


def test_a_rebuild_is_refused_while_a_recorder_owns_the_account(
    database: Database, database_url: str
) -> None:
    record_scene(database)

    answer = ask(database_url, "rebuild", "balances")

    assert answer.code == 4
    assert "host/boot/1/2" in answer.err
    assert "--check" in answer.err


@pytest.mark.parametrize("argv", [("rebuild",), ("rebuild", "nonsense"), ("rebuild", "\x1b[2J")])
def test_a_rebuild_of_nothing_or_of_what_does_not_exist_is_wrong_usage(
    argv: tuple[str, ...], database_url: str
) -> None:
    answer = ask(database_url, *argv)

    assert answer.code == 2
    assert "\x1b" not in answer.err


def test_migrate_reports_both_revisions(empty_database_url: str) -> None:
    first = ask(empty_database_url, "migrate")
    second = ask(empty_database_url, "migrate")
    shown = ask(empty_database_url, "migrate", "--show")

    assert first.rows == [{"from": None, "to": EXPECTED}]
    assert second.rows == [{"from": EXPECTED, "to": EXPECTED}]
    assert shown.rows == [{"revision": EXPECTED, "expected": EXPECTED}]


def test_going_back_takes_a_yes_because_it_drops_tables(database_url: str) -> None:
    refused = ask(database_url, "migrate", "--to", "base")
    done = ask(database_url, "migrate", "--to", "base", "--yes")
    unknown = ask(database_url, "migrate", "--to", "9999", "--yes")

    assert refused.code == 2
    assert "--yes" in refused.err
    assert done.rows == [{"from": EXPECTED, "to": None}]
    assert unknown.code == 2
    assert "Traceback" not in unknown.err
    assert ask(database_url, "status").code == 2
