"""Queueing as questions and answers, for any driver.

A plan yields statements and is sent their rows; what runs them, and whether that waits in a thread
or in an event loop, is the caller's. A repeated ``client_msg_id`` is no error to the database
(ON CONFLICT DO NOTHING), because on PostgreSQL an error would end the caller's transaction. The
row that stands is looked for afterwards. Rows are never deleted, so it is still there.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias

from attrs import frozen

from recorder.client.commands import Command
from recorder.errors import RecorderError, Refused

OnRepeat: TypeAlias = Literal["raise", "return"]
Statement: TypeAlias = tuple[str, Mapping[str, object]]
Rows: TypeAlias = Sequence[Sequence[object]]

#: What a 32-bit column holds.
PRIORITY_MAX: Final = 2**31 - 1
#: The schema's own limit.
CLIENT_MSG_ID_CHARS_MAX: Final = 100

#: How every refusal of a command by the schema begins, on both databases.
_REFUSAL: Final = "outbox: "


@frozen
class Queued:
    """The command's row. It is durable with the caller's COMMIT, and not yet sent."""

    outbox_id: int
    client_msg_id: str


class AlreadyQueued(RecorderError):
    """A command with this ``client_msg_id`` stands in the outbox; nothing was added to it.

    Deliberately not a Refused: that order is queued, and may have been sent. ``outbox_id`` is its
    row (None if that can't be seen). ``differs`` is true if it is another command, and None if
    that was not looked at or can't be seen.
    """

    def __init__(
        self, message: str, client_msg_id: str, outbox_id: int | None, differs: bool | None
    ) -> None:
        super().__init__(message)
        self.client_msg_id = client_msg_id
        self.outbox_id = outbox_id
        self.differs = differs


@frozen(kw_only=True)
class Asked:
    """What the caller of `enqueue` wants, checked as far as no database is needed for it."""

    account: str
    command: Command
    client_msg_id: str | None
    priority: int
    not_before: datetime | None
    expires_at: datetime | None
    in_order: bool
    created_by: str | None
    on_repeat: OnRepeat

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.command, Command):
            raise TypeError(
                f"command must be one of recorder.client's commands, not"
                f" {type(self.command).__name__}; a payload of your own goes in with plain SQL"
            )
        _check_text("account", self.account)
        if self.client_msg_id is not None:
            _check_text("client_msg_id", self.client_msg_id, CLIENT_MSG_ID_CHARS_MAX)
        if self.created_by is not None:
            _check_text("created_by", self.created_by)
        _check_priority(self.priority)
        _check_time("not_before", self.not_before)
        _check_time("expires_at", self.expires_at)
        if not isinstance(self.in_order, bool):
            raise TypeError(f"in_order must be true or false, not {type(self.in_order).__name__}")
        if self.on_repeat not in ("raise", "return"):
            raise ValueError(f'on_repeat must be "raise" or "return", not {self.on_repeat!r}')


def plan(dialect: str, asked: Asked) -> Generator[Statement, Rows, Queued]:
    """Queue the command, or find out why it stands already. Raises AlreadyQueued."""
    inserted = yield _insert(dialect, asked)
    if inserted:
        [(outbox_id, client_msg_id)] = inserted
        return Queued(_whole(outbox_id), _text(client_msg_id))
    # Only a client_msg_id of the caller's own can stand already.
    assert asked.client_msg_id is not None
    return (yield from _look(dialect, asked, asked.client_msg_id))


def refusal(error: Exception) -> Refused | None:
    """Return the schema's refusal that a driver's error speaks, if it does."""
    lines = str(error).splitlines() or [""]
    _, is_refusal, message = lines[0].partition(_REFUSAL)
    return Refused("schema", message) if is_refusal else None


# One row of the outbox. The names come from this module alone, values go in as parameters.


def _insert(dialect: str, asked: Asked) -> Statement:
    reported = {
        "account": asked.account,
        "command": asked.command.command,
        "payload": asked.command.payload_text(),
        "client_msg_id": asked.client_msg_id,
        "priority": asked.priority or None,
        "not_before": _time(dialect, asked.not_before),
        "expires_at": _time(dialect, asked.expires_at),
        "in_order": asked.in_order or None,
        "created_by": asked.created_by,
    }
    # What isn't reported has a default, and perhaps isn't the caller's to write.
    values = {name: value for name, value in reported.items() if value is not None}
    names, places = ", ".join(values), ", ".join(f":{name}" for name in values)
    conflict = _CONFLICT if asked.client_msg_id is not None else ""
    return (
        f"INSERT INTO outbox ({names}) VALUES ({places}){conflict}"
        " RETURNING outbox_id, client_msg_id",
        values,
    )


_CONFLICT: Final = " ON CONFLICT (account, client_msg_id) DO NOTHING"
_ROW: Final = " FROM outbox WHERE account = :account AND client_msg_id = :client_msg_id"
#: The row's number, and whether the payload may be read: trying to would end a transaction.
_FIND: Final = {
    "sqlite": f"SELECT outbox_id, 1{_ROW}",
    "postgresql": (
        "SELECT outbox_id, has_column_privilege('outbox', 'command', 'SELECT')"
        f" AND has_column_privilege('outbox', 'payload', 'SELECT'){_ROW}"
    ),
}


def _look(dialect: str, asked: Asked, client_msg_id: str) -> Generator[Statement, Rows, Queued]:
    key = {"account": asked.account, "client_msg_id": client_msg_id}
    found = yield _FIND[dialect], key
    message = f"a command with client_msg_id {client_msg_id!r} stands already"
    if not found:
        raise AlreadyQueued(f"{message}, in a row that can't be seen", client_msg_id, None, None)
    [(number, may_read)] = found
    outbox_id = _whole(number)
    message += f" as outbox_id {outbox_id}"
    if asked.on_repeat == "raise":
        raise AlreadyQueued(message, client_msg_id, outbox_id, None)
    if not may_read:
        raise AlreadyQueued(
            f"{message}; whether it is this one can't be seen without SELECT (command, payload)"
            " ON outbox, which this role doesn't have",
            client_msg_id,
            outbox_id,
            None,
        )
    [(command, payload)] = yield f"SELECT command, payload{_ROW}", key
    if not _is_same(asked.command, _text(command), _text(payload)):
        raise AlreadyQueued(
            f"{message}, and is another command: an id belongs to one order only",
            client_msg_id,
            outbox_id,
            True,
        )
    return Queued(outbox_id, client_msg_id)


def _is_same(wanted: Command, command: str, payload: str) -> bool:
    """Compare values, not texts: white space and the order of members are no difference."""
    message: object = json.loads(payload, parse_float=str, parse_int=str)
    return command == wanted.command and message == json.loads(wanted.payload_text())


def _time(dialect: str, moment: datetime | None) -> object:
    """Return the time as the database takes it: SQLite holds UTC texts that sort."""
    if moment is None or dialect != "sqlite":
        return moment
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


def _whole(value: object) -> int:
    assert isinstance(value, int)
    return value


def _text(value: object) -> str:
    # A sqlite3 connection with text_factory=bytes answers so.
    return value.decode() if isinstance(value, bytes) else str(value)


def _check_text(name: str, text: object, chars_max: int | None = None) -> None:
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a str, not {type(text).__name__}")
    if not text:
        raise Refused(name, f"{name} must not be empty")
    if chars_max is not None and len(text) > chars_max:
        raise Refused(name, f"{name} is longer than {chars_max} characters")
    if "\x00" in text or any("\ud800" <= char <= "\udfff" for char in text):
        raise Refused(name, f"{name} holds a character that no database can store")


def _check_priority(priority: object) -> None:
    if not isinstance(priority, int) or isinstance(priority, bool):
        raise TypeError(f"priority must be an int, not {type(priority).__name__}")
    if not -PRIORITY_MAX <= priority <= PRIORITY_MAX:
        raise Refused("priority", f"priority must lie between -{PRIORITY_MAX} and {PRIORITY_MAX}")


def _check_time(name: str, moment: object) -> None:
    if moment is None:
        return
    if not isinstance(moment, datetime):
        raise TypeError(f"{name} must be an aware datetime, not {type(moment).__name__}")
    if moment.utcoffset() is None:
        raise Refused(
            name,
            f"{name} must be an aware datetime such as datetime.now(UTC) + timedelta(minutes=5);"
            f" {moment} has no time zone",
        )
