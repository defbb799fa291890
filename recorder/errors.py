"""Every error this package raises on purpose, named by what the catcher does about it.

The tree is closed: foreign exceptions are translated into one of these at the one place that
talks to the foreign library, always with ``from``, so that the original stays readable.
What can't be understood in a frame is never an exception; it is a value (`Unrecognised`).
"""

from __future__ import annotations


class RecorderError(Exception):
    """Root of the tree. Never raised itself.

    Its text is written for the person who reads it in a terminal: what was wrong, where, and
    what to do. It never holds a secret.
    """


class ConfigurationError(RecorderError):
    """The settings can't be used. Reaction: print it, exit 2."""


class SchemaMismatch(RecorderError):
    """The database's schema is older or newer than this program. Reaction: print it, exit 2."""


class StorageUnavailable(RecorderError):
    """The database did not take a unit of work now, but may later. Reaction: keep and retry.

    After it the unit's effect is unknown only where the message states that; a unit that failed
    before its COMMIT was sent has left nothing behind.
    """


class CommitUncertain(StorageUnavailable):
    """The connection broke while COMMIT was under way. Reaction: look before retrying.

    The unit may or may not be durable. The caller reads the head again and compares.
    """


class RowRefused(RecorderError):
    """The database can't hold a row that a fold made. Reaction: fold event by event.

    Never leaves the projectors: only the event that made the row fails.
    """


class StorageFailed(RecorderError):
    """The database will not take this unit until a person acts (disk full, read-only, …).

    Reaction: report it with the number of events not written, exit 3.
    """


class LeaseHeld(RecorderError):
    """Another live process owns the account. Reaction: print who, exit 4 (or wait)."""


class LeaseLost(RecorderError):
    """Another process owns the account now. Reaction: stop sending and appending, exit 4."""


class CheckpointNotWritten(RecorderError):
    """A sink outside the database did not take a head. Reaction: report it, try again later."""


class LogDamaged(RecorderError):
    """The log contradicts itself. Reaction: exit 1; never repaired silently."""


class ExportDamaged(LogDamaged):
    """An exported log contradicts itself, or its manifest. Reaction: exit 1; nothing is imported.

    ``account`` and ``position`` are of the first event that is wrong or missing, None where what is
    wrong belongs to none; ``what`` describes it.
    """

    def __init__(self, account: str | None, position: int | None, what: str) -> None:
        where = "" if account is None else f"account {account!r}, position {position}: "
        super().__init__(f"the export is damaged: {where}{what}")
        self.account = account
        self.position = position
        self.what = what


class FilesFailed(RecorderError):
    """A file of an export can't be written or read. Reaction: print it, exit 2."""


class SessionLost(RecorderError):
    """One WebSocket session ended. Reaction: note it, back off, connect again.

    ``reason`` is a short phrase, ``code`` the close code if there is one, ``by`` names who
    ended it (``exchange``, ``network`` or ``recorder``), and ``refused`` is true when the
    exchange turned our credentials down rather than the network failing. ``unread`` are the last
    bytes from the network where no message could be made of them.
    """

    def __init__(
        self,
        reason: str,
        *,
        code: int | None = None,
        by: str = "network",
        refused: bool = False,
        retry_after_s: float | None = None,
        unread: bytes = b"",
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code
        self.by = by
        self.refused = refused
        self.retry_after_s = retry_after_s
        self.unread = unread


class Refused(RecorderError):
    """A command may not be sent; ``rule`` names the rule. Reaction: stored on the row."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


def worst_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error of ours that the operator must see; the group itself if it holds a bug."""
    ours, others = group.split(RecorderError)
    if others is not None or ours is None:
        return group
    leaves = _leaves(ours)
    for kind in (StorageFailed, LogDamaged, LeaseLost, LeaseHeld):
        for error in leaves:
            if isinstance(error, kind):
                return error
    return leaves[0]


def _leaves(group: BaseExceptionGroup[RecorderError]) -> list[RecorderError]:
    found: list[RecorderError] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
