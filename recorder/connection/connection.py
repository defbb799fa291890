"""Holds one account's WebSocket: one session after the other, until cancelled.

A session is three tasks in one nursery. It ends when one of them ends:

- *receive* stamps each frame, puts it into the inbox and shows it to the `Session`; nothing else.
  While the inbox is full it does not read: the kernel's buffer and TCP hold the rest.
- *keep time* calls the `Session` at its next deadline (PING, PONG overdue, snapshot).
- *send* owns the writing side. It puts a ``sent`` event into the inbox before it writes, so an
  answer is never logged before its request. A command's claim and its ``sent`` event are one
  transaction, durable before the first byte goes out.

The `Session` decides, this module acts. The last event of a session is a note of how it ended.
"""

from __future__ import annotations

import base64
import logging
import math
import random
import re
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial

import trio
from attrs import define, field
from trio_websocket import ConnectionClosed

from recorder.clock import Clock
from recorder.config import AccountSettings
from recorder.connection.observation import (
    LOOK_S,
    ActiveSession,
    Credentials,
    ObservationTracker,
    skew_text,
)
from recorder.connection.open_orders_fallback import OpenOrdersFallback
from recorder.connection.socket import OpenStream, run_on_socket, session_lost
from recorder.connection.wire import Message, Wire
from recorder.errors import SessionLost
from recorder.exchange.frames import frame_type
from recorder.exchange.pacing import ConnectPacing
from recorder.exchange.session import Session, SessionSettings
from recorder.exchange.session_actions import Action, Fact, Lost, SendText, masked
from recorder.log.rules.event import Draft, Note, Origin, noted, storable_payload
from recorder.log.tasks.inbox import Inbox, Submission
from recorder.outbox.sql.dispatch import ClaimedCommand
from recorder.outbox.tasks.send_queue import (
    WAITING_MAX,
    Claiming,
    Dispatch,
    SendQueue,
    claim_facts,
    mark_all_sent,
)

log = logging.getLogger("recorder.connection")

#: Not reading for longer than this is a fault worth an event of its own.
PAUSE_NOTED_S = 1.0
_RECEIVED = Origin.RECEIVED.value
#: TCP holds what arrives while we do not read, but VALR may stop writing: after a pause of this
#: length a new snapshot is needed.
PAUSE_UNOBSERVED_S = 10.0
#: VALR publishes no limit for a wrong clock; one that is wrong by this much is surely refused.
SKEW_REFUSED_S = 30.0
RENEWAL_TRIED_EVERY_S = 5.0
#: The parts of a refusal that differ each time: a clock's error, a time, an id.
_PASSING = re.compile(r"\d+\.\d+|\d{5,}")


@define(eq=False)
class ConnectionHolder:
    """One account's connection."""

    account: AccountSettings
    url: str
    max_frame_bytes: int
    #: Makes the credentials of one connection from the time in milliseconds since 1970.
    introduce: Callable[[int], Credentials]
    session_settings: SessionSettings
    clock: Clock
    rng: random.Random
    open_stream: OpenStream
    #: Returns the exchange's time in microseconds since 1970; None if it is not available.
    exchange_time_us: Callable[[], Awaitable[int | None]]
    inbox: Inbox
    send_queue: SendQueue
    #: Our own secrets, which no text of the exchange may repeat into the log.
    hidden: Callable[[], tuple[str, ...]] = field(repr=False)
    observation: ObservationTracker
    open_orders_fallback: OpenOrdersFallback
    pacing: ConnectPacing = field(factory=ConnectPacing)
    _refusal_reported: str | None = None
    _active: ActiveSession | None = None

    async def run(self) -> None:
        """Connect, and connect again, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_clocks)
            nursery.start_soon(self._watch_ourselves)
            await self._keep_connected()

    async def _keep_connected(self) -> None:
        pacing = self.pacing
        while True:
            wait_s, pacing = pacing.next_attempt(self._now_s(), self.rng.random())
            if wait_s > 1:
                log.info("%s: connecting again in %.1f s", self.account.name, wait_s)
            await trio.sleep(wait_s)
            active, lost = await self._hold_session()
            pacing = pacing.ended(
                self._now_s(),
                authenticated_s=active.authenticated_s(self.clock.monotonic_ns()),
                refused=lost.refused,
                retry_after_s=lost.retry_after_s,
            )

    async def _hold_session(self) -> tuple[ActiveSession, SessionLost]:
        credentials = self.introduce(self.clock.wall_us() // 1_000)
        connection_id = f"{self.rng.getrandbits(64):016x}"
        active = self._active = ActiveSession(connection_id, Session(self.session_settings))
        lost = SessionLost("the recorder stopped", by="recorder")
        try:
            await run_on_socket(
                self.url,
                credentials.headers,
                partial(self._converse, active, credentials.authenticate),
                open_stream=self.open_stream,
                max_message_bytes=self.max_frame_bytes,
                hidden=self.hidden(),
            )
        except SessionLost as error:
            lost = error
            skew_s = await self._skew_s() if error.refused else None
            self._report(active, lost, skew_s)
            self._note_end(active, lost, skew_s)
        except BaseException:
            self._note_end(active, lost, None)
            raise
        finally:
            self._active = None
        return active, lost

    async def _converse(
        self, active: ActiveSession, authenticate: SendText | None, wire: Wire
    ) -> None:
        active.opened_ns = self.clock.monotonic_ns()
        active.is_open = True
        self._note(active, Note.CONNECTION_OPENED, {"url": self.url})
        active.outbound, waiting = trio.open_memory_channel[SendText | Dispatch](WAITING_MAX)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send, active, wire, waiting)
                self._act(active, active.session.on_open(self._now_s(), authenticate))
                nursery.start_soon(self._keep_time, active)
                act = partial(self._act, active)
                nursery.start_soon(self.open_orders_fallback.run_for, active.session, act)
                await self._receive(active, wire)
        finally:
            self.send_queue.close()

    async def _receive(self, active: ActiveSession, wire: Wire) -> None:
        result: deque[Message] = deque()
        try:
            while True:
                result += await wire.messages()
                await self._take_in(active, result)
        except ConnectionClosed as error:
            raise self._closed(active, error) from error
        finally:
            # What was read before the end belongs into the log.
            if rest := [*result, *wire.leave()]:
                read_at = self._look_at_time(active)
                for message in rest:
                    self._put(active, message, *read_at)

    async def _take_in(self, active: ActiveSession, result: deque[Message]) -> None:
        """Put what came into the inbox, piece by piece, and show it to the session."""
        inbox, session = self.inbox, active.session
        wall_us, now_ns = self._look_at_time(active)
        now_s = now_ns / 1e9
        while result:
            if inbox.is_full:
                await self._pause(active)
                now_s = self._now_s()
            kind, payload = self._put(active, result.popleft(), wall_us, now_ns)
            actions = session.on_frame(now_s, kind, payload)
            if kind == "PONG":
                active.confirm()
            if actions:
                self._act(active, actions)

    def _look_at_time(self, active: ActiveSession) -> tuple[int, int]:
        """Return the time on both clocks for what was read just now."""
        wall_us, now_ns = self.clock.wall_us(), self.clock.monotonic_ns()
        self._stir(active, now_ns)
        if self.observation.seems_jumped(wall_us, now_ns):
            self._look_at_clocks()
        return wall_us, now_ns

    def _put(
        self, active: ActiveSession, message: Message, wall_us: int, now_ns: int
    ) -> tuple[str, str]:
        """Put a message into the inbox; return its type and text."""
        payload, encoding = storable_payload(message)
        kind = frame_type(payload) if encoding == "text" else ""
        name, elapsed_ns = self.account.name, now_ns - active.opened_ns
        self.inbox.put(
            Draft(
                name, wall_us, elapsed_ns, active.connection_id, _RECEIVED, kind, payload, encoding
            )
        )
        active.frames += 1
        active.last_frame_us, active.last_frame_ns = wall_us, now_ns
        return kind, payload

    async def _pause(self, active: ActiveSession) -> None:
        """Stop reading until the log has room; note how long that was."""
        began_ns = self.clock.monotonic_ns()
        active.session.pause(began_ns / 1e9)
        await self.inbox.wait_room()
        paused_s = (self.clock.monotonic_ns() - began_ns) / 1e9
        active.not_read_s += paused_s
        active.session.resume(self._now_s())
        if paused_s >= PAUSE_NOTED_S:
            self._note_pause(active, round(paused_s, 3), "the log was full")

    def _stir(self, active: ActiveSession | None, now_ns: int) -> None:
        """Note it when the whole process stood still, before anything that waited is counted."""
        still_s = self.observation.stir(now_ns)
        if still_s and active is not None and active.is_open:
            self._note_pause(active, round(still_s, 3), "the process stood still")

    def _note_pause(self, active: ActiveSession, paused_s: float, why: str) -> None:
        log.warning("%s: did not read for %.1f s: %s", self.account.name, paused_s, why)
        active.mark_unconfirmed()
        is_unobserved = paused_s >= PAUSE_UNOBSERVED_S
        facts = {"seconds": paused_s, "unobserved": is_unobserved, "why": why}
        self._note(active, Note.READING_PAUSED, {**facts, "last_frame_at": active.certain_at})
        if is_unobserved:
            self.observation.lose(active.certain_ns)
            active.session.renew(f"it was not read for {paused_s:.1f} s")
            self._set_alarm(active)

    async def _watch_ourselves(self) -> None:
        while True:
            await trio.sleep(LOOK_S)
            self._stir(self._active, self.clock.monotonic_ns())

    async def _watch_clocks(self) -> None:
        while True:
            await trio.sleep(LOOK_S)
            self._look_at_clocks()
            active = self._active
            if active is not None and active.renewal is not None:
                await self._renew_if_let_in(active, active.renewal)

    async def _renew_if_let_in(self, active: ActiveSession, why: str) -> None:
        """Reconnect for a snapshot, unless our clock is so wrong that we would be refused.

        Then the present connection is kept: the gap stays open until the clock is right.
        """
        skew_s = await self._skew_s()
        if skew_s is not None and abs(skew_s) >= SKEW_REFUSED_S:
            if not active.is_wrong_clock_logged:
                active.is_wrong_clock_logged = True
                text = "%s: keeping the connection, because a new one would be refused%s"
                log.error(text, self.account.name, skew_text(skew_s))
            await trio.sleep(RENEWAL_TRIED_EVERY_S)
            return
        active.renewal = None
        active.session.renew(why)
        self._set_alarm(active)

    def _look_at_clocks(self) -> None:
        """Note a jump of the wall clock, before any frame that was received after it."""
        ahead_s, active = self.observation.look(), self._active
        if not ahead_s:
            return
        name, way = self.account.name, "further" if ahead_s > 0 else "less"
        why = f"the clock on the wall went {abs(ahead_s):.1f} s {way} than the monotonic one"
        log.warning("%s: %s: the machine slept, or its clock was set", name, why)
        self.observation.lose(active.certain_ns if active else None)
        facts: dict[str, object] = {
            "ahead_s": round(ahead_s, 6),
            "last_frame_at": active.certain_at if active else None,
            "unobserved_s": round(self.observation.unobserved_s, 6),
        }
        self._note(active, Note.CLOCK_JUMPED, facts)
        if active is not None:
            active.renewal = why

    async def _keep_time(self, active: ActiveSession) -> None:
        while True:
            with trio.CancelScope() as active.alarm:
                self._set_alarm(active)
                await trio.sleep_forever()
            self._act(active, active.session.on_time(self._now_s()))

    def _set_alarm(self, active: ActiveSession) -> None:
        due_s = active.session.next_deadline
        wait_s = math.inf if due_s is None else due_s - self._now_s()
        active.alarm.deadline = trio.current_time() + wait_s

    def _act(self, active: ActiveSession, actions: Iterable[Action]) -> None:
        """Do what the session decided. Never waits."""
        for action in actions:
            match action:
                case SendText():
                    try:
                        active.outbound.send_nowait(action)
                    except trio.WouldBlock:
                        raise SessionLost("the exchange reads nothing any more") from None
                case Fact(note, facts):
                    if note == Note.SNAPSHOT_COMPLETE and facts["complete"]:
                        facts = {**facts, "unobserved_s": round(self.observation.regain(), 6)}
                    self._note(active, Note(note), facts)
                    if note == Note.CONNECTION_AUTHENTICATED:
                        self._authenticated(active)
                case Lost():
                    raise action.error()
        self._set_alarm(active)

    def _authenticated(self, active: ActiveSession) -> None:
        active.authenticated_ns = self.clock.monotonic_ns()
        self._refusal_reported = None
        log.info("%s: connected and authenticated", self.account.name)
        self.send_queue.open(active.outbound.clone())

    async def _send(
        self,
        active: ActiveSession,
        wire: Wire,
        waiting: trio.MemoryReceiveChannel[SendText | Dispatch],
    ) -> None:
        with waiting:
            async for item in waiting:
                try:
                    if isinstance(item, Dispatch):
                        await self._send_commands(active, wire, item)
                    else:
                        self.inbox.put(self._sent(active, item.log_text))
                        await wire.send_message(item.text)
                except ConnectionClosed as error:
                    raise self._closed(active, error) from error

    async def _send_commands(self, active: ActiveSession, wire: Wire, dispatch: Dispatch) -> None:
        """Claim what may go, with its ``sent`` events, and send it once that is durable."""
        claiming = Claiming(
            dispatch, self.account.name, active.connection_id, partial(self._claim_drafts, active)
        )
        submission = Submission(
            decide=claiming.decide, record=claiming.record, is_plain=dispatch.is_plain
        )
        written: list[tuple[ClaimedCommand, int]] = []
        try:
            self.inbox.put(submission)
            await submission.committed.wait()
            dispatch.is_committed = True
            # Of a claim's two events the second one is what was sent.
            positions = (submission.outcome or ())[1::2]
            for number, taken in enumerate(claiming.taken):
                # Asleep since the claim, or cut off: the account may be another's by now, or the
                # command's time over.
                if not dispatch.may_go(taken):
                    self._note(active, Note.SEND_FAILED, claim_facts(taken))
                    continue
                try:
                    await wire.send_message(taken.text)
                except ConnectionClosed:
                    for unsent in claiming.taken[number:]:
                        self._note(active, Note.SEND_FAILED, claim_facts(unsent))
                    raise
                written.append((taken, positions[number]))
        finally:
            if written:
                self.inbox.put(mark_all_sent(dispatch, written))
            dispatch.done.set()

    def _claim_drafts(self, active: ActiveSession, taken: ClaimedCommand) -> list[Draft]:
        return [
            self._noted(active, Note.COMMAND_CLAIMED, claim_facts(taken)),
            self._sent(active, taken.text),
        ]

    def _closed(self, active: ActiveSession, error: ConnectionClosed) -> SessionLost:
        is_in = active.authenticated_ns is not None
        return session_lost(error, self.max_frame_bytes, authenticated=is_in, hidden=self.hidden())

    def _report(self, active: ActiveSession, lost: SessionLost, skew_s: float | None) -> None:
        if not lost.refused:
            what = "connection lost" if active.is_open else "not connected"
            log.warning("%s: %s: %s", self.account.name, what, lost.reason)
            return
        text = f"the exchange refused the credentials: {lost.reason}{skew_text(skew_s)}"
        if (answer := _PASSING.sub("#", text)) != self._refusal_reported:
            self._refusal_reported = answer
            log.error("%s: %s. Trying again at long intervals.", self.account.name, text)

    def _note_end(self, active: ActiveSession, lost: SessionLost, skew_s: float | None) -> None:
        self.observation.lose(active.certain_ns)
        ending = {"reason": lost.reason, "code": lost.code, "by": lost.by}
        facts: dict[str, object] = {**ending, **active.end_facts()}
        if lost.unread:
            unread = masked(lost.unread, self.hidden())
            facts["unread_base64"] = base64.b64encode(unread).decode("ascii")
        if skew_s is not None:
            facts["clock_ahead_s"] = round(skew_s, 3)
        note = Note.CONNECTION_CLOSED if active.is_open else Note.CONNECTION_FAILED
        self._note(active, Note.CONNECTION_REFUSED if lost.refused else note, facts)

    def _note(self, active: ActiveSession | None, note: Note, facts: Mapping[str, object]) -> None:
        self.inbox.put(self._noted(active, note, facts))

    def _noted(
        self, active: ActiveSession | None, note: Note, facts: Mapping[str, object]
    ) -> Draft:
        return noted(
            self.account.name,
            self.clock.wall_us(),
            note,
            facts,
            connection_id=active.connection_id if active else None,
            elapsed_ns=self._elapsed_ns(active) if active else None,
        )

    def _sent(self, active: ActiveSession, text: str) -> Draft:
        return Draft(
            self.account.name,
            self.clock.wall_us(),
            self._elapsed_ns(active),
            active.connection_id,
            Origin.SENT.value,
            frame_type(text),
            text,
        )

    def _elapsed_ns(self, active: ActiveSession) -> int | None:
        return self.clock.monotonic_ns() - active.opened_ns if active.is_open else None

    def _now_s(self) -> float:
        return self.clock.monotonic_ns() / 1e9

    async def _skew_s(self) -> float | None:
        """Return how far our clock is ahead of the exchange's; None if that is not known."""
        theirs_us = await self.exchange_time_us()
        return None if theirs_us is None else (self.clock.wall_us() - theirs_us) / 1e6
