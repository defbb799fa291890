"""What a simulated exchange can be told."""

from __future__ import annotations

from decimal import Decimal

from attrs import Factory, frozen


def _first_balances() -> dict[str, Decimal]:
    return {
        "ZAR": Decimal("100000"),
        "BTC": Decimal("0.5"),
        "ETH": Decimal("4"),
        "USDC": Decimal("2500"),
    }


@frozen
class SimulatorConfig:
    """One account on one port. Times are seconds, fees fractions.

    ``secret`` and ``key`` are compared with what a client sends; they belong to no real exchange.
    """

    host: str = "127.0.0.1"
    port: int = 0
    key: str = "simulated-key"
    secret: str = "simulated-secret"
    seed: int = 1
    sub_account_id: str = ""
    #: A signed time further from ours than this is refused.
    time_window_s: float = 5.0
    #: A wrong signature: "http" answers the upgrade with 401, "close" closes it with 1007.
    refuse_by: str = "close"
    allow_message_auth: bool = True
    auth_deadline_s: float = 10.0
    idle_s: float = 30.0
    #: A failed validation: "response" answers with an error, "invalid" with an INVALID_… frame.
    invalid_by: str = "response"
    maker_fee: Decimal = Decimal("0")
    taker_fee: Decimal = Decimal("0.0010")
    balances: dict[str, Decimal] = Factory(_first_balances)
    #: Prices move and resting orders fill once in this many seconds; 0: only when told to.
    tick_s: float = 0.0
    #: The account sees life without commands of its own: deposits, rewards, other orders.
    autoplay: bool = False
    commands_per_s: int = 400
    #: Ahead of the real time by so much: what a client with a wrong clock meets.
    clock_ahead_s: float = 0.0
    #: Keep every text frame that was written, for a test to compare with.
    keep_sent: bool = True
