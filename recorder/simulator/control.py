"""``POST /simulator/…``: makes an exchange that runs in another process do things.

Each takes a JSON object, whose members are the arguments of the function named beside it:

    faults     `Faults.change`, by fault
    drop       `Simulator.drop`: how, code, reason
    emit       frame: the text to send, byte for byte
    garbage    kind: one of `GARBAGE`
    oversized  bytes: the length of the frame to send
    tick       times
    fill       order_id, quantity, price
    deposit    currency, amount, needed
    withdraw   currency, amount
    reward     currency, amount
    trade_future        pair, side, quantity, price
    add_conditional     pair, quantity, take_profit, stop_loss
    remove_conditional  order_id, reason

Amounts are decimal strings.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any

import trio

from recorder.simulator.config import Step
from recorder.simulator.faults import GARBAGE
from recorder.simulator.frames import CURRENCIES
from recorder.simulator.http import Answer
from recorder.simulator.hub import How, Simulator
from recorder.simulator.requests import read_amount

PREFIX = "/simulator/"
#: A close frame has room for no more.
REASON_BYTES_MAX = 123
_AMOUNTS = ("amount", "quantity", "price", "take_profit", "stop_loss")
_WORDS: Mapping[str, Collection[str]] = {
    "how": ("close", "cut", "reset", "silent"),
    "kind": GARBAGE,
    "currency": CURRENCIES,
    "side": ("buy", "sell"),
}
#: Least and most. A frame of 200 MB is larger than any client takes.
_NUMBERS = {
    "code": (1000, 4999),
    "bytes": (100, 200_000_000),
    "times": (1, 10_000),
    "needed": (0, 1000),
}


async def answer_control(simulator: Simulator, path: str, body: bytes) -> Answer:
    """Carry out a request, and return how many connections there are now."""
    try:
        settings = json.loads(body or b"{}")
        if not isinstance(settings, dict):
            raise ValueError("settings are a JSON object")
        await control(simulator, path.removeprefix(PREFIX), settings)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return Answer(400, {"message": ascii(error)})
    return Answer(200, {"connections": len(simulator.peers)})


async def run_script(simulator: Simulator, script: Iterable[Step]) -> None:
    """Carry out one step after the other."""
    for step in script:
        await trio.sleep(step.after_s)
        await control(simulator, step.control, step.settings)


async def control(simulator: Simulator, what: str, settings: Mapping[str, Any]) -> None:
    """Carry one control out. Raises ValueError or TypeError for what can't be, changing nothing."""
    if what == "faults":
        simulator.faults.change(settings)
        return
    if what not in _CONTROLS:
        raise ValueError(f"no control {what}; there are faults, {', '.join(_CONTROLS)}")
    read = {name: _read(name, value) for name, value in settings.items()}
    await _CONTROLS[what](simulator, **read)


def _read(name: str, value: Any) -> Any:
    """Return an argument as its function takes it. Raises ValueError."""
    if name in _WORDS:
        if value not in _WORDS[name]:
            raise ValueError(f"{name} is one of {', '.join(_WORDS[name])}")
        return value
    if name in _NUMBERS:
        least, most = _NUMBERS[name]
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"{name} is a whole number from {least} to {most}")
        return value
    if not isinstance(value, str):
        raise ValueError(f"{name} is a string")
    if name in _AMOUNTS:
        return read_amount(name, value)
    # Half a surrogate pair can only be sent as an escape within the text.
    value.encode()
    return value


async def _garbage(simulator: Simulator, kind: str) -> None:
    await simulator.emit(GARBAGE[kind])


async def _oversized(simulator: Simulator, **settings: int) -> None:
    # Not a parameter, as ``bytes`` is a type.
    head, tail = '{"type":"BIG","data":"', '"}'
    await simulator.emit(head + "x" * (settings["bytes"] - len(head + tail)) + tail)


async def _tick(simulator: Simulator, times: int = 1) -> None:
    for _ in range(times):
        await simulator.tick()


async def _close(
    simulator: Simulator, how: How = "close", code: int = 1000, reason: str = ""
) -> None:
    if len(reason.encode()) > REASON_BYTES_MAX:
        raise ValueError(f"reason has at most {REASON_BYTES_MAX} bytes")
    await simulator.drop(how, code, reason)


_CONTROLS: Mapping[str, Callable[..., Awaitable[None]]] = {
    "drop": _close,
    "emit": Simulator.emit,
    "garbage": _garbage,
    "oversized": _oversized,
    "tick": _tick,
    "fill": Simulator.fill,
    "deposit": Simulator.deposit,
    "withdraw": Simulator.withdraw,
    "reward": Simulator.reward,
    "trade_future": Simulator.trade_future,
    "add_conditional": Simulator.add_conditional,
    "remove_conditional": Simulator.remove_conditional,
}
