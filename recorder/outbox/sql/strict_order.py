"""Strict order in SQL: what stands in the way of commands that must not overtake others."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, cast, func, select
from sqlalchemy.dialects import postgresql

from recorder.database.schema import outbox
from recorder.exchange.commands import PLACE_BATCH_ORDERS
from recorder.outbox.rules.limits import EVERY_PAIR, UnreadableError, pairs_of
from recorder.outbox.sql.queue import is_queued, is_unresolved


def first_unsettled(connection: Connection, account: str) -> dict[str, int]:
    """Return, for each pair, the lowest id of a command whose outcome isn't settled.

    Empty while nothing in the queue asks for strict order. Under ``*`` stands a batch whose pairs
    can't be read.
    """
    asks = (
        select(outbox.c.outbox_id)
        .with_hint(outbox, "INDEXED BY outbox_in_order", "sqlite")
        .where(outbox.c.account == account, is_queued, outbox.c.in_order)
        .limit(1)
    )
    if connection.execute(asks).first() is None:
        return {}
    first: dict[str, int] = {}
    if connection.dialect.name == "sqlite":
        pair: ColumnElement[str] = func.json_extract(outbox.c.payload, "$.pair")
    else:
        pair = cast(outbox.c.payload, postgresql.JSON)["pair"].astext
    for is_open in (is_queued, is_unresolved):
        of_account = (outbox.c.account == account, is_open)
        named = (
            select(func.upper(pair), func.min(outbox.c.outbox_id))
            .where(*of_account, outbox.c.command != PLACE_BATCH_ORDERS)
            .group_by(func.upper(pair))
        )
        batches = select(outbox.c.payload, outbox.c.outbox_id).where(
            *of_account, outbox.c.command == PLACE_BATCH_ORDERS
        )
        found = [(str(name), int(number)) for name, number in connection.execute(named)]
        for payload, number in connection.execute(batches):
            found += [(name, number) for name in _pairs_of_batch(payload)]
        for name, number in found:
            first[name] = min(number, first.get(name, number))
    return first


def _pairs_of_batch(payload: str) -> frozenset[str]:
    try:
        return pairs_of(PLACE_BATCH_ORDERS, payload)
    except UnreadableError:
        return frozenset({EVERY_PAIR})
