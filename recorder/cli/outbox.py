"""``recorder outbox``: what is queued, and the story of one command: did my order go out?"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, select

from recorder.cli.call import Call
from recorder.cli.events import EXCERPT
from recorder.cli.exits import OK, WRONG
from recorder.cli.flags import DATABASE, add_output, add_settings, whole
from recorder.cli.output import Column, quoted
from recorder.cli.plain import plain, short_time
from recorder.errors import ConfigurationError
from recorder.outbox.states import Status
from recorder.storage.engine import in_unit
from recorder.storage.read import event_at
from recorder.storage.schema import outbox, outbox_transitions

#: Commands shown where nobody says how many.
RECENT = 20

ROWS = (
    Column("outbox_id", "id", right=True),
    Column("command"),
    Column("status"),
    Column("reason", spare=True),
    Column("order_id", spare=True),
    Column("customer_order_id", spare=True),
    Column("client_msg_id", spare=True),
    Column("created_at", "created (UTC)", spare=True),
)
#: What each status means for the one who asks whether the order went out.
MEANINGS = {
    Status.QUEUED: "it was not sent",
    Status.SENDING: "it may have been sent: nobody knows yet",
    Status.SENT: "it was handed to the network; no answer yet",
    Status.ACKNOWLEDGED: "the exchange has it; whether it took effect is not known yet",
    Status.ACCEPTED: "it took effect",
    Status.REJECTED: "the exchange said no",
    Status.IN_DOUBT: "it may have taken effect: only evidence can tell; it is never sent again",
    Status.NOT_PLACED: "the exchange knows nothing of it",
    Status.EXPIRED: "it was never sent: its time was over",
    Status.WITHDRAWN: "it was never sent: somebody withdrew it",
    Status.REFUSED: "it was never sent: the recorder refused it",
}


def configure(parser: ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("action", nargs="?", choices=["show"], help="tell the story of one command")
    parser.add_argument("outbox_id", nargs="?", type=whole(1), metavar="ID", help="its outbox_id")
    parser.add_argument(
        "--status",
        choices=[status.value for status in Status],
        metavar="STATUS",
        help="only commands of this status: " + ", ".join(status.value for status in Status),
    )
    parser.add_argument(
        "--limit", type=whole(1), default=RECENT, metavar="N", help=f"the newest N [{RECENT}]"
    )
    add_settings(parser, DATABASE)
    add_output(parser)


def run(call: Call) -> int:
    """Print the newest commands, or the story of one. One that isn't there is exit code 2."""
    asked = call.arguments
    if asked.action and asked.outbox_id is None:
        raise ConfigurationError("say which command: `recorder outbox show ID`")
    with call.database() as database:
        if asked.action:
            return in_unit(database.reader, _show, call)
        in_unit(database.reader, _list, call)
    return OK


def _list(connection: Connection, call: Call) -> None:
    asked = call.arguments
    accounts = call.accounts(connection)
    columns = ROWS if len(accounts) == 1 else (Column("account"), *ROWS)
    which = f"no command of status {asked.status}" if asked.status else "no command"
    found = connection.execute(_newest(accounts, asked.status, asked.limit)).mappings().all()
    call.output.rows(
        columns,
        [dict(row) for row in reversed(found)],
        empty=f"{which} in the outbox of {', '.join(map(quoted, accounts))}:"
        " `recorder enqueue` or a plain INSERT queues one",
    )


def _newest(accounts: list[str], status: str | None, limit: int) -> Select[*tuple[Any, ...]]:
    newest = select(outbox).where(outbox.c.account.in_(accounts))
    if status is not None:
        newest = newest.where(outbox.c.status == status)
    return newest.order_by(outbox.c.outbox_id.desc()).limit(limit)


def _show(connection: Connection, call: Call) -> int:
    output, outbox_id = call.output, call.arguments.outbox_id
    accounts = call.accounts(connection)
    which = (outbox.c.account.in_(accounts), outbox.c.outbox_id == outbox_id)
    found = connection.execute(select(outbox).where(*which)).mappings().first()
    if found is None:
        output.warn(
            f"there is no command {outbox_id} in the outbox of {', '.join(map(quoted, accounts))}"
        )
        return WRONG
    row = dict(found)
    meaning = MEANINGS[Status(row["status"])]
    if output.as_json:
        output.json_line({"kind": "command", **row, "meaning": meaning})
    else:
        output.line(f"command {outbox_id} of account {quoted(row['account'])}: {row['command']}")
        output.line(f"payload  {plain(row['payload'][:EXCERPT])}")
        for name in _NAMED:
            if row[name] is not None:
                output.line(f"{name}  {plain(str(row[name]))}")
        output.line(f"{row['status']}: {meaning}")
        output.line("")
    for item in story(connection, row):
        output.say(item, _told(item))
    return OK


_NAMED = ("client_msg_id", "customer_order_id", "order_id", "modify_request_id")


def story(connection: Connection, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the command's transitions and the events it points at, in the order of their times."""
    items = [{"kind": "transition", "at": it["changed_at"], **it} for it in _steps(connection, row)]
    # An event comes before the change that it brought about, also within the same microsecond.
    return sorted(_events(connection, row) + items, key=_moment)


def _moment(item: Mapping[str, Any]) -> datetime:
    at: datetime = item["at"]
    return at


def _steps(connection: Connection, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    steps = (
        select(outbox_transitions)
        .where(
            outbox_transitions.c.account == row["account"],
            outbox_transitions.c.outbox_id == row["outbox_id"],
        )
        .order_by(outbox_transitions.c.seq)
    )
    return [dict(step) for step in connection.execute(steps).mappings()]


def _events(connection: Connection, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name in ("sent_position", "acknowledged_position", "resolved_position"):
        position = row[name]
        event = event_at(connection, row["account"], position) if position else None
        if event is not None and all(position != item["position"] for item in found):
            found.append(
                {
                    "kind": "event",
                    "at": event.received_at,
                    "account": event.account,
                    "position": position,
                    "origin": event.origin,
                    "type": event.type,
                    "payload": event.payload,
                }
            )
    return found


def _told(item: Mapping[str, Any]) -> str:
    when = short_time(item["at"])
    if item["kind"] == "event":
        what = f"{item['origin']} {plain(item['type'])}".strip()
        return f"{when}  event {item['position']}: {what}  {plain(item['payload'][:EXCERPT])}"
    change = f"{item['from_status'] or 'new'} → {item['to_status']}"
    reason = f": {plain(item['reason'])}" if item["reason"] else ""
    return f"{when}  {change}  by {plain(item['changed_by'])}{reason}"
