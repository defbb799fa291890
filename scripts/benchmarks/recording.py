"""The daemon as `recorder run` runs it, reporting how long each frame took from read to commit.

Takes its settings from the environment, like the command. When END is durable it prints one line of
JSON (events, seconds from reading the first of them to the last one's commit, p50 and p99 in
milliseconds, peak memory) and goes on until SIGTERM.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import sys
import time
from collections.abc import Sequence
from functools import partial

import trio

from recorder.cli.run import leave, tune_interpreter
from recorder.config import read_settings
from recorder.log.rules.event import Event
from recorder.runtime import Runtime
from recorder.signals import run_until_signal

latencies_us: list[int] = []
#: When the first measured frame was read, in microseconds since 1970.
began_us: list[int] = []


def note(events: Sequence[Event]) -> None:
    """Keep the latencies of a commit's frames; report at END."""
    now_us = time.time_ns() // 1_000
    for event in events:
        if event.type == "BALANCE_UPDATE":
            began_us[:] = began_us or [event.received_us]
            latencies_us.append(now_us - event.received_us)
        elif event.type == "OPEN_ORDERS_UPDATE":
            latencies_us.clear()
            began_us.clear()
        elif event.type == "END":
            report(now_us)


def report(now_us: int) -> None:
    """Print what was measured."""
    ordered = sorted(latencies_us)
    print(
        json.dumps(
            {
                "events": len(ordered),
                "seconds": (now_us - began_us[0]) / 1e6,
                "p50_ms": ordered[len(ordered) // 2] / 1_000,
                "p99_ms": ordered[len(ordered) * 99 // 100] / 1_000,
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024,
            }
        ),
        flush=True,
    )


def main() -> None:
    """Run until SIGTERM."""
    logging.basicConfig(level=logging.WARNING)
    tune_interpreter()
    settings, runtime = read_settings(os.environ), Runtime(on_commit=note)
    trio.run(run_until_signal, settings, partial(leave, sys.stderr), runtime)


if __name__ == "__main__":
    main()
