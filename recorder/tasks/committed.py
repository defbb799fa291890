"""How far the log is durable, and who wants to know.

The log writer announces after each COMMIT; projectors listen for the types they fold. A wake-up
carries no event: whoever wakes reads the log, so that a lost wake-up loses nothing and nobody
sees what isn't durable.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import trio
from attrs import define, field

from recorder.log.event import Event


@define(eq=False)
class Listener:
    """Wakes at once for the types it names, and late for all others; wake-ups coalesce."""

    types: frozenset[str]
    _moved: trio.Event = field(factory=trio.Event)
    _concerned: trio.Event = field(factory=trio.Event)

    def wake(self, *, concerned: bool) -> None:
        """Let the next or present `wait` return: at once, or when its patience is over."""
        self._moved.set()
        if concerned:
            self._concerned.set()

    async def wait(self, *, patience_s: float) -> None:
        """Return once a type of its own came, or ``patience_s`` after the head moved otherwise."""
        await self._moved.wait()
        with trio.move_on_after(patience_s):
            await self._concerned.wait()
        self._moved = trio.Event()
        self._concerned = trio.Event()


@define(eq=False)
class Committed:
    """The durable head of each account of this process."""

    heads: dict[str, int] = field(factory=dict)
    _listeners: defaultdict[str, list[Listener]] = field(factory=lambda: defaultdict(list))

    def listen(self, account: str, types: Iterable[str]) -> Listener:
        """Return a listener for these types of this account."""
        listener = Listener(frozenset(types))
        self._listeners[account].append(listener)
        return listener

    def announce(self, events: Iterable[Event]) -> None:
        """Say that these events are durable. Positions rise within an account."""
        types: defaultdict[str, set[str]] = defaultdict(set)
        for event in events:
            self.heads[event.account] = event.position
            types[event.account].add(event.type)
        for account, seen in types.items():
            for listener in self._listeners[account]:
                listener.wake(concerned=not listener.types.isdisjoint(seen))

    def hurry(self) -> None:
        """Wake every listener at once: a stop waits for nobody's patience."""
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.wake(concerned=True)
