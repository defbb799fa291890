"""Looks up commands in doubt over REST until their outcome is proved; never sends one.

It requests nothing while no command's outcome is open. `recorder.outbox.rules.lookups` defines what
to request and what the answers prove. Each answer becomes an event (``fetched``). The same
transaction writes what the answer reported about the command, and the change of status that it
proves. Without an answer the command stays as it is; that is recorded too, and the next request
waits twice as long each time. A view-only key is enough.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import trio
from attrs import define, evolve, field, frozen
from sqlalchemy import Connection

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
from recorder.outbox.rules.evidence import Evidence
from recorder.outbox.rules.lookup_schedule import LookupPolicy, LookupSchedule
from recorder.outbox.rules.lookups import (
    PROOF,
    Finding,
    Found,
    OrderQuery,
    combined,
    order_queries,
    read_open,
    read_states,
)
from recorder.outbox.rules.states import Fact, Status
from recorder.outbox.sql.lookups import (
    InDoubtCommand,
    Lookup,
    in_doubt_commands,
    only_order_named,
    record,
    states_before,
)
from recorder.outbox.sql.queue import OutboxRow
from recorder.outbox.sql.settle import PLACING_COMMANDS, is_of_another
from recorder.rest.client import Asks
from recorder.rest.recorded_fetch import FetchResult, Record, RecordedFetch, read_outcome
from recorder.timestamps import from_us
from recorder.units import UnitRunner

log = logging.getLogger("recorder.resolver")

#: Between two looks whether a command is in doubt.
POLL_S = 2.0
#: So many commands change in one transaction of the log.
LOOKUPS_MAX = 50


@frozen
class _Pending:
    """A look-up under way, and what was found so far on each of the command's orders."""

    command: InDoubtCommand
    queries: Sequence[OrderQuery]
    began_s: float
    found: list[Found] = field(factory=list)

    def reported(self, found: Sequence[Found]) -> Found:
        """Return what these findings on its orders, in their order, prove of the command."""
        has_arrived = self.command.row.status == Status.ACKNOWLEDGED
        return combined(self.queries, found, has_arrived=has_arrived)


#: These are about an order that the command placed.
_PLACED = (Fact.EFFECT_SEEN, Fact.REFUSED_BY_EXCHANGE)


@define(eq=False)
class Resolver:
    """One account's resolver."""

    rest: RecordedFetch
    policy: LookupPolicy
    writer: UnitRunner
    _schedules: dict[int, LookupSchedule] = field(factory=dict)

    @property
    def account(self) -> str:
        """The account's name."""
        return self.rest.account

    async def run(self) -> None:
        """Look up what is in doubt, for ever. The client is opened once a command is."""
        # Only time, and what others write, can bring one.
        while not await self._due():  # noqa: ASYNC110
            await trio.sleep(self._poll_s)
        async with self.rest.open_client() as client:
            while True:
                await self._round(client, await self._due())
                await trio.sleep(self._poll_s)

    @property
    def _poll_s(self) -> float:
        return min(POLL_S, self.policy.every_s)

    async def _due(self) -> list[InDoubtCommand]:
        """Return the commands that are to be looked up now, oldest first."""
        found = await self.rest.read(in_doubt_commands, self.account)
        now_s, before = self.rest.now_s(), self._schedules
        self._schedules = {}
        for command in found:
            status = Status(command.row.status)
            schedule = before.get(command.row.outbox_id)
            if schedule is None or schedule.status is not status:
                schedule = LookupSchedule(self.policy, status, now_s)
            self._schedules[command.row.outbox_id] = schedule
        return [each for each in found if self._schedules[each.row.outbox_id].next_s <= now_s]

    async def _round(self, client: Asks, due: Sequence[InDoubtCommand]) -> None:
        """Look each command up once. A problem of the REST API as a whole ends the round."""
        pending: list[_Pending] = []
        for command in due:
            look = _Pending(
                command, order_queries(command.row, command.sent_at), began_s=self.rest.now_s()
            )
            result = await self._request_states(client, look)
            if result is not None and _ends_round(result):
                break
            if look.reported(look.found).finding not in (*PROOF, Finding.NO_ANSWER):
                pending.append(look)
        if pending:
            await self._request_open(client, pending)

    async def _request_states(self, client: Asks, look: _Pending) -> FetchResult[Outcome] | None:
        """Request the states of each of the command's orders, until something is settled.

        Returns the last result; None where there is nothing to request.
        """
        result = None
        for query in look.queries:
            result, found = await self._request_order(client, look, query)
            look.found.append(found)
            reported = look.reported(look.found)
            # One order that was taken is enough; any other proof needs all of them.
            is_whole = len(look.found) == len(look.queries)
            is_taken = found.finding is Finding.EFFECT and query.command in PLACING
            is_proved = is_taken or (is_whole and reported.finding in PROOF)
            is_over = is_proved or found.finding is Finding.NO_ANSWER
            fact = self._prove(look, reported if is_proved else found) if is_over else None
            await self._keep(result, [self._lookup(look, result, found, reported, fact)])
            if is_over:
                break
        if result is None:
            log.warning(
                "%s: outbox %d: nothing can be requested about it",
                self.account,
                look.command.row.outbox_id,
            )
            self._prove(look, look.reported(()))
        return result

    async def _request_order(
        self, client: Asks, look: _Pending, query: OrderQuery
    ) -> tuple[FetchResult[Outcome], Found]:
        """Request an order's states; where VALR gives none, its present one alone."""
        result = await self._request(client, order_detail_request(query.name))
        found = await self._found(look.command, query, result, read_states)
        if not _is_reported_elsewhere(result):
            return result, found
        await self._keep(result, [self._lookup(look, result, found, found, None)])
        result = await self._request(client, order_status_request(query.pair, query.name))
        return result, await self._found(
            look.command, query, result, partial(read_states, is_whole=False)
        )

    async def _request_open(self, client: Asks, pending: Sequence[_Pending]) -> None:
        """Request all open orders, once for all commands that are not settled otherwise."""
        result = await self._request(client, list_request(Kind.OPEN_ORDERS))
        lookups = []
        for look in pending:
            found = [
                await self._own(look.command, query, _read(read_open, result, query, before))
                for query, before in zip(look.queries, look.found, strict=True)
            ]
            reported = look.reported(found)
            fact = self._prove(look, reported)
            lookups.append(self._lookup(look, result, reported, reported, fact))
        await self._keep(result, lookups)

    def _prove(self, look: _Pending, reported: Found) -> Fact | None:
        schedule = self._schedules[look.command.row.outbox_id]
        return schedule.add(reported, look.began_s, self.rest.now_s(), look.command.has_snapshot)

    def _lookup(
        self,
        look: _Pending,
        result: FetchResult[Outcome],
        found: Found,
        reported: Found,
        fact: Fact | None,
    ) -> Lookup:
        """Return what to keep of a look-up: what was found, and what all findings prove."""
        row = look.command.row
        columns: dict[str, Any] = {}
        if fact is Fact.NOT_FOUND:
            columns["reason"] = self._schedules[row.outbox_id].reason()
        elif fact is Fact.LOST_TOUCH:
            columns["reason"] = f"no answer within {self.policy.settle_s:g} s"
        elif fact is not None and reported.reason:
            columns["reason"] = reported.reason
        if fact in _PLACED and reported.order_id is not None and row.order_id is None:
            columns["order_id"] = reported.order_id
        path = result.request.path_with_query
        return Lookup(row.outbox_id, path, found.finding, found.answer, fact, columns)

    async def _request(self, client: Asks, request: RestRequest) -> FetchResult[Outcome]:
        result = await self.rest.ask(client, request, read_outcome)
        if result.answer is None:
            log.warning("%s: %s", self.account, result.problem)
        return result

    async def _found(
        self,
        command: InDoubtCommand,
        query: OrderQuery,
        result: FetchResult[Outcome],
        read: Callable[..., Found],
    ) -> Found:
        """Return what an order's states prove, with what the log knows of the order."""
        if query.command not in PLACING and isinstance(result.content, OrdersFound):
            ids = {order.order_id for order in result.content.orders}
            try:
                query = await self.rest.reader.run(_as_known, command.row, query, ids)
            except StorageUnavailable as error:
                return Found(Finding.NO_ANSWER, f"the order's past can't be read: {error}")
        return await self._own(command, query, _read(read, result, query))

    async def _own(self, command: InDoubtCommand, query: OrderQuery, found: Found) -> Found:
        """Return the finding, unless the log knows the order to be another command's."""
        if found.order_id is None or query.command not in PLACING:
            return found
        meant = Evidence(Fact.EFFECT_SEEN, PLACING_COMMANDS, order_id=found.order_id)
        try:
            is_another = await self.rest.reader.run(is_of_another, meant, command.row)
        except StorageUnavailable as error:
            return Found(Finding.UNCLEAR, f"{found.answer}; {error}")
        if is_another:
            return Found(Finding.UNCLEAR, f"{found.answer}, but it is another command's")
        return found

    async def _keep(self, result: FetchResult[Outcome], lookups: Sequence[Lookup]) -> None:
        """Make an answer durable: its event, what it reported, and what that proves.

        A list of open orders may be about very many commands. Those beyond `LOOKUPS_MAX` follow
        its event in transactions of their own, so that the log waits for none of them long.
        """
        now = from_us(self.rest.clock.wall_us())
        positions: Sequence[int] = ()
        for start in range(0, len(lookups), LOOKUPS_MAX):
            some = lookups[start : start + LOOKUPS_MAX]
            keep = partial(record, account=self.account, lookups=some, now=now)
            if result.answer is None:
                await self._keep_problem(keep)
            elif not positions:
                draft = result.answer.draft(self.account, "")
                positions = await self.rest.submit([draft], keep)
            else:
                await self.rest.submit((), partial(_behind, keep, positions))
        for each in lookups:
            if each.fact is not None:
                log.info("%s: outbox %d: %s", self.account, each.outbox_id, each.answer)

    async def _keep_problem(self, keep: Record) -> None:
        try:
            await self.writer.run(keep, ())
        except StorageUnavailable as error:
            log.warning("%s: a look-up without an answer is not kept: %s", self.account, error)


def _read(read: Callable[..., Found], result: FetchResult[Outcome], *about: Any) -> Found:
    """Return what ``read`` makes of an answer; without one, that finding."""
    if result.content is None:
        return Found(Finding.NO_ANSWER, result.problem)
    return read(*about, result.content)


def _as_known(
    connection: Connection, row: OutboxRow, query: OrderQuery, ids: set[str]
) -> OrderQuery:
    """Return the query with what the log knows of the order that was found.

    An order that is cancelled or changed by its name is certain if it is the only one of that name
    in the log.
    """
    if not query.is_certain and ids == {only_order_named(connection, row, query.name.text)}:
        query = evolve(query, is_certain=True)
    if len(ids) != 1 or query.command == CANCEL_ORDER:
        return query
    return evolve(query, reported_before=states_before(connection, row, *ids))


def _ends_round(result: FetchResult[Outcome]) -> bool:
    """Return whether the next request would end like this one, whatever it is about."""
    problem = RateLimited | CredentialsRefused | ExchangeUnavailable
    return result.content is None or isinstance(result.content, problem)


def _is_reported_elsewhere(result: FetchResult[Outcome]) -> bool:
    """Return whether another path may have what this one doesn't."""
    if isinstance(result.content, NoSuchOrder):
        return not result.content.in_any_state
    return isinstance(result.content, Declined | Unreadable)


def _behind(
    keep: Record,
    positions: Sequence[int],
    connection: Connection,
    _: Sequence[int],
) -> None:
    """Keep what an event reported that already has its position."""
    keep(connection, positions)
