"""The page on the outbox knows every status, and every refusal that the schema speaks."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from recorder.outbox.rules.states import Status

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "outbox.md").read_text(encoding="utf-8")
VERSIONS = ROOT / "migrations" / "versions"


def migration(name: str) -> ModuleType:
    """Load a migration, whose name no import statement can say."""
    spec = importlib.util.spec_from_file_location("migration", VERSIONS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def refusals() -> list[str]:
    """Return what the triggers say when a command is queued, the list of commands left out."""
    checks = migration("0004_command_checks")
    rules = [*checks.rules(checks.SQLITE), *checks.time_rules()]
    closely = migration("0007_limits")
    messages = {rule.message for rule in rules}
    readable = migration("0015_readable_rows")
    messages |= {rule.message for rule in readable.insert_rules(True)}
    messages |= {rule.message for rule in readable.insert_rules(False)}
    messages |= {rule.message for rule in readable.update_rules()}
    # What is said inside a batch, is explained once for all fields.
    messages |= {text.removeprefix("requests[].data.") for text, _ in closely.rules(closely.Sqlite)}
    return sorted({re.sub(r"one of [A-Z].*", "one of", message) for message in messages})


def raised() -> list[str]:
    """Return what SQLite's triggers say when a queued command is changed."""
    versions = ("0003_outbox", "0007_limits")
    statements = "\n".join(sql for name in versions for sql in migration(name).SQLITE)
    # Those of a new command are `refusals`.
    statements = re.sub(r"CREATE TRIGGER outbox_check_closely.*", "", statements)
    return re.findall(r"RAISE\(ABORT, 'outbox: ([^']+?)(?:; see docs/outbox\.md)?'", statements)


@pytest.mark.parametrize("status", list(Status))
def test_a_status_has_a_row_in_the_page(status: Status) -> None:
    assert f"\n| `{status.value}` |" in PAGE


@pytest.mark.parametrize("message", raised())
def test_a_refused_change_is_explained(message: str) -> None:
    assert message in PAGE


@pytest.mark.parametrize("message", refusals())
def test_a_refused_command_is_explained(message: str) -> None:
    field, _, rest = message.partition(" must be ")
    # One row explains the same mistake in several fields.
    assert message in PAGE or (field in PAGE and f"must be {rest}" in PAGE) or by_column(message)


def by_column(message: str) -> bool:
    """Tell whether one row explains it for this column among others."""
    column, _, rest = message.partition(" ")
    return f"`{column}`" in PAGE and f"`… {rest}`" in PAGE


def test_no_trigger_speaks_that_was_not_looked_at() -> None:
    assert len(raised()) >= 5
    assert len(refusals()) >= 15
