"""Readers of the answers to commands."""

from __future__ import annotations

from recorder.exchange.fields import FieldError, Fields, encode_value, plain_words
from recorder.exchange.messages import (
    BatchOutcome,
    CommandError,
    CommandResponse,
    Message,
    RateLimitExceeded,
)


def response(type_: str, frame: Fields) -> Message:
    """Read any …_WS_RESPONSE: received, or turned down at once."""
    data = frame.find("data")
    inner = Fields(data, "data.") if isinstance(data, dict) else Fields({}, "data.")
    return CommandResponse(
        type_,
        client_msg_id=frame.text("clientMsgId"),
        order_id=inner.text("orderId"),
        customer_order_id=inner.text("customerOrderId"),
        modify_request_id=inner.text("modifyRequestId"),
        requested=inner.flag("requested"),
        error=_error(frame),
        outcomes=_outcomes(frame, inner),
        batch_id=inner.text("batchId"),
    )


def invalid(type_: str, frame: Fields) -> Message:
    """Read an INVALID_… answer: turned down at validation, whatever it says of the reason."""
    data = frame.find("data")
    inner = Fields(data, "data.") if isinstance(data, dict) else frame
    ids = frame.text("clientMsgId") or inner.text("clientMsgId")
    words = inner.words("message", "reason")
    error = _error(frame) or _error(inner) or CommandError(words or type_)
    return CommandResponse(type_, ids, None, None, None, None, error, (), None)


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


def _outcomes(frame: Fields, inner: Fields) -> tuple[BatchOutcome, ...]:
    """Read what became of a batch's requests, wherever it stands: VALR shows no such answer."""
    data = frame.find("data")
    listed = data if isinstance(data, list) else inner.find("outcomes")
    if listed is None:
        listed = frame.find("outcomes")
    if listed is None:
        return ()
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise FieldError("data.outcomes is no list of objects")
    outcomes = [Fields(each, f"data.outcomes[{place}].") for place, each in enumerate(listed)]
    return tuple(
        BatchOutcome(
            accepted=outcome.required_flag("accepted"),
            order_id=outcome.text("orderId"),
            customer_order_id=outcome.text("customerOrderId"),
            request_type=outcome.text("requestType"),
            error=_error(outcome),
        )
        for outcome in outcomes
    )


def rate_limit(type_: str, frame: Fields) -> Message:
    """Read RATE_LIMIT_EXCEEDED."""
    data = frame.find("data")
    inner = Fields(data if isinstance(data, dict) else {}, "data.")
    return RateLimitExceeded(type_, frame.text("clientMsgId"), inner.text("requestType"))
