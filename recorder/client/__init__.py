"""Queue commands from any Python program, in its own transaction.

    from recorder.client import PlaceLimitOrder, enqueue

    order = PlaceLimitOrder(side="BUY", pair="BTCZAR", quantity="0.001", price=1_000_000)
    enqueue(connection, "main", order, client_msg_id="signal-4711")

It needs no recorder running, imports neither the daemon nor an event loop, and no database driver
that the program hasn't imported itself. docs/how-to/queue-from-python.md has an example for each.
"""

from recorder.client.commands import (
    Amount,
    CancelOrder,
    Command,
    ModifyMatchStrategy,
    ModifyOrder,
    PlaceBatchOrders,
    PlaceLimitOrder,
    PlaceMarketOrder,
    Request,
    Side,
    TimeInForce,
)
from recorder.client.queueing import (
    AlreadyQueued,
    OnRepeat,
    Queued,
    enqueue,
    enqueue_async,
)
from recorder.errors import Refused

__all__ = [
    "AlreadyQueued",
    "Amount",
    "CancelOrder",
    "Command",
    "ModifyMatchStrategy",
    "ModifyOrder",
    "OnRepeat",
    "PlaceBatchOrders",
    "PlaceLimitOrder",
    "PlaceMarketOrder",
    "Queued",
    "Refused",
    "Request",
    "Side",
    "TimeInForce",
    "enqueue",
    "enqueue_async",
]
