"""What was read behind a standstill is doubted until a PING reported after it is answered."""

from __future__ import annotations

from recorder.connection.observation import ActiveSession
from recorder.exchange.session import Session


def opened() -> ActiveSession:
    live = ActiveSession("c", Session())
    live.session.on_open(0)
    live.session.on_frame(0, "AUTHENTICATED", '{"type":"AUTHENTICATED"}')
    converse_with(live, 1)
    return live


def converse_with(live: ActiveSession, second: int, kind: str = "BALANCE_UPDATE") -> None:
    live.last_frame_us, live.last_frame_ns = second * 1_000_000, second * 1_000_000_000
    live.session.on_frame(second, kind, "")
    if kind == "PONG":
        live.confirm()


def certain_s(live: ActiveSession) -> float:
    assert live.certain_ns is not None
    return live.certain_ns / 1e9


def test_the_last_frame_is_certain_where_reading_went_on() -> None:
    live = opened()
    converse_with(live, 3)
    assert certain_s(live) == 3


def test_a_pong_for_a_ping_sent_before_the_standstill_confirms_nothing() -> None:
    live = opened()
    assert live.session.pings == (1, 0)
    live.mark_unconfirmed()
    converse_with(live, 3)
    converse_with(live, 4, "PONG")
    assert certain_s(live) == 1
    live.session.on_time(25)
    assert live.session.pings == (2, 1)
    converse_with(live, 26, "PONG")
    assert certain_s(live) == 26
    assert live.certain_at == "1970-01-01T00:00:26+00:00"


def test_a_second_standstill_leaves_the_moment_before_the_first() -> None:
    live = opened()
    live.mark_unconfirmed()
    converse_with(live, 3, "PONG")
    live.mark_unconfirmed()
    converse_with(live, 5)
    assert certain_s(live) == 1
    live.session.on_time(25)
    converse_with(live, 26, "PONG")
    assert certain_s(live) == 26


def test_a_ping_answered_behind_a_second_standstill_still_ends_the_doubt_of_the_first() -> None:
    live = opened()
    live.mark_unconfirmed()
    converse_with(live, 3, "PONG")
    live.session.on_time(25)
    live.mark_unconfirmed()
    assert certain_s(live) == 1
    converse_with(live, 26, "PONG")
    assert live.session.pings == (2, 2)
    assert certain_s(live) == 3
