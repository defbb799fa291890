"""A recorder that is killed at any moment leaves no checkpoint of what was never written."""

from __future__ import annotations

import json
import random
from pathlib import Path

import trio

from recorder.log.sql.checkpoint_file import make_keys
from tests.daemon.scene import exchange
from tests.processes.scene import call, environment_for, kill, running, stop
from tests.processes.test_running import REWARD

KILLS = 4


async def test_killed_again_and_again_its_checkpoints_still_agree_with_its_log(
    database_url: str, tmp_path: Path
) -> None:
    rng = random.Random(20261123)
    outside = tmp_path / "outside"
    outside.mkdir()
    make_keys(outside / "key")
    reported = {
        "RECORDER_CHECKPOINT_FILE": str(outside / "heads"),
        "RECORDER_CHECKPOINT_KEY_FILE": str(outside / "key"),
        "RECORDER_CHECKPOINT_EVERY_S": "0.01",
    }
    async with exchange() as simulator:
        environment = environment_for(tmp_path, database_url, simulator, **reported)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_talk, simulator.reward)
            for _ in range(KILLS):
                async with running(tmp_path, environment, simulator) as process:
                    await trio.sleep(rng.uniform(0.2, 1.0))
                    await kill(process)
                verified = await call(tmp_path, environment, "verify", "--json")
                assert verified.code == 0, verified
            async with running(tmp_path, environment, simulator) as process:
                last = await stop(tmp_path, process)
            nursery.cancel_scope.cancel()
        assert last.code == 0
        assert "INFO recorder.checkpoints: checkpoint {" in last.err
        verified = await call(tmp_path, environment, "verify", "--json")
    answer = json.loads(verified.out)
    assert (verified.code, answer["signatures"]) == (0, "checked")
    # The stop took the very last head out.
    assert answer["checkpoint_position"] == answer["position"]
    assert answer["checkpoints"] > KILLS


async def _talk(reward: object) -> None:
    assert callable(reward)
    while True:
        await reward("USDC", REWARD)
        await trio.sleep(0.002)
