"""Reads query strings as VALR takes them: page, window of time, cursor, filters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import TypeVar

from attrs import frozen

LIMIT_MAX = 100

Row = TypeVar("Row")


class BadQuery(Exception):
    """A query that can't be answered. Its text names the parameter."""


@frozen
class Query:
    """The parameters of one request."""

    given: Mapping[str, str]

    def page(self, rows: Iterable[Row], at: Callable[[Row], datetime]) -> list[Row]:
        """Return the rows of the asked page and window. They come newest first, and stay so.

        Both ends of the window belong to it.
        """
        since, until = self._time("startTime"), self._time("endTime")
        skip, limit = self._whole("skip", 0, None), self._whole("limit", LIMIT_MAX, LIMIT_MAX)
        inside = [
            row
            for row in rows
            if (since is None or at(row) >= since) and (until is None or at(row) <= until)
        ]
        return inside[skip : skip + limit]

    def before(self, rows: list[Row], row_id: Callable[[Row], str]) -> list[Row]:
        """Return the rows after the one that ``beforeId`` names, exclusive; all if there is none.

        An id that isn't there is refused: an empty page would look like the end.
        """
        cursor = self.given.get("beforeId")
        if cursor is None:
            return rows
        ids = [row_id(row) for row in rows]
        if cursor not in ids:
            raise BadQuery("beforeId: no such id")
        return rows[ids.index(cursor) + 1 :]

    def words(self, name: str) -> set[str] | None:
        """Return the words of a list with commas, None if it isn't given."""
        given = self.given.get(name)
        return None if given is None else {each.strip().upper() for each in given.split(",")}

    def flag(self, name: str) -> bool:
        """Return a flag, false unless given."""
        return self.given.get(name, "false").lower() == "true"

    def _whole(self, name: str, default: int, most: int | None) -> int:
        given = self.given.get(name)
        if given is None:
            return default
        if not (given.isascii() and given.isdigit()) or len(given) > 9:
            raise BadQuery(f"{name}: must be a whole number")
        if most is not None and int(given) > most:
            raise BadQuery(f"{name}: must be at most {most}")
        return int(given)

    def _time(self, name: str) -> datetime | None:
        given = self.given.get(name)
        if given is None:
            return None
        try:
            moment = datetime.fromisoformat(given)
        except ValueError:
            raise BadQuery(f"{name}: must be a time like 2025-01-31T23:59:59.999Z") from None
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
