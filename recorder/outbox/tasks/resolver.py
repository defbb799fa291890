"""Looks commands in doubt up over REST until their outcome is proved; never sends one.

It sleeps until a command's outcome is open, and asks nothing before.
`recorder.outbox.rules.lookups` defines what to ask and what the answers prove. Each answer becomes
an event (``fetched``). The same transaction writes the line that keeps what the answer reported
about the command, and the change of status that it proves. Without an answer the command stays as
it is; that is recorded as well, and the next question waits twice as long each time. A view-only
key is enough.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import trio
from attrs import define, evolve, field, frozen
from sqlalchemy import Connection

from recorder.clock import Clock
from recorder.errors import StorageUnavailable
from recorder.exchange.commands import CANCEL_ORDER, PLACING
from recorder.exchange.rest import (
    CredentialsRefused,
    Declined,
    ExchangeUnavailable,
    NoSuchOrder,
    OrdersFound,
    Outcome,
    RateLimited,
    Unreadable,
)
from recorder.exchange.rest_requests import (
    Kind,
    RestRequest,
    list_request,
    order_detail_request,
    order_status_request,
)
from recorder.log.tasks.inbox import Inbox, Submission
from recorder.outbox.rules.evidence import Evidence
from recorder.outbox.rules.lookup_schedule import LookupPolicy, Search
from recorder.outbox.rules.lookups import (
    PROOF,
    Finding,
    Found,
    Wanted,
    all_answered,
    read_open,
    read_present,
    read_states,
    wanted,
)
from recorder.outbox.rules.states import Fact, Status
from recorder.outbox.sql.lookups import (
    InDoubtCommand,
    Look,
    only_order_named,
    record,
    states_before,
    warnings,
)
from recorder.outbox.sql.queue import OutboxRow
from recorder.outbox.sql.settle import PLACING_COMMANDS, is_of_another
from recorder.rest.client import Asks, OpenClient, RestAnswer, RestUnavailable
from recorder.timestamps import from_us
from recorder.units import Aside, UnitRunner, in_thread

log = logging.getLogger("recorder.resolver")

#: Between two looks whether a command is in doubt.
POLL_S = 2.0
#: A longer answer is read in a thread: it takes as long as many frames do.
READ_HERE_BYTES_MAX = 200_000
#: So many commands change in one transaction of the log.
LINES_MAX = 50


@frozen
class _Result:
    """An answer, as it came and as it reads; or why there is none."""

    request: RestRequest
    answer: RestAnswer | None
    outcome: Outcome | None
    problem: str = ""


@frozen
class _Pending:
    """A look-up under way, and what was found so far on each of the command's orders."""

    command: InDoubtCommand
    wants: Sequence[Wanted]
    began_s: float
    found: list[Found] = field(factory=list)

    def reported(self, found: Sequence[Found]) -> Found:
        """Return what these findings on its orders, in their order, prove of the command."""
        has_arrived = self.command.row.status == Status.ACKNOWLEDGED
        return all_answered(self.wants, found, has_arrived=has_arrived)


#: These are about an order that the command placed.
_PLACED = (Fact.EFFECT_SEEN, Fact.REFUSED_BY_EXCHANGE)


@define(eq=False)
class Resolver:
    """One account's resolver."""

    account: str
    policy: LookupPolicy
    inbox: Inbox
    reader: UnitRunner
    writer: UnitRunner
    clock: Clock
    open_client: OpenClient
    #: How a long answer is read.
    aside: Aside = in_thread
    _searches: dict[int, Search] = field(factory=dict)

    async def run(self) -> None:
        """Look up what is in doubt, for ever. The client is opened when there is need of it."""
        # Only time, and what others write, can bring one.
        while not await self._due():  # noqa: ASYNC110
            await trio.sleep(self._poll_s)
        async with self.open_client() as client:
            while True:
                await self._round(client, await self._due())
                await trio.sleep(self._poll_s)

    @property
    def _poll_s(self) -> float:
        return min(POLL_S, self.policy.every_s)

    async def _due(self) -> list[InDoubtCommand]:
        """Return the commands that are to be looked up now, oldest first."""
        try:
            found = await self.reader.run(warnings, self.account)
        except StorageUnavailable as error:
            log.warning("%s: what is in doubt can't be read now: %s", self.account, error)
            return []
        now_s = self._now_s()
        searches = {}
        for command in found:
            status = Status(command.row.status)
            search = self._searches.get(command.row.outbox_id)
            if search is None or search.status is not status:
                search = Search(self.policy, status, now_s)
            searches[command.row.outbox_id] = search
        self._searches = searches
        return [command for command in found if searches[command.row.outbox_id].next_s <= now_s]

    async def _round(self, client: Asks, due: Sequence[InDoubtCommand]) -> None:
        """Look each command up once. A problem of the REST API as a whole ends the round."""
        pending: list[_Pending] = []
        for command in due:
            look = _Pending(command, wanted(command.row, command.sent_at), began_s=self._now_s())
            result = await self._ask_states(client, look)
            if result is not None and _is_of_the_database(result):
                break
            if look.reported(look.found).finding not in (*PROOF, Finding.NO_ANSWER):
                pending.append(look)
        if pending:
            await self._ask_open(client, pending)

    async def _ask_states(self, client: Asks, look: _Pending) -> _Result | None:
        """Ask for the states of each of the command's orders, until something is settled.

        Returns the last answer; None where there is nothing to ask for.
        """
        result = None
        for want in look.wants:
            result, found = await self._ask_order(client, look, want)
            look.found.append(found)
            reported = look.reported(look.found)
            # Of several orders one that was taken is enough; what else is seen needs all of them.
            is_whole = len(look.found) == len(look.wants)
            is_taken = found.finding is Finding.EFFECT and want.command in PLACING
            is_proved = is_taken or (is_whole and reported.finding in PROOF)
            is_over = is_proved or found.finding is Finding.NO_ANSWER
            fact = self._conclude(look, reported if is_proved else found) if is_over else None
            await self._keep(result, [self._line(look, result, found, reported, fact)])
            if is_over:
                break
        if result is None:
            log.warning(
                "%s: outbox %d: nothing to ask for", self.account, look.command.row.outbox_id
            )
            self._conclude(look, look.reported(()))
        return result

    async def _ask_order(self, client: Asks, look: _Pending, want: Wanted) -> tuple[_Result, Found]:
        """Ask for an order's states; where that can't be reported, for its present one alone."""
        result = await self._ask(client, order_detail_request(want.name))
        found = await self._found(look.command, want, result, read_states)
        if not _is_reported_elsewhere(result):
            return result, found
        await self._keep(result, [self._line(look, result, found, found, None)])
        result = await self._ask(client, order_status_request(want.pair, want.name))
        return result, await self._found(look.command, want, result, read_present)

    async def _ask_open(self, client: Asks, pending: Sequence[_Pending]) -> None:
        """Ask for all open orders, once for all commands that are not settled otherwise."""
        result = await self._ask(client, list_request(Kind.OPEN_ORDERS))
        lines = []
        for look in pending:
            found = [
                await self._own(look.command, want, _read(read_open, result, want, before))
                for want, before in zip(look.wants, look.found, strict=True)
            ]
            reported = look.reported(found)
            lines.append(
                self._line(look, result, reported, reported, self._conclude(look, reported))
            )
        await self._keep(result, lines)

    def _conclude(self, look: _Pending, reported: Found) -> Fact | None:
        search = self._searches[look.command.row.outbox_id]
        return search.add(reported, look.began_s, self._now_s(), look.command.has_snapshot)

    def _line(
        self, look: _Pending, result: _Result, found: Found, reported: Found, fact: Fact | None
    ) -> Look:
        """Return the line to keep: what was found, and what is proved by all that was."""
        row = look.command.row
        columns: dict[str, Any] = {}
        if fact is Fact.NOT_FOUND:
            columns["reason"] = self._searches[row.outbox_id].reason()
        elif fact is Fact.LOST_TOUCH:
            columns["reason"] = f"no answer within {self.policy.settle_s:g} s"
        elif fact is not None and reported.reason:
            columns["reason"] = reported.reason
        if fact in _PLACED and reported.order_id is not None and row.order_id is None:
            columns["order_id"] = reported.order_id
        path = result.request.path_with_query
        return Look(row.outbox_id, path, found.finding, found.answer, fact, columns)

    async def _ask(self, client: Asks, request: RestRequest) -> _Result:
        try:
            answer = await client.get(request)
        except RestUnavailable as error:
            log.warning("%s: %s", self.account, error)
            return _Result(request, None, None, str(error))
        if len(answer.body) > READ_HERE_BYTES_MAX:
            return _Result(request, answer, await self.aside(answer.read))
        return _Result(request, answer, answer.read())

    async def _found(
        self, command: InDoubtCommand, want: Wanted, result: _Result, read: Callable[..., Found]
    ) -> Found:
        """Return what an answer on an order's states reports, beside what the log knows of it."""
        if want.command not in PLACING and isinstance(result.outcome, OrdersFound):
            ids = {order.order_id for order in result.outcome.orders}
            try:
                want = await self.reader.run(_as_known, command.row, want, ids)
            except StorageUnavailable as error:
                return Found(Finding.NO_ANSWER, f"the order's past can't be read: {error}")
        return await self._own(command, want, _read(read, result, want))

    async def _own(self, command: InDoubtCommand, want: Wanted, found: Found) -> Found:
        """Return the finding, if it isn't on an order that the log knows to be another's."""
        if found.order_id is None or want.command not in PLACING:
            return found
        meant = Evidence(Fact.EFFECT_SEEN, PLACING_COMMANDS, order_id=found.order_id)
        try:
            is_another = await self.reader.run(is_of_another, meant, command.row)
        except StorageUnavailable as error:
            return Found(Finding.UNCLEAR, f"{found.answer}; {error}")
        if is_another:
            return Found(Finding.UNCLEAR, f"{found.answer}, but it is another command's")
        return found

    async def _keep(self, result: _Result, lines: Sequence[Look]) -> None:
        """Make what came durable: the event, what it reported, and what that proves.

        What a list of open orders shows of very many commands follows its event in parts, so
        that the log waits for none of them long.
        """
        now = from_us(self.clock.wall_us())
        positions: Sequence[int] = ()
        for start in range(0, len(lines), LINES_MAX):
            some = lines[start : start + LINES_MAX]
            keep = partial(record, account=self.account, looks=some, now=now)
            if result.answer is None:
                await self._keep_silence(keep)
            elif not positions:
                await self.inbox.wait_room()
                submission = Submission([result.answer.draft(self.account, "")], record=keep)
                positions = await self.inbox.submit(submission) or ()
            else:
                await self.inbox.submit(Submission((), record=partial(_behind, keep, positions)))
        for line in lines:
            if line.fact is not None:
                log.info("%s: outbox %d: %s", self.account, line.outbox_id, line.answer)

    async def _keep_silence(self, keep: Callable[[Connection, Sequence[int]], None]) -> None:
        try:
            await self.writer.run(keep, ())
        except StorageUnavailable as error:
            log.warning("%s: a look-up without an answer is not kept: %s", self.account, error)

    def _now_s(self) -> float:
        return self.clock.monotonic_ns() / 1e9


def _read(read: Callable[..., Found], result: _Result, *about: Any) -> Found:
    """Return what ``read`` makes of an answer; where none came, that."""
    if result.outcome is None:
        return Found(Finding.NO_ANSWER, result.problem)
    return read(*about, result.outcome)


def _as_known(connection: Connection, row: OutboxRow, want: Wanted, ids: set[str]) -> Wanted:
    """Return what is looked for, with what the log knows of the order that was found: its past.

    An order that is cancelled or changed by its name is surely the one meant if it is the only one
    that the log knows by that name.
    """
    if not want.is_certain and ids == {only_order_named(connection, row, want.name.text)}:
        want = evolve(want, is_certain=True)
    if len(ids) != 1 or want.command == CANCEL_ORDER:
        return want
    return evolve(want, reported_before=states_before(connection, row, *ids))


def _is_of_the_database(result: _Result) -> bool:
    """Return whether the next question would end like this one, whatever it is about."""
    problem = RateLimited | CredentialsRefused | ExchangeUnavailable
    return result.outcome is None or isinstance(result.outcome, problem)


def _is_reported_elsewhere(result: _Result) -> bool:
    """Return whether another path may know what this one doesn't."""
    if isinstance(result.outcome, NoSuchOrder):
        return not result.outcome.in_any_state
    return isinstance(result.outcome, Declined | Unreadable)


def _behind(
    keep: Callable[[Connection, Sequence[int]], None],
    positions: Sequence[int],
    connection: Connection,
    _: Sequence[int],
) -> None:
    """Keep the content of an event that stands at ``positions`` already."""
    keep(connection, positions)
