"""``recorder simulator``: a simulated exchange on this machine, until Ctrl-C."""

from __future__ import annotations

import signal
from argparse import ArgumentParser
from functools import partial

import trio
from attrs import evolve

from recorder.cli.call import Call
from recorder.cli.exits import OK
from recorder.cli.flags import whole
from recorder.cli.groups import only
from recorder.cli.output import Output
from recorder.errors import ConfigurationError
from recorder.simulator import Simulator, SimulatorConfig, serve

#: Between two moves of the market, in seconds.
TICK_S = 0.5
PORT_MAX = 65535


def configure(parser: ArgumentParser) -> None:
    """Add this command's arguments."""
    default = SimulatorConfig()
    parser.add_argument(
        "--port", type=whole(0, PORT_MAX), default=0, metavar="N", help="[a free one]"
    )
    parser.add_argument("--host", default=default.host, help=f"where to listen [{default.host}]")
    parser.add_argument("--key", default=default.key, help=f"API key it accepts [{default.key}]")
    parser.add_argument("--secret", default=default.secret, help=f"its secret [{default.secret}]")
    parser.add_argument(
        "--seed",
        type=whole(0),
        default=default.seed,
        metavar="X",
        help=f"what ids, prices and fills follow from [{default.seed}]",
    )
    parser.add_argument(
        "--autoplay", action="store_true", help="the account sees life without commands"
    )


def run(call: Call) -> int:
    """Serve until SIGINT or SIGTERM."""
    asked = call.arguments
    config = evolve(
        SimulatorConfig(),
        host=asked.host,
        port=asked.port,
        key=asked.key,
        secret=asked.secret,
        seed=asked.seed,
        autoplay=asked.autoplay,
        tick_s=TICK_S,
        # It may run for weeks.
        keep_sent=False,
    )
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
