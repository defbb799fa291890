"""Whether a transaction's fee is taken off what it states already, or comes off besides. Pure.

VALR doesn't report, and the rows of its histories differ: every buy that it published states what
was credited with the fee taken off (``net``), other exchanges of the same protocol state it before
the fee (``gross``). A fill proves which it is, because it has a price: what was bought times the
price is what was paid, and only one reading fits. Rounding makes neither fit exactly, so the better
one counts if it is clearly better. Where nothing proves it, it is unknown, which is not either.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

from recorder.exchange.amounts import EXACT
from recorder.exchange.messages import NewAccountHistoryRecord

#: A reading that misses by at most this part of what the other one does is proved.
_CLEARLY = 3


class FeeBasis(StrEnum):
    """How the fee stands to the amount in its own currency."""

    #: It is in there already: the balance changes by the reported amounts alone.
    NET = "net"
    #: It comes off besides.
    GROSS = "gross"


def fee_basis(record: NewAccountHistoryRecord) -> FeeBasis | None:
    """Return what the record proves of its fee; None if there is none, or nothing proves it."""
    if not record.fee_value or record.fee_currency is None:
        return None
    if record.fee_currency not in (record.credit_currency, record.debit_currency):
        # There is no amount that it could be a part of.
        return FeeBasis.GROSS
    misses = _misses(record, record.fee_value)
    if misses is None:
        return None
    gross, net = misses
    if net * _CLEARLY <= gross:
        return FeeBasis.NET
    return FeeBasis.GROSS if gross * _CLEARLY <= net else None


def _misses(record: NewAccountHistoryRecord, fee: Decimal) -> tuple[Decimal, Decimal] | None:
    """Return by how much base times price misses quote, if read as gross and as net."""
    credit, debit, price = record.credit_value, record.debit_value, record.cost_per_coin
    is_buy = _is_buy(record)
    if credit is None or debit is None or not price or is_buy is None:
        return None
    if record.credit_currency == record.debit_currency:
        return None
    # Read as net, the amount before the fee is more of a credit, and less of a debit.
    if record.fee_currency == record.credit_currency:
        before = EXACT.add(credit, fee), debit
    else:
        before = credit, EXACT.subtract(debit, fee)
    return _miss(credit, debit, price, is_buy), _miss(*before, price, is_buy)


def _miss(credit: Decimal, debit: Decimal, price: Decimal, is_buy: bool) -> Decimal:
    base, quote = (credit, debit) if is_buy else (debit, credit)
    return abs(EXACT.subtract(EXACT.multiply(base, price), quote))


def _is_buy(record: NewAccountHistoryRecord) -> bool | None:
    """Return whether the base currency was credited; None if neither pair nor type shows it."""
    credited, debited = record.credit_currency or "", record.debit_currency or ""
    if record.pair == credited + debited:
        return True
    if record.pair == debited + credited:
        return False
    verb = (record.transaction_type or "").rpartition("_")[2]
    return {"BUY": True, "SELL": False}.get(verb)
