"""Queues a command in the caller's transaction: one INSERT, whatever the driver.

Nothing here commits, rolls back or opens a transaction, except what the driver does by itself
before a statement. The command is durable, or gone, with the caller's transaction.

A repeated ``client_msg_id`` is no error to the database (ON CONFLICT DO NOTHING), because on
PostgreSQL an error would end the caller's transaction. The existing row is read afterwards. Rows
are never deleted, so it is still there.
"""

from __future__ import annotations

import json
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypedDict, Unpack

from attrs import frozen

from recorder.client.commands import Command
from recorder.client.drivers import Driver, Rows, async_driver_of, driver_of
from recorder.errors import RecorderError, Refused

if TYPE_CHECKING:
    from recorder.client.drivers import AnyAsyncConnection, AnyConnection

OnRepeat: TypeAlias = Literal["raise", "return"]

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
    """A command with this ``client_msg_id`` is in the outbox already; nothing was added.

    Deliberately not a Refused: that command is queued, and may have been sent. ``outbox_id`` is its
    row (None if it can't be read). ``differs`` is true if it is another command, and None if that
    was not compared or can't be read.
    """

    def __init__(
        self, message: str, client_msg_id: str, outbox_id: int | None, differs: bool | None
    ) -> None:
        super().__init__(message)
        self.client_msg_id = client_msg_id
        self.outbox_id = outbox_id
        self.differs = differs


class Options(TypedDict, total=False):
    """The options of `enqueue`; `QueueRequest` has their defaults."""

    client_msg_id: str | None
    priority: int
    not_before: datetime | None
    expires_at: datetime | None
    in_order: bool
    created_by: str | None
    on_repeat: OnRepeat


def enqueue(
    connection: AnyConnection, account: str, command: Command, **options: Unpack[Options]
) -> Queued:
    """Queue the command for the account; it is sent, if at all, after the caller's COMMIT.

    ``client_msg_id`` makes repeating safe: if a command with it exists already, nothing is added.
    Then AlreadyQueued is raised. With ``on_repeat="return"`` the existing row is returned instead,
    if its command and payload are the same. The transaction stays usable.

    With ``in_order`` it waits until every earlier command of its pair has a settled outcome.

    Raises Refused for what can't be queued (nothing was inserted), TypeError for a connection,
    command or time of the wrong type, and every other error of the driver unchanged.
    """
    request = QueueRequest(account=account, command=command, **options)
    return _finish(_queue(driver_of(connection), request))


async def enqueue_async(
    connection: AnyAsyncConnection, account: str, command: Command, **options: Unpack[Options]
) -> Queued:
    """Do what `enqueue` does on an asynchronous connection of psycopg.

    If it is cancelled, the command may be in the transaction: roll it back.
    """
    request = QueueRequest(account=account, command=command, **options)
    return await _queue(async_driver_of(connection), request)


@frozen(kw_only=True)
class QueueRequest:
    """The arguments of `enqueue`, checked as far as no database is needed for it."""

    account: str
    command: Command
    client_msg_id: str | None = None
    priority: int = 0
    not_before: datetime | None = None
    expires_at: datetime | None = None
    in_order: bool = False
    created_by: str | None = None
    on_repeat: OnRepeat = "raise"

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


def _finish(steps: Coroutine[Any, Any, Queued]) -> Queued:
    """Run steps that never wait, because their driver doesn't."""
    try:
        steps.send(None)
    except StopIteration as ended:
        queued: Queued = ended.value
        return queued
    raise AssertionError("a synchronous driver waited")


async def _queue(driver: Driver, request: QueueRequest) -> Queued:
    columns = {
        "account": request.account,
        "command": request.command.command,
        "payload": request.command.payload_text(),
        "client_msg_id": request.client_msg_id,
        "priority": request.priority or None,
        "not_before": _time(driver, request.not_before),
        "expires_at": _time(driver, request.expires_at),
        "in_order": request.in_order or None,
        "created_by": request.created_by,
    }
    # A column that isn't given has a default, and the caller may lack the privilege to write it.
    given = {name: value for name, value in columns.items() if value is not None}
    names, places = ", ".join(given), ", ".join(f":{name}" for name in given)
    conflict = "" if request.client_msg_id is None else _CONFLICT
    inserted = await _rows(
        driver,
        f"INSERT INTO outbox ({names}) VALUES ({places}){conflict}"
        " RETURNING outbox_id, client_msg_id",
        given,
    )
    if inserted:
        [(outbox_id, client_msg_id)] = inserted
        return Queued(_whole(outbox_id), _text(client_msg_id))
    return await _find_existing(driver, request)


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


async def _find_existing(driver: Driver, request: QueueRequest) -> Queued:
    """Return the row that has the ``client_msg_id``. Raises AlreadyQueued."""
    client_msg_id = request.client_msg_id
    assert client_msg_id is not None, "only an id that the caller chose can exist already"
    key = {"account": request.account, "client_msg_id": client_msg_id}
    found = await _rows(driver, _FIND[driver.dialect], key)
    message = f"a command with client_msg_id {client_msg_id!r} exists already"
    if not found:
        raise AlreadyQueued(f"{message}, in a row that can't be read", client_msg_id, None, None)
    [(number, may_read)] = found
    outbox_id = _whole(number)
    message += f" as outbox_id {outbox_id}"
    if request.on_repeat == "raise":
        raise AlreadyQueued(message, client_msg_id, outbox_id, None)
    if not may_read:
        message += (
            "; whether it is the same can't be seen without SELECT (command, payload)"
            " ON outbox, which this role doesn't have"
        )
        raise AlreadyQueued(message, client_msg_id, outbox_id, None)
    [(command, payload)] = await _rows(driver, f"SELECT command, payload{_ROW}", key)
    if not _is_same(request.command, _text(command), _text(payload)):
        message += ", and is another command: an id belongs to one order only"
        raise AlreadyQueued(message, client_msg_id, outbox_id, True)
    return Queued(outbox_id, client_msg_id)


async def _rows(driver: Driver, sql: str, values: dict[str, Any]) -> Rows:
    """Return a statement's rows. Raises Refused where the schema refuses the command."""
    try:
        return await driver.run(sql, values)
    except driver.refuses_with as error:
        first_line = (str(error).splitlines() or [""])[0]
        _, is_refusal, message = first_line.partition(_REFUSAL)
        if is_refusal:
            raise Refused("schema", message) from error
        raise


def _is_same(mine: Command, command: str, payload: str) -> bool:
    """Compare values, not texts: white space and the order of members are no difference."""
    message: object = json.loads(payload, parse_float=str, parse_int=str)
    return command == mine.command and message == json.loads(mine.payload_text())


def _time(driver: Driver, time: datetime | None) -> object:
    """Return the time as the database takes it: SQLite holds UTC texts that sort."""
    if time is None or driver.dialect != "sqlite":
        return time
    return time.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


def _whole(value: object) -> int:
    assert isinstance(value, int)
    return value


def _text(value: object) -> str:
    # A sqlite3 connection with text_factory=bytes returns bytes.
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


def _check_time(name: str, time: object) -> None:
    if time is None:
        return
    if not isinstance(time, datetime):
        raise TypeError(f"{name} must be an aware datetime, not {type(time).__name__}")
    if time.utcoffset() is None:
        raise Refused(
            name,
            f"{name} must be an aware datetime such as datetime.now(UTC) + timedelta(minutes=5);"
            f" {time} has no time zone",
        )
