"""The frame that a queued row becomes, and the names that it gives."""

from __future__ import annotations

from recorder.exchange.commands import (
    Encoded,
    WireNames,
    encode_command,
    generated_customer_order_id,
    wire_msg_id,
)
from recorder.outbox.rules.selection import QueuedRow


def encode_row(account: str, row: QueuedRow, names: WireNames) -> Encoded:
    """Return the frame of a row's next sending. Raises Refused for what can't be sent."""
    fallback = generated_customer_order_id(account, row.outbox_id, row.client_msg_id)
    msg_id = wire_msg_id(row.client_msg_id, row.attempts)
    return encode_command(row.command, row.payload, msg_id, names, fallback)
