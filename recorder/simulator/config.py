"""The settings of a simulated exchange."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal

from attrs import Factory, field, frozen


def _first_balances() -> dict[str, Decimal]:
    return {
        "ZAR": Decimal("100000"),
        "BTC": Decimal("0.5"),
        "ETH": Decimal("4"),
        "USDC": Decimal("2500"),
    }


def _rates_per_s() -> dict[str, int]:
    """Return VALR's published limits, per command."""
    return {
        "PLACE_LIMIT_ORDER": 400,
        "PLACE_MARKET_ORDER": 400,
        "CANCEL_LIMIT_ORDER": 450,
        "MODIFY_ORDER": 400,
        "BATCH_ORDERS": 400,
    }


@frozen
class Step:
    """One step of a script: after so many seconds, this control with these settings.

    Controls and settings are those of ``POST /simulator/…``; see `control`.
    """

    after_s: float
    control: str
    settings: Mapping[str, Any] = Factory(dict)


@frozen
class Flood:
    """Frames for a benchmark, sent right after the snapshot; at rate 0 as fast as they are read."""

    frames: int
    per_s: float = 0.0


@frozen
class SimulatorConfig:
    """One account on one port. Times are seconds, fees are fractions of what is received.

    ``key`` and ``secret`` are what a client has to sign with; they belong to no real exchange.
    """

    host: str = "127.0.0.1"
    port: int = 0
    key: str = "simulated-key"
    secret: str = field(default="simulated-secret", repr=False)
    seed: int = 1
    #: The only sub-account that the key may act for; empty: none.
    sub_account_id: str = ""
    #: A signed time further from ours than this is refused. VALR doesn't publish its own window.
    time_window_s: float = 5.0
    #: A wrong signature or time: the upgrade is answered 401, or accepted and closed with 1007.
    refuse_by: Literal["http", "close"] = "close"
    allow_message_auth: bool = True
    auth_deadline_s: float = 10.0
    #: A client that sends nothing for so long is closed with 1000.
    idle_s: float = 30.0
    #: More upgrades than this in 60 s are answered 429; 0: no limit.
    upgrades_per_min: int = 60
    #: A failed validation: the answer has an ``error``, or an INVALID_… frame comes in its place.
    invalid_by: Literal["response", "invalid"] = "response"
    rates_per_s: Mapping[str, int] = Factory(_rates_per_s)
    maker_fee: Decimal = Decimal(0)
    taker_fee: Decimal = Decimal("0.001")
    #: What one order can take from the market at once, in the pair's smallest quantities.
    depth: int = 200_000
    balances: Mapping[str, Decimal] = Factory(_first_balances)
    #: Prices move, orders fill and transfers confirm once in this many seconds; 0: when reported
    #: to.
    tick_s: float = 0.0
    #: The account sees life without commands of its own: orders, deposits, rewards, withdrawals.
    autoplay: bool = False
    script: tuple[Step, ...] = ()
    flood: Flood | None = None
    #: Keep every text frame that was written, for tests to compare with.
    keep_sent: bool = True
