"""Holds one account's WebSocket: one session after the other, for ever.

A session is three tasks in one nursery, and ends when any of them does:

- *receive* stamps each frame, hands it to the inbox and shows it to the `Session`; nothing else.
  While the inbox is full it doesn't read: the kernel's buffer and TCP hold the rest.
- *keep time* tells the `Session` when its deadline has come (PING, PONG overdue, snapshot).
- *send* owns the writing side. What it writes goes into the inbox as a ``sent`` event first, so an
  answer never stands above its question. A command's claim and its ``sent`` event are one
  transaction, durable before the first byte goes out.

The `Session` decides, this module acts. However a session ends, the last thing it puts into the
inbox is the noted fact of it; whoever folds the log learns there what became doubtful.
"""

from __future__ import annotations

import base64
import logging
import math
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import trio
from attrs import define, field
from trio_websocket import ConnectionClosed

from recorder.config import AccountSettings
from recorder.connection.active_session import Credentials, Live, Surroundings
from recorder.connection.exchange_time import skew_text
from recorder.connection.observation import LOOK_S, Sight
from recorder.connection.open_orders_fallback import MissingList
from recorder.connection.socket import run_on_socket
from recorder.connection.wire import Message, Wire
from recorder.errors import SessionLost
from recorder.exchange.close_reasons import close_reason, masked
from recorder.exchange.frames import frame_type
from recorder.exchange.pacing import ConnectPacing
from recorder.exchange.session import Session, SessionSettings
from recorder.exchange.session_actions import Action, Fact, Lost, Say
from recorder.log.rules.event import Draft, Note, Origin, noted, storable_payload
from recorder.log.tasks.inbox import Inbox, Submission
from recorder.outbox.sql.dispatch import Taken
from recorder.outbox.tasks.claiming import Claiming, all_written, claim_facts
from recorder.outbox.tasks.send_queue import WAITING_MAX, Dispatch, Link

log = logging.getLogger("recorder.connection")

#: Not reading for longer than this is a fault worth an event of its own.
PAUSE_NOTED_S = 1.0
_RECEIVED = Origin.RECEIVED.value
#: TCP holds what comes while we don't read, and nobody knows for how long VALR goes on writing to
#: somebody who doesn't: behind a pause of this length a new snapshot is wanted.
PAUSE_BLIND_S = 10.0

#: Nobody knows how wrong a clock may be that VALR signs in; by this much it surely isn't let in.
SKEW_REFUSED_S = 30.0
RENEWAL_TRIED_EVERY_S = 5.0
#: What differs each time though the same is said: by how much a clock is wrong, a time, an id.
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
    around: Surroundings
    inbox: Inbox
    link: Link
    #: Our own secrets, which no text of the exchange may repeat into the log.
    hidden: Callable[[], tuple[str, ...]] = field(repr=False)
    sight: Sight
    missing_list: MissingList
    pacing: ConnectPacing = field(factory=ConnectPacing)
    _refusal_said: str | None = None
    _live: Live | None = None

    async def run(self) -> None:
        """Connect, and connect again, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_clocks)
            nursery.start_soon(self._watch_ourselves)
            await self._keep_connected()

    async def _keep_connected(self) -> None:
        pacing = self.pacing
        while True:
            wait_s, pacing = pacing.next_attempt(self._now_s(), self.around.dice.random())
            if wait_s > 1:
                log.info("%s: connecting again in %.1f s", self.account.name, wait_s)
            await trio.sleep(wait_s)
            live, lost = await self._hold_session()
            pacing = pacing.ended(
                self._now_s(),
                authenticated_s=live.authenticated_s(self.around.clock.monotonic_ns()),
                refused=lost.refused,
                retry_after_s=lost.retry_after_s,
            )

    async def _hold_session(self) -> tuple[Live, SessionLost]:
        credentials = self.introduce(self.around.clock.wall_us() // 1_000)
        connection_id = f"{self.around.dice.getrandbits(64):016x}"
        live = self._live = Live(connection_id, Session(self.session_settings))
        lost = SessionLost("the recorder stopped", by="recorder")
        try:
            await run_on_socket(
                self.url,
                credentials.headers,
                partial(self._converse, live, credentials.authenticate),
                open_stream=self.around.open_stream,
                max_message_bytes=self.max_frame_bytes,
                hidden=self.hidden(),
            )
        except SessionLost as error:
            lost = error
            skew_s = await self.around.skew_s() if error.refused else None
            self._say(live, lost, skew_s)
            self._note_end(live, lost, skew_s)
        except BaseException:
            self._note_end(live, lost, None)
            raise
        finally:
            self._live = None
        return live, lost

    async def _converse(self, live: Live, authenticate: Say | None, wire: Wire) -> None:
        live.opened_ns = self.around.clock.monotonic_ns()
        live.is_open = True
        self._note(live, Note.CONNECTION_OPENED, {"url": self.url})
        outbound, waiting = trio.open_memory_channel[Say | Dispatch](WAITING_MAX)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send, live, wire, waiting)
                self._act(live, outbound, live.session.on_open(self._now_s(), authenticate))
                nursery.start_soon(self._keep_time, live, outbound)
                act = partial(self._act, live, outbound)
                nursery.start_soon(self.missing_list.make_up_for, live.session, act)
                await self._receive(live, wire, outbound)
        finally:
            self.link.close()

    async def _receive(
        self,
        live: Live,
        wire: Wire,
        outbound: trio.MemorySendChannel[Say | Dispatch],
    ) -> None:
        came: deque[Message] = deque()
        try:
            while True:
                came += await wire.messages()
                await self._take_in(live, came, outbound)
        except ConnectionClosed as error:
            raise self._closed(live, error) from error
        finally:
            # What was read before the end belongs into the log, whatever ended it.
            if rest := [*came, *wire.leave()]:
                read_at = self._look_at_time(live)
                for message in rest:
                    self._put(live, message, *read_at)

    async def _take_in(
        self, live: Live, came: deque[Message], outbound: trio.MemorySendChannel[Say | Dispatch]
    ) -> None:
        """Put what came into the inbox, piece by piece, and show it to the session."""
        inbox, session = self.inbox, live.session
        wall_us, now_ns = self._look_at_time(live)
        now_s = now_ns / 1e9
        while came:
            if inbox.is_full:
                await self._pause(live)
                now_s = self._now_s()
            kind, payload = self._put(live, came.popleft(), wall_us, now_ns)
            actions = session.on_frame(now_s, kind, payload)
            if kind == "PONG":
                live.heard_pong()
            if actions:
                self._act(live, outbound, actions)

    def _look_at_time(self, live: Live) -> tuple[int, int]:
        """Return the time on both clocks for what was read just now."""
        wall_us, now_ns = self.around.clock.wall_us(), self.around.clock.monotonic_ns()
        self._stir(live, now_ns)
        if self.sight.seems_apart(wall_us, now_ns):
            self._look_at_clocks()
        return wall_us, now_ns

    def _put(self, live: Live, message: Message, wall_us: int, now_ns: int) -> tuple[str, str]:
        """Put a message into the inbox; return its type and text."""
        payload, encoding = storable_payload(message)
        kind = frame_type(payload) if encoding == "text" else ""
        name, elapsed_ns = self.account.name, now_ns - live.opened_ns
        self.inbox.put(
            Draft(name, wall_us, elapsed_ns, live.connection_id, _RECEIVED, kind, payload, encoding)
        )
        live.frames += 1
        live.last_frame_us, live.last_frame_ns = wall_us, now_ns
        return kind, payload

    async def _pause(self, live: Live) -> None:
        """Stop reading until the log has room; say how long that was."""
        began_ns = self.around.clock.monotonic_ns()
        live.session.pause(began_ns / 1e9)
        await self.inbox.wait_room()
        paused_s = (self.around.clock.monotonic_ns() - began_ns) / 1e9
        live.not_read_s += paused_s
        live.session.resume(self._now_s())
        if paused_s >= PAUSE_NOTED_S:
            self._note_pause(live, round(paused_s, 3), "the log was full")

    def _stir(self, live: Live | None, now_ns: int) -> None:
        """Note it when the whole process stood still, before anything that waited is counted."""
        still_s = self.sight.stir(now_ns)
        if still_s and live is not None and live.is_open:
            self._note_pause(live, round(still_s, 3), "the process stood still")

    def _note_pause(self, live: Live, paused_s: float, why: str) -> None:
        log.warning("%s: did not read for %.1f s: %s", self.account.name, paused_s, why)
        live.cast_doubt()
        is_blind, last_at = paused_s >= PAUSE_BLIND_S, live.certain_at
        facts = {"seconds": paused_s, "blind": is_blind, "last_frame_at": last_at, "why": why}
        self._note(live, Note.READING_PAUSED, facts)
        if is_blind:
            self.sight.lose(live.certain_ns)
            live.session.renew(f"it was not read for {paused_s:.1f} s")
            self._set_alarm(live)

    async def _watch_ourselves(self) -> None:
        while True:
            await trio.sleep(LOOK_S)
            self._stir(self._live, self.around.clock.monotonic_ns())

    async def _watch_clocks(self) -> None:
        while True:
            await trio.sleep(LOOK_S)
            self._look_at_clocks()
            live = self._live
            if live is not None and live.renewal is not None:
                await self._renew_if_let_in(live, live.renewal)

    async def _renew_if_let_in(self, live: Live, why: str) -> None:
        """Connect anew for a snapshot, unless our clock is so wrong that we would be refused.

        Then the line that stands is better than none: the gap stays open until the clock is right.
        """
        skew_s = await self.around.skew_s()
        if skew_s is not None and abs(skew_s) >= SKEW_REFUSED_S:
            if not live.is_wrong_clock_said:
                live.is_wrong_clock_said = True
                text = "%s: keeping the connection, because a new one would be refused%s"
                log.error(text, self.account.name, skew_text(skew_s))
            await trio.sleep(RENEWAL_TRIED_EVERY_S)
            return
        live.renewal = None
        live.session.renew(why)
        self._set_alarm(live)

    def _look_at_clocks(self) -> None:
        """Note it when the machine slept or its clock was set: times before are of another piece.

        What a frame that came since says stands behind the note.
        """
        ahead_s, live = self.sight.look(), self._live
        if not ahead_s:
            return
        name, way = self.account.name, "further" if ahead_s > 0 else "less"
        why = f"the clock on the wall went {abs(ahead_s):.1f} s {way} than the monotonic one"
        log.warning("%s: %s: the machine slept, or its clock was set", name, why)
        self.sight.lose(live.certain_ns if live else None)
        facts: dict[str, object] = {
            "ahead_s": round(ahead_s, 6),
            "last_frame_at": live.certain_at if live else None,
            "blind_s": round(self.sight.blind_s, 6),
        }
        if live is None:
            self.inbox.put(noted(name, self.around.clock.wall_us(), Note.CLOCKS_APART, facts))
        else:
            self._note(live, Note.CLOCKS_APART, facts)
            live.renewal = why

    async def _keep_time(
        self, live: Live, outbound: trio.MemorySendChannel[Say | Dispatch]
    ) -> None:
        while True:
            with trio.CancelScope() as live.alarm:
                self._set_alarm(live)
                await trio.sleep_forever()
            self._act(live, outbound, live.session.on_time(self._now_s()))

    def _set_alarm(self, live: Live) -> None:
        due_s = live.session.next_deadline
        wait_s = math.inf if due_s is None else due_s - self._now_s()
        live.alarm.deadline = trio.current_time() + wait_s

    def _act(
        self,
        live: Live,
        outbound: trio.MemorySendChannel[Say | Dispatch],
        actions: Iterable[Action],
    ) -> None:
        """Do what the session decided. Never waits."""
        for action in actions:
            match action:
                case Say():
                    try:
                        outbound.send_nowait(action)
                    except trio.WouldBlock:
                        raise SessionLost("the exchange reads nothing any more") from None
                case Fact(note, facts):
                    if note == Note.SNAPSHOT_COMPLETE and facts["complete"]:
                        facts = {**facts, "blind_s": round(self.sight.regain(), 6)}
                    self._note(live, Note(note), facts)
                    if note == Note.CONNECTION_AUTHENTICATED:
                        self._authenticated(live, outbound)
                case Lost():
                    raise action.error()
        self._set_alarm(live)

    def _authenticated(self, live: Live, outbound: trio.MemorySendChannel[Say | Dispatch]) -> None:
        live.authenticated_ns = self.around.clock.monotonic_ns()
        self._refusal_said = None
        log.info("%s: connected and authenticated", self.account.name)
        self.link.open(outbound.clone())

    async def _send(
        self,
        live: Live,
        wire: Wire,
        waiting: trio.MemoryReceiveChannel[Say | Dispatch],
    ) -> None:
        with waiting:
            async for item in waiting:
                try:
                    if isinstance(item, Dispatch):
                        await self._send_commands(live, wire, item)
                    else:
                        self.inbox.put(self._sent(live, item.log_text))
                        await wire.send_message(item.text)
                except ConnectionClosed as error:
                    raise self._closed(live, error) from error

    async def _send_commands(self, live: Live, wire: Wire, dispatch: Dispatch) -> None:
        """Claim what may go, with its ``sent`` events, and send it once that is durable."""
        claiming = Claiming(
            dispatch, self.account.name, live.connection_id, partial(self._claim_drafts, live)
        )
        submission = Submission(
            decide=claiming.decide, record=claiming.record, is_plain=dispatch.is_plain
        )
        written: list[tuple[Taken, int]] = []
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
                    self._note(live, Note.SEND_FAILED, claim_facts(taken))
                    continue
                try:
                    await wire.send_message(taken.text)
                except ConnectionClosed:
                    for unsent in claiming.taken[number:]:
                        self._note(live, Note.SEND_FAILED, claim_facts(unsent))
                    raise
                written.append((taken, positions[number]))
        finally:
            if written:
                self.inbox.put(all_written(dispatch, written))
            dispatch.done.set()

    def _claim_drafts(self, live: Live, taken: Taken) -> list[Draft]:
        return [
            self._noted(live, Note.COMMAND_CLAIMED, claim_facts(taken)),
            self._sent(live, taken.text),
        ]

    def _closed(self, live: Live, error: ConnectionClosed) -> SessionLost:
        code = error.reason.code if error.reason else None
        text = (error.reason.reason if error.reason else None) or ""
        if code == 1009 and text.startswith("Exceeded maximum message size"):
            limit = f"a frame larger than max_frame_bytes ({self.max_frame_bytes}) came"
            return SessionLost(f"{limit}; raise the setting to take it", code=1009, by="recorder")
        authenticated = live.authenticated_ns is not None
        return close_reason(code, text, authenticated=authenticated, hidden=self.hidden()).error()

    def _say(self, live: Live, lost: SessionLost, skew_s: float | None) -> None:
        name = self.account.name
        if not lost.refused:
            what = "connection lost" if live.is_open else "not connected"
            log.warning("%s: %s: %s", name, what, lost.reason)
            return
        text = f"the exchange refused the credentials: {lost.reason}{skew_text(skew_s)}"
        if (said := _PASSING.sub("#", text)) != self._refusal_said:
            self._refusal_said = said
            log.error("%s: %s. Trying again at long intervals.", name, text)

    def _note_end(self, live: Live, lost: SessionLost, skew_s: float | None) -> None:
        self.sight.lose(live.certain_ns)
        ending = {"reason": lost.reason, "code": lost.code, "by": lost.by}
        facts: dict[str, object] = {**ending, **live.heard()}
        if lost.unread:
            unread = masked(lost.unread, self.hidden())
            facts["unread_base64"] = base64.b64encode(unread).decode("ascii")
        if skew_s is not None:
            facts["clock_ahead_s"] = round(skew_s, 3)
        note = Note.CONNECTION_CLOSED if live.is_open else Note.CONNECTION_FAILED
        self._note(live, Note.CONNECTION_REFUSED if lost.refused else note, facts)

    def _note(self, live: Live, note: Note, facts: Mapping[str, object]) -> None:
        self.inbox.put(self._noted(live, note, facts))

    def _noted(self, live: Live, note: Note, facts: Mapping[str, object]) -> Draft:
        return noted(
            self.account.name,
            self.around.clock.wall_us(),
            note,
            facts,
            connection_id=live.connection_id,
            elapsed_ns=self._elapsed_ns(live),
        )

    def _sent(self, live: Live, text: str) -> Draft:
        return Draft(
            self.account.name,
            self.around.clock.wall_us(),
            self._elapsed_ns(live),
            live.connection_id,
            Origin.SENT.value,
            frame_type(text),
            text,
        )

    def _elapsed_ns(self, live: Live) -> int | None:
        return self.around.clock.monotonic_ns() - live.opened_ns if live.is_open else None

    def _now_s(self) -> float:
        return self.around.clock.monotonic_ns() / 1e9
