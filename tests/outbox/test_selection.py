"""Which command goes next, over random queues."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from recorder.exchange.commands import CANCEL_ORDER, COMMANDS, PLACE_LIMIT_ORDER
from recorder.exchange.pacing import KIND
from recorder.outbox.rules.selection import Expire, Queue, QueuedRow, Send, Wait, choose, choose_few

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TIMES = st.none() | st.integers(-3, 3).map(lambda minutes: NOW + timedelta(minutes=minutes))


def row(
    outbox_id: int, command: str = PLACE_LIMIT_ORDER, payload: str = "{}", **options: object
) -> QueuedRow:
    return QueuedRow(outbox_id, f"m{outbox_id}", command, payload, **options)  # type: ignore[arg-type]


@st.composite
def queues(draw: st.DrawFn) -> list[QueuedRow]:
    size = draw(st.integers(0, 12))
    rows = [
        row(
            outbox_id,
            draw(st.sampled_from(COMMANDS)),
            priority=draw(st.integers(-2, 2)),
            not_before=draw(TIMES),
            expires_at=draw(TIMES),
        )
        for outbox_id in range(1, size + 1)
    ]
    return draw(st.permutations(rows))


SWITCHES = st.sampled_from(["on", "cancel_only", "off", "", "ON"])


def test_a_cancel_overtakes_whatever_the_priority() -> None:
    assert choose([row(1, priority=9), row(2, CANCEL_ORDER)], "on", True, NOW) == Send(
        row(2, CANCEL_ORDER)
    )


def test_the_higher_priority_goes_first_then_the_older_row() -> None:
    rows = [row(1), row(3, priority=1), row(2, priority=1)]
    assert choose(rows, "on", True, NOW) == Send(row(2, priority=1))


def test_an_empty_queue_waits_for_a_change() -> None:
    assert choose([], "on", True, NOW) == Wait(None)


def test_a_row_waits_for_its_time() -> None:
    later = NOW + timedelta(seconds=1)
    assert choose([row(1, not_before=later)], "on", True, NOW) == Wait(later)
    assert choose([row(1, not_before=later)], "on", True, later) == Send(row(1, not_before=later))


def test_a_row_expires_at_its_very_moment_and_even_while_the_switch_is_off() -> None:
    expired = row(1, CANCEL_ORDER, expires_at=NOW)
    for switch, trading in (("on", True), ("off", True), ("on", False)):
        assert choose([expired, row(2)], switch, trading, NOW) == Expire((expired,))


def test_without_the_configurations_permission_nothing_is_sent() -> None:
    assert choose([row(1), row(2, CANCEL_ORDER)], "on", False, NOW) == Wait(None)


@given(queues(), SWITCHES, st.booleans())
def test_only_what_is_permitted_and_due_is_ever_sent(
    rows: list[QueuedRow], switch: str, trading: bool
) -> None:
    choice = choose(rows, switch, trading, NOW)
    if not isinstance(choice, Send):
        return
    sent = choice.row
    assert trading
    assert switch == "on" or (switch == "cancel_only" and sent.command == CANCEL_ORDER)
    assert sent.expires_at is None or sent.expires_at > NOW
    assert sent.not_before is None or sent.not_before <= NOW
    assert sent in rows


@given(queues(), SWITCHES, st.booleans())
def test_the_choice_does_not_depend_on_the_order_of_reading(
    rows: list[QueuedRow], switch: str, trading: bool
) -> None:
    choice = choose(rows, switch, trading, NOW)
    again = choose(rows[::-1], switch, trading, NOW)
    if isinstance(choice, Expire) and isinstance(again, Expire):
        assert set(choice.rows) == set(again.rows)
    else:
        assert choice == again


@given(queues(), SWITCHES, st.booleans())
def test_a_wait_ends_when_the_choice_changes_and_not_later(
    rows: list[QueuedRow], switch: str, trading: bool
) -> None:
    choice = choose(rows, switch, trading, NOW)
    if not isinstance(choice, Wait):
        return
    if choice.until is None:
        assert isinstance(choose(rows, switch, trading, NOW + timedelta(days=9)), Wait)
        return
    assert choice.until > NOW
    moment_before = choice.until - timedelta(microseconds=1)
    assert isinstance(choose(rows, switch, trading, moment_before), Wait)
    assert not isinstance(choose(rows, switch, trading, choice.until), Wait)


@given(queues())
def test_every_queue_is_emptied_in_the_promised_order(rows: list[QueuedRow]) -> None:
    sent, now = [], NOW
    left = list(rows)
    while True:
        choice = choose(left, "on", True, now)
        if isinstance(choice, Send):
            left.remove(choice.row)
            if choice.row.not_before is None or choice.row.not_before <= NOW:
                sent.append(choice.row)
        elif isinstance(choice, Expire):
            left = [kept for kept in left if kept not in choice.rows]
        elif choice.until is None:
            break
        else:
            now = choice.until
    assert left == []
    turns = [(kept.command != CANCEL_ORDER, -kept.priority, kept.outbox_id) for kept in sent]
    assert turns == sorted(turns)


# Strict order

BTC, ETH = '{"pair":"BTCZAR"}', '{"pair":"ETHZAR"}'
BOTH = json.dumps(
    {
        "requests": [
            {"type": "CANCEL_ORDER", "data": {"pair": "BTCZAR"}},
            {"type": "CANCEL_ORDER", "data": {"pair": "ethzar"}},
        ]
    }
)


def test_a_row_in_order_waits_for_earlier_ones_of_its_pair_and_for_no_other() -> None:
    waiting = row(5, payload=BTC, in_order=True)
    assert choose([waiting], "on", True, NOW, {"BTCZAR": 4}) == Wait(None)
    assert choose([waiting], "on", True, NOW, {"BTCZAR": 5, "ETHZAR": 1}) == Send(waiting)
    assert choose([waiting], "on", True, NOW, {}) == Send(waiting)


def test_a_row_not_in_order_waits_for_no_other() -> None:
    assert choose([row(5, payload=BTC)], "on", True, NOW, {"BTCZAR": 1}) == Send(
        row(5, payload=BTC)
    )


def test_what_stands_behind_a_waiting_row_goes_unless_it_asks_for_order_too() -> None:
    first, other = row(5, payload=BTC, in_order=True), row(6, payload=ETH, in_order=True)
    third = row(7, payload=BTC, in_order=True)
    unsettled = {"BTCZAR": 2, "ETHZAR": 6}
    assert choose([first, other, third], "on", True, NOW, unsettled) == Send(other)
    assert choose([first, third], "on", True, NOW, unsettled) == Wait(None)
    assert choose([first, third, row(8, payload=BTC)], "on", True, NOW, unsettled) == Send(
        row(8, payload=BTC)
    )


def test_a_cancel_overtakes_unless_it_is_in_order_itself() -> None:
    plain = row(9, CANCEL_ORDER, BTC)
    assert choose([row(5, payload=BTC, in_order=True), plain], "on", True, NOW, {"BTCZAR": 1}) == (
        Send(plain)
    )
    strict = row(9, CANCEL_ORDER, BTC, in_order=True)
    assert choose([strict], "on", True, NOW, {"BTCZAR": 5}) == Wait(None)


def test_a_batch_in_order_waits_for_each_of_its_pairs() -> None:
    batch = row(5, "PLACE_BATCH_ORDERS", BOTH, in_order=True)
    assert choose([batch], "on", True, NOW, {"BTCZAR": 5, "ETHZAR": 4}) == Wait(None)
    assert choose([batch], "on", True, NOW, {"BTCZAR": 5, "ETHZAR": 5}) == Send(batch)


def test_rows_of_unknown_pairs_block_all_others() -> None:
    waiting = row(5, payload=BTC, in_order=True)
    assert choose([waiting], "on", True, NOW, {"*": 4, "BTCZAR": 5}) == Wait(None)
    unreadable = row(5, payload="{", in_order=True)
    assert choose([unreadable], "on", True, NOW, {"ETHZAR": 4}) == Wait(None)
    assert choose([unreadable], "on", True, NOW, {"ETHZAR": 5}) == Send(unreadable)


def test_a_waiting_row_expires_like_any_other() -> None:
    later = NOW + timedelta(minutes=1)
    waiting = row(5, payload=BTC, in_order=True, expires_at=later, not_before=NOW)
    assert choose([waiting], "on", True, NOW, {"BTCZAR": 1}) == Wait(later)
    assert choose([waiting], "on", True, later, {"BTCZAR": 1}) == Expire((waiting,))


@given(
    st.lists(
        st.tuples(st.sampled_from([BTC, ETH]), st.booleans(), st.sampled_from(COMMANDS[:4])),
        max_size=8,
    )
)
def test_rows_in_order_go_after_all_that_stood_before_them(
    asked: list[tuple[str, bool, str]],
) -> None:
    left = [
        row(number, command, pair, in_order=in_order)
        for number, (pair, in_order, command) in enumerate(asked, 1)
    ]
    gone: list[QueuedRow] = []
    while left:
        unsettled = {
            json.loads(pair)["pair"]: min(each.outbox_id for each in left if each.payload == pair)
            for pair in {each.payload for each in left}
        }
        choice = choose(left, "on", True, NOW, unsettled)
        assert isinstance(choice, Send), "the first of all blocks no other"
        left.remove(choice.row)
        gone.append(choice.row)
    for place, each in enumerate(gone):
        behind = [later for later in gone[place:] if later.payload == each.payload]
        if each.in_order:
            assert each.outbox_id == min(later.outbox_id for later in behind)


# Several at once

ENOUGH = dict.fromkeys(KIND.values(), 100)


@given(rows=queues(), switch=SWITCHES, most=st.integers(1, 5))
def test_several_are_those_that_would_be_chosen_one_by_one(
    rows: list[QueuedRow], switch: str, most: int
) -> None:
    few = choose_few(Queue(tuple(rows), switch, {}), NOW, most, ENOUGH)
    left = [row for row in rows if row not in few.expired]
    chosen: list[QueuedRow] = []
    assert choose(rows, switch, True, NOW) == Expire(few.expired) or not few.expired
    while isinstance(choice := choose(left, switch, True, NOW), Send) and len(chosen) < most:
        chosen.append(choice.row)
        left.remove(choice.row)
    assert list(few.rows) == chosen
    assert chosen or Wait(few.until) == choose(left, switch, True, NOW)


def test_what_has_to_wait_for_its_pace_blocks_no_other() -> None:
    rows = row(1), row(2), row(3, "MODIFY_ORDER"), row(4, CANCEL_ORDER)
    few = choose_few(Queue(rows, "on", {}), NOW, 9, ENOUGH | {"place": 1, "cancel": 0})
    assert [each.outbox_id for each in few.rows] == [1, 3]
    assert few.paced == {"place", "cancel"}


def test_one_in_order_is_the_last_of_several() -> None:
    payload = json.dumps({"pair": "BTCZAR"})
    rows = row(1), row(2, payload=payload, in_order=True), row(3)
    few = choose_few(Queue(rows, "on", {"BTCZAR": 2}), NOW, 9, ENOUGH)
    assert [each.outbox_id for each in few.rows] == [1, 2]
