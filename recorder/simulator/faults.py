"""How the exchange can misbehave, as values that tests and the control end-point set.

One-shot faults are taken from the front of ``next_command``; the others hold until they are unset.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from attrs import define, field, fields

#: What may become of one command: its answer is withheld; it is carried out and then the
#: connection is cut before any answer; only what follows the answer is sent; it is lost unread.
COMMAND_FAULTS = ("swallow_answer", "accept_then_cut", "answer_without_order", "lose_command")

#: Frames that no reader expects, by name. "nul" holds a NUL character, "surrogate" half of a pair.
GARBAGE: Mapping[str, str | bytes] = {
    "no_json": "this is no JSON {",
    "no_object": '["an", "array"]',
    "empty": "",
    "unknown_type": '{"type":"SOMETHING_NEW","data":{"a":1}}',
    "wrong_shape": '{"type":"BALANCE_UPDATE","data":"nothing"}',
    "no_amount": '{"type":"BALANCE_UPDATE","data":{"currency":"BTC","available":"x"}}',
    "surrogate": '{"type":"BALANCE_UPDATE","data":{"currency":"\\ud800"}}',
    "nul": '{"type":"A\\u0000B","data":"\x00"}',
    "deep": '{"type":"DEEP","data":' + "[" * 5_000 + "]" * 5_000 + "}",
    "big_number": '{"type":"BALANCE_UPDATE","data":{"currency":"BTC","available":1e999999}}',
    "binary": b"\x00\xff\xfe binary",
}


@define
class Faults:
    """What is wrong at the moment. Times are seconds."""

    refuse_upgrade: int = 0  # the HTTP status of the answer; 0: none
    stall_upgrade: bool = False
    withhold_authenticated: bool = False
    no_pong: bool = False
    silent: bool = False  # the socket stays open, nothing is read or written
    duplicate: bool = False  # every frame comes twice
    delay_s: float = 0.0
    rest_status: int = 0
    next_command: deque[str] = field(factory=deque)

    def change(self, settings: Mapping[str, Any]) -> None:
        """Set faults by name. Raises ValueError for a name or word that is none."""
        known = {each.name: each for each in fields(Faults)}
        for name, value in settings.items():
            if name not in known:
                raise ValueError(f"no fault is called {name}; there are {', '.join(known)}")
            if name == "next_command":
                words = [value] if isinstance(value, str) else list(value)
                if not set(words) <= set(COMMAND_FAULTS):
                    raise ValueError(f"next_command takes {', '.join(COMMAND_FAULTS)}")
                self.next_command.extend(words)
            else:
                setattr(self, name, type(getattr(self, name))(value))

    def take_command_fault(self) -> str:
        """Return what is to become of the command that has just come; empty for nothing odd."""
        return self.next_command.popleft() if self.next_command else ""
