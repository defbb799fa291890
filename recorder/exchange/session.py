"""One WebSocket session with the account channel, as a state machine without socket and clock.

    opened ──on_open──▶ authenticating ──AUTHENTICATED──▶ snapshot ──complete──▶ live
       │                      │                               │                   │
       └──────────────────────┴───────────── Lost ────────────┴──────▶ dead ◀─────┘

The owner of the socket reports what happens (``on_open``, ``on_frame``, ``on_time``) with the
monotonic time in seconds, and carries out the returned actions in their order. It calls
``on_time`` again when ``next_deadline`` has come. A dead session answers everything with nothing.

**Authenticated.** An open socket proves nothing: VALR upgrades connections that it closes a moment
later. Only AUTHENTICATED counts, and it has to come in time. Other frames before it are tolerated.

**Alive.** Liveness is the age of the PONG, not traffic and not our own PING. A PING goes out every
``ping_interval_s`` whatever happens (VALR closes a socket that is quiet for about 30 s), and as
soon as nothing was received for ``quiet_s``. An unanswered PING ends the session after
``pong_timeout_s`` without any frame; as long as other frames flow it may take up to
``pong_busy_timeout_s``, because a PONG queues behind them. Time in which we did not read is not
held against the exchange (``pause``, ``resume``, ``paused``), and neither is a timer that rings
late: then the frames that prove life may be waiting unread.

**Snapshot.** VALR marks neither the end of the snapshot nor its size. It is taken for complete when
the list of open orders has come, no currency or position was newly named for ``snapshot_quiet_s``,
and after that a PONG has answered a PING of ours with still no new one: frames come in order, so
what was queued before that PING was answered has been read. After ``snapshot_timeout_s`` it is
noted what is there; what is missing then may still arrive, and completes the snapshot when it
does: an account without orders may receive its list only with its next order. An empty list that
never comes is replaced by REST's answer (``on_no_open_orders``). The note states what may be
inferred:

- ``balances``: a currency that was not named is not held. Never true before the list of open
  orders has come, and where none was named at all: an exchange that states no balance has not
  reported that all are zero. Not true either where a frame could not be read: it may have named
  one.
- ``open_orders``: the full list was reported.
- ``complete``: the list came and the naming had ended; a position that was not named is not held,
  unless ``positions`` is there and false, because a frame could not be read.

**Renewed.** Where frames may have been dropped although the connection is up (we slept, or did not
read for long), only a new snapshot reports the state. ``renew`` sends a PING; once its PONG
arrives, what the connection held has been read, and the session ends itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum

from attrs import define, field, frozen

from recorder.exchange.session_actions import (
    Action,
    Fact,
    Lost,
    SendText,
    close_reason,
    handshake_refusal,
)
from recorder.exchange.snapshot import Snapshot

__all__ = [
    "TRANSITIONS",
    "Action",
    "Fact",
    "Lost",
    "SendText",
    "Session",
    "SessionSettings",
    "State",
    "close_reason",
    "handshake_refusal",
]

PING = '{"type":"PING"}'
SUBSCRIBE = '{"type":"SUBSCRIBE","subscriptions":[{"event":"ORDER_STATUS_UPDATE"}]}'
#: A timer this late means that the process stood still, not that the exchange did; the same time
#: is then given to the reader of the socket.
LATE_S = 1.0

#: Seen in clients' code only; none is documented.
_REFUSALS = frozenset({"ERROR", "UNAUTHORIZED", "AUTH_FAILED"})
_NOT_UNDERSTOOD = frozenset({"UNSUPPORTED", "ERROR"})
_NOTHING: Sequence[Action] = ()


class State(StrEnum):
    """Where a session stands."""

    OPENED = "opened"
    AUTHENTICATING = "authenticating"
    SNAPSHOT = "snapshot"
    LIVE = "live"
    DEAD = "dead"


TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.OPENED: frozenset({State.AUTHENTICATING, State.DEAD}),
    State.AUTHENTICATING: frozenset({State.SNAPSHOT, State.DEAD}),
    State.SNAPSHOT: frozenset({State.LIVE, State.DEAD}),
    State.LIVE: frozenset({State.DEAD}),
    State.DEAD: frozenset(),
}


@frozen
class SessionSettings:
    """The session's waiting time, in seconds, and whether to subscribe to ORDER_STATUS_UPDATE."""

    subscribe: bool = True
    auth_timeout_s: float = 10.0
    #: VALR asks for a PING every 30 s.
    ping_interval_s: float = 20.0
    #: Together with ``pong_timeout_s`` the time in which a dead line is found out.
    quiet_s: float = 5.0
    pong_timeout_s: float = 5.0
    pong_busy_timeout_s: float = 30.0
    snapshot_quiet_s: float = 1.0
    snapshot_timeout_s: float = 10.0


@define(eq=False)
class Session:
    """The state of one session; the module's text has the rules.

    All times are seconds of one monotonic clock and must not go back.
    """

    settings: SessionSettings = field(factory=SessionSettings)
    state: State = State.OPENED
    #: Why the session is dead, once it is.
    lost: Lost | None = None

    _now_s: float = field(default=0.0, init=False)
    #: When what the present state waits for began: the opening, or AUTHENTICATED.
    _since_s: float = field(default=0.0, init=False)
    _received_s: float = field(default=0.0, init=False)
    _pause_began_s: float | None = field(default=None, init=False)
    _in_band: bool = field(default=False, init=False)
    _subscribe_open: bool = field(default=False, init=False)

    # PONGs carry no number, but come one for each PING and in order: counting shows which is
    # which.
    _pings: int = field(default=0, init=False)
    _pongs: int = field(default=0, init=False)
    _ping_sent_s: float = field(default=0.0, init=False)
    _unanswered_s: float | None = field(default=None, init=False)

    _snapshot: Snapshot = field(factory=Snapshot, init=False)
    _named_s: float = field(default=0.0, init=False)
    #: The note that the snapshot is late was given.
    _is_late: bool = field(default=False, init=False)
    #: The number of the PING sent since the last new currency, whose PONG proves the end.
    _proof: int | None = field(default=None, init=False)
    #: Why the session is to be renewed, and the PING whose PONG lets it end.
    _renewal: str | None = field(default=None, init=False)
    _renewal_ping: int | None = field(default=None, init=False)

    @property
    def authenticated(self) -> bool:
        """True from AUTHENTICATED until the session is dead."""
        return self.state in (State.SNAPSHOT, State.LIVE)

    @property
    def next_deadline(self) -> float | None:
        """When to call ``on_time`` at the latest; None when nothing is waited for."""
        return min(self._deadlines(), default=None)

    @property
    def is_listed(self) -> bool:
        """True once the open orders were reported."""
        return self.state is State.LIVE or self._snapshot.is_listed

    @property
    def lacks_list(self) -> bool:
        """True while all balances have been named, and no list of open orders arrived.

        The content of an unreadable list is unknown: no fallback replaces that one.
        """
        is_silent = not (self._snapshot.is_listed or self._snapshot.is_list_received)
        return self.state is State.SNAPSHOT and self._has_ended and is_silent

    @property
    def _has_ended(self) -> bool:
        return self._proof is not None and self._pongs >= self._proof

    @property
    def pings(self) -> tuple[int, int]:
        """How many PINGs were sent, and up to which one they are answered."""
        return self._pings, self._pongs

    def on_open(self, now_s: float, authenticate: SendText | None = None) -> list[Action]:
        """Begin. ``authenticate`` is the in-band AUTHENTICATE frame where headers don't do it."""
        self._enter(State.AUTHENTICATING)
        self._now_s = self._since_s = self._received_s = self._named_s = self._ping_sent_s = now_s
        self._in_band = authenticate is not None
        return [authenticate] if authenticate is not None else []

    def on_frame(self, now_s: float, frame_type: str, text: str) -> Sequence[Action]:
        """Take one frame; ``frame_type`` is "" and ``text`` may be "" where it is no JSON."""
        if self.state is State.LIVE and frame_type != "PONG":
            # The hot path: it only proves that the line is alive; what is due, the timer finds.
            self._now_s = self._received_s = now_s
            return _NOTHING
        if self.state is State.DEAD:
            return _NOTHING
        assert self.state is not State.OPENED, "a frame before on_open"
        self._advance(now_s)
        self._received_s = now_s
        actions = self._answer(frame_type, text)
        return [*actions, *self._due()]

    def on_time(self, now_s: float) -> list[Action]:
        """Do what is due by now."""
        if self.state in (State.DEAD, State.OPENED):
            return []
        self._advance(now_s)
        return self._due()

    def on_no_open_orders(self, now_s: float) -> list[Action]:
        """Take the missing list of open orders for an empty one: REST has reported that it is."""
        if not self.lacks_list:
            return []
        self._advance(now_s)
        self._snapshot.is_listed = True
        return [Fact("NO_OPEN_ORDERS", {"answer": "REST"}), *self._due()]

    def end(self, lost: Lost) -> Lost:
        """Make the session dead for a reason found outside: a close, a cut, a stop.

        The first reason stays; it is returned.
        """
        if self.lost is None:
            self.lost = lost
            self._enter(State.DEAD)
        return self.lost

    def pause(self, now_s: float) -> None:
        """Stop reading: until ``resume`` PINGs go out, but no answer counts as late."""
        if self._pause_began_s is None:
            self._pause_began_s = now_s

    def resume(self, now_s: float) -> None:
        """Report that we read again."""
        if self._pause_began_s is not None:
            self.paused(max(0.0, now_s - self._pause_began_s))
            self._pause_began_s = None
            self._cap(now_s)

    def paused(self, seconds: float) -> None:
        """Don't count these seconds, just gone by, for anything that the exchange owes us."""
        self._since_s += seconds
        self._received_s += seconds
        self._named_s += seconds
        if self._unanswered_s is not None:
            self._unanswered_s += seconds

    def renew(self, reason: str) -> None:
        """End as soon as what the line holds has been read; a new snapshot is renewal enough.

        The PING for it is due at once: see ``next_deadline``.
        """
        if (self.state is State.LIVE or self._is_late) and self._renewal is None:
            self._renewal = reason

    # What is waited for

    def _deadlines(self) -> Iterator[float]:
        if self.authenticated:
            yield self._ping_due_s()
        if self._pause_began_s is not None:
            return
        if self._renewal is not None and self._renewal_ping is None:
            yield self._now_s
        if self.state is State.AUTHENTICATING:
            yield self._since_s + self.settings.auth_timeout_s
        if self.authenticated and self._unanswered_s is not None:
            yield self._silent_s(self._unanswered_s)
            yield self._unanswered_s + self.settings.pong_busy_timeout_s
        if self.state is State.SNAPSHOT:
            if not self._is_late:
                yield self._since_s + self.settings.snapshot_timeout_s
            if self._proof is None:
                yield self._named_s + self.settings.snapshot_quiet_s

    def _ping_due_s(self) -> float:
        by_interval = self._ping_sent_s + self.settings.ping_interval_s
        if self._unanswered_s is not None or self._pause_began_s is not None:
            return by_interval
        return min(by_interval, self._received_s + self.settings.quiet_s)

    def _silent_s(self, unanswered_s: float) -> float:
        return max(unanswered_s, self._received_s) + self.settings.pong_timeout_s

    def _advance(self, now_s: float) -> None:
        """Set the time, and forgive what we missed ourselves."""
        deadline = self.next_deadline
        if self._pause_began_s is None and deadline is not None and now_s > deadline + LATE_S:
            self.paused(now_s - deadline + LATE_S)
        self._cap(now_s)
        self._now_s = now_s

    def _cap(self, now_s: float) -> None:
        """Keep forgiveness within what has passed: a PING sent in a long pause began later than
        it.

        Without this a pause of an hour would put the PING's deadline an hour ahead.
        """
        self._since_s = min(self._since_s, now_s)
        self._received_s = min(self._received_s, now_s)
        self._named_s = min(self._named_s, now_s)
        if self._unanswered_s is not None:
            self._unanswered_s = min(self._unanswered_s, now_s)

    # What is due

    def _due(self) -> list[Action]:
        if self._pause_began_s is None:
            lost = self._overdue() or self._renewed()
            if lost is not None:
                return [self.end(lost)]
        actions: list[Action] = []
        if self.state is State.SNAPSHOT and self._pause_began_s is None:
            actions += self._snapshot_due()
        if self._renewal is not None and self._renewal_ping is None:
            actions.append(self._ping())
            self._renewal_ping = self._pings
        elif self.authenticated and self._now_s >= self._ping_due_s():
            actions.append(self._ping())
        return actions

    def _renewed(self) -> Lost | None:
        if self._renewal is None or self._renewal_ping is None or self._pongs < self._renewal_ping:
            return None
        return Lost(f"connecting again for a snapshot: {self._renewal}", by="recorder")

    def _overdue(self) -> Lost | None:
        settings = self.settings
        if self.state is State.AUTHENTICATING:
            if self._now_s >= self._since_s + settings.auth_timeout_s:
                return Lost(f"no AUTHENTICATED within {settings.auth_timeout_s:g} s", by="exchange")
        elif self.authenticated and self._unanswered_s is not None:
            if self._now_s >= self._silent_s(self._unanswered_s):
                return Lost(f"no PONG and no frame for {settings.pong_timeout_s:g} s", by="network")
            if self._now_s >= self._unanswered_s + settings.pong_busy_timeout_s:
                return Lost(f"no PONG within {settings.pong_busy_timeout_s:g} s", by="network")
        return None

    def _ping(self) -> SendText:
        self._pings += 1
        self._ping_sent_s = self._now_s
        if self._unanswered_s is None:
            self._unanswered_s = self._now_s
        return SendText.of(PING)

    # What frames report

    def _answer(self, frame_type: str, text: str) -> list[Action]:
        if self.state is not State.LIVE and self._snapshot.take(frame_type, text):
            self._named_s = self._now_s
            self._proof = None
        if frame_type == "PONG":
            # A PONG without a PING must not count for a later PING.
            self._pongs = min(self._pongs + 1, self._pings)
            self._unanswered_s = None
        elif self.state is State.AUTHENTICATING:
            return self._answer_authentication(frame_type)
        elif self._subscribe_open:
            return self._answer_subscription(frame_type)
        return []

    def _answer_authentication(self, frame_type: str) -> list[Action]:
        if frame_type in _REFUSALS or (self._in_band and frame_type == "UNSUPPORTED"):
            # The frame's own words stand in the log; they are not repeated here, because an
            # exchange might quote our key in them.
            reason = f"the exchange answered {frame_type} instead of AUTHENTICATED"
            return [self.end(Lost(reason, by="exchange", refused=True))]
        if frame_type != "AUTHENTICATED":
            return []
        self._enter(State.SNAPSHOT)
        self._since_s = self._named_s = self._ping_sent_s = self._now_s
        self._subscribe_open = self.settings.subscribe
        actions: list[Action] = [Fact("CONNECTION_AUTHENTICATED", {})]
        if self.settings.subscribe:
            actions.append(SendText.of(SUBSCRIBE))
        return actions

    def _answer_subscription(self, frame_type: str) -> list[Action]:
        if frame_type == "SUBSCRIBED":
            self._subscribe_open = False
        if frame_type not in _NOT_UNDERSTOOD:
            return []
        self._subscribe_open = False
        return [Fact("SUBSCRIBE_REFUSED", {"answer": frame_type})]

    # The snapshot

    def _snapshot_due(self) -> list[Action]:
        is_late = self._now_s >= self._since_s + self.settings.snapshot_timeout_s
        if (
            self._has_ended
            and self._snapshot.is_listed
            and (self._snapshot.has_balances or is_late)
        ):
            return [self._close_snapshot()]
        if is_late and not self._is_late:
            self._is_late = True
            return [Fact("SNAPSHOT_COMPLETE", self._snapshot.facts(ended=False))]
        if self._proof is None and self._now_s >= self._named_s + self.settings.snapshot_quiet_s:
            ping = self._ping()
            self._proof = self._pings
            return [ping]
        return []

    def _close_snapshot(self) -> Fact:
        self._enter(State.LIVE)
        self._subscribe_open = False
        facts, self._snapshot = self._snapshot.facts(ended=True), Snapshot()
        return Fact("SNAPSHOT_COMPLETE", facts)

    def _enter(self, state: State) -> None:
        assert state in TRANSITIONS[self.state], f"{self.state} can't become {state}"
        self.state = state
