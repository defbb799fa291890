"""From a frame's text to a message: one table from a frame's type to its class or reader.

Nothing raises: what cannot be read becomes `Unrecognised`, naming the member in the way. Unknown
members are ignored. To add a frame type, declare its class in `messages` and add a line to
`_KINDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import evolve

from recorder.exchange.declared import read_as, unreadable_of
from recorder.exchange.fields import (
    FieldError,
    Fields,
    Number,
    decode_object,
    encode_value,
    plain_words,
)
from recorder.exchange.messages import (
    AddConditionalOrder,
    Authenticated,
    BalanceUpdate,
    BatchOutcome,
    CancelOnDisconnectUpdate,
    CommandError,
    CommandResponse,
    Control,
    FailedCancelOrder,
    FailedOrder,
    InstantOrderCompleted,
    LeverageUpdated,
    MarginInfo,
    Message,
    ModifyOrderOutcome,
    NewAccountHistoryRecord,
    NewAccountTrade,
    NewPendingReceive,
    NewPendingSend,
    OpenOrder,
    OpenOrdersUpdate,
    OpenPositionUpdate,
    OrderProcessed,
    OrderStatusUpdate,
    PositionClosed,
    RateLimitExceeded,
    ReducePosition,
    RemoveConditionalOrder,
    SendStatusUpdate,
    Unrecognised,
)

#: Of ``…_WS_RESPONSE``. The answer to a batch has no published name, so the shorter suffix counts.
RESPONSE_SUFFIX = "_RESPONSE"
INVALID_PREFIX = "INVALID_"

Reader = Callable[[str, Fields], Message]


def parse_message(type_: str, text: str) -> Message:
    """Return the message in a frame; ``type_`` is the result of `frame_type`. Never raises."""
    kind = _KINDS.get(type_)
    reader = _READERS.get(type_)
    if reader is None and type_.startswith(INVALID_PREFIX):
        reader = _invalid
    elif reader is None and type_.endswith(RESPONSE_SUFFIX):
        reader = _response
    if kind is None and reader is None:
        return Unrecognised(type_, "no JSON object with a type" if not type_ else "unknown type")
    try:
        frame = Fields(decode_object(text))
        if reader is not None:
            return reader(type_, frame)
        assert kind is not None
        return read_as(kind, frame.inner("data"), type_)
    except FieldError as error:
        return Unrecognised(type_, str(error))
    except RecursionError:
        return Unrecognised(type_, "the JSON is nested too deeply")


#: Frames whose ``data`` holds exactly the declared fields of a class.
_KINDS: Mapping[str, type[Message]] = {
    "CANCEL_ON_DISCONNECT_UPDATE": CancelOnDisconnectUpdate,
    "BALANCE_UPDATE": BalanceUpdate,
    "ORDER_PROCESSED": OrderProcessed,
    "ORDER_STATUS_UPDATE": OrderStatusUpdate,
    "FAILED_ORDER": FailedOrder,
    "FAILED_CANCEL_ORDER": FailedCancelOrder,
    "MODIFY_ORDER_OUTCOME": ModifyOrderOutcome,
    "INSTANT_ORDER_COMPLETED": InstantOrderCompleted,
    "NEW_ACCOUNT_HISTORY_RECORD": NewAccountHistoryRecord,
    "NEW_PENDING_RECEIVE": NewPendingReceive,
    "NEW_PENDING_SEND": NewPendingSend,
    "SEND_STATUS_UPDATE": SendStatusUpdate,
    "OPEN_POSITION_UPDATE": OpenPositionUpdate,
    "REDUCE_POSITION": ReducePosition,
    "POSITION_CLOSED": PositionClosed,
    "ADD_CONDITIONAL_ORDER": AddConditionalOrder,
    "REMOVE_CONDITIONAL_ORDER": RemoveConditionalOrder,
    "LEVERAGE_UPDATED": LeverageUpdated,
}


def _control(type_: str, frame: Fields) -> Message:
    return Control(type_, frame.words("message"))


def _trade(type_: str, frame: Fields) -> Message:
    """Read NEW_ACCOUNT_TRADE; one shape names its pair outside ``data``."""
    trade = read_as(NewAccountTrade, frame.inner("data"), type_)
    return trade if trade.pair else evolve(trade, pair=frame.text("currencyPairSymbol"))


def _open_orders(type_: str, frame: Fields) -> Message:
    """Read OPEN_ORDERS_UPDATE: a bare list, or an object with the list and an account's id."""
    data, account_id = frame.find("data"), None
    if isinstance(data, dict):
        holder = Fields(data, "data.")
        data, account_id = holder.find("orders"), holder.text("accountId")
    if not isinstance(data, list):
        raise FieldError("data holds no list of orders")
    orders = tuple(_open_order(element, place) for place, element in enumerate(data))
    return OpenOrdersUpdate(type_, orders, account_id, unreadable=unreadable_of(orders))


def _open_order(element: object, place: int) -> OpenOrder:
    if not isinstance(element, dict):
        raise FieldError(f"data[{place}] is no JSON object")
    return read_as(OpenOrder, Fields(element, f"data[{place}]."))


def _margin(type_: str, frame: Fields) -> Message:
    """Read MARGIN_INFO: every figure and every currency, by their names on the wire."""
    data = frame.inner("data")
    currencies, figures, unreadable = [], [], []
    for name, value in data.members.items():
        if name.endswith("Currency"):
            currencies += [(name, value)] if isinstance(value, str) else []
        elif isinstance(value, (str, int, Number)) and not isinstance(value, bool):
            try:
                figures.append((name, data.amount(name)))
            except FieldError as error:
                unreadable.append(str(error))
    known = tuple((name, amount) for name, amount in figures if amount is not None)
    return MarginInfo(type_, known, tuple(currencies), unreadable=tuple(unreadable))


def _data_of(frame: Fields) -> Fields:
    data = frame.find("data")
    return Fields(data if isinstance(data, dict) else {}, "data.")


def _response(type_: str, frame: Fields) -> Message:
    """Read any …_WS_RESPONSE: received, or refused at once."""
    outcomes = _outcomes(frame, _data_of(frame))
    return read_as(CommandResponse, frame, type_, error=_error(frame), outcomes=outcomes)


def _invalid(type_: str, frame: Fields) -> Message:
    """Read an INVALID_… answer: refused at validation, with whatever reason it gives."""
    data = _data_of(frame) if isinstance(frame.find("data"), dict) else frame
    ids = frame.text("clientMsgId") or data.text("clientMsgId")
    words = data.words("message", "reason")
    error = _error(frame) or _error(data) or CommandError(words or type_)
    return CommandResponse(type_, ids, None, None, None, None, None, error=error)


def _error(frame: Fields) -> CommandError | None:
    error = frame.find("error")
    if error is None:
        return None
    if not isinstance(error, dict):
        return CommandError(plain_words(error if isinstance(error, str) else encode_value(error)))
    inner = Fields(error, "error.")
    details = inner.find("validationErrors")
    return CommandError(
        inner.words("message") or inner.text("code") or "the exchange gave no reason",
        None if details is None else encode_value(details),
    )


def _outcomes(frame: Fields, data: Fields) -> tuple[BatchOutcome, ...]:
    """Read the outcomes of a batch, at each place where they may be: no shape is published."""
    bare = frame.find("data")
    listed = bare if isinstance(bare, list) else data.find("outcomes")
    if listed is None:
        listed = frame.find("outcomes")
    if listed is None:
        return ()
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise FieldError("data.outcomes is no list of objects")
    outcomes = [Fields(each, f"data.outcomes[{place}].") for place, each in enumerate(listed)]
    return tuple(read_as(BatchOutcome, each, error=_error(each)) for each in outcomes)


def _rate_limit(type_: str, frame: Fields) -> Message:
    return RateLimitExceeded(type_, frame.text("clientMsgId"), _data_of(frame).text("requestType"))


_READERS: Mapping[str, Reader] = {
    "AUTHENTICATED": lambda type_, _: Authenticated(type_),
    **dict.fromkeys(
        ("SUBSCRIBED", "UNSUBSCRIBED", "PONG", "NO_SUBSCRIPTIONS", "UNSUPPORTED", "ERROR"), _control
    ),
    "OPEN_ORDERS_UPDATE": _open_orders,
    "NEW_ACCOUNT_TRADE": _trade,
    "MARGIN_INFO": _margin,
    "RATE_LIMIT_EXCEEDED": _rate_limit,
}
