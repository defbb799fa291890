"""Tracks one WebSocket session: what it has received, and what is not confirmed yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import trio
from attrs import define, field, frozen

from recorder.exchange.session import Session
from recorder.exchange.session_actions import SendText
from recorder.outbox.tasks.send_queue import Dispatch
from recorder.timestamps import from_us


@frozen
class Credentials:
    """How one session introduces itself: made afresh for each, because it holds the time."""

    headers: Sequence[tuple[str, str]]
    #: The AUTHENTICATE frame, where the handshake's headers don't do it.
    authenticate: SendText | None


@frozen
class UnconfirmedSpan:
    """A pause in reading: what is read now may have waited on a connection that has ended since.

    The last frame before the pause is the last moment known to be good, until the PING of this
    number, sent after it, is answered: then nothing that was on the way is missing. A further
    pause opens a span of its own if a PING was sent in between: a log that is slow again and again
    leaves no more uncertain than what was received since the last answered PING.
    """

    last_frame_us: int | None
    last_frame_ns: int | None
    proof: int


@define(eq=False)
class ActiveSession:
    """One session under way."""

    connection_id: str
    session: Session
    #: What waits for the sending side: PINGs, and commands on their way out.
    outbound: trio.MemorySendChannel[SendText | Dispatch] = field(init=False)
    opened_ns: int = 0
    frames: int = 0
    #: For how long in all it was not read because the log was full.
    not_read_s: float = 0.0
    last_frame_us: int | None = None
    last_frame_ns: int | None = None
    authenticated_ns: int | None = None
    is_open: bool = False
    alarm: trio.CancelScope = field(factory=trio.CancelScope)
    #: Why a new snapshot is wanted, until the connection is left for it.
    renewal: str | None = None
    is_wrong_clock_logged: bool = False
    #: Oldest first; a later one has a later proof.
    unconfirmed: list[UnconfirmedSpan] = field(factory=list)

    def end_facts(self) -> Mapping[str, object]:
        """Return what a note on its end reports of what was end_facts."""
        reported: dict[str, object] = {
            "frames": self.frames,
            "not_read_s": round(self.not_read_s, 6),
            "last_frame_at": _time(self.last_frame_us),
        }
        return reported | {"certain_at": self.certain_at} if self.unconfirmed else reported

    def authenticated_s(self, now_ns: int) -> float | None:
        """For how long it has been authenticated; None if it never was."""
        began_ns = self.authenticated_ns
        return None if began_ns is None else (now_ns - began_ns) / 1e9

    def mark_unconfirmed(self) -> None:
        """Note a pause in reading, before what is read next is counted."""
        sent, _ = self.session.pings
        if not self.unconfirmed or self.unconfirmed[-1].proof <= sent:
            self.unconfirmed.append(
                UnconfirmedSpan(self.last_frame_us, self.last_frame_ns, sent + 1)
            )

    def confirm(self) -> None:
        """End the unconfirmed for which this PONG is the proof."""
        if self.unconfirmed:
            _, answered = self.session.pings
            self.unconfirmed = [doubt for doubt in self.unconfirmed if doubt.proof > answered]

    @property
    def certain_ns(self) -> int | None:
        """The last moment known to be good, on the monotonic clock."""
        return self._certain.last_frame_ns

    @property
    def certain_at(self) -> str | None:
        """The same on the wall's."""
        return _time(self._certain.last_frame_us)

    @property
    def _certain(self) -> UnconfirmedSpan | ActiveSession:
        return self.unconfirmed[0] if self.unconfirmed else self


def _time(wall_us: int | None) -> str | None:
    return None if wall_us is None else from_us(wall_us).isoformat()
