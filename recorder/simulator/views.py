"""Reads query strings as VALR takes them: page, window of time, cursor, filters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from attrs import frozen

from recorder.simulator import frames
from recorder.simulator.books import Deposit, Money, Trade, Withdrawal
from recorder.simulator.engine import Exchange
from recorder.simulator.frames import Frame, plain, stamp, stamp_s
from recorder.simulator.futures import conditional, reduction, summary
from recorder.simulator.market import PAIRS, ZERO, Order

LIMIT_MAX = 100

Row = TypeVar("Row")


class BadQuery(Exception):
    """A query that can't be answered. Its text names the parameter."""


@frozen
class Query:
    """The parameters of one request."""

    given: Mapping[str, str]

    def page(self, rows: Iterable[Row], at: Callable[[Row], datetime]) -> list[Row]:
        """Return the rows of the asked page and window. They come newest first, and stay so.

        Both ends of the window belong to it.
        """
        since, until = self._time("startTime"), self._time("endTime")
        skip, limit = self._whole("skip", 0, None), self._whole("limit", LIMIT_MAX, LIMIT_MAX)
        inside = [
            row
            for row in rows
            if (since is None or at(row) >= since) and (until is None or at(row) <= until)
        ]
        return inside[skip : skip + limit]

    def before(self, rows: list[Row], row_id: Callable[[Row], str]) -> list[Row]:
        """Return the rows after the one that ``beforeId`` names, exclusive; all if there is none.

        An id that isn't there is refused: an empty page would look like the end.
        """
        cursor = self.given.get("beforeId")
        if cursor is None:
            return rows
        ids = [row_id(row) for row in rows]
        if cursor not in ids:
            raise BadQuery("beforeId: no such id")
        return rows[ids.index(cursor) + 1 :]

    def words(self, name: str) -> set[str] | None:
        """Return the words of a list with commas, None if it isn't given."""
        given = self.given.get(name)
        return None if given is None else {each.strip().upper() for each in given.split(",")}

    def flag(self, name: str) -> bool:
        """Return a flag, false unless given."""
        return self.given.get(name, "false").lower() == "true"

    def _whole(self, name: str, default: int, most: int | None) -> int:
        given = self.given.get(name)
        if given is None:
            return default
        if not (given.isascii() and given.isdigit()) or len(given) > 9:
            raise BadQuery(f"{name}: must be a whole number")
        if most is not None and int(given) > most:
            raise BadQuery(f"{name}: must be at most {most}")
        return int(given)

    def _time(self, name: str) -> datetime | None:
        given = self.given.get(name)
        if given is None:
            return None
        try:
            moment = datetime.fromisoformat(given)
        except ValueError:
            raise BadQuery(f"{name}: must be a time like 2025-01-31T23:59:59.999Z") from None
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


#: Members of ORDER_STATUS_UPDATE that an order's status over REST hasn't got.
_OF_ONE_EVENT = ("executedPrice", "executedQuantity", "executedFee")


def time(now: datetime) -> Frame:
    """Return the exchange's time: whole seconds, and text with nanoseconds."""
    text = now.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"
    return {"epochTime": int(now.timestamp()), "time": text}


def pairs() -> list[Frame]:
    """Return the rules of every pair."""
    return [
        {
            "symbol": pair.symbol,
            "baseCurrency": pair.base,
            "quoteCurrency": pair.quote,
            "shortName": f"{pair.base}/{pair.quote}",
            "active": True,
            "minBaseAmount": plain(pair.least),
            "tickSize": plain(pair.tick),
            "baseDecimalPlaces": str(-int(pair.step.normalize().as_tuple().exponent)),
            "currencyPairType": "SPOT",
        }
        for pair in PAIRS.values()
    ]


def balances(exchange: Exchange, query: Query, _: list[str]) -> list[Frame]:
    """Return every balance; ``excludeZeroBalances`` leaves out those of zero."""
    rows = []
    for code, held in exchange.account.books.balances.items():
        if held.total or not query.flag("excludeZeroBalances"):
            members = exchange.account.balance(code)["data"]
            # Over REST the currency is its code, and one member has another name.
            members["borrowReserved"] = members.pop("borrowCollateralReserved")
            rows.append(members | {"currency": code})
    return rows


def open_orders(exchange: Exchange, _: Query, __: list[str]) -> list[Frame]:
    """Return all open orders. As at VALR, no filter is heeded."""
    rows = frames.open_orders(exchange.open_orders())["data"]
    # Over REST the rest has another name.
    return [row | {"remainingQuantity": row.pop("quantity")} for row in rows]


def order_history(exchange: Exchange, query: Query, _: list[str]) -> list[Frame]:
    """Return orders by their last change. Cancels without a fill are left out unless asked for."""
    statuses, wanted = query.words("statuses"), query.words("currencyPair")
    # Reversed first: of two in the same millisecond the newer one still leads.
    orders = sorted(
        reversed(exchange.trading.orders.all.values()),
        key=lambda order: order.updated_at,
        reverse=True,
    )
    rows = [
        order
        for order in orders
        if (statuses is None or order.status.upper().replace(" ", "_") in statuses)
        and (wanted is None or order.pair in wanted)
        and (query.flag("showZeroVolumeCancels") or order.status != "Cancelled" or order.executed)
        and not (query.flag("excludeFailures") and order.status == "Failed")
    ]
    return [order_summary(order) for order in query.page(rows, lambda order: order.updated_at)]


def order_status(order: Order) -> Frame:
    """Return an order as it is now."""
    members: Frame = frames.status(order)["data"]
    return {name: value for name, value in members.items() if name not in _OF_ONE_EVENT}


def order_states(order: Order | None) -> list[Frame]:
    """Return every state an order was in; nothing for an order that isn't there."""
    return [] if order is None else order.states[::-1]


def order_summary(order: Order) -> Frame:
    """Return an order with what all its fills came to."""
    average = order.turnover / order.executed if order.executed else ZERO
    pair = PAIRS[order.pair]
    return order_status(order) | {
        "averagePrice": plain(average),
        "total": plain(order.turnover),
        "totalExecutedQuantity": plain(order.executed),
        "totalFee": plain(order.fees),
        "feeCurrency": pair.base if order.side == "buy" else pair.quote,
    }


def trade_history(exchange: Exchange, query: Query, names: list[str]) -> list[Frame]:
    """Return fills, of one pair where the path names it."""
    trades = [each for each in reversed(exchange.trading.trades) if not names or each.pair in names]
    rows = query.before(trades, lambda trade: trade.trade_id)
    return [_trade(each) for each in query.page(rows, lambda trade: trade.at)]


def transaction_history(exchange: Exchange, query: Query, _: list[str]) -> list[Frame]:
    """Return the ledger."""
    kinds, currency = query.words("transactionTypes"), query.given.get("currency")
    rows = query.before(exchange.account.books.ledger[::-1], lambda row: row.transaction_id)
    rows = [
        row
        for row in rows
        if (kinds is None or row.kind in kinds)
        and (currency is None or currency in _codes(row.debit, row.credit, row.fee))
    ]
    return [frames.transaction(row) for row in query.page(rows, lambda row: row.at)]


def deposit_history(exchange: Exchange, query: Query, _: list[str]) -> list[Frame]:
    """Return deposits."""
    currency = query.given.get("currency")
    rows = [
        each
        for each in reversed(exchange.transfers.deposits)
        if currency is None or each.currency == currency
    ]
    return [_deposit(each) for each in query.page(rows, lambda row: row.created_at)]


def withdraw_history(exchange: Exchange, query: Query, _: list[str]) -> list[Frame]:
    """Return withdrawals."""
    currency = query.given.get("currency")
    rows = [
        each
        for each in reversed(exchange.transfers.withdrawals)
        if currency is None or each.currency == currency
    ]
    return [_withdrawal(each) for each in query.page(rows, lambda row: row.created_at)]


def api_key(exchange: Exchange, _: Query, __: list[str]) -> Frame:
    """Return what the key may do."""
    return {
        "label": "Simulated",
        "permissions": ["View access", "Trade"],
        "addedAt": "2025-01-01T00:00:00.000000Z",
        "isSubAccount": bool(exchange.config.sub_account_id),
    }


def _trade(trade: Trade) -> Frame:
    members: dict[str, Any] = frames.trade(trade)["data"]
    return members | {"sequenceId": trade.sequence}


def _deposit(deposit: Deposit) -> Frame:
    members: Frame = {
        "currencyCode": deposit.currency,
        "receiveAddress": deposit.address,
        "transactionHash": deposit.transaction_hash,
        "amount": plain(deposit.amount),
        "createdAt": stamp_s(deposit.created_at),
        "confirmations": deposit.confirmations,
        "confirmed": deposit.confirmed_at is not None,
    }
    if deposit.confirmed_at is not None:
        members["confirmedAt"] = stamp(deposit.confirmed_at)
    return members


def _withdrawal(withdrawal: Withdrawal) -> Frame:
    members: Frame = {
        "currency": withdrawal.currency,
        "address": withdrawal.address,
        "amount": plain(withdrawal.amount),
        "feeAmount": "0",
        "transactionHash": withdrawal.transaction_hash,
        "confirmations": withdrawal.confirmations,
        "uniqueId": withdrawal.unique_id,
        "createdAt": stamp(withdrawal.created_at),
        "verified": True,
        "status": "Complete" if withdrawal.is_complete else "Processing",
    }
    if withdrawal.confirmed_at is not None:
        members["lastConfirmationAt"] = stamp(withdrawal.confirmed_at).removesuffix("Z")
    return members


def _codes(*moved: Money | None) -> list[str]:
    return [money[0] for money in moved if money is not None]


def open_positions(exchange: Exchange, query: Query, _: list[str]) -> list[Frame]:
    """Return the positions that are held, of one pair if asked for."""
    wanted = query.words("currencyPair")
    members = exchange.futures.open_positions()
    rows = [each for each in members if wanted is None or each["pair"] in wanted]
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
