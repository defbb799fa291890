"""Comparison while walking: any order of checkpoints, any history, and never a false alarm."""

from __future__ import annotations

import random
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.log.rules.chain import Damage
from recorder.log.rules.checkpoint import Checkpoint, Finding
from recorder.log.rules.checkpoint_comparison import NEVER, Comparison
from recorder.log.rules.event import EMPTY_HEAD, Head

SECOND_US = 1_000_000


def digest(history: str, position: int) -> bytes:
    return sha256(f"{history} {position}".encode()).digest()


def histories(*parts: tuple[str, int]) -> list[Head]:
    """Return the heads of a log of which each part was written under a name of its own."""
    heads: list[Head] = []
    for name, length in parts:
        start = len(heads)
        heads += [Head(start + n, digest(name, start + n)) for n in range(1, length + 1)]
    return heads


def walk(comparison: Comparison, heads: list[Head], shift_us: int = 0) -> Damage | None:
    """Walk a log whose events came in a second different, all of them so much later."""
    comparison.begin()
    awaited, received_us = comparison.awaited, None
    for head in heads:
        received_us = head.position * SECOND_US + shift_us
        if head.position == awaited:
            awaited = comparison.see(head, received_us)
    return comparison.end(heads[-1] if heads else EMPTY_HEAD, received_us)


def of(heads: list[Head], *positions: int) -> Comparison:
    """Return checkpoints that were made of these heads, half a second after each."""
    comparison = Comparison()
    for position in positions:
        at_us = position * SECOND_US + SECOND_US // 2
        comparison.add(Checkpoint("main", heads[position - 1], at_us))
    return comparison


@given(st.integers(1, 60), st.data())
def test_checkpoints_of_a_log_agree_with_it_in_any_order_and_however_often(
    length: int, data: st.DataObject
) -> None:
    heads = histories(("a", length))
    positions = data.draw(st.lists(st.integers(1, length), min_size=1, max_size=40))
    comparison = of(heads, *positions)

    assert walk(comparison, heads) is None
    assert comparison.agreeing == comparison.count
    assert comparison.agreed == max(positions)
    assert comparison.awaited == NEVER


@given(st.integers(0, 20), st.integers(1, 20), st.integers(1, 20), st.data())
def test_a_log_that_parts_from_what_was_written_is_found_at_the_first_checkpoint_behind_that(
    common: int, lost: int, ran_on: int, data: st.DataObject
) -> None:
    written = histories(("a", common), ("b", lost))
    stands = histories(("a", common), ("c", ran_on))
    positions = data.draw(st.lists(st.integers(1, common + lost), min_size=1, max_size=20))
    later_us = data.draw(st.sampled_from([0, 3600 * SECOND_US]))

    found = walk(of(written, *positions), stands, later_us)

    parted = sorted(position for position in positions if position > common)
    if not parted:
        assert found is None
        return
    assert found is not None
    assert found.position == min(parted[0], len(stands) + 1)
    if later_us:
        assert found.finding is Finding.RESTORED
    elif parted[0] <= len(stands):
        assert found.finding is Finding.REWRITTEN
    else:
        # By these clocks it stands shorter at a later time, unless its end is the older one.
        assert found.finding is Finding.CUT_TAIL


def test_an_empty_log_of_which_checkpoints_know_is_cut() -> None:
    found = walk(of(histories(("a", 3)), 2, 3), [])
    assert found is not None
    assert (found.position, found.finding) == (1, Finding.CUT_TAIL)
    assert "2 checkpoints reach beyond it, up to 3" in found.what


def test_two_checkpoints_that_contradict_each_other_are_found_whichever_is_true() -> None:
    first, second = histories(("a", 5)), histories(("b", 5))
    for stands in (first, second):
        comparison = of(first, 4)
        comparison.add(Checkpoint("main", second[3], 4 * SECOND_US + 1))
        found = walk(comparison, stands)
        assert found is not None
        assert (found.position, found.finding) == (4, Finding.REWRITTEN)


def test_a_sentence_reports_up_to_where_a_checkpoint_agrees_and_how_many_differ() -> None:
    written, stands = histories(("a", 10)), histories(("a", 5), ("b", 5))
    found = walk(of(written, 2, 4, 7, 9), stands)
    assert found is not None
    assert "somewhere behind position 4" in found.what
    assert "2 checkpoints differ" in found.what


def test_a_log_that_ran_on_from_an_older_state_is_found_by_its_later_times() -> None:
    written = histories(("a", 5), ("b", 5))
    stands = histories(("a", 5), ("c", 10))
    comparison = of(written, 5, 7, 10)
    found = walk(comparison, stands, 3600 * SECOND_US)
    assert found is not None
    assert (found.position, found.finding) == (7, Finding.RESTORED)


def test_events_that_were_taken_out_are_no_restored_copy() -> None:
    written = histories(("a", 10))
    # What was 6 to 10 stands at 5 to 9, and came in when it did.
    stands = [*written[:4], *(Head(n, digest("b", n)) for n in range(5, 10))]
    comparison = of(written, 3, 5, 8, 10)
    comparison.begin()
    for head in stands:
        received_us = (head.position + (head.position > 4)) * SECOND_US
        if head.position == comparison.awaited:
            comparison.see(head, received_us)
    found = comparison.end(stands[-1], 10 * SECOND_US)
    assert found is not None
    assert (found.position, found.finding) == (5, Finding.REWRITTEN)


@pytest.mark.parametrize("received_us", [10**20, -(10**20)])
def test_a_forged_time_that_python_lacks_is_no_error(received_us: int) -> None:
    written, stands = histories(("a", 3)), histories(("b", 2))
    for positions in ((2,), (3,)):
        comparison = of(written, *positions)
        comparison.begin()
        comparison.see(stands[1], received_us)
        assert comparison.end(stands[1], received_us) is not None


@pytest.mark.parametrize("is_sorted", [True, False])
def test_a_hundred_thousand_checkpoints_take_a_few_megabytes(is_sorted: bool) -> None:
    comparison, number = Comparison(), 100_000
    positions = list(range(1, number + 1))
    if not is_sorted:
        random.Random(1).shuffle(positions)
    for position in positions:
        comparison.add(Checkpoint("main", Head(position, bytes(31) + b"\x01"), position))
    comparison.begin()
    held = len(comparison._digests) + 16 * len(comparison._positions)
    assert held == number * 48
    assert comparison.awaited == 1
