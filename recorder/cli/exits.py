"""The exit codes of commands, and what they mean.

Programs that call us decide by these numbers, so they never change their meaning.
"""

from __future__ import annotations

from typing import TypeVar

from recorder.errors import (
    LeaseHeld,
    LeaseLost,
    LogDamaged,
    RecorderError,
    StorageFailed,
    StorageUnavailable,
)

E = TypeVar("E", bound=BaseException)

OK = 0
DAMAGED = 1
WRONG = 2
STORAGE = 3
OWNED = 4
INTERRUPTED = 130  # 128 + SIGINT, as shells count
UNREAD = 141  # 128 + SIGPIPE

MEANINGS = {
    OK: "done, and all is well",
    DAMAGED: "the log is damaged, or differences were found",
    WRONG: "wrong usage or settings, or the question could not be answered",
    STORAGE: "the database failed, or can't be reached",
    OWNED: "another process owns the account",
    INTERRUPTED: "ended by Ctrl-C",
    UNREAD: "the reader of the output ended before the output did",
}

_CODES: dict[type[RecorderError], int] = {
    LogDamaged: DAMAGED,
    StorageFailed: STORAGE,
    StorageUnavailable: STORAGE,
    LeaseHeld: OWNED,
    LeaseLost: OWNED,
}


def exit_code(error: RecorderError) -> int:
    """Return the code with which a command ends that this error ended."""
    return next((code for kind, code in _CODES.items() if isinstance(error, kind)), WRONG)


def only(kind: type[E], group: BaseExceptionGroup[BaseException]) -> E | None:
    """Return the group's first error of this kind, or None if it holds any other: that is a bug."""
    _, others = group.split(kind)
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found if others is None and isinstance(found, kind) else None
