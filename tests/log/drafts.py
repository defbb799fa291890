"""What the tests of storage write with."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection, text

from recorder.database.engine import Database, in_unit
from recorder.log.rules.event import Draft, Event
from recorder.log.sql.append import append, read_head

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
NOW_US = 1_772_366_400_123_456


def frame(
    payload: str = "{}",
    *,
    account: str = "main",
    kind: str = "",
    at_us: int = NOW_US,
    connection_id: str | None = "c-1",
    encoding: str = "text",
) -> Draft:
    """Return the draft of a frame that came in."""
    return Draft(account, at_us, 5, connection_id, "received", kind, payload, encoding)


def write(database: Database, *drafts: Draft) -> tuple[Event, ...]:
    """Append drafts behind whatever stands, in one transaction, and return the events."""
    names = {draft.account for draft in drafts}
    heads = {name: in_unit(database.writer, read_head, name) for name in names}
    return in_unit(database.writer, append, heads, drafts).events


def run_sql(database: Database, *statements: str, **values: object) -> list[Sequence[object]]:
    """Run plain SQL in one transaction, as a stranger's program would; return the last's rows."""

    def unit(connection: Connection) -> list[Sequence[object]]:
        rows: list[Sequence[object]] = []
        for statement in statements:
            done = connection.execute(text(statement), values)
            rows = [tuple(row) for row in done] if done.returns_rows else []
        return rows

    return in_unit(database.writer, unit)


def lose(database: Database, *, after: int, account: str = "main") -> None:
    """Take the events behind a position away, as a standby that had not received them would."""
    delete = f"DELETE FROM events WHERE account = '{account}' AND position > {after}"
    if database.dialect == "postgresql":
        off, on = (f"ALTER TABLE events {word} TRIGGER USER" for word in ("DISABLE", "ENABLE"))
        run_sql(database, off, delete, on)
        return
    kept = "SELECT sql FROM sqlite_master WHERE name = 'events_no_delete'"
    [(trigger,)] = run_sql(database, kept)

    def unit(connection: Connection) -> None:
        for statement in ("DROP TRIGGER events_no_delete", delete, str(trigger)):
            connection.exec_driver_sql(statement)

    in_unit(database.writer, unit)
