"""The bare receive loop: trio-websocket alone, counting. The floor that ingest is compared with.

python reader.py URL
"""

from __future__ import annotations

import sys
import time

import trio
from trio_websocket import open_websocket_url


async def main() -> None:
    """Count frames until END and print frames per second."""
    async with open_websocket_url(sys.argv[1]) as socket:
        while not str(await socket.get_message()).startswith('{"type":"OPEN_ORDERS'):
            pass
        await socket.get_message()
        began, count = time.perf_counter(), 1
        while not str(await socket.get_message()).startswith('{"type":"END"'):
            count += 1
        print(count / (time.perf_counter() - began), flush=True)
        # The blaster reports no goodbye; waiting for one would end in a time-out.
        await trio.aclose_forcefully(socket._stream)


if __name__ == "__main__":
    trio.run(main)
