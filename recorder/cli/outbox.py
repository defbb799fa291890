"""``recorder outbox``: what is queued, and the history of one command: did my order go out?"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Mapping
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Select, Table, select

from recorder.cli.call import Call
from recorder.cli.events import EXCERPT
from recorder.cli.exits import OK, WRONG
from recorder.cli.flags import DATABASE, add_output, add_settings, whole
from recorder.cli.output import Column, quoted
from recorder.database.engine import Database, in_unit
from recorder.database.schema import outbox, outbox_lookups, outbox_transitions
from recorder.display import plain, short_time
from recorder.errors import ConfigurationError, Refused
from recorder.log.sql.read import event_at
from recorder.outbox.rules.states import Status
from recorder.outbox.sql.requeue import requeue, resends

#: Commands shown by default.
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
    Status.SENDING: "it may have been sent: this is not known yet",
    Status.SENT: "it was handed to the network; no answer yet",
    Status.ACKNOWLEDGED: "the exchange has it; whether it took effect is not known yet",
    Status.ACCEPTED: "it took effect",
    Status.REJECTED: "the exchange refused it",
    Status.IN_DOUBT: "it may have taken effect: only evidence can decide; it is never sent again",
    Status.NOT_PLACED: "repeated look-ups found nothing of it; a late frame would overturn that",
    Status.EXPIRED: "it was never sent: its time was over",
    Status.WITHDRAWN: "it was never sent: it was withdrawn",
    Status.REFUSED: "it was never sent: the recorder refused it",
}


def configure(parser: ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        "action",
        nargs="?",
        choices=["show", "requeue"],
        help="show: report the history of one command; requeue: queue the same as a new command",
    )
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
    parser.add_argument(
        "--again",
        action="store_true",
        help="requeue also what took effect: the same is ordered a second time",
    )
    add_settings(parser, DATABASE)
    add_output(parser)


def run(call: Call) -> int:
    """Print the newest commands, or the history of one, or queue one again.

    One that isn't there, or can't be queued again, is exit code 2.
    """
    asked = call.arguments
    if asked.action and asked.outbox_id is None:
        raise ConfigurationError(f"name the command: `recorder outbox {asked.action} ID`")
    if asked.again and asked.action != "requeue":
        raise ConfigurationError("--again is for `recorder outbox requeue ID`")
    with call.database() as database:
        if asked.action == "requeue":
            return _requeue(database, call)
        if asked.action:
            return in_unit(database.reader, _show, call)
        in_unit(database.reader, _list, call)
    return OK


def _list(connection: Connection, call: Call) -> None:
    asked = call.arguments
    accounts = call.accounts(connection, queued=True)
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
    row = _find(connection, call)
    if row is None:
        return WRONG
    resent_as = [number for number, _ in resends(connection, row["account"], outbox_id)]
    meaning = MEANINGS[Status(row["status"])]
    if output.as_json:
        links = {"requeued_as": resent_as}
        output.json_line({"kind": "command", **row, **links, "meaning": meaning})
    else:
        output.line(f"command {outbox_id} of account {quoted(row['account'])}: {row['command']}")
        output.line(f"payload  {plain(row['payload'][:EXCERPT])}")
        for name in _NAMED:
            if row[name] is not None:
                output.line(f"{name}  {plain(str(row[name]))}")
        if row["requeue_of"] is not None:
            output.line(f"a resend of command {row['requeue_of']}")
        if resent_as:
            output.line(f"requeued as {', '.join(map(str, resent_as))}")
        output.line(f"{row['status']}: {meaning}")
        output.line("")
    for item in history_of(connection, row):
        output.fact(item, _reported(item))
    return OK


def _find(connection: Connection, call: Call) -> dict[str, Any] | None:
    """Return the command that is asked about; None, and report so, if there is none."""
    outbox_id, accounts = call.arguments.outbox_id, call.accounts(connection, queued=True)
    which = (outbox.c.account.in_(accounts), outbox.c.outbox_id == outbox_id)
    found = connection.execute(select(outbox).where(*which)).mappings().first()
    if found is None:
        call.output.warn(
            f"there is no command {outbox_id} in the outbox of {', '.join(map(quoted, accounts))}"
        )
        return None
    return dict(found)


def _requeue(database: Database, call: Call) -> int:
    asked = call.arguments
    row = in_unit(database.reader, _find, call)
    if row is None:
        return WRONG
    account, old = row["account"], asked.outbox_id
    try:
        outbox_id = in_unit(database.writer, requeue, account, old, again=asked.again)
    except Refused as error:
        raise Refused(error.rule, f"not queued: {error}") from error
    call.output.fact(
        {"account": account, "outbox_id": outbox_id, "requeue_of": old, "status": "queued"},
        f"queued as {outbox_id} for account {quoted(account)}, the same as command {old};"
        f" `recorder outbox show {outbox_id}` shows its history",
    )
    return OK


_OF_EVENT = ("account", "position", "origin", "type", "payload")
_NAMED = ("client_msg_id", "customer_order_id", "order_id", "modify_request_id")


def history_of(connection: Connection, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return transitions, look-ups and the events it points at, in the order of their times."""
    changes = [
        {"kind": "transition", "at": each["changed_at"], **each}
        for each in _steps(connection, outbox_transitions, row)
    ]
    lookups = [
        {"kind": "lookup", "at": each["looked_at"], **each}
        for each in _steps(connection, outbox_lookups, row)
    ]
    # What caused a change comes before it, also within the same microsecond.
    return sorted(_events(connection, row) + lookups + changes, key=itemgetter("at"))


def _steps(connection: Connection, table: Table, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    mine = (table.c.account == row["account"], table.c.outbox_id == row["outbox_id"])
    steps = select(table).where(*mine).order_by(table.c.seq)
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
                    **{name: getattr(event, name) for name in _OF_EVENT},
                }
            )
    return found


def _reported(item: Mapping[str, Any]) -> str:
    when = short_time(item["at"])
    if item["kind"] == "event":
        what = f"{item['origin']} {plain(item['type'])}".strip()
        return f"{when}  event {item['position']}: {what}  {plain(item['payload'][:EXCERPT])}"
    if item["kind"] == "lookup":
        answer = f"event {item['position']}" if item["position"] else "no answer"
        sentence = f"{item['finding']}: {plain(item['answer'])}"
        return f"{when}  look-up {plain(item['request'])} ({answer}): {sentence}"
    change = f"{item['from_status'] or 'new'} → {item['to_status']}"
    reason = f": {plain(item['reason'])}" if item["reason"] else ""
    return f"{when}  {change}  by {plain(item['changed_by'])}{reason}"
