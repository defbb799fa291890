"""What the REST paths about futures answer, in the shapes of VALR's documents. Pure."""

from __future__ import annotations

from recorder.simulator.engine import Exchange
from recorder.simulator.frames import Frame
from recorder.simulator.futures import conditional, reduction, summary
from recorder.simulator.paging import Query


def open_positions(exchange: Exchange, query: Query, _: list[str]) -> list[Frame]:
    """Return the positions that are held, of one pair if asked for."""
    wanted = query.words("currencyPair")
    told = exchange.futures.open_positions()
    rows = [each for each in told if wanted is None or each["pair"] in wanted]
    return query.page(rows, lambda _: exchange.clock())


def closed_positions(exchange: Exchange, query: Query, _: list[str]) -> list[Frame]:
    """Return every part that was closed, newest first."""
    rows = exchange.futures.reductions[::-1]
    return [reduction(each) for each in query.page(rows, lambda row: row.at)]


def closed_summary(exchange: Exchange, query: Query, _: list[str]) -> list[Frame]:
    """Return what each closed position came to, newest first."""
    rows = exchange.futures.closed[::-1]
    return [summary(each) for each in query.page(rows, lambda row: row.updated_at)]


def conditionals(exchange: Exchange, _: Query, __: list[str]) -> list[Frame]:
    """Return the conditional orders that wait."""
    return [conditional(each) for each in exchange.futures.waiting()]


def conditional_history(exchange: Exchange, query: Query, names: list[str]) -> list[Frame]:
    """Return a pair's conditional orders in any state, newest first."""
    orders = exchange.futures.conditionals.values()
    rows = [each for each in reversed(orders) if each.pair == names[0]]
    page = query.page(rows, lambda row: row.updated_at)
    return [conditional(each) | {"orderStatusType": each.status} for each in page]
