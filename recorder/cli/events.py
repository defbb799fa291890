"""``recorder events``: the log, oldest first, and on and on with ``--follow``.

Positions have no hole, so a reader that stopped goes on with ``--after`` the last position it saw.
Memory holds one page of events, however long the log is and however big its frames are.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from typing import Any

from attrs import asdict, frozen
from sqlalchemy import Connection, select

from recorder.cli.call import Call
from recorder.cli.command import choice, command, switch, value, whole
from recorder.cli.exits import OK
from recorder.cli.output import Output, quoted
from recorder.database.engine import Database, in_unit
from recorder.database.schema import events
from recorder.display import plain, short_time
from recorder.errors import ConfigurationError
from recorder.log.rules.event import Event, Origin
from recorder.log.sql.read import Page, head, read_page

#: Events shown by default.
RECENT = 20
#: How long `--follow` waits before it looks again, in seconds: a look is one search by key.
POLL_S = 0.2
#: Characters of a payload that are made plain for a terminal; no screen shows more on a line.
EXCERPT = 500


@frozen
class _Wanted:
    """Which events of which account."""

    account: str
    type: str | None
    origin: str | None

    @property
    def is_all(self) -> bool:
        return self.type is None and self.origin is None


@command(
    switch("--follow", "go on with what comes, until Ctrl-C"),
    value("--after", whole(0), "N", "only events behind position N"),
    value(
        "--limit",
        whole(1),
        "N",
        f"at most N events [default: all with --after, else the last {RECENT}]",
    ),
    value("--type", str, "T", "only events of this type"),
    choice("--origin", Origin, "only events of this origin"),
)
def events_command(call: Call) -> int:
    """Print events until there are no more, or until the limit."""
    asked, output = call.arguments, call.output
    with call.database() as database:
        wanted = _Wanted(in_unit(database.reader, _account, call), asked.type, asked.origin)
        after = in_unit(database.reader, _start, wanted, asked.after, asked.limit)
        # With --follow the last N are where it begins, not where it ends.
        is_bounded = asked.limit is not None and (asked.after is not None or not asked.follow)
        printed = 0
        if not output.as_json:
            output.line(_line("position", "received (UTC)", "origin", "type"))
        for event in _read(database, wanted, after, asked.follow, output):
            _print(output, event)
            printed += 1
            if is_bounded and printed == asked.limit:
                break
    if not printed:
        output.remark(_nothing(wanted, asked.after))
    return OK


def _account(connection: Connection, call: Call) -> str:
    found = call.accounts(connection)
    if len(found) > 1:
        names = ", ".join(map(quoted, found))
        raise ConfigurationError(
            f"each account has a log of its own; choose with --account: {names}"
        )
    return found[0]


def _start(connection: Connection, wanted: _Wanted, after: int | None, limit: int | None) -> int:
    """Return the position behind which printing begins."""
    if after is not None:
        return after
    last = head(connection, wanted.account).position
    if wanted.is_all:
        return max(last - (limit or RECENT), 0)
    newest = select(events.c.position).where(events.c.account == wanted.account)
    if wanted.type is not None:
        newest = newest.where(events.c.type == wanted.type)
    if wanted.origin is not None:
        newest = newest.where(events.c.origin == wanted.origin)
    newest = newest.order_by(events.c.position.desc()).limit(limit or RECENT)
    found = connection.execute(newest).scalars().all()
    return min(found) - 1 if found else last


def _read(
    database: Database, wanted: _Wanted, after: int, follow: bool, output: Output
) -> Iterator[Event]:
    """Yield events page by page, one short transaction each, so that no reader holds up the log."""
    while True:
        last, page = in_unit(database.reader, _next_page, wanted, after)
        for event in page.events:
            if wanted.origin is None or event.origin == wanted.origin:
                yield event
        if not page.is_last:
            after = page.events[-1].position
            continue
        if not follow:
            return
        after = max(after, last)
        output.out.flush()
        time.sleep(POLL_S)


def _next_page(connection: Connection, wanted: _Wanted, after: int) -> tuple[int, Page]:
    """Return the next page and the head that it was read under."""
    last = head(connection, wanted.account).position
    types = None if wanted.type is None else [wanted.type]
    return last, read_page(connection, wanted.account, after, up_to=last, types=types)


def _nothing(wanted: _Wanted, after: int | None) -> str:
    log = f"the log of account {quoted(wanted.account)}"
    if not wanted.is_all:
        return f"{log} holds no such event" + (f" behind position {after}" if after else "")
    if after:
        return f"{log} holds nothing behind position {after}"
    return f"{log} is empty: `recorder run` fills it"


def _print(output: Output, event: Event) -> None:
    if output.as_json:
        output.json_line(event_row(event))
        return
    for line in event_lines(event, shutil.get_terminal_size().columns):
        output.line(line)


def event_row(event: Event) -> dict[str, Any]:
    """Return an event as programs get it: the payload is the text that the log holds."""
    fields = asdict(event)
    del fields["received_us"]
    first = {"account": event.account, "position": event.position}
    return {**first, "received_at": event.received_at, **fields}


def event_lines(event: Event, width: int) -> list[str]:
    """Return an event as one line where its payload has room on it, else as two."""
    line = _line(str(event.position), short_time(event.received_at), event.origin, event.type)
    payload = plain(event.payload[:EXCERPT])
    if event.encoding != "text":
        payload = f"({event.encoding}) {payload}"
    # A third of the screen shows what a payload is about; less doesn't.
    if width - len(line) - 2 >= width // 3:
        return [_cut(f"{line}  {payload}", width)]
    return [line.rstrip(), _cut(f"          {payload}", width)]


def _line(position: str, received: str, origin: str, kind: str) -> str:
    return f"{position:>8}  {received:<26}  {origin:<8}  {plain(kind):<26}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(width - 1, 1)] + "…"
