"""A primary that dies under load, and the standby that takes over: nothing acknowledged is lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio

from tests.cli.scene import ask
from tests.daemon.scene import FINAL, LIMIT, Scene, assert_chained, books_of, connected, until
from tests.daemon.test_outbox import sent_ids
from tests.database.cluster import Cluster, cluster

#: The server's own limits on a connection that is gone, with room.
BACK_S = 60.0


@pytest.fixture
def pair() -> Iterator[Cluster]:
    with cluster() as made:
        yield made


async def trade(scene: Scene, wanted: int) -> None:
    """Queue orders one after the other, until so many have come to their end."""
    for _ in range(wanted):
        number = scene.books.queue("PLACE_LIMIT_ORDER", LIMIT)
        await scene.until_status(number, *FINAL)


@pytest.mark.parametrize("is_synchronous", [True, False])
async def test_recording_goes_on_and_nothing_acknowledged_is_lost(
    pair: Cluster, is_synchronous: bool, caplog: pytest.LogCaptureFixture
) -> None:
    pair.ask(pair.primary, "CREATE DATABASE recorder ENCODING 'UTF8' TEMPLATE template0")
    url = pair.url("recorder")
    async with connected(url) as scene:
        await scene.until_live()
        if is_synchronous:
            await trio.to_thread.run_sync(pair.make_synchronous)
        await trade(scene, 3)
        await scene.until_folded()
        if not is_synchronous:
            await trio.to_thread.run_sync(pair.cut_off)
            await trade(scene, 3)
            await scene.until_folded()
        before = scene.books.ask("SELECT position, digest FROM events ORDER BY position")
        sent = sent_ids(scene.books)
        await trio.to_thread.run_sync(pair.fail_over)
        with books_of(url) as books:
            scene.books = books
            # PONGs and notes go on, each one more event, once the recorder finds the standby.
            await until(lambda: books.count("events") > len(before), BACK_S)
            after = books.ask("SELECT position, digest FROM events ORDER BY position")
            assert after[: len(before)] == before
            await trade(scene, 2)
            again = sent_ids(books)
            assert {name: again[name] for name in sent} == dict(sent)
            assert set(again.values()) == {1}
            assert_chained(books)
            await scene.until_folded()
    put_back = "which it had committed; they are put back" in caplog.text
    assert put_back != is_synchronous
    assert ask(url, "verify", "--account", "main").code == 0
