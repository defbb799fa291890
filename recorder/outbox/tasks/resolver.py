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
                command, wanted(command.row, command.sent_at), began_s=self.rest.now_s()
            )
            result = await self._ask_states(client, look)
            if result is not None and _ends_round(result):
                break
            if look.reported(look.found).finding not in (*PROOF, Finding.NO_ANSWER):
                pending.append(look)
        if pending:
            await self._ask_open(client, pending)

    async def _ask_states(self, client: Asks, look: _Pending) -> FetchResult[Outcome] | None:
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

    async def _ask_order(
        self, client: Asks, look: _Pending, want: Wanted
    ) -> tuple[FetchResult[Outcome], Found]:
        """Ask for an order's states; where that can't be reported, for its present one alone."""
        result = await self._request(client, order_detail_request(want.name))
        found = await self._found(look.command, want, result, read_states)
        if not _is_reported_elsewhere(result):
            return result, found
        await self._keep(result, [self._line(look, result, found, found, None)])
        result = await self._request(client, order_status_request(want.pair, want.name))
        return result, await self._found(look.command, want, result, read_present)

    async def _ask_open(self, client: Asks, pending: Sequence[_Pending]) -> None:
        """Ask for all open orders, once for all commands that are not settled otherwise."""
        result = await self._request(client, list_request(Kind.OPEN_ORDERS))
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
        schedule = self._schedules[look.command.row.outbox_id]
        return schedule.add(reported, look.began_s, self.rest.now_s(), look.command.has_snapshot)

    def _line(
        self,
        look: _Pending,
        result: FetchResult[Outcome],
        found: Found,
        reported: Found,
        fact: Fact | None,
    ) -> Lookup:
        """Return the line to keep: what was found, and what is proved by all that was."""
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
        want: Wanted,
        result: FetchResult[Outcome],
        read: Callable[..., Found],
    ) -> Found:
        """Return what an answer on an order's states reports, beside what the log knows of it."""
        if want.command not in PLACING and isinstance(result.content, OrdersFound):
            ids = {order.order_id for order in result.content.orders}
            try:
                want = await self.rest.reader.run(_as_known, command.row, want, ids)
            except StorageUnavailable as error:
                return Found(Finding.NO_ANSWER, f"the order's past can't be read: {error}")
        return await self._own(command, want, _read(read, result, want))

    async def _own(self, command: InDoubtCommand, want: Wanted, found: Found) -> Found:
        """Return the finding, if it isn't on an order that the log knows to be another's."""
        if found.order_id is None or want.command not in PLACING:
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


def _ends_round(result: FetchResult[Outcome]) -> bool:
    """Return whether the next question would end like this one, whatever it is about."""
    problem = RateLimited | CredentialsRefused | ExchangeUnavailable
    return result.content is None or isinstance(result.content, problem)


def _is_reported_elsewhere(result: FetchResult[Outcome]) -> bool:
    """Return whether another path may know what this one doesn't."""
    if isinstance(result.content, NoSuchOrder):
        return not result.content.in_any_state
    return isinstance(result.content, Declined | Unreadable)


def _behind(
    keep: Record,
    positions: Sequence[int],
    connection: Connection,
    _: Sequence[int],
) -> None:
    """Keep the content of an event that stands at ``positions`` already."""
    keep(connection, positions)
