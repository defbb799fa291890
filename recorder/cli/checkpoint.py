"""``recorder checkpoint``: take the heads of the log out of the database now.

It only reads the database, so it may run beside a recorder. ``keygen`` makes the key that signs.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import trio
from sqlalchemy import Connection

from recorder.cli.call import Call
from recorder.cli.command import DATABASE, argument, command
from recorder.cli.exits import OK, WRONG
from recorder.cli.output import quoted
from recorder.errors import CheckpointNotWritten, ConfigurationError
from recorder.log.rules.checkpoint import Checkpoint, checkpoint_line
from recorder.log.rules.event import EMPTY_HEAD, Head
from recorder.log.sql.checkpoint_file import is_readable_by_others, make_keys, public_file_of
from recorder.log.sql.read import head
from recorder.log.tasks.checkpoints import LogSink, Place
from recorder.runtime import Runtime
from recorder.wiring import checkpoint_sinks, signing_key


@command(
    argument(
        "action", nargs="?", choices=["keygen"], help="keygen: make a key that signs checkpoints"
    ),
    settings=(*DATABASE, "checkpoint_file", "checkpoint_hook", "checkpoint_key_file"),
)
def checkpoint_command(call: Call) -> int:
    """Take out the heads of one account, or of all; or make a key."""
    if call.arguments.action == "keygen":
        return _keygen(call)
    settings = call.settings()
    key = signing_key(settings)
    if key is None:
        call.output.remark("without a signature: checkpoint_key_file isn't set")
    elif is_readable_by_others(Path(settings.checkpoint_key_file)):
        call.output.warn(f"{settings.checkpoint_key_file} can be read by others: chmod 600 it")
    # What this prints takes the place of the recorder's log.
    runtime = Runtime(environment=call.environment)
    sinks = [each for each in checkpoint_sinks(settings, runtime) if each != LogSink()]
    heads = call.read(_heads, call)
    codes = [OK if heads else WRONG]
    for account, found in heads.items():
        line = checkpoint_line(Checkpoint(account, found, call.clock.wall_us()), key)
        sentence = f"account {quoted(account)}: position {found.position} {found.digest.hex()}"
        call.output.fact(json.loads(line), sentence)
        codes += [_publish(call, sink, line) for sink in sinks]
    if not heads:
        call.output.warn("there is no head to take out: no account has an event yet")
    return max(codes)


def _heads(connection: Connection, call: Call) -> dict[str, Head]:
    heads = {account: head(connection, account) for account in call.recorded_accounts(connection)}
    return {account: found for account, found in heads.items() if found != EMPTY_HEAD}


def _publish(call: Call, sink: Place, line: str) -> int:
    try:
        trio.run(partial(sink.take, line))
    except CheckpointNotWritten as error:
        call.output.warn(f"{sink.name} did not take the checkpoint: {error}")
        return WRONG
    call.output.remark(f"written to {sink.name}")
    return OK


def _keygen(call: Call) -> int:
    name = call.settings().checkpoint_key_file
    if not name:
        raise ConfigurationError("name the file of the key to make: --checkpoint-key-file FILE")
    file = Path(name)
    public, public_file = make_keys(file).public.hex(), str(public_file_of(file))
    call.output.fact(
        {"key_file": name, "public_file": public_file, "public_key": public},
        f"{file} holds the key, for its owner alone; {public_file} its public half:\n"
        f"{public}\nKeep the public half where the owner of this machine can't change it.",
    )
    return OK
