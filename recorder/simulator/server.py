"""The shell: one port for the account's WebSocket, the REST paths and the controls.

A connection's requests decide: an upgrade makes it a `Peer`, anything else is answered over HTTP.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import trio

from recorder.clock import SystemClock
from recorder.simulator.activity import act_at_random
from recorder.simulator.config import SimulatorConfig
from recorder.simulator.control import PREFIX, answer_control, run_script
from recorder.simulator.http import Answer, Asked, HttpStream
from recorder.simulator.hub import Simulator
from recorder.simulator.peer import GONE, Peer
from recorder.simulator.rest import answer as answer_rest
from recorder.simulator.rest import behind, spoiled
from recorder.simulator.session import PATH, Claim, Refusal, converse, credentials_refusal

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FUTURES = ("/v1/positions/", "/v1/orders/conditionals")
NOT_ALLOWED = Answer(403, {"code": -19213, "message": "Futures are not enabled"})
TOO_MANY = Answer(429, {"message": "Too Many Requests"}, headers=(("x-valr-ratelimited", "true"),))


def system_time() -> datetime:
    """Return the time of this machine."""
    return EPOCH + timedelta(microseconds=SystemClock().wall_us())


async def serve(
    config: SimulatorConfig,
    *,
    clock: Callable[[], datetime] = system_time,
    task_status: trio.TaskStatus[Simulator] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; the `Simulator` is reported once it listens.

    ``clock`` returns aware UTC times. Raises OSError if it can't listen there.
    """
    simulator = Simulator(config, clock)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(
            partial(
                trio.serve_tcp,
                partial(serve_stream, simulator),
                config.port,
                host=config.host,
            )
        )
        simulator.port = listeners[0].socket.getsockname()[1]
        if config.tick_s:
            nursery.start_soon(_keep_ticking, simulator)
        nursery.start_soon(run_script, simulator, config.script)
        task_status.started(simulator)


async def _keep_ticking(simulator: Simulator) -> None:
    """Let the market move without waiting: a client that doesn't read stops no market."""
    exchange, config = simulator.exchange, simulator.config
    while True:
        await trio.sleep(config.tick_s)
        simulator.send(exchange.tick())
        if config.autoplay:
            simulator.send(act_at_random(exchange))


async def serve_stream(simulator: Simulator, stream: trio.abc.Stream) -> None:
    """Serve one connection to its end: of TCP, or of streams in memory on a mock clock."""
    http = HttpStream(stream)
    try:
        while (asked := await http.receive()) is not None:
            if asked.is_upgrade:
                await _serve_upgrade(simulator, http, asked)
                break
            answer = await answer_request(simulator, asked)
            if answer is None or not await http.answer(answer):
                break
    except GONE:
        pass
    finally:
        # At once: a reset asked for by a fault must not become a polite end.
        await trio.aclose_forcefully(stream)


async def answer_request(simulator: Simulator, asked: Asked) -> Answer | None:
    """Return the answer to whatever is no upgrade; None where the line is to be cut instead."""
    if asked.path.startswith(PREFIX):
        if asked.verb != "POST":
            return Answer(405, {"message": "use POST"})
        return await answer_control(simulator, asked.path, asked.body)
    faults = simulator.faults
    if faults.rest_status == TOO_MANY.status:
        return TOO_MANY
    if faults.rest_is_html:
        return Answer(faults.rest_status or 400, b"<html>Bad Request</html>", "text/html")
    if faults.rest_status:
        return Answer(faults.rest_status, {"message": "simulated"})
    if faults.no_futures and asked.path.startswith(FUTURES):
        return NOT_ALLOWED
    # Made now, and on its way for so long.
    now = simulator.now()
    answer = answer_rest(simulator.exchange, asked, now)
    if faults.rest_behind_s:
        orders = simulator.exchange.trading.orders.all
        answer = behind(answer, orders, now - timedelta(seconds=faults.rest_behind_s))
    await trio.sleep(faults.rest_delay_s)
    return spoiled(faults, asked, answer, simulator.rng)


async def _serve_upgrade(simulator: Simulator, http: HttpStream, asked: Asked) -> None:
    if simulator.faults.stall_upgrade or simulator.faults.silent:
        await trio.sleep_forever()
    claim = Claim.in_headers(asked.headers)
    needs_frame = claim.is_empty and simulator.config.allow_message_auth
    wrong = None if needs_frame else credentials_refusal(simulator, claim)
    if (answer := _turned_away(simulator, asked, wrong)) is not None:
        simulator.refused += 1
        await http.answer(answer)
        return
    simulator.connections += 1
    peer = Peer(http.stream, simulator.connections, simulator.faults, simulator.note_sent)
    if not await peer.accept(asked, http.left_over()):
        await http.answer(Answer(400, {"message": "no WebSocket upgrade"}))
    elif wrong is not None:
        simulator.refused += 1
        await peer.converse(partial(Peer.close_politely, code=1007, reason=wrong.message))
    else:
        await peer.converse(partial(converse, simulator, needs_frame=needs_frame))


def _turned_away(simulator: Simulator, asked: Asked, wrong: Refusal | None) -> Answer | None:
    """Return the answer to an upgrade that isn't accepted."""
    if simulator.faults.refuse_upgrade:
        return Answer(simulator.faults.refuse_upgrade, {"message": "simulated"})
    if asked.path != PATH:
        return Answer(404, {"code": -1, "message": "Not found"})
    if simulator.is_over_upgrade_limit():
        return TOO_MANY
    if wrong is None or (wrong.is_of_signature and simulator.config.refuse_by == "close"):
        return None
    return Answer(wrong.status, {"code": wrong.code, "message": wrong.message})
