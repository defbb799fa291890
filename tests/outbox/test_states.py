"""The table of a command's statuses, exhaustively."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.outbox.rules.states import (
    ATTEMPTS_MAX,
    TERMINAL,
    TRANSITIONS,
    UNRESOLVED,
    Fact,
    Status,
    after_rate_limit,
    next_status,
    path,
)

#: The drawing, arrow by arrow.
ARROWS = {
    ("queued", "sending"),
    ("queued", "expired"),
    ("queued", "withdrawn"),
    ("queued", "refused"),
    ("sending", "sent"),
    ("sending", "in_doubt"),
    ("sending", "queued"),
    ("sent", "queued"),
    ("sent", "acknowledged"),
    ("sent", "rejected"),
    ("sent", "in_doubt"),
    ("acknowledged", "accepted"),
    ("acknowledged", "rejected"),
    ("in_doubt", "acknowledged"),
    ("in_doubt", "accepted"),
    ("in_doubt", "rejected"),
    ("in_doubt", "not_placed"),
    ("not_placed", "acknowledged"),
    ("not_placed", "accepted"),
    ("not_placed", "rejected"),
}
#: What each fact proves of a command in each status; everything not named changes nothing.
PROVED = {
    ("queued", "claimed"): "sending",
    ("queued", "expired"): "expired",
    ("queued", "withdrawn"): "withdrawn",
    ("queued", "rule_broken"): "refused",
    ("sending", "written"): "sent",
    ("sending", "acknowledged"): "acknowledged",
    ("sending", "effect_seen"): "accepted",
    ("sending", "refused_by_exchange"): "rejected",
    ("sending", "rate_limited"): "queued",
    ("sending", "lost_touch"): "in_doubt",
    ("sent", "acknowledged"): "acknowledged",
    ("sent", "effect_seen"): "accepted",
    ("sent", "refused_by_exchange"): "rejected",
    ("sent", "rate_limited"): "queued",
    ("sent", "lost_touch"): "in_doubt",
    ("acknowledged", "effect_seen"): "accepted",
    ("acknowledged", "refused_by_exchange"): "rejected",
    ("acknowledged", "rate_limited"): "rejected",
    ("in_doubt", "acknowledged"): "acknowledged",
    ("in_doubt", "effect_seen"): "accepted",
    ("in_doubt", "refused_by_exchange"): "rejected",
    ("in_doubt", "rate_limited"): "rejected",
    ("in_doubt", "not_found"): "not_placed",
    ("not_placed", "acknowledged"): "acknowledged",
    ("not_placed", "effect_seen"): "accepted",
    ("not_placed", "refused_by_exchange"): "rejected",
    ("not_placed", "rate_limited"): "rejected",
}
EVERYTHING = list(product(Status, Fact))


def test_the_table_has_exactly_the_drawn_arrows() -> None:
    assert set(TRANSITIONS) == set(Status)
    assert {(str(a), str(b)) for a, targets in TRANSITIONS.items() for b in targets} == ARROWS


@pytest.mark.parametrize(("status", "fact"), EVERYTHING)
def test_each_fact_proves_of_each_status_what_it_should(status: Status, fact: Fact) -> None:
    expected = PROVED.get((str(status), str(fact)))
    assert next_status(status, fact) == (Status(expected) if expected else None)


@pytest.mark.parametrize(("status", "fact"), EVERYTHING)
def test_what_is_proved_can_be_reached_by_legal_steps(status: Status, fact: Fact) -> None:
    target = next_status(status, fact)
    if target is None:
        return
    steps = path(status, target)
    assert steps[-1] is target
    for here, there in zip((status, *steps), steps, strict=False):
        assert there in TRANSITIONS[here]
    assert Status.IN_DOUBT not in steps[:-1]


def test_an_answer_that_overtakes_our_own_bookkeeping_passes_through_sent() -> None:
    assert path(Status.SENDING, Status.ACKNOWLEDGED) == (Status.SENT, Status.ACKNOWLEDGED)
    assert path(Status.SENDING, Status.REJECTED) == (Status.SENT, Status.REJECTED)
    assert path(Status.SENDING, Status.ACCEPTED) == (
        Status.SENT,
        Status.ACKNOWLEDGED,
        Status.ACCEPTED,
    )
    assert path(Status.SENT, Status.ACCEPTED) == (Status.ACKNOWLEDGED, Status.ACCEPTED)


@pytest.mark.parametrize(
    ("status", "target"),
    [
        (Status.ACCEPTED, Status.REJECTED),
        (Status.IN_DOUBT, Status.SENT),
        (Status.ACKNOWLEDGED, Status.IN_DOUBT),
        (Status.NOT_PLACED, Status.QUEUED),
        (Status.SENT, Status.SENT),
        (Status.SENDING, Status.EXPIRED),
    ],
)
def test_a_way_that_is_not_drawn_is_an_error(status: Status, target: Status) -> None:
    with pytest.raises(ValueError, match="can't become"):
        path(status, target)


def test_final_statuses_are_those_that_nothing_leaves() -> None:
    assert {str(status) for status in TERMINAL} == {
        "accepted",
        "rejected",
        "expired",
        "withdrawn",
        "refused",
    }
    assert not TERMINAL & UNRESOLVED


@given(st.lists(st.sampled_from(Fact), max_size=30))
def test_no_sequence_of_facts_sends_a_command_twice_or_undoes_an_end(facts: list[Fact]) -> None:
    status = Status.QUEUED
    walked = [status]
    # Times that the exchange reported of the sending under way that it placed nothing.
    limited = 0
    for fact in facts:
        target = next_status(status, fact)
        if target is not None:
            assert status not in TERMINAL
            walked += path(status, target)
            limited += target is Status.QUEUED
            assert target is not Status.QUEUED or fact is Fact.RATE_LIMITED
            status = target
    assert walked.count(Status.SENDING) <= 1 + limited
    assert walked.count(Status.QUEUED) == 1 + limited
    never_sent = {Status.EXPIRED, Status.WITHDRAWN, Status.REFUSED}
    if status in never_sent and not limited:
        assert Status.SENDING not in walked


FACTS_BUT_A_RATE_LIMIT = [fact for fact in Fact if fact is not Fact.RATE_LIMITED]


@given(st.lists(st.sampled_from(FACTS_BUT_A_RATE_LIMIT), max_size=30))
def test_a_command_that_went_out_is_never_called_unsent(facts: list[Fact]) -> None:
    status = Status.SENDING
    for fact in facts:
        status = next_status(status, fact) or status
        assert status not in {
            Status.QUEUED,
            Status.EXPIRED,
            Status.WITHDRAWN,
            Status.REFUSED,
        }


@given(st.lists(st.sampled_from(Fact), max_size=30))
def test_a_command_that_was_in_doubt_is_never_queued_again(facts: list[Fact]) -> None:
    status = Status.IN_DOUBT
    for fact in facts:
        status = next_status(status, fact) or status
        assert status is not Status.QUEUED


def test_a_rate_limit_is_waited_for_longer_each_time_and_not_for_ever() -> None:
    waits = [after_rate_limit(attempts) for attempts in range(ATTEMPTS_MAX + 1)]
    assert waits == [1.0, 2.0, 4.0, 8.0, None, None]
