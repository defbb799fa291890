"""What look-ups prove: what is found at once, what isn't found late, and time alone nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve, frozen
from hypothesis import given
from hypothesis import strategies as st

from recorder.exchange.commands import generated_customer_order_id
from recorder.exchange.lists import RestOrder
from recorder.exchange.rest import (
    CredentialsRefused,
    Declined,
    ExchangeUnavailable,
    NoSuchOrder,
    OrdersFound,
    Outcome,
    RateLimited,
    RowsFound,
    Unreadable,
)
from recorder.outbox.rules.lookup_schedule import (
    LOOKS,
    WAIT_S_MAX,
    LookupPolicy,
    LookupSchedule,
    wait_s,
)
from recorder.outbox.rules.lookups import (
    CLOCK_JUMPED,
    NOTHING_SEEN,
    PROOF,
    Finding,
    Found,
    OrderQuery,
    combined,
    order_queries,
    read_open,
    read_states,
)
from recorder.outbox.rules.states import Fact, Status

SENT_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
BEFORE = SENT_AT - CLOCK_JUMPED - timedelta(seconds=1)
LATER = SENT_AT + timedelta(seconds=1)
TERMS = {"side": "BUY", "pair": "BTCZAR", "quantity": "0.001", "price": "1000000"}
NAME = generated_customer_order_id("main", 1, "m")


@frozen
class Row:
    command: str
    payload: str
    order_id: str | None = None
    account: str = "main"
    outbox_id: int = 1
    client_msg_id: str = "m"


def place(**more: object) -> Row:
    return Row("PLACE_LIMIT_ORDER", json.dumps({**TERMS, **more}))


def cancel(**more: object) -> Row:
    return Row("CANCEL_ORDER", json.dumps({"pair": "BTCZAR", **(more or {"orderId": "o-1"})}))


def modify(**more: object) -> Row:
    asked = {"orderId": "o-1", "modifyMatchStrategy": "RETAIN_ORIGINAL", "newPrice": "2"}
    return Row("MODIFY_ORDER", json.dumps({"pair": "BTCZAR", **asked, **more}))


def query(row: Row) -> OrderQuery:
    (only,) = order_queries(row, SENT_AT)
    return only


def order(status: str | None = "Placed", **more: Any) -> RestOrder:
    blank = dict.fromkeys(field.name for field in RestOrder.__attrs_attrs__)
    reported = {
        "order_id": "o-1",
        "customer_order_id": NAME,
        "pair": "BTCZAR",
        "side": "buy",
        "status": status,
        "price": Decimal(1_000_000),
        "original_quantity": Decimal("0.001"),
        "remaining_quantity": Decimal("0.001"),
        "created_at": LATER,
        "updated_at": LATER,
    }
    return RestOrder(**{**blank, **reported, **more})


def orders(*states: RestOrder) -> OrdersFound:
    return OrdersFound(states, text="")


NOWHERE = NoSuchOrder(True, text="[]")
SILENT: Sequence[Outcome] = [
    RateLimited(None, text=""),
    CredentialsRefused(401, None, "no", text=""),
    ExchangeUnavailable(503, text=""),
    Declined(400, -7, "no", text=""),
    Unreadable(200, "HTML", text=""),
    RowsFound((), text=""),
]


# Whom to ask about


def test_an_order_is_looked_up_by_valrs_id_where_that_is_known() -> None:
    asked = query(evolve(place(), order_id="o-7"))
    assert (asked.name.by, asked.name.text, asked.is_certain) == ("orderid", "o-7", True)


def test_an_order_is_looked_up_by_its_name_and_ours_are_certain() -> None:
    asked = query(place())
    assert (asked.name.by, asked.name.text, asked.is_certain) == ("customerorderid", NAME, True)
    theirs = query(place(customerOrderId="mine"))
    assert (theirs.name.text, theirs.is_certain) == ("mine", False)


@pytest.mark.parametrize("order_id", ["", ".", "..", "x" * 300])
def test_an_id_that_no_question_can_hold_is_passed_by(order_id: str) -> None:
    row = evolve(place(), order_id=order_id)
    if order_id:
        assert query(row).name.text == NAME


def test_a_batch_is_judged_by_all_its_orders_and_first_by_those_that_it_places() -> None:
    legs = [
        {"type": "CANCEL_ORDER", "data": {"pair": "BTCZAR", "orderId": "o-9"}},
        {"type": "PLACE_LIMIT", "data": TERMS},
        {"type": "PLACE_LIMIT", "data": {**TERMS, "customerOrderId": "mine"}},
    ]
    row = Row("PLACE_BATCH_ORDERS", json.dumps({"requests": legs}), order_id="o-3")
    assert [each.name.text for each in order_queries(row, SENT_AT)] == [f"{NAME}01", "mine", "o-9"]
    only = Row("PLACE_BATCH_ORDERS", json.dumps({"requests": legs[:1]}))
    assert [each.name.text for each in order_queries(only, SENT_AT)] == ["o-9"]


def test_a_payload_that_can_not_be_read_any_more_has_nothing_to_ask_for() -> None:
    assert order_queries(Row("PLACE_LIMIT_ORDER", "{}"), SENT_AT) == ()
    assert combined((), ()).finding is Finding.NO_ANSWER


# What answers prove


@pytest.mark.parametrize(
    ("status", "finding"),
    [
        ("Placed", Finding.EFFECT),
        ("Filled", Finding.EFFECT),
        ("Cancelled", Finding.EFFECT),
        ("PartiallyFilled", Finding.EFFECT),
        ("Expired", Finding.EFFECT),
        ("Failed", Finding.REFUSED),
        ("FAILED", Finding.REFUSED),
        (None, Finding.UNCLEAR),
    ],
)
def test_an_order_that_is_found_proves_what_became_of_its_placing(
    status: str | None, finding: Finding
) -> None:
    found = read_states(query(place()), orders(order(status, failed_reason="no money")))
    assert found.finding is finding
    if finding is Finding.REFUSED:
        assert (found.reason, found.order_id) == ("no money", "o-1")
    if finding is Finding.EFFECT:
        assert found.order_id == "o-1"


@pytest.mark.parametrize("outcome", SILENT, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("row", [place(), cancel(), modify()], ids=lambda each: each.command)
def test_what_is_no_answer_proves_nothing(row: Row, outcome: Outcome) -> None:
    found = read_states(query(row), outcome)
    assert found.finding is Finding.NO_ANSWER
    assert found.answer
    absent = Found(Finding.ABSENT, "none")
    assert read_open(query(row), absent, outcome).finding is Finding.NO_ANSWER


def test_only_the_path_that_knows_every_state_can_report_that_there_is_no_order() -> None:
    assert read_states(query(place()), NOWHERE).finding is Finding.ABSENT
    assert read_states(query(place()), NoSuchOrder(False, text="")).finding is Finding.UNCLEAR


@pytest.mark.parametrize(
    "other",
    [
        {"pair": "ETHZAR"},
        {"side": "sell"},
        {"original_quantity": Decimal(7)},
        {"created_at": BEFORE},
        {"created_at": None},
    ],
    ids=str,
)
def test_another_order_of_a_callers_name_is_unclear_and_no_absence(other: dict[str, Any]) -> None:
    asked = query(place(customerOrderId="mine"))
    mine = order(customer_order_id="mine", **other)
    assert read_states(asked, orders(mine)).finding is Finding.UNCLEAR
    listed = read_open(asked, Found(Finding.ABSENT, "none"), orders(mine))
    assert listed.finding is Finding.UNCLEAR


def test_of_two_orders_of_a_callers_name_the_one_that_fits_is_taken() -> None:
    asked = query(place(customerOrderId="mine"))
    old = order(order_id="o-0", customer_order_id="mine", created_at=BEFORE)
    new = order("Failed", customer_order_id="mine")
    assert read_states(asked, orders(new, old)).finding is Finding.REFUSED
    twin = evolve(new, order_id="o-2")
    assert read_states(asked, orders(new, twin)).finding is Finding.UNCLEAR


def test_our_own_name_is_proof_whatever_became_of_the_quantity() -> None:
    changed = order("Order Modified", original_quantity=Decimal(7), created_at=BEFORE)
    assert read_states(query(place()), orders(changed)).finding is Finding.EFFECT


def test_an_order_in_the_open_list_was_placed() -> None:
    found = read_open(query(place()), Found(Finding.ABSENT, "none"), orders(order(None)))
    assert (found.finding, found.order_id) == (Finding.EFFECT, "o-1")


def test_an_order_in_neither_is_absent() -> None:
    other = order(order_id="o-5", customer_order_id="x")
    found = read_open(query(place()), Found(Finding.ABSENT, "none"), orders(other))
    assert found.finding is Finding.ABSENT
    assert "open orders" in found.answer


@pytest.mark.parametrize(
    ("status", "listed", "finding"),
    [
        ("Cancelled", False, Finding.EFFECT),
        ("Filled", False, Finding.REFUSED),
        ("Expired", True, Finding.REFUSED),
        ("Failed", False, Finding.REFUSED),
        ("Placed", True, Finding.UNCHANGED),
        ("Partially Filled", True, Finding.UNCHANGED),
        # Ended perhaps, under a word that doesn't report.
        ("Partially Filled", False, Finding.UNCLEAR),
        ("Something New", True, Finding.UNCLEAR),
        (None, True, Finding.UNCLEAR),
    ],
)
def test_a_cancel_is_judged_by_the_state_of_its_order(
    status: str | None, listed: bool, finding: Finding
) -> None:
    asked = query(cancel())
    first = read_states(asked, orders(order(status)))
    listed_orders = orders(order()) if listed else orders()
    assert read_open(asked, first, listed_orders).finding is finding


def test_the_newest_state_counts_whatever_the_order_of_the_list() -> None:
    ended = order("Cancelled", updated_at=LATER + timedelta(seconds=1))
    assert read_states(query(cancel()), orders(order(), ended)).finding is Finding.EFFECT


def test_an_order_that_bore_a_name_before_the_cancel_went_out_may_be_another() -> None:
    asked = query(cancel(customerOrderId="mine"))
    old = order("Filled", customer_order_id="mine", updated_at=BEFORE)
    assert read_states(asked, orders(old)).finding is Finding.UNCLEAR
    assert read_states(asked, orders(evolve(old, updated_at=LATER))).finding is Finding.REFUSED


def test_an_end_from_before_the_cancel_settles_it_where_the_order_is_surely_the_one_meant() -> None:
    asked = evolve(query(cancel(customerOrderId="mine")), is_certain=True)
    old = order("Filled", customer_order_id="mine", updated_at=BEFORE)
    assert read_states(asked, orders(old)).finding is Finding.REFUSED


CHANGED = {"price": Decimal(2)}


@pytest.mark.parametrize(
    ("states", "listed", "finding"),
    [
        ([order("Order Modified", **CHANGED)], True, Finding.EFFECT),
        ([order("Filled"), order("Order Modified", **CHANGED)], False, Finding.EFFECT),
        # Changed since, but to something else: repriced, or by another.
        ([order("Order Modified", price=Decimal(3))], True, Finding.UNCLEAR),
        # An old change is none of ours.
        ([order(), order("Order Modified", price=Decimal(3), updated_at=BEFORE)], True, None),
        ([order(), order("Order Modified", updated_at=BEFORE, **CHANGED)], True, None),
        ([order()], True, None),
        ([order()], False, Finding.UNCLEAR),
        ([order("Filled")], False, None),
        ([order("Something New")], True, Finding.UNCLEAR),
    ],
)
def test_a_change_is_judged_by_what_the_order_shows(
    states: list[RestOrder], listed: bool, finding: Finding | None
) -> None:
    asked = query(modify())
    first = read_states(asked, orders(*states))
    found = read_open(asked, first, orders(order(None)) if listed else orders())
    assert found.finding is (finding or Finding.UNCHANGED)


@pytest.mark.parametrize(
    ("when", "is_reported", "finding"),
    [
        # By our clock, which was behind, it came after the command; the log had been reported
        # before.
        (LATER, True, Finding.UNCHANGED),
        (BEFORE, True, Finding.UNCHANGED),
        (LATER, False, Finding.EFFECT),
        # By our clock, which was ahead or wasn't, it came before; no frame had reported it.
        (BEFORE, False, Finding.UNCLEAR),
    ],
)
def test_a_clock_that_was_wrong_takes_no_old_change_for_the_commands_nor_its_own_for_old(
    when: datetime, is_reported: bool, finding: Finding
) -> None:
    change = order("Order Modified", updated_at=when, **CHANGED)
    reported = [(BEFORE, "Placed")] + [(when, "Order Modified")] * is_reported
    asked = evolve(query(modify()), reported_before=frozenset(reported))
    since = order("Partially Filled", price=Decimal(3), updated_at=LATER + timedelta(seconds=9))
    assert read_states(asked, orders(since, change, order())).finding is finding


@pytest.mark.parametrize(
    ("state", "finding"),
    [
        (order(), Finding.UNCHANGED),
        (order("Order Modified", **CHANGED), Finding.EFFECT),
        (order("Partially Filled", **CHANGED), Finding.EFFECT),
        # Changed perhaps, and then changed again or filled.
        (order("Order Modified", price=Decimal(3), updated_at=BEFORE), Finding.UNCLEAR),
        (order("Partially Filled"), Finding.UNCLEAR),
        (order("Filled"), Finding.UNCLEAR),
        (order("Cancelled"), Finding.UNCLEAR),
    ],
)
def test_the_present_state_alone_hides_a_change_that_another_state_followed(
    state: RestOrder, finding: Finding
) -> None:
    found = read_states(query(modify()), orders(state), is_whole=False)
    assert found.finding is finding
    listed = orders() if state.status in ("Filled", "Cancelled") else orders(state)
    assert read_open(query(modify()), found, listed).finding is finding


@pytest.mark.parametrize(
    ("row", "states", "is_too_late"),
    [
        (modify(), [order("Filled"), order()], True),
        (modify(), [order("Cancelled"), order("Partially Filled"), order()], True),
        (modify(), [order()], False),
        # From before the command, if our clock was right then.
        (modify(), [order("Filled"), order("Order Modified", updated_at=BEFORE), order()], False),
        # Perhaps this is not all.
        (modify(), [order("Filled")], False),
        # The change may have ended it.
        (modify(modifyMatchStrategy="CANCEL_ORIGINAL"), [order("Cancelled"), order()], False),
        # The name may have been another order's.
        (modify(orderId=None, customerOrderId=NAME), [order("Filled"), order()], False),
    ],
)
def test_an_order_that_ended_untouched_can_not_be_changed_any_more(
    row: Row, states: list[RestOrder], is_too_late: bool
) -> None:
    asked = query(row)
    found = read_open(asked, read_states(asked, orders(*states)), orders())
    assert found.is_too_late is is_too_late
    if is_too_late:
        assert (found.finding, found.reason) == (
            Finding.UNCHANGED,
            f"the order ended first: {states[0].status}",
        )


def test_a_change_that_the_open_order_shows_was_made() -> None:
    asked = query(modify(newTotalQuantity="0.005"))
    shown = order(None, original_quantity=Decimal("0.005"), **CHANGED)
    assert read_open(asked, Found(Finding.UNCHANGED, ""), orders(shown)).finding is Finding.EFFECT


def test_an_end_proves_nothing_of_a_change_that_may_end_the_order() -> None:
    asked = query(modify(modifyMatchStrategy="CANCEL_ORIGINAL"))
    assert read_states(asked, orders(order("Cancelled"))).finding is Finding.UNCLEAR


def test_a_remaining_quantity_that_a_fill_may_have_left_proves_no_change() -> None:
    asked = query(modify(newPrice=None, newRemainingQuantity="0.0005"))
    half = {"remaining_quantity": Decimal("0.0005")}
    filled = order("Partially Filled", **half)
    found = read_states(asked, orders(filled, order()))
    assert found.finding is Finding.UNCLEAR
    assert read_open(asked, found, orders(filled)).finding is Finding.UNCLEAR
    changed = order("Order Modified", **half)
    assert read_states(asked, orders(changed, order())).finding is Finding.EFFECT
    later = order("Partially Filled", remaining_quantity=Decimal("0.0001"))
    assert read_states(asked, orders(later, changed, order())).finding is Finding.EFFECT


def batch(*kinds: str) -> tuple[OrderQuery, ...]:
    data = {"PLACE_LIMIT": TERMS, "CANCEL_ORDER": {"pair": "BTCZAR", "orderId": "o-9"}}
    legs = [{"type": kind, "data": data[kind]} for kind in kinds]
    return order_queries(Row("PLACE_BATCH_ORDERS", json.dumps({"requests": legs})), SENT_AT)


def finding_of(
    own: Sequence[Finding], others: Sequence[Finding] = (), *, has_arrived: bool = False
) -> Finding:
    queries = batch(*["PLACE_LIMIT"] * len(own), *["CANCEL_ORDER"] * len(others))
    found = [Found(kind, "answer", reason="why") for kind in (*own, *others)]
    return combined(queries, found, has_arrived=has_arrived).finding


_findings = st.lists(st.sampled_from(Finding), min_size=1, max_size=6)


@given(_findings)
def test_a_batch_of_orders_is_done_by_one_effect_and_undone_by_all_of_a_kind(
    kinds: list[Finding],
) -> None:
    reported = finding_of(kinds)
    assert (reported is Finding.EFFECT) == (Finding.EFFECT in kinds)
    assert (reported is Finding.REFUSED) == (set(kinds) == {Finding.REFUSED})
    if reported in NOTHING_SEEN:
        assert set(kinds) <= NOTHING_SEEN


@given(_findings, _findings, st.booleans())
def test_a_batch_is_not_absent_while_something_that_it_may_have_done_is_done(
    own: list[Finding], others: list[Finding], has_arrived: bool
) -> None:
    reported = finding_of(own, others, has_arrived=has_arrived)
    if Finding.EFFECT in (*own, *others):
        assert reported not in (*NOTHING_SEEN, Finding.REFUSED)
    if Finding.EFFECT in own:
        assert reported is Finding.EFFECT


EFFECT, REFUSED, ABSENT_, UNCHANGED = (
    Finding.EFFECT,
    Finding.REFUSED,
    Finding.ABSENT,
    Finding.UNCHANGED,
)


@pytest.mark.parametrize(
    ("own", "others", "has_arrived", "reported"),
    [
        # The order may have been turned down at once, or another may have cancelled.
        ([ABSENT_], [EFFECT], False, Finding.UNCLEAR),
        ([ABSENT_], [EFFECT], True, EFFECT),
        ([REFUSED], [EFFECT], False, EFFECT),
        ([ABSENT_], [REFUSED], False, ABSENT_),
        ([ABSENT_], [UNCHANGED], False, ABSENT_),
        # One is cancelled, by whomever; the other stands.
        ([], [EFFECT, UNCHANGED], False, Finding.UNCLEAR),
        ([], [EFFECT, UNCHANGED], True, EFFECT),
        ([], [EFFECT, REFUSED], False, EFFECT),
        ([], [EFFECT, Finding.UNCLEAR], False, EFFECT),
        ([Finding.UNCLEAR], [EFFECT], False, Finding.UNCLEAR),
        ([], [REFUSED, UNCHANGED], False, ABSENT_),
        ([], [REFUSED, REFUSED], False, REFUSED),
    ],
)
def test_what_another_may_have_done_proves_a_batch_only_if_nothing_proves_the_contrary(
    own: list[Finding], others: list[Finding], has_arrived: bool, reported: Finding
) -> None:
    assert finding_of(own, others, has_arrived=has_arrived) is reported


@given(st.text(), st.text())
def test_what_is_kept_of_an_answer_can_be_stored(answer: str, reason: str) -> None:
    found = Found(Finding.UNCLEAR, answer, reason=reason)
    for text in (found.answer, found.reason):
        assert "\x00" not in text
        assert len(text) <= 500
        text.encode()


# When absence counts

POLICY = LookupPolicy(settle_s=60, every_s=30)
ABSENT = Found(Finding.ABSENT, "none")


def search(status: Status = Status.IN_DOUBT) -> LookupSchedule:
    return LookupSchedule(POLICY, status, began_s=1000.0)


def run(
    looked: LookupSchedule, times: Sequence[float], *, has_snapshot: bool = True
) -> list[Fact | None]:
    return [looked.add(ABSENT, at, at, has_snapshot) for at in times]


def test_absence_counts_after_the_settling_time_three_times_with_an_interval_between() -> None:
    facts = run(search(), [1001, 1030, 1059, 1060, 1090, 1119, 1120])
    assert facts == [None] * 6 + [Fact.NOT_FOUND]


def test_the_searchs_own_pace_ends_in_time() -> None:
    looked, asked = search(), []
    while True:
        asked.append(looked.next_s)
        if looked.add(ABSENT, looked.next_s, looked.next_s + 0.5, True):
            break
    assert asked[0] == 1001
    assert asked[-1] - 1000 <= POLICY.settle_s + (LOOKS + 1) * (POLICY.every_s + 0.5)
    assert asked[-1] - 1000 >= POLICY.settle_s + (LOOKS - 1) * POLICY.every_s
    assert "3 look-ups over" in looked.reason()


def test_absence_without_a_snapshot_never_counts() -> None:
    looked = search()
    assert not any(run(looked, range(1000, 9000, 31), has_snapshot=False))
    assert run(looked, [9031, 9062, 9093])[-1] is Fact.NOT_FOUND


def test_whatever_else_is_seen_between_restarts_the_count() -> None:
    looked = search()
    run(looked, [1060, 1090])
    assert looked.add(Found(Finding.UNCLEAR, "?"), 1120, 1120, True) is None
    assert run(looked, [1150, 1180]) == [None, None]
    assert run(looked, [1210]) == [Fact.NOT_FOUND]


def test_silence_between_neither_counts_nor_restarts_it() -> None:
    looked = search()
    run(looked, [1060, 1090])
    assert looked.add(Found(Finding.NO_ANSWER, "?"), 1120, 1120, True) is None
    assert run(looked, [1150]) == [Fact.NOT_FOUND]


@pytest.mark.parametrize("status", [Status.SENT, Status.ACKNOWLEDGED])
def test_what_was_never_in_doubt_is_never_not_placed(status: Status) -> None:
    facts = set(run(search(status), range(1000, 9000, 31)))
    assert facts == {Fact.LOST_TOUCH if status is Status.SENT else None}


def test_what_was_never_answered_is_in_doubt_even_if_rest_is_silent() -> None:
    silence = Found(Finding.NO_ANSWER, "the exchange can't answer now (503)")
    assert search(Status.SENT).add(silence, 1060, 1060, False) is Fact.LOST_TOUCH
    for status in (Status.ACKNOWLEDGED, Status.IN_DOUBT):
        assert search(status).add(silence, 1060, 1060, True) is None


def test_an_acknowledged_change_failed_if_three_look_ups_find_its_order_ended_untouched() -> None:
    too_late = Found(Finding.UNCHANGED, "ended", is_over=True, is_too_late=True)
    looked = search(Status.ACKNOWLEDGED)
    facts = [looked.add(too_late, at, at, False) for at in (1059, 1060, 1075, 1090, 1120)]
    assert facts == [None] * 4 + [Fact.REFUSED_BY_EXCHANGE]
    # In doubt, it may never have arrived.
    doubted = search()
    facts = [doubted.add(too_late, at, at, True) for at in (1060, 1090, 1120)]
    assert facts[-1] is Fact.NOT_FOUND


@pytest.mark.parametrize("status", [Status.SENT, Status.ACKNOWLEDGED])
def test_an_answer_is_overdue_after_the_settling_time(status: Status) -> None:
    assert search(status).next_s == 1060


@pytest.mark.parametrize("status", [Status.SENT, Status.ACKNOWLEDGED, Status.IN_DOUBT])
@pytest.mark.parametrize(
    ("finding", "fact"),
    [(Finding.EFFECT, Fact.EFFECT_SEEN), (Finding.REFUSED, Fact.REFUSED_BY_EXCHANGE)],
)
def test_proof_counts_at_once(status: Status, finding: Finding, fact: Fact) -> None:
    assert search(status).add(Found(finding, "seen"), 1000, 1000, False) is fact


def test_a_problem_doubles_the_wait_up_to_five_minutes_and_an_answer_ends_that() -> None:
    looked, waits, at = search(), [], 1000.0
    for _ in range(6):
        looked.add(Found(Finding.NO_ANSWER, "?"), at, at, True)
        waits.append(looked.next_s - at)
        at = looked.next_s
    assert waits == [60, 120, 240, 300, 300, 300]
    looked.add(ABSENT, at, at, True)
    assert looked.next_s - at == POLICY.every_s


def test_a_longer_interval_than_the_longest_wait_is_kept() -> None:
    assert wait_s(900.0, 4) == 900.0
    assert wait_s(30.0, 10_000) == WAIT_S_MAX


_look = st.tuples(
    st.sampled_from([kind for kind in Finding if kind not in PROOF]),
    st.floats(0, 100),
    st.booleans(),
)


@given(st.lists(_look, max_size=60), st.floats(0, 200), st.floats(0.01, 100))
def test_absence_never_resolves_before_its_time_whatever_the_order_of_answers(
    looks: list[tuple[Finding, float, bool]], settle_s: float, every_s: float
) -> None:
    looked = LookupSchedule(LookupPolicy(settle_s, every_s), Status.IN_DOUBT, 0.0)
    at, settled, counted = 0.0, 0, 0
    for kind, pause_s, has_snapshot in looks:
        at += pause_s
        fact = looked.add(Found(kind, ""), at, at, has_snapshot)
        settled += at >= settle_s and has_snapshot and kind in NOTHING_SEEN
        counted = 0 if kind is Finding.UNCLEAR else counted + (kind in NOTHING_SEEN)
        assert looked.next_s >= at + min(every_s, WAIT_S_MAX)
        assert fact in (None, Fact.NOT_FOUND)
        if fact is Fact.NOT_FOUND:
            assert kind in NOTHING_SEEN and has_snapshot
            assert at >= settle_s + (LOOKS - 1) * every_s * 0.999
            assert min(settled, counted) >= LOOKS
