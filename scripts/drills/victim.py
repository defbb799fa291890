"""Recorders that kill themselves at a step of a command's way.

A process that has imported everything forks one recorder after the other, so that a life takes a
fraction of a second. It reads lines ``STEP NTH SECONDS`` and answers each with ``PID`` and, when
that life has ended, with how. At the ``NTH`` time that it comes to the step the recorder sends
SIGKILL to itself; nothing of its own runs after that. ``none`` lets it live.

    python victim.py
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from trio_websocket import WebSocketConnection

import recorder.cli
from recorder import wiring as parts
from recorder.cli import main
from recorder.connection import connection
from recorder.log.tasks import inbox, log_writer
from recorder.outbox.sql import settle
from recorder.outbox.tasks import commander

#: The steps, in the order in which a command comes to them.
STEPS = (
    "before the claim",
    "claimed, not recorded",
    "recorded, not committed",
    "committed, not written",
    "before the write",
    "after the write",
    "before it is marked as sent",
    "the answer read, not recorded",
    "the answer recorded",
    "before it is judged",
    "judged, not committed",
    "at any moment",
)


class Reaper:
    """Kills this process the nth time that it is called."""

    def __init__(self, nth: int) -> None:
        self.left = nth

    def pass_by(self) -> None:
        """Count one, and die if it was the last."""
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def is_answer(kind: str) -> bool:
    """Return what the exchange reports of a command."""
    return kind.endswith("_WS_RESPONSE") or kind.startswith(("ORDER_", "FAILED_", "MODIFY_"))


def arm(step: str, nth: int, seconds: float) -> None:
    """Lay the trap. It wraps what the daemon calls, and changes nothing of what that does."""
    reaper = Reaper(nth)
    if step == "at any moment":
        timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL))
        timer.daemon = True
        timer.start()
    elif step != "none":
        TRAPS[step](reaper)


def before(owner: Any, name: str, reaper: Reaper, if_: Callable[..., bool] = bool) -> None:
    """Pass the reaper before each call whose arguments fit."""
    real = getattr(owner, name)

    def wrapped(*given: Any, **named: Any) -> Any:
        if if_(*given, **named):
            reaper.pass_by()
        return real(*given, **named)

    setattr(owner, name, wrapped)


def after(owner: Any, name: str, reaper: Reaper, if_: Callable[[Any], bool]) -> None:
    """Pass the reaper after each call whose result fits."""
    real = getattr(owner, name)

    def wrapped(*given: Any, **named: Any) -> Any:
        done = real(*given, **named)
        if if_(done):
            reaper.pass_by()
        return done

    setattr(owner, name, wrapped)


def always(*_: Any, **__: Any) -> bool:
    """Count every call."""
    return True


def has_sent(appended: log_writer.Appended) -> bool:
    """Return whether a command's event is among what was appended."""
    return any(event.type == "COMMAND_CLAIMED" for event in appended.events)


def has_answer(appended: log_writer.Appended) -> bool:
    """Return whether an answer is among what was appended."""
    return any(event.origin == "received" and is_answer(event.type) for event in appended.events)


def around_sending(reaper: Reaper, *, behind: bool) -> None:
    """Pass the reaper at each command that is written to the socket."""
    real = WebSocketConnection.send_message

    async def send_message(self: Any, message: str) -> None:
        is_command = "clientMsgId" in message
        if is_command and not behind:
            reaper.pass_by()
        await real(self, message)
        if is_command and behind:
            reaper.pass_by()

    setattr(WebSocketConnection, "send_message", send_message)  # noqa: B010 - as for `before`


def is_answer_put(_: Any, entry: Any) -> bool:
    """Report an answer that is handed to the log."""
    return getattr(entry, "origin", "") == "received" and is_answer(entry.type)


TRAPS: dict[str, Callable[[Reaper], None]] = {
    "before the claim": lambda r: before(commander, "dispatch", r, always),
    "claimed, not recorded": lambda r: after(commander, "dispatch", r, lambda done: done.taken),
    "recorded, not committed": lambda r: after(log_writer, "append_batch", r, has_sent),
    "committed, not written": lambda r: before(
        log_writer.LogWriter, "_durable", r, lambda _self, _batch, appended: has_sent(appended)
    ),
    "before the write": lambda r: around_sending(r, behind=False),
    "after the write": lambda r: around_sending(r, behind=True),
    "before it is marked as sent": lambda r: before(commander.Commander, "_written", r, always),
    "the answer read, not recorded": lambda r: before(inbox.Inbox, "put", r, is_answer_put),
    "the answer recorded": lambda r: before(
        log_writer.LogWriter, "_durable", r, lambda _self, _batch, appended: has_answer(appended)
    ),
    "before it is judged": lambda r: before(settle, "_write", r, always),
    "judged, not committed": lambda r: before(settle, "move_checkpoint", r, always),
}


def live(step: str, nth: int, seconds: float) -> None:
    """Be a recorder, for as long as it lasts."""
    quiet = os.open("recorder.err", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    # This exchange counts no questions, and hundreds of warnings are to be settled in seconds.
    parts.REST_AT_ONCE, parts.REST_PER_S = 200, 200.0
    arm(step, nth, seconds)
    sys.argv = ["recorder", "run"]
    os._exit(main())


def serve() -> None:
    """Fork recorders for as long as any reader asks."""
    assert recorder.cli and connection
    for line in sys.stdin:
        step, nth, seconds = line.rstrip("\n").split("\t")
        pid = os.fork()
        if pid == 0:
            live(step, int(nth), float(seconds))
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
