"""The one task that appends to the log.

It takes whatever waits in the inbox, turns it into one transaction (group commit) and, once COMMIT
returned, wakes the tasks that wait for it; in the thread in which it ran, ``follow`` may
fold what was written before the next batch is taken. It owns the heads: position and digest of
every event follow from the event before, so that no other process may append meanwhile. Where
another process did, the key (account, position) refuses and LeaseLost ends this one.

What it does when the database fails:

- not now (locked, connection lost, deadlock): the batch stays in memory and is tried again, first
  soon, then every few seconds, for as long as it takes; the inbox fills and reading stops.
- maybe (connection broken during COMMIT): the heads are read again; they show whether the batch
  is durable, and it counts as done or is tried again.
- never (disk full, read-only, wrong schema): StorageFailed. How many frames were not written is
  known only once nothing is read any more, so the caller that ends the process reports it.
- nothing (it hangs, or a lock is held): the thread waits.
- it came back older than what was committed (a standby that had not received all of it took over):
  the events that it lost are written again from memory, with the positions and digests they had. If
  they aren't in memory any more, StorageFailed names them; the chain never goes on without them.

`recorder.outage` reports all of these.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import ParamSpec, TypeVar

import trio
from attrs import define, field, frozen
from sqlalchemy import Connection

from recorder.errors import CommitUncertain, LeaseLost, StorageFailed, StorageUnavailable
from recorder.log.rules.digest import digest_event
from recorder.log.rules.event import Draft, Event, Head
from recorder.log.sql.append import append, is_little, read_head, write_chained
from recorder.log.tasks.inbox import Entry, Inbox, Submission
from recorder.units import Unit, UnitRunner

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger("recorder.log")

#: First and longest wait between two tries of a batch the database did not take.
RETRY_FIRST_S = 0.05
RETRY_LONGEST_S = 5.0
#: So many plain submissions are still a small batch.
PLAIN_MAX = 4


@frozen
class Appended:
    """What one transaction did: events, heads after it, and positions per submission (or None)."""

    events: Sequence[Event]
    heads: Mapping[str, Head]
    positions: Sequence[Sequence[int] | None]


@define(eq=False)
class LogWriter:
    """The heads it owns, and how to reach the database and the listeners to commits."""

    runner: UnitRunner
    inbox: Inbox
    heads: dict[str, Head]
    #: Reported in the unit's thread what is durable now.
    follow: Callable[[Sequence[Event]], None]
    #: Reported on the event loop after that.
    announce: Callable[[Sequence[Event]], None]
    #: The events of an account behind a position and up to another, if they are still in memory.
    recall: Callable[[str, int, int], Sequence[Event] | None]
    #: Repairs what belongs to events that were written again, in their transaction.
    repair: Callable[[Connection, str, Sequence[Event]], None]
    #: Set once the inbox is closed and everything in it is durable.
    drained: trio.Event = field(factory=trio.Event)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Append until the inbox is closed and drained. Raises StorageFailed or LeaseLost."""
        task_status.started()
        while batch := await self.inbox.take():
            try:
                appended = await self._append(batch)
            except trio.Cancelled:
                log.error("stopped before the database took %d events", self.inbox.frames)
                raise
            if appended.events:
                self.announce(appended.events)
        self.drained.set()

    async def _append(self, batch: Sequence[Entry]) -> Appended:
        wait_s = RETRY_FIRST_S
        durable, follow = partial(self._durable, batch), self._follow
        while True:
            staged: list[Appended] = []
            try:
                unit = partial(append_batch, heads=self.heads, batch=batch, staged=staged)
                return await self.runner.run_then(
                    unit, durable, follow, write_only=_is_write_only(batch)
                )
            except CommitUncertain as error:
                log.warning("the connection broke during COMMIT; looking if it took: %s", error)
                if staged and await self._is_durable(staged[-1]):
                    durable(staged[-1])
                    follow(staged[-1])
                    return staged[-1]
            except StorageUnavailable as error:
                log.debug("a batch was not taken: %s", error)
            except LeaseLost:
                if not await self._put_back():
                    raise
                continue
            await trio.sleep(wait_s)
            wait_s = min(wait_s * 2, RETRY_LONGEST_S)

    def _durable(self, batch: Sequence[Entry], appended: Appended) -> None:
        """Notify the waiting submitters that the batch is durable."""
        self.heads.update(appended.heads)
        self.inbox.settle(batch)
        _notify_submitters(batch, appended.positions)

    def _follow(self, appended: Appended) -> None:
        # A transaction may have changed rows alone.
        if appended.events:
            self.follow(appended.events)

    async def _is_durable(self, staged: Appended) -> bool:
        """Return whether the uncertain transaction took: its heads then stand in the log."""
        found = await self._run_until_taken(read_heads, list(staged.heads))
        before = {account: self.heads[account] for account in staged.heads}
        if found == before:
            # Nothing of it, or row changes alone: those are repeatable by contract.
            return False
        if found == staged.heads:
            return True
        if any(found[account].position < head.position for account, head in before.items()):
            # It came back older: the next try is refused, and what it lost is put back.
            return False
        raise LeaseLost("another process appended to the log while a COMMIT of ours was uncertain")

    async def _put_back(self) -> bool:
        """Write again what the database has lost; False where another process appended instead.

        Raises StorageFailed where what it lost isn't in memory any more, or it has another history.
        """
        found = await self._run_until_taken(read_heads, list(self.heads))
        lost = {name: head for name, head in found.items() if head != self.heads[name]}
        if any(head.position >= self.heads[name].position for name, head in lost.items()):
            return False
        for account, head in lost.items():
            last = self.heads[account].position
            tail = self.recall(account, head.position, last)
            which = f"events {head.position + 1} to {last} of account {account!r}"
            if not tail or digest_event(head.digest, head.position + 1, tail[0]) != tail[0].digest:
                raise StorageFailed(
                    f"the database came back without {which}, which it had committed, and they"
                    " aren't in memory any more; commands that were sent among them may be queued"
                    " again. Restore the database that has them, or set the switch to off before"
                    " the next start and compare each queued command with the exchange"
                )
            await self._run_until_taken(self._write_again, account, tail)
            text = "the database came back without %s, which it had committed; they are put back"
            log.error(text, which)
        return bool(lost)

    def _write_again(self, connection: Connection, account: str, tail: Sequence[Event]) -> None:
        if read_head(connection, account) != self.heads[account]:
            write_chained(connection, tail)
            self.repair(connection, account, tail)

    async def _run_until_taken(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a repeatable unit as often as it takes."""
        wait_s = RETRY_FIRST_S
        while True:
            try:
                return await self.runner.run(unit, *args, **kwargs)
            except StorageUnavailable as error:
                log.debug("the database did not take it: %s", error)
            await trio.sleep(wait_s)
            wait_s = min(wait_s * 2, RETRY_LONGEST_S)


def _is_write_only(batch: Sequence[Entry]) -> bool:
    """Report a small batch whose statements can be sent without waiting for each other."""
    drafts = [entry for entry in batch if isinstance(entry, Draft)]
    is_plain = all(entry.is_plain for entry in _submissions(batch))
    return is_plain and len(batch) <= len(drafts) + PLAIN_MAX and is_little(drafts)


def append_batch(
    connection: Connection,
    heads: Mapping[str, Head],
    batch: Sequence[Entry],
    staged: list[Appended],
) -> Appended:
    """Append a batch in one transaction: decide, then events, then the rows that follow them.

    The result also goes to ``staged`` before COMMIT, for the case that the answer to COMMIT is
    lost.
    """
    drafts: list[Draft] = []

    def next_position(account: str) -> int:
        before = sum(1 for draft in drafts if draft.account == account)
        return heads[account].position + before + 1

    spans: list[slice | None] = []
    for entry in batch:
        if isinstance(entry, Draft):
            drafts.append(entry)
            continue
        decided = entry.decide(connection, next_position) if entry.decide else entry.drafts
        if decided is None:
            spans.append(None)
        else:
            spans.append(slice(len(drafts), len(drafts) + len(decided)))
            drafts.extend(decided)
    appended = append(connection, heads, drafts)
    positions = [span and [event.position for event in appended.events[span]] for span in spans]
    for submission, given in zip(_submissions(batch), positions, strict=True):
        if given is not None and submission.record is not None:
            submission.record(connection, given)
    staged.append(Appended(appended.events, appended.heads, positions))
    return staged[-1]


def read_heads(connection: Connection, accounts: Sequence[str]) -> dict[str, Head]:
    """Return the heads that stand in the log."""
    return {account: read_head(connection, account) for account in accounts}


def _submissions(batch: Sequence[Entry]) -> list[Submission]:
    return [entry for entry in batch if isinstance(entry, Submission)]


def _notify_submitters(batch: Sequence[Entry], positions: Sequence[Sequence[int] | None]) -> None:
    for submission, given in zip(_submissions(batch), positions, strict=True):
        submission.outcome = given
        submission.committed.set()
