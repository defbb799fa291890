"""Asks over REST for the list of open orders, where a connection is reported none.

Whether VALR sends OPEN_ORDERS_UPDATE to an account that has no order open, nobody has published.
Without it no snapshot would ever be complete, and an account that rests would count as not observed
until its next order. So once all balances were named and the list still hasn't come, REST is asked.
That there are no open orders, reported there while no frame reports otherwise, stands for the list
that didn't come: the answer goes into the log, and behind it the note that folds take for an empty
list.

Where REST names orders, the exchange owes us a frame: nothing is inferred, and it is asked again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import trio
from attrs import define

from recorder.clock import Clock
from recorder.exchange.lists import Fetched
from recorder.exchange.rest import OrdersFound
from recorder.exchange.rest_requests import Kind, list_request
from recorder.exchange.session import Session
from recorder.exchange.session_actions import Action
from recorder.log.tasks.inbox import Inbox
from recorder.rest.client import OpenClient, RestUnavailable
from recorder.units import Aside, in_thread

log = logging.getLogger("recorder.connection")

#: Between two looks whether the list is missing.
LOOK_S = 0.5
#: First and longest wait before it is asked for again; it doubles in between.
RETRY_FIRST_S = 1.0
RETRY_LONGEST_S = 60.0
#: A longer answer is read in a thread: it takes as long as many frames do.
READ_HERE_BYTES_MAX = 200_000


@define(eq=False)
class OpenOrdersFallback:
    """What one account's connections ask where they are not reported their open orders."""

    account: str
    inbox: Inbox
    clock: Clock
    open_client: OpenClient
    #: How a long answer is read.
    aside: Aside = in_thread

    async def run_for(self, session: Session, act: Callable[[Sequence[Action]], None]) -> None:
        """Return once the session has its list, whoever reported it."""
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
        try:
            async with self.open_client() as client:
                answer = await client.get(list_request(Kind.OPEN_ORDERS))
        except RestUnavailable as error:
            log.warning("%s: no list of open orders came, and REST: %s", self.account, error)
            return False
        is_long = len(answer.body) > READ_HERE_BYTES_MAX
        outcome = await self.aside(answer.read) if is_long else answer.read()
        # No frame may come in between: from here to the note nothing waits.
        if not session.lacks_list:
            return False
        orders = outcome.orders if isinstance(outcome, OrdersFound) else None
        kind = "" if orders is None else Fetched.OPEN_ORDERS.value
        self.inbox.put(answer.draft(self.account, kind))
        if orders is None or orders:
            reported = "names some" if orders else f"answered with HTTP {answer.status}"
            log.warning("%s: no list of open orders came, and REST %s", self.account, reported)
            return False
        act(session.on_no_open_orders(self.clock.monotonic_ns() / 1e9))
        return True
