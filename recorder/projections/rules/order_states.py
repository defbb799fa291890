"""The states of an order, and which of them the exchange's status words mean.

The words come in several spellings ("Partially Filled", "PartiallyFilled", "placed"), so case,
spaces and underscores don't count. An unknown word leaves the state unknown.
"""

from __future__ import annotations

RECEIVED = "received"  # the exchange has the request, no more is known
UNKNOWN = "unknown"  # it exists, in an unknown state
OPEN = "open"
PARTIALLY_FILLED = "partially_filled"
FILLED = "filled"
CANCELLED = "cancelled"
FAILED = "failed"
EXPIRED = "expired"
END_UNKNOWN = "end_unknown"  # no longer open; the final state is unknown

#: How far on a state lies; at the same time of the exchange, further on wins.
RANKS = {
    RECEIVED: 0,
    UNKNOWN: 0,
    OPEN: 1,
    PARTIALLY_FILLED: 2,
    END_UNKNOWN: 3,
    FILLED: 4,
    CANCELLED: 4,
    FAILED: 4,
    EXPIRED: 4,
}
STATES = tuple(RANKS)
_LIVE = frozenset({RECEIVED, UNKNOWN, OPEN, PARTIALLY_FILLED})

_WORDS = {
    "placed": OPEN,
    "active": OPEN,
    "ordermodified": OPEN,
    "orderpricehasbeenmodifiedduetoslippagelimits": OPEN,
    "repricedduetoslippage": OPEN,
    "instantorderbalancereserved": OPEN,
    "partiallyfilled": PARTIALLY_FILLED,
    "filled": FILLED,
    "instantordercompleted": FILLED,
    "liquidationorderfilled": FILLED,
    "cancelled": CANCELLED,
    "canceled": CANCELLED,
    "partiallyfilledandcancelledduetoslippage": CANCELLED,
    "partiallyfilledduetoslippage": CANCELLED,
    "instantorderreversed": CANCELLED,
    "failed": FAILED,
    "instantorderbalancereservefailed": FAILED,
    "expired": EXPIRED,
}


def state_of(status: str) -> str:
    """Return the state that the exchange's word means; `UNKNOWN` for an unknown word."""
    return _WORDS.get("".join(status.replace("_", " ").split()).lower(), UNKNOWN)


def is_live(state: str) -> bool:
    """Return whether an order in this state may still be executed."""
    return state in _LIVE
