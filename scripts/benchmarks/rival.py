"""Procrastinate on the same server: from an enqueued job's COMMIT to the start of the job.

The worker waits in LISTEN, like our commander; the caller defers one job per transaction at a rate,
or all at once. Both print a job's name and a monotonic time in nanoseconds.

    python rival.py DATABASE_URL schema | worker | caller COUNT RATE PREFIX
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
import time
from typing import Any

import procrastinate


def worker_app(url: str) -> procrastinate.App:
    """Return an app whose one task reports when it began."""
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url))

    def take(name: str) -> None:
        sys.stdout.write(f"{name} {time.monotonic_ns()}\n")

    app.task(name="take")(take)
    return app


async def work(url: str) -> None:
    """Work until killed."""
    async with (app := worker_app(url)).open_async():
        print("ready", flush=True)
        await app.run_worker_async(listen_notify=True, delete_jobs="never")


def call(url: str, count: int, rate: float, prefix: str) -> None:
    """Defer so many jobs, and report when each was durable."""
    app = procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=url))
    with app.open():
        deferrer = app.configure_task("take")
        if not rate:
            jobs: list[dict[str, Any]] = [{"name": f"{prefix}-{each}"} for each in range(count)]
            deferrer.batch_defer(*jobs)
            print(f"{prefix}-all", time.monotonic_ns())
            return
        committed = []
        for number in range(count):
            time.sleep(random.uniform(0.5, 1.5) / rate)
            deferrer.defer(name=f"{prefix}-{number}")
            committed.append((f"{prefix}-{number}", time.monotonic_ns()))
    for name, time_ns in committed:
        print(name, time_ns)


def main() -> None:
    """Play one of the parts."""
    url, part = sys.argv[1], sys.argv[2]
    # It reports that a module run as a script is no place for an app.
    logging.disable(logging.WARNING)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    if part == "worker":
        asyncio.run(work(url))
    elif part == "schema":
        app = procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=url))
        with app.open():
            app.schema_manager.apply_schema()
    else:
        call(url, int(sys.argv[3]), float(sys.argv[4]), sys.argv[5])


if __name__ == "__main__":
    main()
