"""Neither key nor secret is ever written down or reported, whatever goes wrong."""

from __future__ import annotations

import logging
import traceback
from typing import Any

import pytest
import trio
import trio.testing
from attrs import evolve
from sqlalchemy import inspect

from recorder.daemon import run_daemon
from recorder.errors import RecorderError
from tests.daemon.scene import (
    KEY,
    LIMIT,
    SECRET,
    Books,
    Scene,
    daemon,
    exchange,
    runtime,
    settings_for,
    until,
)

WRONG = "a-wrong-secret-for-tests"


def assert_unsaid(text: str) -> None:
    """Check a text for what must not be in it, in any case of letters."""
    for hidden in (KEY, SECRET, WRONG):
        assert hidden not in text.lower()


def everything_in(books: Books) -> str:
    """Return every text column of every table."""
    found: list[str] = []
    look = inspect(books.connection)
    for table in look.get_table_names():
        for row in books.ask(f"SELECT * FROM {table}"):
            found += [value for value in row if isinstance(value, str)]
    return "\n".join(found)


async def live_and_fail(scene: Scene) -> None:
    """Meet everything that quotes a client's words: refusals, closes, commands, garbage."""
    await scene.until_connected(1)
    placed = scene.books.queue("PLACE_LIMIT_ORDER", LIMIT)
    await scene.until_status(placed, "accepted")
    for how in ("close", "reset"):
        was = scene.simulator.connections
        if how == "close":
            # An exchange that repeats our key to us, in two cases of letters.
            await scene.simulator.drop("close", 1008, f"key {KEY} and {KEY.upper()} {SECRET}")
        else:
            await scene.simulator.drop("reset")
        await scene.until_connected(was + 1)


@pytest.mark.parametrize("auth", ["headers", "message"])
async def test_a_recorder_at_work_never_writes_its_credentials_down(
    database_url: str, auth: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "recorder")
    async with exchange() as simulator:
        async with daemon(database_url, simulator, auth=auth) as scene:
            await live_and_fail(scene)
            await scene.until_folded()
            kept = everything_in(scene.books)
            assert_unsaid(repr(scene.settings) + str(scene.settings.accounts))

    assert "closed with code 1008" in kept
    assert_unsaid(kept)
    assert_unsaid(caplog.text)
    # The signature of this moment would open the channel for a few seconds.
    assert '"signature"' not in kept
    assert "AUTHENTICATE" in kept if auth == "message" else "X-VALR" not in kept


@pytest.mark.parametrize("auth", ["headers", "message"])
@pytest.mark.parametrize("refuse_by", ["close", "http"])
async def test_a_refused_recorder_never_shows_its_credentials(
    sqlite_url: str, auth: str, refuse_by: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    given: dict[str, Any] = {"auth": auth, "VALR_API_SECRET": WRONG}
    async with exchange(refuse_by=refuse_by) as simulator:
        async with daemon(sqlite_url, simulator, **given) as scene:
            await until(lambda: bool(scene.books.endings()))
            await scene.until_folded()
            assert_unsaid(everything_in(scene.books))

    assert "refused the credentials" in caplog.text
    ours = [each for each in caplog.records if each.name.startswith("recorder")]
    assert_unsaid("\n".join(each.getMessage() for each in ours))


QUOTING = f'{{"message":"no key {KEY}, nor {KEY.upper()}"}}'.encode()
#: One that is whole, and one whose end is unknown.
REFUSALS = {
    "whole": b"HTTP/1.1 401 X\r\nContent-Length: %d\r\n\r\n" % len(QUOTING) + QUOTING,
    "short": b"HTTP/1.1 403 X\r\nContent-Length: 999\r\n\r\n" + QUOTING,
}


@pytest.mark.parametrize("answer", REFUSALS)
async def test_a_refusal_that_quotes_our_key_is_kept_without_it(
    database_url: str, answer: str, caplog: pytest.LogCaptureFixture
) -> None:
    peers: list[trio.abc.Stream] = []

    async def open_stream(_url: str) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        peers.append(theirs)
        return ours

    async with exchange() as simulator:
        around = evolve(runtime(), open_stream=open_stream)
        async with daemon(database_url, simulator, around) as scene:
            await until(lambda: peers)
            await peers[0].receive_some()
            await peers[0].send_all(REFUSALS[answer])
            await peers[0].aclose()
            await until(lambda: scene.books.has_note("CONNECTION_REFUSED"))
            await scene.until_folded()
            kept = everything_in(scene.books)

    assert "no key ***, nor ***" in kept
    assert "no key ***" in caplog.text
    assert_unsaid(kept + caplog.text)


@pytest.mark.parametrize("auth", ["headers", "message"])
async def test_an_error_that_ends_the_recorder_shows_no_credentials(
    sqlite_url: str, auth: str
) -> None:
    async with exchange() as simulator, daemon(sqlite_url, simulator, auth=auth):
        second = settings_for(sqlite_url, simulator, auth=auth, lease_ttl_s="1")
        with pytest.raises(RecorderError) as caught:
            await run_daemon(second, runtime(holder="a/b/1/1"), stop=trio.Event())

    reported = "".join(traceback.format_exception(caught.value))
    assert_unsaid(reported + repr(caught.value))


async def test_a_password_in_the_databases_address_is_not_shown(postgres_url: str) -> None:
    url = postgres_url.replace("postgresql://postgres", "postgresql://intruder", 1)
    url = url.replace("intruder:@", "intruder:" + SECRET + "@").replace(
        "intruder@", f"intruder:{SECRET}@"
    )
    async with exchange() as simulator:
        with pytest.raises(RecorderError) as caught:
            await run_daemon(settings_for(url, simulator), runtime(), stop=trio.Event())

    assert_unsaid("".join(traceback.format_exception(caught.value)))
