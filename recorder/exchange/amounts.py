"""Amounts: exact decimals from the wire to the table and back.

One value has one text: plain notation, no exponent, no trailing zeros, no minus zero
(``canonical_amount``). SQLite stores that text, so that equal amounts are equal strings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Context, Decimal, InvalidOperation

#: More digits than any asset has; PostgreSQL's NUMERIC takes 131,072 before and 16,383 after the
#: point, and a text like "1E+999999" must not become a million characters in a table.
DIGITS_MAX = 200

#: What nearly every amount on the wire looks like. Such a text needs no further check: it is finite
#: and within `DIGITS_MAX`, and has nothing in it that `Decimal` would take and we don't.
is_plain_amount = re.compile(r"-?[0-9]{1,40}(?:\.[0-9]{1,40})?").fullmatch
_WITH_COMMAS = re.compile(r"[+-]?[0-9]{1,3}(,[0-9]{3})+(\.[0-9]*)?")


class AmountError(ValueError):
    """The text is no finite decimal number within `DIGITS_MAX` digits either side of the point."""


def parse_amount(value: object) -> Decimal:
    """Return the exact decimal that ``value`` states.

    Accepts str, int and Decimal; a float is refused because it has lost digits already. Exponents
    ("6.00E-7") are read, thousands commas ("114,953", seen in the published documents) dropped.
    Raises AmountError.
    """
    if isinstance(value, str) and is_plain_amount(value):
        return Decimal(value)
    return _parse_unusual(value)


def canonical_amount(amount: Decimal) -> str:
    """Return the one text of this value: ``1E+2`` is ``"100"``, and ``1.50`` is ``"1.5"``."""
    text = format(amount, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def _parse_unusual(value: object) -> Decimal:
    """Read whatever `parse_amount` reads, with every check."""
    if isinstance(value, bool) or not isinstance(value, (str, int, Decimal)):
        raise AmountError(f"an amount must be a decimal string, not {type(value).__name__}")
    text = value.strip() if isinstance(value, str) else value
    if isinstance(text, str) and "," in text:
        text = _without_thousands_commas(text)
    if isinstance(text, str) and (not text.isascii() or "_" in text):
        raise AmountError(f"not a decimal number: {_shown(value)}")
    try:
        amount = Decimal(text)
    except (InvalidOperation, ValueError) as error:
        raise AmountError(f"not a decimal number: {_shown(value)}") from error
    if not amount.is_finite():
        raise AmountError(f"not a finite number: {_shown(value)}")
    _, digits, exponent = amount.as_tuple()
    assert isinstance(exponent, int)
    if exponent < -DIGITS_MAX or len(digits) + exponent > DIGITS_MAX:
        raise AmountError(f"more than {DIGITS_MAX} digits on one side of the point")
    return amount


def _without_thousands_commas(text: str) -> str:
    if not _WITH_COMMAS.fullmatch(text):
        raise AmountError(f"not a decimal number: {_shown(text)}")
    return text.replace(",", "")


def _shown(value: object) -> str:
    return repr(value if len(str(value)) <= 40 else str(value)[:40] + "…")


#: Room for sums and products of any amounts (up to 400 digits each) without rounding; the usual
#: context of Python rounds what has more than 28 digits.
EXACT = Context(prec=1_000)


def add_up(amounts: Iterable[Decimal]) -> Decimal:
    """Return the exact sum; zero of none."""
    total = Decimal(0)
    for amount in amounts:
        total = EXACT.add(total, amount)
    return total
