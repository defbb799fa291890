"""Which command goes next, over random queues."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from recorder.exchange.commands import CANCEL_ORDER, COMMANDS, PLACE_LIMIT_ORDER
from recorder.outbox.selection import Expire, QueuedRow, Send, Wait, choose

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TIMES = st.none() | st.integers(-3, 3).map(lambda minutes: NOW + timedelta(minutes=minutes))


def row(outbox_id: int, command: str = PLACE_LIMIT_ORDER, **options: object) -> QueuedRow:
    return QueuedRow(outbox_id, f"m{outbox_id}", command, "{}", **options)  # type: ignore[arg-type]


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
