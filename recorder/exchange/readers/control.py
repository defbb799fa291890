"""Readers of frames about the connection itself."""

from __future__ import annotations

from recorder.exchange.fields import Fields
from recorder.exchange.messages import Authenticated, CancelOnDisconnectUpdate, Control, Message


def authenticated(type_: str, _frame: Fields) -> Message:
    """Read AUTHENTICATED: the exchange knows who we are."""
    return Authenticated(type_)


def control(type_: str, frame: Fields) -> Message:
    """Read SUBSCRIBED, PONG, ERROR and the like: words about the connection."""
    return Control(type_, frame.words("message"))


def cancel_on_disconnect(type_: str, frame: Fields) -> Message:
    """Read CANCEL_ON_DISCONNECT_UPDATE; its flag comes in a text."""
    return CancelOnDisconnectUpdate(type_, frame.inner("data").flag("cancelOnDisconnect"))
