"""What may become of a REST answer. Pure, but for the dice that it is given."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from attrs import evolve

from recorder.simulator.faults import Faults
from recorder.simulator.http import Answer, Asked
from recorder.simulator.orders import Order

#: For an order that isn't there.
INVALID_ORDER = Answer(400, {"code": -1, "message": "Invalid Order. "})
#: Seconds that a ``limited`` answer tells to wait.
RETRY_AFTER_S = 1


def spoiled(faults: Faults, asked: Asked, answer: Answer, dice: random.Random) -> Answer | None:
    """Return what is answered in the place of the right answer; None: the line is cut instead."""
    fault = faults.take_rest_fault()
    if fault == "cut":
        return None
    if fault == "limited":
        headers = (("x-valr-ratelimited", "true"), ("Retry-After", str(RETRY_AFTER_S)))
        return Answer(429, {"message": "Too Many Requests"}, headers=headers)
    if fault == "error":
        return Answer(500, {"message": "simulated"})
    if fault == "html":
        return Answer(200, b"<html>Please wait</html>", "text/html")
    if fault == "cut_json":
        return evolve(answer, content=answer.body[: len(answer.body) // 2])
    if not isinstance(answer.content, list):
        return answer
    rows = list(answer.content)
    if faults.rest_rows_max and "history" in asked.path:
        rows = rows[: faults.rest_rows_max]
    if fault == "shuffled":
        dice.shuffle(rows)
    if fault == "odd_row":
        rows.append({"id": "odd", "price": "much"})
    return evolve(answer, content=rows)


def behind(answer: Answer, orders: Mapping[str, Order], shown_until: datetime) -> Answer:
    """Return the answer as if REST had not heard yet of orders made after ``shown_until``."""

    def is_unheard(row: Any) -> bool:
        order = orders.get(str(row.get("orderId"))) if isinstance(row, dict) else None
        return order is not None and order.created_at > shown_until

    if isinstance(answer.content, list):
        rows = [row for row in answer.content if not is_unheard(row)]
        return evolve(answer, content=rows)
    return INVALID_ORDER if is_unheard(answer.content) else answer
