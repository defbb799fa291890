"""``recorder simulator``: a simulated exchange on this machine, until Ctrl-C."""

from __future__ import annotations

import signal
from functools import partial

import trio

from recorder.cli.call import Call
from recorder.cli.command import NEITHER, argument, command, switch, value, whole
from recorder.cli.exits import OK, only
from recorder.cli.output import Output
from recorder.errors import ConfigurationError
from recorder.simulator import Simulator, SimulatorConfig, serve

#: Between two moves of the market, in seconds.
TICK_S = 0.5
PORT_MAX = 65535
_DEFAULT = SimulatorConfig()


@command(
    value("--port", whole(0, PORT_MAX), "N", "[a free one]", default=0),
    argument("--host", default=_DEFAULT.host, help=f"where to listen [{_DEFAULT.host}]"),
    argument("--key", default=_DEFAULT.key, help=f"API key it accepts [{_DEFAULT.key}]"),
    argument("--secret", default=_DEFAULT.secret, help=f"its secret [{_DEFAULT.secret}]"),
    value(
        "--seed",
        whole(0),
        "X",
        f"what ids, prices and fills follow from [{_DEFAULT.seed}]",
        default=_DEFAULT.seed,
    ),
    switch("--autoplay", "the account sees activity without commands"),
    settings=(),
    prints=NEITHER,
)
def simulator_command(call: Call) -> int:
    """Serve until SIGINT or SIGTERM."""
    asked = call.arguments
    names = ("host", "port", "key", "secret", "seed", "autoplay")
    given = {name: getattr(asked, name) for name in names}
    # It may run for weeks, so it keeps nothing of what it sent.
    config = SimulatorConfig(**given, tick_s=TICK_S, keep_sent=False)
    try:
        trio.run(_serve_until_signal, config, call.output)
    except BaseExceptionGroup as group:
        # The address is in use, or not one of ours.
        if (error := only(OSError, group)) is None:
            raise
        raise ConfigurationError(f"can't listen on {asked.host}:{asked.port}: {error}") from group
    return OK


async def _serve_until_signal(config: SimulatorConfig, output: Output) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            simulator: Simulator = await nursery.start(partial(serve, config))
            for line in simulator.export_lines():
                output.line(line)
            output.out.flush()
            await anext(signals)
            nursery.cancel_scope.cancel()
