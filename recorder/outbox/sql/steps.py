"""Changes of a command's status, one step after the other.

Each is one conditional UPDATE that names what it expects to find; whether it found that is the
return value, never an assumption. What changes are legal at all is the database's business (the
triggers).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from attrs import frozen
from sqlalchemy import Connection, Dialect, bindparam, update

from recorder.database.prepared import Prepared, pipelined, prepare
from recorder.database.schema import outbox

#: Changes that are sent without waiting for each other's answers.
STEPS_MAX = 16


def change_status(
    connection: Connection,
    /,
    account: str,
    outbox_id: int,
    from_status: str,
    to_status: str,
    *,
    now: datetime,
    **columns: Any,
) -> bool:
    """Change the status, and ``columns`` with it, if it is ``from_status``; return whether it was.

    A change that no command may make raises Refused (through `in_unit`).
    """
    step = Step(outbox_id, from_status, to_status, columns)
    return change_statuses(connection, account, [step], now=now) == [True]


@frozen
class Step:
    """One change of a command's status, and ``columns`` with it."""

    outbox_id: int
    from_status: str
    to_status: str
    columns: Mapping[str, Any]


def change_statuses(
    connection: Connection, account: str, steps: Sequence[Step], *, now: datetime
) -> list[bool]:
    """Do what `change_status` does for each, in this order; on PostgreSQL in few round trips."""
    changed = []
    for start in range(0, len(steps), STEPS_MAX):
        few = steps[start : start + STEPS_MAX]
        with pipelined(connection, sum(_weight(step) for step in few)):
            cursors = [_take_step(connection, account, step, now) for step in few]
        changed += [bool(cursor.rowcount == 1) for cursor in cursors]
    return changed


def _weight(step: Step) -> int:
    return sum(len(value) for value in step.columns.values() if isinstance(value, str))


def _take_step(connection: Connection, account: str, step: Step, now: datetime) -> Any:
    values = {f"to_{name}": value for name, value in step.columns.items()} | {
        "of_account": account,
        "of_row": step.outbox_id,
        "from_status": step.from_status,
        "to_status": step.to_status,
        "to_updated_at": now,
    }
    return _changing(connection.dialect, frozenset(step.columns)).write(connection, [values])


def _changing(dialect: Dialect, columns: frozenset[str]) -> Prepared:
    """Return the statement that changes the status and these columns."""
    if (dialect.name, columns) not in _CHANGING:
        row = (outbox.c.account, "of_account"), (outbox.c.outbox_id, "of_row")
        stands = (*row, (outbox.c.status, "from_status"))
        changed = sorted({"status", "updated_at", *columns})
        statement = (
            update(outbox)
            .where(*(column == bindparam(name) for column, name in stands))
            .values({name: bindparam(f"to_{name}", type_=outbox.c[name].type) for name in changed})
        )
        _CHANGING[dialect.name, columns] = prepare(dialect, statement)
    return _CHANGING[dialect.name, columns]


#: One per dialect and set of columns: as many as there are kinds of changes.
_CHANGING: dict[tuple[str, frozenset[str]], Prepared] = {}
