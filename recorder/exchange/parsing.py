"""From a frame's text to a message: one reader per type, in one table.

Nothing raises: what can't be read becomes `Unrecognised`, with the member that was in the way, and
stays in the log whatever it was. Members that nobody has told of are passed by.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from recorder.exchange.fields import FieldError, Fields, decode_object
from recorder.exchange.messages import Message, Unrecognised
from recorder.exchange.readers import answers, control, futures, money, orders

#: Of ``…_WS_RESPONSE``; the answer to a batch has no published name, so that less will do.
RESPONSE_SUFFIX = "_RESPONSE"
INVALID_PREFIX = "INVALID_"

Reader = Callable[[str, Fields], Message]


def parse_message(type_: str, text: str) -> Message:
    """Return what the frame says; ``type_`` is what `frame_type` found in it. Never raises."""
    reader = _READERS.get(type_)
    if reader is None and type_.startswith(INVALID_PREFIX):
        reader = answers.invalid
    elif reader is None and type_.endswith(RESPONSE_SUFFIX):
        reader = answers.response
    if reader is None:
        return Unrecognised(type_, "no JSON object with a type" if not type_ else "unknown type")
    try:
        return reader(type_, Fields(decode_object(text)))
    except FieldError as error:
        return Unrecognised(type_, str(error))
    except RecursionError:
        return Unrecognised(type_, "the JSON is nested too deeply")


_READERS: Mapping[str, Reader] = {
    "AUTHENTICATED": control.authenticated,
    "SUBSCRIBED": control.control,
    "UNSUBSCRIBED": control.control,
    "PONG": control.control,
    "NO_SUBSCRIPTIONS": control.control,
    "UNSUPPORTED": control.control,
    "ERROR": control.control,
    "CANCEL_ON_DISCONNECT_UPDATE": control.cancel_on_disconnect,
    "BALANCE_UPDATE": money.balance,
    "OPEN_ORDERS_UPDATE": orders.open_orders,
    "ORDER_PROCESSED": orders.processed,
    "ORDER_STATUS_UPDATE": orders.status,
    "FAILED_ORDER": orders.failed_order,
    "FAILED_CANCEL_ORDER": orders.failed_cancel,
    "MODIFY_ORDER_OUTCOME": orders.modify_outcome,
    "INSTANT_ORDER_COMPLETED": orders.instant_order,
    "NEW_ACCOUNT_TRADE": money.trade,
    "NEW_ACCOUNT_HISTORY_RECORD": money.history,
    "NEW_PENDING_RECEIVE": money.receive,
    "NEW_PENDING_SEND": money.send,
    "SEND_STATUS_UPDATE": money.send_status,
    "OPEN_POSITION_UPDATE": futures.position,
    "REDUCE_POSITION": futures.reduce_position,
    "POSITION_CLOSED": futures.position_closed,
    "ADD_CONDITIONAL_ORDER": futures.add_conditional,
    "REMOVE_CONDITIONAL_ORDER": futures.remove_conditional,
    "LEVERAGE_UPDATED": futures.leverage,
    "MARGIN_INFO": futures.margin,
    "RATE_LIMIT_EXCEEDED": answers.rate_limit,
}
