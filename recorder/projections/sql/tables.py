"""Runs projections: rows and checkpoint move together, or not at all.

One unit takes the next events behind the checkpoint, folds them and writes rows, failures and the
new checkpoint in one transaction. The checkpoint moves by compare-and-set, so two processes that
fold the same account can't both take a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

import sqlalchemy
from attrs import frozen
from sqlalchemy import (
    ColumnElement,
    Connection,
    Dialect,
    Update,
    bindparam,
    case,
    delete,
    insert,
    null,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from recorder.database.prepared import Prepared, pipelined, prepare
from recorder.database.schema import fold_failures, projections
from recorder.errors import StorageUnavailable
from recorder.log.rules.event import Event
from recorder.log.sql.read import read_page
from recorder.projections.rules.fold import Projection, Table
from recorder.projections.sql.folding import (
    Failure,
    Folded,
    Memory,
    fold_events,
    fold_known,
    fold_only,
    refusals,
)
from recorder.projections.sql.rows import LIVE, clear

__all__ = [
    "Failure",
    "Memory",
    "Progress",
    "move_checkpoint",
    "project",
    "read_checkpoint",
    "record_error",
    "record_failures",
]


class Checkpointed(Protocol):
    """What keeps a checkpoint in ``projections``: a projection, or the settling of the outbox."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> int: ...

    @property
    def tables(self) -> tuple[Table, ...]: ...


@frozen
class Progress:
    """What one unit did.

    ``position`` is the checkpoint after it, ``events`` how many events it folded, ``failures``
    those of them that could not be folded.
    """

    position: int
    events: int
    failures: tuple[Failure, ...]


def project(
    connection: Connection,
    projection: Projection,
    memory: Memory,
    account: str,
    *,
    up_to: int,
    limit: int,
    now: datetime,
) -> Progress:
    """Fold the next ``limit`` events (fewer, if they are big) between checkpoint and ``up_to``.

    The first call for an account begins at position 1, and so does the first one after the
    projection's version changed, which deletes its rows. With no more events of its types in the
    way, the checkpoint goes to ``up_to``. Raises StorageUnavailable if another process moved it.
    """
    checkpoint = read_checkpoint(connection, projection, account, now)
    if checkpoint >= up_to:
        return Progress(checkpoint, 0, ())
    if memory.position != checkpoint:
        memory.forget()
    # Holds for no checkpoint until this unit is through.
    memory.position = None
    page = read_page(
        connection, account, checkpoint, up_to=up_to, limit=limit, types=projection.types
    )
    failures = fold_events(connection, projection, memory, account, page.events)
    position = up_to if page.is_last else page.events[-1].position
    record_failures(connection, projection.name, account, failures)
    move_checkpoint(connection, projection.name, account, checkpoint, position, failures, now)
    memory.trim(projection)
    memory.position = position
    return Progress(position, len(page.events), failures)


@frozen
class Plan:
    """A batch that was read and folded, and is still to be written."""

    checkpoint: int
    position: int
    events: int
    folded: Folded


def plan(
    connection: Connection,
    projection: Projection,
    memory: Memory,
    account: str,
    *,
    up_to: int,
    limit: int,
) -> Plan | None:
    """Do everything of `project` that needs no writing; None where that is not to be had.

    Only the projection's own process writes its rows, so what is read here still holds when
    `carry_out` writes; if it doesn't, the checkpoint has moved and nothing is written. On SQLite,
    where one writes at a time, the log waits for the writing alone. After a failure between the two
    the caller makes ``memory`` forget.
    """
    wanted = {"of_account": account, "of_projection": projection.name}
    row = _prepared(connection.dialect, "read").run(connection, [wanted]).one_or_none()
    if row is None or row.version != projection.version or row.position >= up_to:
        return None
    if memory.position != row.position:
        memory.forget()
    memory.position = None
    page = read_page(
        connection, account, row.position, up_to=up_to, limit=limit, types=projection.types
    )
    folded = fold_only(connection, projection, memory, account, page.events)
    position = up_to if page.is_last else page.events[-1].position
    return Plan(row.position, position, len(page.events), folded)


def plan_recent(
    projection: Projection,
    memory: Memory,
    recent: Sequence[Event],
    *,
    up_to: int,
    limit: int,
) -> Plan | None:
    """Do the same as `plan` without a database; None, with nothing done, where that can't be.

    ``recent`` are all events from behind the checkpoint up to ``up_to``, as they are durable in
    the log. Whether the checkpoint still stands where ``memory`` has it, `carry_out` finds out.
    """
    checkpoint = memory.position
    if checkpoint is None or recent[0].position != checkpoint + 1:
        return None
    wanted = [event for event in recent if event.type in projection.types]
    events = wanted[:limit]
    folded = fold_known(projection, memory, events)
    if folded is None:
        return None
    memory.position = None
    position = up_to if len(wanted) <= limit else events[-1].position
    return Plan(checkpoint, position, len(events), folded)


def carry_out(
    connection: Connection,
    projection: Projection,
    memory: Memory,
    account: str,
    planned: Plan,
    *,
    now: datetime,
) -> Progress:
    """Write what was planned, with its checkpoint.

    Raises RowRefused if the database can't hold a row of it, or if the checkpoint stands elsewhere;
    then nothing is written, and the batch is one for `project`.
    """
    failures = planned.folded.failures
    names = projection.name, account
    with refusals(), pipelined(connection, planned.folded.weight):
        steps = planned.checkpoint, planned.position
        moved = _send_checkpoint(connection, "push", *names, *steps, now)
        planned.folded.changes.write(connection, memory.tables, projection, account)
    _check_moved(moved.rowcount, *names)
    record_failures(connection, *names, failures)
    _show_failures(connection, *names, failures)
    memory.trim(projection)
    memory.position = planned.position
    return Progress(planned.position, planned.events, failures)


def record_error(
    connection: Connection, projection: Checkpointed, account: str, reason: str, now: datetime
) -> None:
    """Write down why the projector stopped; its rows and checkpoint stay as they are."""
    read_checkpoint(connection, projection, account, now)
    plain = reason.encode(errors="replace").decode().replace("\x00", "�")
    connection.execute(_row_of(account, projection.name).values(error=plain, updated_at=now))


def read_checkpoint(
    connection: Connection, projection: Checkpointed, account: str, now: datetime
) -> int:
    """Return the position up to which the projection stands; `move_checkpoint` fences it."""
    wanted = {"of_account": account, "of_projection": projection.name}
    row = _prepared(connection.dialect, "read").run(connection, [wanted]).one_or_none()
    if row is None:
        first = dict(account=account, projection=projection.name, version=projection.version)
        connection.execute(insert(projections).values(first | {"position": 0, "updated_at": now}))
        return 0
    if row.version == projection.version:
        return int(row.position)
    _begin_again(connection, projection, account, now)
    return 0


def _begin_again(
    connection: Connection, projection: Checkpointed, account: str, now: datetime
) -> None:
    """Drop what another version of the fold made: these events give other rows now."""
    clear(connection, LIVE, projection.tables, account)
    connection.execute(
        delete(fold_failures).where(
            fold_failures.c.account == account, fold_failures.c.projection == projection.name
        )
    )
    renewed = _row_of(account, projection.name).values(
        position=0, version=projection.version, error=None, updated_at=now
    )
    connection.execute(renewed)


def move_checkpoint(
    connection: Connection,
    name: str,
    account: str,
    expected: int,
    position: int,
    failures: tuple[Failure, ...],
    now: datetime,
) -> None:
    """Move the checkpoint from ``expected`` to ``position``.

    Raises StorageUnavailable where it stands elsewhere: another process moved it meanwhile.
    """
    moved = _send_checkpoint(connection, "move", name, account, expected, position, now)
    _check_moved(moved.rowcount, name, account)
    _show_failures(connection, name, account, failures)


def _send_checkpoint(
    connection: Connection,
    which: str,
    name: str,
    account: str,
    expected: int,
    position: int,
    now: datetime,
) -> Any:
    """Send what moves the checkpoint; return its cursor."""
    moved = {
        "of_account": account,
        "of_projection": name,
        "expected": expected,
        "position": position,
        "updated_at": now,
    }
    return _prepared(connection.dialect, which).write(connection, [moved])


def _check_moved(rows: int, name: str, account: str) -> None:
    """Raise StorageUnavailable where the checkpoint is gone; -1 is for "not known yet"."""
    if rows not in (1, -1):
        raise StorageUnavailable(
            f"another process folds {name!r} of account {account!r}; its step stands, ours doesn't"
        )


def _show_failures(
    connection: Connection, name: str, account: str, failures: tuple[Failure, ...]
) -> None:
    """Keep the latest failure where the checkpoint stands; all of them are in fold_failures."""
    if failures:
        latest = f"event {failures[-1].position}: {failures[-1].reason}"
        connection.execute(_row_of(account, name).values(error=latest))


def _prepared(dialect: Dialect, which: str) -> Prepared:
    """Return a statement on a checkpoint, compiled when first asked for.

    "read" looks at it; "move" is its compare-and-set, and "push" one that fails by itself.
    """
    if (dialect.name, which) not in _PREPARED:
        ours = (
            projections.c.account == bindparam("of_account"),
            projections.c.projection == bindparam("of_projection"),
        )
        if which == "read":
            look = select(projections.c.position, projections.c.version).where(*ours)
            _PREPARED[dialect.name, which] = prepare(dialect, look)
        else:
            here = projections.c.position == bindparam("expected")
            to: ColumnElement[Any] = bindparam("position")
            if which == "move":
                moved = update(projections).where(*ours, here)
            else:
                # Null is refused, so where another process moved it the transaction fails by
                # itself: no look before the COMMIT is needed.
                moved = update(projections).where(*ours)
                to = case((here, to), else_=null())
            moved = moved.values(position=to, updated_at=bindparam("updated_at"))
            _PREPARED[dialect.name, which] = prepare(dialect, moved)
    return _PREPARED[dialect.name, which]


_PREPARED: dict[tuple[str, str], Prepared] = {}


def _row_of(account: str, name: str) -> Update:
    return update(projections).where(
        projections.c.account == account, projections.c.projection == name
    )


def record_failures(
    connection: Connection,
    name: str,
    account: str,
    failures: tuple[Failure, ...],
    target: sqlalchemy.Table = fold_failures,
) -> None:
    """Write down the events that could not be folded, or only in part."""
    if not failures:
        return
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(target).on_conflict_do_nothing()
    rows = [
        {
            "account": account,
            "projection": name,
            "position": failure.position,
            "reason": failure.reason,
        }
        for failure in failures
    ]
    connection.execute(statement, rows)
