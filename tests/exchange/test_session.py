"""The session's rules, reported frame by frame with times of our own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from recorder.exchange.frames import frame_type
from recorder.exchange.session import (
    LATE_S,
    PING,
    SUBSCRIBE,
    TRANSITIONS,
    Action,
    Fact,
    Lost,
    SendText,
    Session,
    SessionSettings,
    State,
)
from recorder.log.rules.event import Note

AUTHENTICATED = '{"type":"AUTHENTICATED"}'
PONG = '{"type":"PONG"}'
NO_ORDERS = '{"type":"OPEN_ORDERS_UPDATE","data":[]}'


def balance(code: str) -> str:
    """Return a BALANCE_UPDATE with as little in it as names a currency."""
    return json.dumps({"type": "BALANCE_UPDATE", "data": {"currency": {"shortName": code}}})


@define
class Driven:
    """A session that is called when it asks to be, and all its actions with their times."""

    session: Session = field(factory=Session)
    now_s: float = 0.0
    answer: list[tuple[float, Action]] = field(factory=list)

    def open(self, authenticate: SendText | None = None) -> Driven:
        self._keep(self.session.on_open(self.now_s, authenticate))
        return self

    def until(self, now_s: float) -> Driven:
        """Let the time pass, calling the session at each of its deadlines."""
        while (due_s := self.session.next_deadline) is not None and due_s <= now_s:
            self.now_s = max(self.now_s, due_s)
            self._keep(self.session.on_time(self.now_s))
        self.now_s = now_s
        return self

    def frame(self, text: str, at: float | None = None) -> Driven:
        self.until(self.now_s if at is None else at)
        self._keep(self.session.on_frame(self.now_s, frame_type(text), text))
        return self

    def authenticated(self) -> Driven:
        return self.open().frame(AUTHENTICATED)

    def live(self) -> Driven:
        """Return a session whose snapshot is complete at 1.0 s; a PING was answered then."""
        self.authenticated().frame(balance("BTC")).frame(NO_ORDERS).frame(PONG, at=1.0)
        assert self.session.state is State.LIVE
        return self

    def pings(self) -> list[float]:
        return [at for at, action in self.answer if action == SendText.of(PING)]

    def facts(self, note: Note) -> list[dict[str, object]]:
        return [
            dict(action.facts)
            for _, action in self.answer
            if isinstance(action, Fact) and action.note == note
        ]

    def lost(self) -> tuple[float, Lost]:
        ends = [(at, action) for at, action in self.answer if isinstance(action, Lost)]
        assert len(ends) == 1, self.answer
        return ends[0]

    def _keep(self, actions: Sequence[Action]) -> None:
        self.answer += [(self.now_s, action) for action in actions]


# Authenticating


def test_an_open_socket_is_not_authenticated() -> None:
    reported = Driven().open()
    assert not reported.session.authenticated
    assert reported.answer == []


def test_no_authenticated_in_time_ends_the_session_without_blaming_the_credentials() -> None:
    at, lost = Driven().open().until(60).lost()
    assert (at, lost.refused) == (10, False)


def test_frames_before_authenticated_are_no_authentication() -> None:
    reported = Driven().open().frame(balance("BTC")).frame(NO_ORDERS).frame(PONG)
    assert reported.session.state is State.AUTHENTICATING
    assert reported.until(60).lost()[0] == 10


@pytest.mark.parametrize("answer", ["ERROR", "UNAUTHORIZED", "AUTH_FAILED"])
def test_an_error_instead_of_authenticated_is_a_refusal(answer: str) -> None:
    text = json.dumps({"type": answer, "message": "key 0123456789 is wrong"})
    _, lost = Driven().open().frame(text).lost()
    assert lost.refused
    assert lost.by == "exchange"
    assert "0123456789" not in lost.reason


def test_the_in_band_frame_is_sent_at_open_and_logged_redacted() -> None:
    sent = SendText("with key", "without key")
    reported = Driven().open(sent)
    assert reported.answer == [(0, sent)]
    assert "with key" not in repr(reported.answer)


def test_an_exchange_that_does_not_know_the_in_band_frame_has_refused() -> None:
    unsupported = '{"type":"UNSUPPORTED"}'
    assert Driven().open(SendText("a", "b")).frame(unsupported).lost()[1].refused
    assert Driven().open().frame(unsupported).session.state is State.AUTHENTICATING


def test_authenticated_is_noted_before_the_one_subscribe() -> None:
    reported = Driven().authenticated()
    assert [action for _, action in reported.answer] == [
        Fact("CONNECTION_AUTHENTICATED", {}),
        SendText.of(SUBSCRIBE),
    ]
    again = reported.frame(AUTHENTICATED, at=0.5)
    assert len(again.facts(Note.CONNECTION_AUTHENTICATED)) == 1


def test_the_subscribe_can_be_left_out() -> None:
    reported = Driven(Session(SessionSettings(subscribe=False))).authenticated()
    assert SendText.of(SUBSCRIBE) not in [action for _, action in reported.answer]
    assert reported.frame('{"type":"ERROR"}').facts(Note.SUBSCRIBE_REFUSED) == []


@pytest.mark.parametrize("answer", ["UNSUPPORTED", "ERROR"])
def test_a_refused_subscribe_is_noted_once_and_not_fatal(answer: str) -> None:
    reported = Driven().authenticated()
    reported.frame(json.dumps({"type": answer})).frame(json.dumps({"type": answer}))
    assert reported.facts(Note.SUBSCRIBE_REFUSED) == [{"answer": answer}]
    assert reported.session.authenticated


def test_an_error_after_the_subscribe_was_taken_is_not_its_refusal() -> None:
    reported = Driven().authenticated().frame('{"type":"SUBSCRIBED"}').frame('{"type":"ERROR"}')
    assert reported.facts(Note.SUBSCRIBE_REFUSED) == []


# Alive


def test_a_socket_that_falls_silent_is_found_out_within_ten_seconds() -> None:
    at, lost = Driven().live().until(60).lost()
    assert at == 11
    assert lost.by == "network"
    assert not lost.refused


def test_pongs_keep_a_quiet_socket_alive() -> None:
    reported = Driven().live()
    for second in range(5, 600, 5):
        reported.frame(PONG, at=second + 1.5)
    assert reported.session.state is State.LIVE


def test_a_busy_socket_is_pinged_at_least_every_twenty_seconds() -> None:
    reported = Driven().live()
    for second in range(2, 100):
        reported.frame(balance("BTC"), at=second)
        if reported.pings()[-1] > second - 1:
            reported.frame(PONG)
    times = [0.0, *reported.pings()]
    assert all(later - earlier <= 20 for earlier, later in pairwise(times))
    assert reported.session.state is State.LIVE


def test_frames_without_any_pong_are_not_life_for_ever() -> None:
    reported = Driven().live()
    for tenth in range(11, 2000):
        reported.frame(balance("BTC"), at=tenth / 10)
        if reported.session.state is State.DEAD:
            break
    at, lost = reported.lost()
    first_unanswered = next(at for at in reported.pings() if at > 1.0)
    assert at == pytest.approx(first_unanswered + 30, abs=0.11)
    assert "PONG" in lost.reason


def test_silence_after_an_unanswered_ping_counts_from_the_last_frame() -> None:
    reported = Driven().live().until(6.0)
    assert reported.pings()[-1] == 6.0
    assert reported.frame(balance("BTC"), at=9.0).until(60).lost()[0] == 14


def test_time_in_which_nothing_was_read_is_not_held_against_the_exchange() -> None:
    reported = Driven().live().until(6.0)
    reported.session.pause(7.0)
    reported.until(300.0)
    assert reported.session.state is State.LIVE
    reported.session.resume(300.0)
    assert reported.until(301.0).session.state is State.LIVE
    assert reported.until(400.0).lost()[0] <= 300 + 10


def test_pings_go_on_while_nothing_is_read() -> None:
    reported = Driven().live().until(1.5)
    reported.session.pause(1.5)
    reported.until(200.0)
    times = [1.0, *(at for at in reported.pings() if at > 1.5)]
    assert len(times) > 9
    assert all(later - earlier <= 20 for earlier, later in pairwise(times))


def test_a_ping_sent_in_a_long_pause_is_overdue_soon_after_it() -> None:
    reported = Driven().live().until(1.5)
    reported.session.pause(1.5)
    reported.until(5000.0)
    reported.session.resume(5000.0)
    at, _ = reported.until(9000.0).lost()
    assert 5000 < at <= 5010


def test_a_pause_moves_the_deadlines_of_authenticating_and_of_the_snapshot() -> None:
    reported = Driven().open().until(9.0)
    reported.session.paused(8.0)
    assert reported.until(60).lost()[0] == 18
    reported = Driven(Session(SessionSettings(quiet_s=100))).authenticated().frame(balance("BTC"))
    reported.session.paused(0.5)
    reported.until(1.25)
    assert reported.pings() == []
    reported.until(1.5)
    assert reported.pings() == [1.5]
    reported = Driven().authenticated()
    for second in range(1, 9):
        reported.frame(PONG, at=second)
    reported.session.paused(4.0)
    for second in range(9, 14):
        reported.frame(PONG, at=second)
    assert reported.facts(Note.SNAPSHOT_COMPLETE) == []
    assert snapshot(reported.frame(PONG, at=14))["complete"] is False


def test_a_reported_pause_moves_the_pong_deadline_by_its_length() -> None:
    reported = Driven().live().until(6.0)
    reported.session.paused(3.0)
    assert reported.until(60).lost()[0] == 14


def test_a_timer_that_rings_late_gives_the_reader_time_before_judging() -> None:
    reported = Driven().live().until(6.0)
    assert reported.session.on_time(100.0) == [SendText.of(PING)]
    due_s = reported.session.next_deadline
    assert due_s is not None
    assert 100 < due_s <= 100 + LATE_S
    assert isinstance(reported.session.on_time(due_s)[0], Lost)


def test_a_pong_read_after_the_process_stood_still_saves_the_session() -> None:
    session = Driven().live().until(6.0).session
    assert session.on_frame(500.0, "PONG", PONG) == [SendText.of(PING)]
    assert session.state is State.LIVE


def test_an_unrequested_pong_answers_no_later_ping() -> None:
    reported = Driven().authenticated()
    for _ in range(5):
        reported.frame(PONG)
    reported.frame(balance("BTC")).frame(NO_ORDERS).until(1.5)
    assert reported.pings() == [1.0]
    assert reported.frame(balance("BTC")).session.state is State.SNAPSHOT


# Snapshot


def snapshot(reported: Driven) -> dict[str, object]:
    notes = reported.facts(Note.SNAPSHOT_COMPLETE)
    assert len(notes) == 1
    return notes[0]


def test_a_snapshot_is_complete_after_the_list_a_quiet_second_and_a_pong() -> None:
    reported = Driven().authenticated()
    reported.frame(balance("BTC"), at=0.1).frame(balance("ZAR"), at=0.3).frame(NO_ORDERS, at=0.4)
    assert reported.until(1.25).pings() == []
    reported.until(1.3)
    assert reported.pings() == [1.3]
    assert reported.facts(Note.SNAPSHOT_COMPLETE) == []
    reported.frame(PONG, at=1.4)
    assert snapshot(reported) == {
        "complete": True,
        "balances": True,
        "open_orders": True,
        "currencies": 2,
    }
    assert reported.session.state is State.LIVE


def test_a_new_currency_after_the_ping_restarts_the_proof() -> None:
    reported = Driven().authenticated().frame(NO_ORDERS).frame(balance("BTC")).until(1.0)
    reported.frame(balance("ZAR"), at=1.1).frame(PONG, at=1.2)
    assert reported.session.state is State.SNAPSHOT
    reported.frame(PONG, at=2.2)
    assert reported.pings() == [1.0, 2.1]
    assert snapshot(reported)["balances"] is True


def test_the_pong_of_an_earlier_ping_proves_nothing() -> None:
    reported = Driven().authenticated().frame(NO_ORDERS).frame(balance("BTC")).until(1.0)
    reported.frame(balance("ZAR"), at=1.1).until(2.2)
    assert reported.pings() == [1.0, 2.1]
    reported.frame(PONG, at=2.3)
    assert reported.session.state is State.SNAPSHOT
    assert snapshot(reported.frame(PONG, at=2.4))["complete"] is True


def test_a_currency_named_again_is_no_news_for_the_snapshot() -> None:
    reported = Driven().authenticated().frame(NO_ORDERS).frame(balance("BTC"))
    reported.frame(balance("BTC"), at=0.9).frame(PONG, at=1.1)
    assert snapshot(reported)["balances"] is True


def test_a_new_position_after_the_ping_restarts_the_proof_and_an_old_one_does_not() -> None:
    def position(name: str) -> str:
        data = {"positionId": name, "pair": "BTCUSDTPERP"}
        return json.dumps({"type": "OPEN_POSITION_UPDATE", "data": data})

    reported = Driven().authenticated().frame(NO_ORDERS).frame(balance("BTC")).frame(position("p"))
    reported.frame(position("p"), at=0.9).until(1.0)
    reported.frame(position("q"), at=1.1).frame(PONG, at=1.2)
    assert reported.session.state is State.SNAPSHOT
    reported.frame(PONG, at=2.2)
    assert reported.pings() == [1.0, 2.1]
    assert snapshot(reported)["complete"] is True


def test_currencies_that_never_stop_make_no_complete_snapshot() -> None:
    reported = Driven().authenticated().frame(NO_ORDERS)
    for place in range(40):
        reported.frame(PONG if place % 4 == 3 else balance(f"C{place}"), at=place / 2)
    assert snapshot(reported)["complete"] is False
    assert snapshot(reported)["balances"] is False
    assert snapshot(reported)["open_orders"] is True


def test_a_list_that_never_comes_leaves_the_open_orders_unknown() -> None:
    reported = Driven().authenticated().frame(balance("BTC")).frame(PONG, at=1.1)
    assert reported.facts(Note.SNAPSHOT_COMPLETE) == []
    for second in range(2, 12):
        reported.frame(PONG, at=second)
    assert snapshot(reported) == {
        "complete": False,
        "balances": False,
        "open_orders": False,
        "currencies": 1,
    }


def test_a_late_list_completes_the_snapshot_when_it_comes() -> None:
    reported = Driven().authenticated().frame(balance("BTC")).frame(PONG, at=1.1)
    assert snapshot(reported.frame(NO_ORDERS, at=4.0))["complete"] is True


def test_a_list_that_comes_after_the_verdict_completes_the_snapshot_all_the_same() -> None:
    reported = Driven().authenticated().frame(balance("BTC")).frame(PONG, at=1.1)
    for second in range(2, 12):
        reported.frame(PONG, at=second)
    assert snapshot(reported)["complete"] is False
    reported.frame(balance("BTC"), at=12.0).frame(NO_ORDERS, at=12.1)
    notes = reported.facts(Note.SNAPSHOT_COMPLETE)
    assert [note["complete"] for note in notes] == [False, True]
    assert notes[-1] == {"complete": True, "balances": True, "open_orders": True, "currencies": 1}
    assert reported.session.state is State.LIVE


def test_a_list_that_never_comes_is_empty_if_rest_reports_none() -> None:
    reported = Driven().authenticated().frame(balance("BTC")).until(1.0)
    # The naming has not ended: the list may still be on its way.
    assert reported.session.on_no_open_orders(1.0) == []
    reported.frame(PONG, at=1.1)
    notes = [
        each.note for each in reported.session.on_no_open_orders(1.5) if isinstance(each, Fact)
    ]
    assert notes == [Note.NO_OPEN_ORDERS, Note.SNAPSHOT_COMPLETE]
    assert reported.session.state is State.LIVE
    assert reported.session.on_no_open_orders(1.6) == []


@pytest.mark.parametrize("content", ["[]", '[{"orderId":"a"}]', "[{}]", "null"])
def test_a_list_that_came_is_not_made_up_for_readable_or_not(content: str) -> None:
    reported = Driven().authenticated().frame(f'{{"type":"OPEN_ORDERS_UPDATE","data":{content}}}')
    reported.frame(balance("BTC")).frame(PONG, at=1.1)
    assert not reported.session.lacks_list
    assert reported.session.on_no_open_orders(1.5) == []


def test_a_snapshot_that_is_late_is_renewed_like_one_that_came() -> None:
    reported = Driven().authenticated().frame(balance("BTC")).frame(PONG, at=1.1)
    reported.session.renew("too early: one is under way")
    for second in range(2, 12):
        reported.frame(PONG, at=second)
    reported.session.renew("we slept")
    reported.until(11.5).frame(PONG, at=11.6)
    assert "we slept" in reported.lost()[1].reason


def test_an_exchange_that_names_no_currency_has_not_reported_zeros() -> None:
    reported = Driven().authenticated().frame(NO_ORDERS).frame(PONG, at=1.1)
    assert reported.session.state is State.SNAPSHOT
    for second in range(2, 12):
        reported.frame(PONG, at=second)
    assert snapshot(reported)["balances"] is False


def test_a_snapshot_whose_ping_is_not_answered_is_not_complete() -> None:
    settings = SessionSettings(snapshot_timeout_s=4)
    reported = (
        Driven(Session(settings)).authenticated().frame(NO_ORDERS).frame(balance("BTC")).until(4)
    )
    assert snapshot(reported)["complete"] is False
    assert snapshot(reported)["balances"] is False


@pytest.mark.parametrize(
    "content",
    ['{"orders":[{"orderId":"a"}],"accountId":"b"}', '[{"orderId":"a"}]', "[]", '{"orders":[]}'],
)
def test_both_shapes_of_the_list_are_a_list(content: str) -> None:
    reported = Driven().authenticated().frame(f'{{"type":"OPEN_ORDERS_UPDATE","data":{content}}}')
    assert snapshot(reported.frame(balance("BTC")).frame(PONG, at=1.1))["open_orders"] is True


@pytest.mark.parametrize(
    "content",
    ["null", "{}", '{"orders":null}', "[{}]", "[null]", '[{"orderId":""}]', '[{"orderId":1}]', "1"],
)
def test_a_list_that_can_not_be_read_whole_is_no_list(content: str) -> None:
    reported = Driven().authenticated().frame(f'{{"type":"OPEN_ORDERS_UPDATE","data":{content}}}')
    reported.frame(balance("BTC")).frame(PONG, at=1.1)
    assert reported.facts(Note.SNAPSHOT_COMPLETE) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[1]",
        '{"type":"BALANCE_UPDATE"}',
        '{"type":"BALANCE_UPDATE","data":{"currency":true}}',
        '{"type":"BALANCE_UPDATE","data":{"currency":{"shortName":null}}}',
        '{"data":' + "[" * 100_000,
        '{"data":{"currency":{"shortName":' + "9" * 10_001 + "}}}",
    ],
)
def test_a_balance_that_can_not_be_read_names_no_currency(text: str) -> None:
    session = Driven().authenticated().frame(NO_ORDERS).session
    assert not session.on_frame(0.1, "BALANCE_UPDATE", text)
    reported = Driven(session, now_s=0.1)
    for second in range(1, 12):
        reported.frame(PONG, at=second)
    assert snapshot(reported)["currencies"] == 0


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"BALANCE_UPDATE","data":{"currency":"BTC","total":"one"}}',
        '{"type":"BALANCE_UPDATE","data":{"currency":{},"updatedAt":"soon"}}',
        '{"type":"BALANCE_UPDATE","data":null}',
        '{"type":"BALANCE_UPDATE","data":{"currency":"BTC","total":NaN}}',
        "nonsense",
    ],
)
def test_a_snapshot_with_an_unreadable_frame_infers_no_balance(
    text: str,
) -> None:
    reported = Driven().authenticated().frame(balance("ZAR")).frame(text).frame(NO_ORDERS)
    facts = snapshot(reported.frame(PONG, at=1.1))
    assert (facts["complete"], facts["balances"]) == (True, False)


def test_a_balance_without_a_readable_time_still_names_its_currency() -> None:
    text = '{"type":"BALANCE_UPDATE","data":{"currency":"BTC","total":"1","updatedAt":"soon"}}'
    facts = snapshot(Driven().authenticated().frame(text).frame(NO_ORDERS).frame(PONG, at=1.1))
    assert (facts["complete"], facts["balances"], facts["currencies"]) == (True, True, 1)


@pytest.mark.parametrize(
    "text", ['{"type":"OPEN_POSITION_UPDATE","data":{"positionId":"p"}}', "nonsense"]
)
def test_a_snapshot_with_an_unreadable_frame_infers_no_position(
    text: str,
) -> None:
    reported = Driven().authenticated().frame(balance("ZAR")).frame(text).frame(NO_ORDERS)
    facts = snapshot(reported.frame(PONG, at=1.1))
    assert (facts["complete"], facts["positions"]) == (True, False)


def test_an_empty_frame_hides_nothing() -> None:
    reported = Driven().authenticated().frame(balance("ZAR")).frame("").frame(NO_ORDERS)
    facts = snapshot(reported.frame(PONG, at=1.1))
    assert facts["balances"] is True
    assert "positions" not in facts


# The whole


def test_every_state_is_in_the_table_and_death_is_final() -> None:
    assert set(TRANSITIONS) == set(State)
    assert TRANSITIONS[State.DEAD] == frozenset()
    assert all(State.DEAD in TRANSITIONS[state] for state in State if state is not State.DEAD)


def test_a_dead_session_answers_nothing_and_keeps_its_first_reason() -> None:
    session = Driven().authenticated().session
    first = Lost("the recorder stopped", by="recorder")
    assert session.end(first) is first
    assert session.end(Lost("later")) is first
    assert not session.on_frame(1.0, "PONG", PONG)
    assert session.on_time(100.0) == []
    assert session.next_deadline is None
    assert not session.authenticated


TEXTS = st.one_of(
    st.sampled_from(
        [
            AUTHENTICATED,
            PONG,
            NO_ORDERS,
            balance("BTC"),
            balance("ZAR"),
            '{"type":"SUBSCRIBED"}',
            '{"type":"UNSUPPORTED"}',
            '{"type":"ERROR"}',
            '{"type":"BALANCE_UPDATE","data":{"currency":[]}}',
            '{"type":"OPEN_ORDERS_UPDATE","data":"\\ud800"}',
        ]
    ),
    st.text(max_size=20).map(lambda text: json.dumps({"type": text})),
)
STEPS = st.lists(
    st.tuples(
        st.floats(0, 12),
        st.one_of(TEXTS, st.sampled_from(["pause", "resume", "time", "paused"])),
    ),
    max_size=60,
)


def play(session: Session, steps: list[tuple[float, str]]) -> Iterator[Action]:
    """Play steps of (seconds later, what) without regard for the session's deadlines."""
    now_s = 50.0
    yield from session.on_open(now_s)
    for pause_s, what in steps:
        now_s += pause_s
        if what == "pause":
            session.pause(now_s)
        elif what == "resume":
            session.resume(now_s)
        elif what == "paused":
            session.paused(pause_s)
        elif what == "time":
            yield from session.on_time(now_s)
        else:
            yield from session.on_frame(now_s, json.loads(what)["type"], what)


@given(STEPS)
def test_no_history_breaks_the_order_of_a_sessions_actions(steps: list[tuple[float, str]]) -> None:
    session = Session()
    actions = list(play(session, steps))
    notes = [action.note for action in actions if isinstance(action, Fact)]
    assert notes.count("CONNECTION_AUTHENTICATED") <= 1
    assert notes.count("SNAPSHOT_COMPLETE") <= 2
    assert all(note in set(Note) for note in notes)
    if notes:
        assert notes[0] == "CONNECTION_AUTHENTICATED"
    ends = [place for place, action in enumerate(actions) if isinstance(action, Lost)]
    assert ends in ([], [len(actions) - 1])
    assert bool(ends) == (session.state is State.DEAD)
    if "CONNECTION_AUTHENTICATED" not in notes:
        assert not any(isinstance(action, SendText) for action in actions)


@given(STEPS)
def test_a_session_left_alone_always_ends_and_never_asks_twice_for_one_moment(
    steps: list[tuple[float, str]],
) -> None:
    session = Session()
    list(play(session, steps))
    session.resume(50.0 + sum(pause_s for pause_s, _ in steps))
    calls = 0
    before_s = 0.0
    while (due_s := session.next_deadline) is not None:
        session.on_time(max(due_s, before_s))
        # Whatever was due is done: the next deadline lies later, or the session is dead.
        following_s = session.next_deadline
        assert following_s is None or following_s > due_s
        before_s = max(due_s, before_s)
        calls += 1
        assert calls < 100
    assert session.state is State.DEAD


@given(STEPS)
def test_a_complete_snapshot_has_seen_a_list_and_a_currency_or_reports_the_lack(
    steps: list[tuple[float, str]],
) -> None:
    seen: list[object] = []
    for action in play(Session(), steps):
        if isinstance(action, Fact) and action.note == "SNAPSHOT_COMPLETE":
            facts = action.facts
            seen.append(facts["complete"])
            assert not facts["complete"] or facts["open_orders"]
            assert not facts["balances"] or facts["currencies"]
    assert seen in ([], [True], [False], [False, True])


# Renewed


def test_a_renewal_reads_what_the_line_holds_and_then_ends_by_us() -> None:
    reported = Driven().live().until(3.0)
    reported.session.renew("we slept")
    reported.until(3.0)
    assert reported.pings()[-1] == 3.0
    reported.frame(balance("ETH"), at=3.5)
    assert reported.session.state is State.LIVE
    reported.frame(PONG, at=4.0)
    at, lost = reported.lost()
    assert (at, lost.by, lost.reason) == (4.0, "recorder", RENEWED)
    assert lost.code is None


RENEWED = "connecting again for a snapshot: we slept"


def test_a_renewal_over_a_dead_line_ends_like_any_silence() -> None:
    reported = Driven().live().until(3.0)
    reported.session.renew("we slept")
    at, lost = reported.until(60).lost()
    assert (at, lost.by) == (8.0, "network")


def test_the_pong_of_an_earlier_ping_renews_nothing() -> None:
    reported = Driven().live().until(6.5)
    assert reported.pings()[-1] == 6.0
    reported.session.renew("we slept")
    reported.until(6.5).frame(PONG, at=6.6)
    assert reported.session.state is State.LIVE
    assert reported.frame(PONG, at=6.7).lost()[1].reason == RENEWED


def test_a_snapshot_under_way_is_renewal_enough() -> None:
    reported = Driven().authenticated()
    reported.session.renew("we slept")
    reported.frame(balance("BTC")).frame(NO_ORDERS).frame(PONG, at=1.0).until(2.0)
    assert reported.session.state is State.LIVE


def test_a_renewal_waits_until_we_read_again() -> None:
    reported = Driven().live()
    reported.session.pause(2.0)
    reported.session.renew("it was not read")
    reported.now_s = 14.0
    reported.session.resume(14.0)
    reported.until(14.0)
    assert reported.pings()[-1] == 14.0
