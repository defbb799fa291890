"""What a session asks of whoever owns its socket: to say, to note, or to give the session up."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

from recorder.errors import SessionLost


@frozen
class Say:
    """Write this text frame; the log gets ``log_text``, which differs only to hide a secret.

    ``repr`` shows ``log_text`` alone, so that a traceback can't print what it hides.
    """

    text: str = field(repr=False)
    log_text: str

    @classmethod
    def plainly(cls, text: str) -> Say:
        """Return the action for a frame that holds no secret."""
        return cls(text, text)


@frozen
class Fact:
    """Note this. ``note`` is the value of a ``log.event.Note``, ``facts`` are JSON values.

    Named by plain text because the log's floor lies above this one.
    """

    note: str
    facts: Mapping[str, object]


@frozen
class Lost:
    """The session is over.

    ``by`` says who ended it (``exchange``, ``network`` or ``recorder``); ``refused`` is true where
    the exchange turned our credentials down, so that trying again soon would only hammer it;
    ``retry_after_s`` is how long it asked us to stay away.
    """

    reason: str
    by: str = "network"
    refused: bool = False
    code: int | None = None
    retry_after_s: float | None = None

    def error(self) -> SessionLost:
        """Return the exception that says the same."""
        return SessionLost(
            self.reason,
            code=self.code,
            by=self.by,
            refused=self.refused,
            retry_after_s=self.retry_after_s,
        )


Action = Say | Fact | Lost
