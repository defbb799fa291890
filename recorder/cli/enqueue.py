"""``recorder enqueue``: one INSERT into the outbox, as any program may make it."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from datetime import datetime

from sqlalchemy import Connection

from recorder.cli.call import Call, require_schema
from recorder.cli.exits import OK
from recorder.cli.flags import DATABASE, add_output, add_settings, moment, whole
from recorder.cli.output import quoted
from recorder.database.engine import Database, in_unit
from recorder.errors import ConfigurationError, RecorderError, Refused
from recorder.exchange.commands import COMMANDS
from recorder.log.sql.read import may_read
from recorder.outbox.sql.queue import PRIORITY_MAX, changed_switch, enqueue
from recorder.queries.account_status import read_account_status, warnings

#: No command of VALR's comes near it; a wrong file piped in does.
PAYLOAD_BYTES_MAX = 1024 * 1024


def configure(parser: ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("command_name", metavar="COMMAND", help=", ".join(COMMANDS))
    parser.add_argument(
        "payload", metavar="PAYLOAD", help="a JSON object, or - to read it from standard input"
    )
    parser.add_argument(
        "--client-msg-id",
        metavar="ID",
        help="your own key: a second command with the same one is refused [default: random]",
    )
    parser.add_argument(
        "--priority",
        type=whole(-PRIORITY_MAX, PRIORITY_MAX),
        metavar="N",
        help="the higher goes first; cancels go before all [default: 0]",
    )
    parser.add_argument("--not-before", type=moment, metavar="TIME", help="send it then or later")
    parser.add_argument(
        "--expires-at", type=moment, metavar="TIME", help="never send it after that"
    )
    parser.add_argument(
        "--in-order",
        action="store_true",
        default=None,
        help="send it after every earlier command of its pair has a settled outcome",
    )
    add_settings(parser, DATABASE)
    add_output(parser)


def run(call: Call) -> int:
    """Queue the command and print its ``outbox_id``: it is durable then, and no more."""
    asked, account = call.arguments, call.one_account()
    payload = _payload(asked.payload)
    with call.database(check_schema=False) as database:
        # A role that may only queue sees nothing else; the INSERT itself reports if it is another
        # schema.
        if in_unit(database.reader, may_read, "alembic_version"):
            in_unit(database.reader, require_schema)
        try:
            outbox_id = in_unit(
                database.writer,
                enqueue,
                account,
                asked.command_name,
                payload,
                client_msg_id=asked.client_msg_id,
                priority=asked.priority,
                not_before=asked.not_before,
                expires_at=asked.expires_at,
                in_order=asked.in_order,
            )
        except Refused as error:
            raise Refused(error.rule, f"not queued: {error}") from error
        call.output.fact(
            {"account": account, "outbox_id": outbox_id, "status": "queued"},
            f"queued as {outbox_id} for account {quoted(account)};"
            f" `recorder outbox show {outbox_id}` shows its history",
        )
        now = call.now()
        for reason in _remarks(database, account, now):
            call.output.warn(reason)
        if asked.expires_at is not None and asked.expires_at <= now:
            call.output.warn("its --expires-at is over, so it will never be sent: queue it again")
    return OK


def _remarks(database: Database, account: str, now: datetime) -> list[str]:
    """Return the remarks about a queued command, whatever becomes of this look.

    An exit code other than `OK` would report a script to queue it once more.
    """
    try:
        if in_unit(database.reader, may_read, "leases"):
            return in_unit(database.reader, _held_up_by, account, now)
        return in_unit(database.reader, _switched_off, account)
    except RecorderError as error:
        return [f"it is queued; whether it waits could not be looked up: {error}"]


def _payload(text: str) -> str:
    if text != "-":
        return text
    raw = sys.stdin.buffer.read(PAYLOAD_BYTES_MAX + 1)
    if len(raw) > PAYLOAD_BYTES_MAX:
        raise ConfigurationError(f"standard input holds more than {PAYLOAD_BYTES_MAX} bytes")
    try:
        return raw.decode().strip()
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"standard input is no UTF-8 text: {error}") from error


def _held_up_by(connection: Connection, account: str, now: datetime) -> list[str]:
    """Return why the command may not go out soon."""
    reasons = [
        f"it waits in the queue: {doubt}"
        for doubt in warnings(read_account_status(connection, account), now)
    ]
    return reasons + _switched_off(connection, account)


def _switched_off(connection: Connection, account: str) -> list[str]:
    switch = changed_switch(connection, account)
    # No row yet is no switch that is off: the first start sets it to on.
    if switch is None or switch == "on":
        return []
    return [f"the switch of account {quoted(account)} is {switch} (table controls)"]
