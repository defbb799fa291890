"""What a person should receive of a group of errors."""

from __future__ import annotations

from typing import TypeVar

E = TypeVar("E", bound=BaseException)


def only(kind: type[E], group: BaseExceptionGroup[BaseException]) -> E | None:
    """Return the group's first error of this kind, or None if it holds any other: that is a bug."""
    _, others = group.split(kind)
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found if others is None and isinstance(found, kind) else None
