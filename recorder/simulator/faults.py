"""How the exchange can misbehave, as values that tests, scripts and the control path set."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping
from typing import Any

from attrs import define, field, fields

from recorder.simulator.config import Step

#: What may become of one command, in the order in which they are set:
#: - lose_command: it is not read at all
#: - swallow_answer: it is carried out and what follows is reported, but not its answer
#: - swallow_outcome: it is carried out and answered, but what follows is not reported
#: - accept_then_cut: it is carried out, then the connection is reset before a word is reported
#: - answer_without_order: it is answered, and then lost by the engine
COMMAND_FAULTS = (
    "lose_command",
    "swallow_answer",
    "swallow_outcome",
    "accept_then_cut",
    "answer_without_order",
)

#: What may become of one REST answer, in the order in which they are set:
#: - limited: 429 with Retry-After
#: - error: 500
#: - html: 200 with a page of HTML
#: - cut_json: the first half of the right answer
#: - cut: the line is cut without an answer
#: - shuffled: the right rows, in any order
#: - odd_row: with an unreadable row
#: - none: the right answer
REST_FAULTS = ("limited", "error", "html", "cut_json", "cut", "shuffled", "odd_row", "none")

#: Frames that no reader expects, by name.
GARBAGE: Mapping[str, str | bytes] = {
    "no_json": "this is no JSON {",
    "cut_json": '{"type":"BALANCE_UPDATE","data":{"curr',
    "no_object": '["an", "array"]',
    "empty": "",
    "unknown_type": '{"type":"SOMETHING_NEW","data":{"a":1}}',
    "type_is_no_text": '{"type":["BALANCE_UPDATE"],"data":{}}',
    "wrong_shape": '{"type":"BALANCE_UPDATE","data":"nothing"}',
    "no_amount": '{"type":"BALANCE_UPDATE","data":{"currency":"BTC","available":"x"}}',
    "surrogate": '{"type":"BALANCE_UPDATE","data":{"currency":"\\ud800"}}',
    "nul_escaped": '{"type":"A\\u0000B","data":"\\u0000"}',
    "nul": '{"type":"A","data":"\x00"}',
    "nan": '{"type":"BALANCE_UPDATE","data":{"currency":"BTC","available":NaN}}',
    "huge_number": '{"type":"BALANCE_UPDATE","data":{"currency":"BTC","available":1e999999}}',
    "twice_the_name": '{"type":"A","type":"BALANCE_UPDATE","data":{},"data":null}',
    "deep": '{"type":"DEEP","data":' + "[" * 100_000 + "]" * 100_000 + "}",
    "binary": b"\x00\xff\xfe binary",
}
#: What a fault may be set to besides 0; the others are true or false.
_ALLOWED: Mapping[str, tuple[float, float]] = {
    "refuse_upgrade": (400, 511),
    "rest_status": (400, 511),
    "delay_s": (0, 3600),
    "clock_ahead_s": (-1e9, 1e9),
    "rest_delay_s": (0, 3600),
    "rest_behind_s": (0, 3600),
    "rest_rows_max": (1, 1000),
}
#: Faults that queue up, and what they may be.
_QUEUES: Mapping[str, tuple[str, ...]] = {
    "next_commands": COMMAND_FAULTS,
    "next_rest": REST_FAULTS,
}
#: Seconds between two steps of a script made from a seed, at most.
PAUSE_S_MAX = 5.0


@define
class Faults:
    """What is wrong at the moment; a new one is a healthy exchange. Times are seconds."""

    refuse_upgrade: int = 0  # the HTTP status of the answer; 0: none
    stall_upgrade: bool = False
    withhold_authenticated: bool = False
    no_pong: bool = False
    #: Open connections stay open and nothing is read or written any more; new ones likewise.
    silent: bool = False
    duplicate: bool = False  # every frame comes twice
    delay_s: float = 0.0  # every frame comes so much later, in order
    clock_ahead_s: float = 0.0
    rest_status: int = 0  # of every REST answer; 0: the right one
    rest_is_html: bool = False
    no_empty_list: bool = False  # a client without open orders gets no empty list on connecting
    no_futures: bool = False  # the key may not ask for positions and conditional orders
    rest_delay_s: float = 0.0  # every REST answer comes so much later
    rest_behind_s: float = 0.0  # REST knows orders and their fills only so much later
    rest_rows_max: int = 0  # of a page of a history; 0: as many as are asked for
    without_ids: bool = (
        False  # fills and transactions are reported without ids, as in VALR's old frames
    )
    next_rest: deque[str] = field(factory=deque)
    next_commands: deque[str] = field(factory=deque)

    def change(self, settings: Mapping[str, Any]) -> None:
        """Set faults by name; those for commands queue up. Raises ValueError, changing nothing."""
        known = {each.name for each in fields(Faults)}
        changed = {name: self._read(name, settings[name]) for name in settings if name in known}
        if unknown := set(settings) - known:
            raise ValueError(f"no fault {', '.join(sorted(unknown))}; there are {sorted(known)}")
        self.next_commands.extend(changed.pop("next_commands", ()))
        self.next_rest.extend(changed.pop("next_rest", ()))
        for name, value in changed.items():
            setattr(self, name, value)

    def take_command_fault(self) -> str:
        """Return what is to become of the command that has just come; empty for nothing odd."""
        return self.next_commands.popleft() if self.next_commands else ""

    def take_rest_fault(self) -> str:
        """Return what is to become of the answer that is to be given; empty for nothing odd."""
        return self.next_rest.popleft() if self.next_rest else ""

    def _read(self, name: str, value: Any) -> Any:
        if name in _QUEUES:
            if not isinstance(value, list) or not all(each in _QUEUES[name] for each in value):
                raise ValueError(f"{name} is a list of {', '.join(_QUEUES[name])}")
            return value
        allowed = _ALLOWED.get(name)
        if allowed is None:
            if not isinstance(value, bool):
                raise ValueError(f"{name} is true or false")
            return value
        # NaN is in no range.
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{name} is a number")
        if value != 0 and not allowed[0] <= value <= allowed[1]:
            raise ValueError(f"{name} is 0 or from {allowed[0]} to {allowed[1]}")
        return type(getattr(self, name))(value)


def script_from(seed: int, steps: int) -> tuple[Step, ...]:
    """Return a script of faults that follows from a seed; what it breaks, it fixes."""
    rng = random.Random(seed)
    script: list[Step] = []
    for _ in range(steps):
        script.extend(_episode(rng))
    return tuple(script)


def _episode(rng: random.Random) -> list[Step]:
    pause_s = round(rng.uniform(0, PAUSE_S_MAX), 3)
    what = rng.choice(("drop", "garbage", "command", "hold"))
    if what == "drop":
        return [Step(pause_s, "drop", {"how": rng.choice(("close", "cut", "reset"))})]
    if what == "garbage":
        return [Step(pause_s, "garbage", {"kind": rng.choice(list(GARBAGE))})]
    if what == "command":
        return [Step(pause_s, "faults", {"next_commands": [rng.choice(COMMAND_FAULTS)]})]
    name, wrong, right = rng.choice(_HOLDS)
    fixed_after_s = round(rng.uniform(0, PAUSE_S_MAX), 3)
    return [Step(pause_s, "faults", {name: wrong}), Step(fixed_after_s, "faults", {name: right})]


_HOLDS: tuple[tuple[str, Any, Any], ...] = (
    ("refuse_upgrade", 503, 0),
    ("stall_upgrade", True, False),
    ("no_pong", True, False),
    ("silent", True, False),
    ("duplicate", True, False),
    ("delay_s", 0.5, 0.0),
    ("clock_ahead_s", 30.0, 0.0),
    ("rest_status", 429, 0),
)
