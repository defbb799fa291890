"""Queues a command in the caller's transaction: the one INSERT, whatever the driver.

Nothing here commits, rolls back or opens a transaction, different from what the driver does by
itself before a statement. What the caller then does with its transaction decides about the command
too.
"""

from __future__ import annotations

from collections.abc import Generator
from datetime import datetime
from typing import TYPE_CHECKING

from recorder.client.commands import Command
from recorder.client.drivers import async_driver_of, driver_of
from recorder.client.steps import Asked, OnRepeat, Queued, Rows, Statement, plan, refusal

if TYPE_CHECKING:
    from recorder.client.drivers import AnyAsyncConnection, AnyConnection


def enqueue(
    connection: AnyConnection,
    account: str,
    command: Command,
    *,
    client_msg_id: str | None = None,
    priority: int = 0,
    not_before: datetime | None = None,
    expires_at: datetime | None = None,
    in_order: bool = False,
    created_by: str | None = None,
    on_repeat: OnRepeat = "raise",
) -> Queued:
    """Queue the command for the account; it goes out, if at all, after the caller's COMMIT.

    ``client_msg_id`` makes repeating safe: if a command with it stands already, nothing is added.
    Then AlreadyQueued is raised, or, with ``on_repeat="return"``, the row that stands is returned
    if it is the same command (compared are command and payload). The transaction stays usable.

    With ``in_order`` it waits until every earlier command of its pair has a settled outcome.

    Raises Refused for what can't be queued (nothing was inserted), TypeError for what is no
    connection, command or time at all, and whatever else the driver raises, unchanged.
    """
    asked = Asked(
        account=account,
        command=command,
        client_msg_id=client_msg_id,
        priority=priority,
        not_before=not_before,
        expires_at=expires_at,
        in_order=in_order,
        created_by=created_by,
        on_repeat=on_repeat,
    )
    driver = driver_of(connection)
    steps = plan(driver.dialect, asked)
    step = _step(steps)
    while not isinstance(step, Queued):
        try:
            rows = driver.run(*step)
        except driver.refuses_with as error:
            _raise_refused(error)
            raise
        step = _step(steps, rows)
    return step


async def enqueue_async(
    connection: AnyAsyncConnection,
    account: str,
    command: Command,
    *,
    client_msg_id: str | None = None,
    priority: int = 0,
    not_before: datetime | None = None,
    expires_at: datetime | None = None,
    in_order: bool = False,
    created_by: str | None = None,
    on_repeat: OnRepeat = "raise",
) -> Queued:
    """Do what `enqueue` does on a connection of psycopg's that is awaited.

    Cancelled in between, the command may stand in the transaction: roll it back.
    """
    asked = Asked(
        account=account,
        command=command,
        client_msg_id=client_msg_id,
        priority=priority,
        not_before=not_before,
        expires_at=expires_at,
        in_order=in_order,
        created_by=created_by,
        on_repeat=on_repeat,
    )
    driver = async_driver_of(connection)
    steps = plan(driver.dialect, asked)
    step = _step(steps)
    while not isinstance(step, Queued):
        try:
            rows = await driver.run(*step)
        except driver.refuses_with as error:
            _raise_refused(error)
            raise
        step = _step(steps, rows)
    return step


def _step(
    steps: Generator[Statement, Rows, Queued], rows: Rows | None = None
) -> Statement | Queued:
    """Return the next statement to run, or how it ended."""
    try:
        return next(steps) if rows is None else steps.send(rows)
    except StopIteration as ended:
        queued: Queued = ended.value
        return queued


def _raise_refused(error: Exception) -> None:
    refused = refusal(error)
    if refused is not None:
        raise refused from error
