"""Logs that are worth exporting, and calls of the commands on them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from recorder.database.engine import Database, in_unit
from recorder.database.schema import events
from recorder.log.rules.event import Draft, Event, storable_payload
from recorder.log.sql.read import accounts, stream_events
from tests.cli.scene import Answer, ask
from tests.log.drafts import NOW_US, frame, write

DAY_US = 86_400_000_000
#: What has broken a reader of lines, of CSV, of COPY or of JSON somewhere.
NASTY = (
    "",
    " ",
    '{"type":"X"}',
    "two\nlines\r\nthree\r",
    "back\\slash \\n \\. \\N \\x41",
    "tab\there, comma, \"quotes\", 'single'",
    "\u2028\u2029\u0085\x0b\x0c\x1c separators",
    "🜚 é \ud7ff \uffff",
    "\x01\x7f\x9b",
    '{"type":"\\ud800"}',
    "NULL",
)
#: What no database's text can hold comes in as base64.
UNSTORABLE: tuple[str | bytes, ...] = ("nul\x00inside", "lone \ud800 surrogate", b"\xff\xfe\x00")


def nasty_drafts(account: str = "main") -> list[Draft]:
    """Return a draft for each nasty payload, over three days, on connections and off them."""
    made = []
    for number, raw in enumerate((*NASTY, *UNSTORABLE)):
        payload, encoding = storable_payload(raw)
        made.append(
            Draft(
                account,
                NOW_US + number * DAY_US // 5,
                None if number % 3 == 0 else number * 7,
                (None, "", "c-1")[number % 3],
                "fetched",
                f"odd \\ type\n{number}",
                payload,
                encoding,
            )
        )
    return made


def huge_draft(account: str = "main") -> Draft:
    """Return the draft of a frame of ten megabytes."""
    return frame(base64.b64encode(bytes(range(256)) * 30_000).decode("ascii"), account=account)


def write_nasty(database: Database, *names: str) -> None:
    """Fill the accounts with nasty events."""
    for name in names:
        write(database, *nasty_drafts(name))
        write(database, huge_draft(name))


def all_events(database: Database) -> list[Event]:
    """Return every event of every account."""

    def unit(connection: Connection) -> list[Event]:
        names = accounts(connection)
        return [event for name in names for event in stream_events(connection, name)]

    return in_unit(database.reader, unit)


def count_events(database: Database) -> int:
    """Return how many rows the log has, whatever stands in them."""
    return in_unit(database.reader, lambda c: len(c.execute(select(events.c.position)).all()))


def exported(url: str, folder: Path, *argv: str) -> Answer:
    """Export, which must work."""
    answer = ask(url, "export", str(folder), *argv)
    assert answer.code == 0, answer.err
    return answer


def manifest_of(folder: Path) -> dict[str, Any]:
    """Return the manifest as plain JSON."""
    message: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return message


def lines_of(*files: Path) -> list[dict[str, Any]]:
    """Return the objects of files of JSON lines."""
    return [json.loads(line) for file in files for line in file.read_bytes().split(b"\n")[:-1]]
