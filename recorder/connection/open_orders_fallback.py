"""Asks over REST for the list of open orders, where a connection receives none.

Whether VALR sends OPEN_ORDERS_UPDATE to an account that has no order open is not published.
Without it no snapshot would ever be complete, and an account that rests would count as not observed
until its next order. So once all balances were named and the list still hasn't come, REST is asked.
If REST answers that no order is open, and no frame has contradicted it, that stands for the list:
the answer goes into the log, and after it the note that folds take for an empty list.

Where REST names orders, the exchange owes us a frame: nothing is inferred, and it is asked again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import trio
from attrs import frozen

from recorder.exchange.lists import Fetched
from recorder.exchange.rest import OrdersFound
from recorder.exchange.rest_requests import Kind, list_request
from recorder.exchange.session import Session
from recorder.exchange.session_actions import Action
from recorder.rest.recorded_fetch import RecordedFetch, read_outcome

log = logging.getLogger("recorder.connection")

#: Between two looks whether the list is missing.
LOOK_S = 0.5
#: First and longest wait before it is asked for again; it doubles in between.
RETRY_FIRST_S = 1.0
RETRY_LONGEST_S = 60.0


@frozen
class OpenOrdersFallback:
    """What one account's connections request where no list of open orders arrives."""

    rest: RecordedFetch

    async def run_for(self, session: Session, act: Callable[[Sequence[Action]], None]) -> None:
        """Return once the session has its list, from a frame or from REST."""
        wait_s = RETRY_FIRST_S
        while not session.is_listed:
            await trio.sleep(LOOK_S)
            if not session.lacks_list:
                continue
            if await self._ask(session, act):
                return
            await trio.sleep(wait_s)
            wait_s = min(wait_s * 2, RETRY_LONGEST_S)

    async def _ask(self, session: Session, act: Callable[[Sequence[Action]], None]) -> bool:
        """Ask once; return whether the answer stands for the list."""
        request = list_request(Kind.OPEN_ORDERS)
        async with self.rest.open_client() as client:
            result = await self.rest.ask(client, request, read_outcome)
        if result.answer is None:
            log.warning(
                "%s: no list of open orders arrived, and REST: %s",
                self.rest.account,
                result.problem,
            )
            return False
        # No frame may arrive in between: from here to the note nothing waits.
        if not session.lacks_list:
            return False
        orders = result.content.orders if isinstance(result.content, OrdersFound) else None
        event_type = "" if orders is None else Fetched.OPEN_ORDERS.value
        self.rest.inbox.put(result.answer.draft(self.rest.account, event_type))
        if orders is None or orders:
            reported = "names some" if orders else f"answered with HTTP {result.status}"
            log.warning(
                "%s: no list of open orders arrived, and REST %s", self.rest.account, reported
            )
            return False
        act(session.on_no_open_orders(self.rest.now_s()))
        return True
