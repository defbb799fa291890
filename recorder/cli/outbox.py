"""``recorder outbox`` and ``recorder enqueue``: what is queued, and the history of one command."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import datetime
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Table, select

from recorder.cli.call import Call, require_schema
from recorder.cli.command import argument, choice, command, moment, switch, value, whole
from recorder.cli.events import EXCERPT
from recorder.cli.exits import OK, WRONG
from recorder.cli.output import Column, quoted
from recorder.database.engine import Database, in_unit
from recorder.database.schema import outbox, outbox_lookups, outbox_transitions
from recorder.display import plain, short_time, size_text
from recorder.errors import ConfigurationError, RecorderError, Refused
from recorder.exchange.commands import COMMANDS
from recorder.log.sql.read import event_at, may_read
from recorder.outbox.rules.states import Status
from recorder.outbox.sql.queue import PRIORITY_MAX, changed_switch, enqueue
from recorder.outbox.sql.requeue import requeue, resends
from recorder.queries.account_status import read_account_status, warnings

#: Commands shown by default.
RECENT = 20
#: No command of VALR's comes near it; a wrong file piped in does.
PAYLOAD_BYTES_MAX = 1024 * 1024

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
_STATUSES = ", ".join(Status)
#: What a person sees of a command where it is known, and of an event.
_NAMED = ("client_msg_id", "customer_order_id", "order_id", "modify_request_id")
_OF_EVENT = ("account", "position", "origin", "type", "payload")


@command(
    argument(
        "action",
        nargs="?",
        choices=["show", "requeue"],
        help="show: report the history of one command; requeue: queue the same as a new command",
    ),
    value("outbox_id", whole(1), "ID", "its outbox_id", nargs="?"),
    choice("--status", Status, f"only commands of this status: {_STATUSES}", metavar="STATUS"),
    value("--limit", whole(1), "N", f"the newest N [{RECENT}]", default=RECENT),
    switch("--again", "requeue also what took effect: the same is ordered a second time"),
)
def outbox_command(call: Call) -> int:
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
        return in_unit(database.reader, _show if asked.action else _list, call)


def _list(connection: Connection, call: Call) -> int:
    asked, accounts = call.arguments, call.accounts(connection, queued=True)
    newest = select(outbox).where(outbox.c.account.in_(accounts))
    if asked.status is not None:
        newest = newest.where(outbox.c.status == asked.status)
    newest = newest.order_by(outbox.c.outbox_id.desc()).limit(asked.limit)
    found = [dict(row) for row in connection.execute(newest).mappings()]
    which = f"no command of status {asked.status}" if asked.status else "no command"
    call.output.rows(
        ROWS if len(accounts) == 1 else (Column("account"), *ROWS),
        found[::-1],
        empty=f"{which} in the outbox of {', '.join(map(quoted, accounts))}:"
        " `recorder enqueue` or a plain INSERT queues one",
    )
    return OK


def _show(connection: Connection, call: Call) -> int:
    output, row = call.output, _find(connection, call)
    if row is None:
        return WRONG
    resent_as = [number for number, _ in resends(connection, row["account"], row["outbox_id"])]
    meaning = MEANINGS[Status(row["status"])]
    lines = [
        f"command {row['outbox_id']} of account {quoted(row['account'])}: {row['command']}",
        f"payload  {plain(row['payload'][:EXCERPT])}",
        *(f"{name}  {plain(str(row[name]))}" for name in _NAMED if row[name] is not None),
    ]
    if row["requeue_of"] is not None:
        lines.append(f"a resend of command {row['requeue_of']}")
    if resent_as:
        lines.append(f"requeued as {', '.join(map(str, resent_as))}")
    lines += [f"{row['status']}: {meaning}", ""]
    facts = {"kind": "command", **row, "requeued_as": resent_as, "meaning": meaning}
    output.fact(facts, "\n".join(lines))
    for item in history_of(connection, row):
        output.fact(item, _history_line(item))
    return OK


def _find(connection: Connection, call: Call) -> dict[str, Any] | None:
    """Return the command that is asked about; None, and warn of it, if there is none."""
    outbox_id, accounts = call.arguments.outbox_id, call.accounts(connection, queued=True)
    which = (outbox.c.account.in_(accounts), outbox.c.outbox_id == outbox_id)
    found = connection.execute(select(outbox).where(*which)).mappings().first()
    if found is None:
        names = ", ".join(map(quoted, accounts))
        call.output.warn(f"there is no command {outbox_id} in the outbox of {names}")
        return None
    return dict(found)


def history_of(connection: Connection, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return transitions, look-ups and the events it points at, in the order of their times."""
    found: list[dict[str, Any]] = []
    points = ("sent_position", "acknowledged_position", "resolved_position")
    for position in dict.fromkeys(row[name] for name in points):
        if position and (event := event_at(connection, row["account"], position)):
            facts = {name: getattr(event, name) for name in _OF_EVENT}
            found.append({"kind": "event", "at": event.received_at, **facts})

    def steps(table: Table, kind: str, at: str) -> list[dict[str, Any]]:
        mine = (table.c.account == row["account"], table.c.outbox_id == row["outbox_id"])
        made = connection.execute(select(table).where(*mine).order_by(table.c.seq)).mappings()
        return [{"kind": kind, "at": step[at], **step} for step in made]

    found += steps(outbox_lookups, "lookup", "looked_at")
    # What caused a change comes before it, also within the same microsecond.
    found += steps(outbox_transitions, "transition", "changed_at")
    return sorted(found, key=itemgetter("at"))


def _history_line(item: Mapping[str, Any]) -> str:
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


def _requeue(database: Database, call: Call) -> int:
    row = in_unit(database.reader, _find, call)
    if row is None:
        return WRONG
    account, old, again = row["account"], row["outbox_id"], call.arguments.again
    try:
        outbox_id = in_unit(database.writer, requeue, account, old, again=again)
    except Refused as error:
        raise Refused(error.rule, f"not queued: {error}") from error
    _print_queued(call, account, outbox_id, requeue_of=old)
    return OK


def _print_queued(call: Call, account: str, outbox_id: int, **requeue_of: int) -> None:
    same = "".join(f", the same as command {old}" for old in requeue_of.values())
    call.output.fact(
        {"account": account, "outbox_id": outbox_id, **requeue_of, "status": "queued"},
        f"queued as {outbox_id} for account {quoted(account)}{same};"
        f" `recorder outbox show {outbox_id}` shows its history",
    )


@command(
    argument("command_name", metavar="COMMAND", help=", ".join(COMMANDS)),
    argument(
        "payload", metavar="PAYLOAD", help="a JSON object, or - to read it from standard input"
    ),
    argument(
        "--client-msg-id",
        metavar="ID",
        help="your own key: a second command with the same one is refused [default: random]",
    ),
    value(
        "--priority",
        whole(-PRIORITY_MAX, PRIORITY_MAX),
        "N",
        "the higher goes first; cancels go before all [default: 0]",
    ),
    value("--not-before", moment, "TIME", "send it then or later"),
    value("--expires-at", moment, "TIME", "never send it after that"),
    argument(
        "--in-order",
        action="store_true",
        default=None,
        help="send it after every earlier command of its pair has a settled outcome",
    ),
)
def enqueue_command(call: Call) -> int:
    """Queue the command and print its ``outbox_id``: it is durable then, and no more."""
    asked, account = call.arguments, call.one_account()
    payload = _payload(asked.payload)
    names = ("client_msg_id", "priority", "not_before", "expires_at", "in_order")
    terms = {name: getattr(asked, name) for name in names}
    with call.database(check_schema=False) as database:
        # A role that may only queue can read nothing else; the INSERT itself fails on another
        # schema.
        if in_unit(database.reader, may_read, "alembic_version"):
            in_unit(database.reader, require_schema)
        try:
            outbox_id = in_unit(
                database.writer, enqueue, account, asked.command_name, payload, **terms
            )
        except Refused as error:
            raise Refused(error.rule, f"not queued: {error}") from error
        _print_queued(call, account, outbox_id)
        now = call.now()
        for reason in _remarks(database, account, now):
            call.output.warn(reason)
        if asked.expires_at is not None and asked.expires_at <= now:
            call.output.warn("its --expires-at is over, so it will never be sent: queue it again")
    return OK


def _payload(text: str) -> str:
    if text != "-":
        return text
    raw = sys.stdin.buffer.read(PAYLOAD_BYTES_MAX + 1)
    if len(raw) > PAYLOAD_BYTES_MAX:
        most = size_text(PAYLOAD_BYTES_MAX)
        raise ConfigurationError(f"standard input holds more than {most}, so it was not queued")
    try:
        return raw.decode().strip()
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"standard input is no UTF-8 text: {error}") from error


def _remarks(database: Database, account: str, now: datetime) -> list[str]:
    """Return why a queued command may not go out soon.

    A failure of this look is a remark too: an exit code other than `OK` would make a script queue
    the command once more.
    """

    def look(connection: Connection) -> list[str]:
        found = []
        if may_read(connection, "leases"):
            reasons = warnings(read_account_status(connection, account), now)
            found = [f"it waits in the queue: {reason}" for reason in reasons]
        switch = changed_switch(connection, account)
        # Without a row it isn't off: the first start sets it to on.
        if switch not in (None, "on"):
            found.append(f"the switch of account {quoted(account)} is {switch} (table controls)")
        return found

    try:
        return in_unit(database.reader, look)
    except RecorderError as error:
        return [f"it is queued; whether it waits could not be looked up: {error}"]
