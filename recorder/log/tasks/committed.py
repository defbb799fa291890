"""How far the log is durable, which tasks wait for it, and the last events.

After each COMMIT the log writer adds here what is durable now, in its own thread, and then wakes
those who listen for such types, on the event loop. A wake-up carries no event: the woken task asks
for what is behind its checkpoint, so that a lost wake-up loses nothing. What was committed last is
kept as it was written, because it is mostly folded shortly after; a fold that is farther
behind reads the log. Everything here is durable.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

import trio
from attrs import define, field

from recorder.log.rules.event import Event

#: What was committed last stays in memory: at most so many events of an account, …
TAIL_EVENTS_MAX = 2_048
#: … and so many characters of payload.
TAIL_BYTES_MAX = 4 * 1024 * 1024


@define(eq=False)
class Listener:
    """Wakes at once for the types it names, and late for all others; wake-ups coalesce."""

    types: frozenset[str]
    _moved: trio.Event = field(factory=trio.Event)
    _concerned: trio.Event = field(factory=trio.Event)

    def wake(self, *, concerned: bool) -> None:
        """Let the next or present `wait` return: at once, or when its waiting time is over."""
        self._moved.set()
        if concerned:
            self._concerned.set()

    async def wait(self, *, wait_max_s: float) -> None:
        """Return once a type of its own came, or ``wait_max_s`` after the head moved otherwise."""
        await self._moved.wait()
        with trio.move_on_after(wait_max_s):
            await self._concerned.wait()
        self._moved = trio.Event()
        self._concerned = trio.Event()


@define(eq=False)
class Tail:
    """The last events of one account, without a hole among them."""

    _events: deque[Event] = field(factory=deque)
    _bytes: int = 0
    _mutex: threading.Lock = field(factory=threading.Lock)

    def extend(self, events: Sequence[Event]) -> None:
        """Take the events that follow, and let go of the oldest."""
        with self._mutex:
            kept = self._events
            kept.extend(events)
            self._bytes += sum([len(event.payload) for event in events])
            while kept and (len(kept) > TAIL_EVENTS_MAX or self._bytes > TAIL_BYTES_MAX):
                self._bytes -= len(kept.popleft().payload)

    def between(self, after: int, up_to: int) -> list[Event] | None:
        """Return the events behind ``after`` and up to ``up_to``; None if some are gone."""
        with self._mutex:
            kept = self._events
            if not kept or after < kept[0].position - 1 or up_to > kept[-1].position:
                return None
            # From the end, where nearly all that is asked for stands.
            last = kept[-1].position
            found = list(islice(reversed(kept), last - up_to, last - after))
        found.reverse()
        return found


@define(eq=False)
class Committed:
    """The durable head of each account of this process."""

    heads: dict[str, int] = field(factory=dict)
    _tails: defaultdict[str, Tail] = field(factory=lambda: defaultdict(Tail))
    _listeners: defaultdict[str, list[Listener]] = field(factory=lambda: defaultdict(list))

    def listen(self, account: str, types: Iterable[str]) -> Listener:
        """Return a listener for these types of this account."""
        listener = Listener(frozenset(types))
        self._listeners[account].append(listener)
        return listener

    def recent(self, account: str, after: int, up_to: int) -> list[Event] | None:
        """Return the events behind ``after`` and up to ``up_to``, if all are still at hand."""
        return self._tails[account].between(after, up_to)

    def add(self, events: Sequence[Event]) -> None:
        """Announce that these events are durable, from any thread. Positions rise within an
        account.
        """
        for account, some in by_account(events).items():
            self._tails[account].extend(some)
            self.heads[account] = some[-1].position

    def announce(self, events: Sequence[Event]) -> None:
        """Wake the listeners for events such as these, which were added before."""
        for account, some in by_account(events).items():
            types = {event.type for event in some}
            for listener in self._listeners[account]:
                listener.wake(concerned=not listener.types.isdisjoint(types))

    def hurry(self) -> None:
        """Wake every listener at once: a stop waits for no collection time."""
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.wake(concerned=True)


def by_account(events: Sequence[Event]) -> Mapping[str, Sequence[Event]]:
    """Return the events of each account, in their order."""
    accounts = {event.account for event in events}
    if len(accounts) == 1:
        return dict.fromkeys(accounts, events)
    return {name: [event for event in events if event.account == name] for name in accounts}
