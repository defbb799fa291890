"""What the folds make of positions and conditional orders, without a database."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from recorder.exchange.lists import FuturesList
from recorder.log.rules.event import Draft, Note
from tests.projections.test_folds import events, fold, frame, named, note

REST = Path(__file__).resolve().parents[1] / "rest_examples"
COMPLETE = {"complete": True, "balances": True, "open_orders": True}


def position(
    quantity: str = "2", at: str | None = "01", connection: str = "c1", **more: object
) -> Draft:
    content = {"pair": "BTCUSDTPERP", "side": "buy", "quantity": quantity, "positionId": "p-1"}
    when = {"updatedAt": f"2026-01-01T00:00:{at}.000Z"} if at else {}
    return frame("OPEN_POSITION_UPDATE", content | when | more, connection)


def reduction(at: str = "02", connection: str = "c1", **more: object) -> Draft:
    content = {
        "currencyPair": "BTCUSDTPERP",
        "positionId": "p-1",
        "quantity": "1",
        "closePrice": "101",
        "realisedPnl": "0.9",
        "fees": "0.1",
        "createdAt": f"2026-01-01T00:00:{at}.000Z",
    }
    return frame("REDUCE_POSITION", content | more, connection)


def closing(connection: str = "c1", position_id: str = "p-1") -> Draft:
    return frame("POSITION_CLOSED", {"pair": "BTCUSDTPERP", "positionId": position_id}, connection)


def conditional(at: str | None = "01", connection: str = "c1", **more: object) -> Draft:
    content = {"orderId": "k-1", "currencyPair": "BTCUSDTPERP", "quantity": "0"}
    when = {"updatedAt": f"2026-01-01T00:00:{at}.000Z"} if at else {}
    return frame("ADD_CONDITIONAL_ORDER", content | when | more, connection)


def removal(reason: str = "CANCELLED_BY_USER", connection: str = "c1") -> Draft:
    content = {"orderId": "k-1", "pair": "BTCUSDTPERP", "reason": reason}
    return frame("REMOVE_CONDITIONAL_ORDER", content, connection)


def snapshot(connection: str = "c1", **facts: object) -> Draft:
    return note(Note.SNAPSHOT_COMPLETE, connection, **{**COMPLETE, **facts})


def fetched(kind: FuturesList, *drafts: Draft, **more: object) -> Draft:
    """Return the list that names what these frames report."""
    rows = [json.loads(each.payload)["data"] | more for each in drafts]
    return Draft("main", 1, None, None, "fetched", kind.value, json.dumps(rows))


def held(*drafts: Draft) -> Draft:
    return fetched(FuturesList.OPEN_POSITIONS, *drafts)


def waiting(*drafts: Draft) -> Draft:
    return fetched(FuturesList.CONDITIONALS, *drafts)


def tables(*drafts: Draft) -> dict[str, dict[tuple[Any, ...], dict[str, Any]]]:
    made, failed = fold(named("futures"), events(drafts))
    assert failed == []
    return made


def of_position(*drafts: Draft) -> tuple[Any, ...]:
    row = tables(*drafts)["positions"]["p-1",]
    return row["state"], row["quantity"], row["basis"]


def of_order(*drafts: Draft) -> tuple[Any, ...]:
    row = tables(*drafts)["conditional_orders"]["k-1",]
    return row["state"], row["basis"]


HELD, GONE = ("open", Decimal(2), "reported"), ("closed", Decimal(0), "reported")
LOST = ("end_unknown", Decimal(0), "inferred")


# Positions


def test_an_older_position_never_overwrites_a_newer_one() -> None:
    made = tables(position("2", "02"), position("3", "01"))
    assert made["positions"]["p-1",]["quantity"] == 2
    assert len(made["position_history"]) == 1


def test_of_two_positions_of_one_moment_the_later_one_stands() -> None:
    assert of_position(position("3"), position("2")) == HELD
    assert of_position(position("3", None), position("2", None)) == HELD


def test_the_first_word_of_a_new_connection_counts_whatever_its_time() -> None:
    reported = [position("3", "59"), position("2", "01", "c2"), position("7", "00", "c2")]
    assert of_position(*reported) == HELD


def test_a_position_that_is_reported_twice_is_kept_once_in_the_history() -> None:
    assert len(tables(*[position()] * 3)["position_history"]) == 1


def test_a_closed_position_is_closed_and_kept_in_the_history() -> None:
    made = tables(position("1"), reduction(), closing())
    row = made["positions"]["p-1",]
    assert (row["state"], row["is_open"], row["quantity"]) == ("closed", False, Decimal(0))
    assert row["realised_pnl"] is None
    history_of = [(row["event_type"], row["state"]) for row in made["position_history"].values()]
    assert history_of == [
        ("OPEN_POSITION_UPDATE", "open"),
        ("REDUCE_POSITION", "open"),
        ("POSITION_CLOSED", "closed"),
    ]


def test_a_reduction_is_a_movement_and_changes_no_value() -> None:
    made = tables(position("2"), reduction())
    assert made["positions"]["p-1",]["quantity"] == 2
    line = made["position_history"]["p-1", 2]
    reported = [
        line[name] for name in ("closed_quantity", "close_price", "closed_pnl", "closed_fees")
    ]
    assert reported == [Decimal(1), Decimal(101), Decimal("0.9"), Decimal("0.1")]
    assert line["quantity"] == 2


def test_an_update_from_before_the_end_opens_nothing_again() -> None:
    assert of_position(position(), reduction("03"), closing(), position("1", "02")) == GONE
    assert of_position(position(), closing(), position()) == GONE
    assert of_position(position(), closing(), position(at=None)) == GONE


def test_a_newer_update_opens_it_again() -> None:
    assert of_position(position(), reduction("03"), closing(), position("2", "04")) == HELD


def test_a_flip_closes_one_position_and_opens_another_in_any_order() -> None:
    other = position("5", "03", positionId="p-2", side="sell")
    for reported in ([closing(), other], [other, closing()]):
        made = tables(position(), reduction(), *reported)["positions"]
        assert {key: row["is_open"] for (key,), row in made.items()} == {"p-1": False, "p-2": True}


def test_a_position_first_reported_at_its_end_is_closed() -> None:
    assert of_position(closing()) == GONE
    assert of_position(reduction(), closing()) == GONE


def test_a_quantity_of_zero_is_no_open_position() -> None:
    assert of_position(position("0"))[0] == "closed"


def test_a_position_without_an_id_goes_by_its_pair() -> None:
    made = tables(position(positionId=None))
    assert list(made["positions"]) == [("BTCUSDTPERP",)]


def test_what_a_complete_snapshot_leaves_out_is_no_longer_held() -> None:
    assert of_position(position(), snapshot("c2")) == LOST
    assert of_position(position(), position(connection="c2"), snapshot("c2")) == HELD
    assert of_position(position(), snapshot()) == HELD
    assert (
        tables(position(), snapshot("c2"))["position_history"]["p-1", 2]["state"] == "end_unknown"
    )


def test_a_snapshot_that_was_given_up_casts_doubt_and_ends_nothing() -> None:
    given_up = snapshot("c2", complete=False)
    assert of_position(position(), given_up) == ("open", Decimal(2), "unconfirmed")
    assert of_position(position(), given_up, position(connection="c2")) == HELD


def test_a_snapshot_with_a_position_that_could_not_be_read_casts_doubt_and_ends_nothing() -> None:
    unread = snapshot("c2", positions=False)
    assert of_position(position(), unread) == ("open", Decimal(2), "unconfirmed")


def test_what_was_called_gone_and_is_named_again_is_held() -> None:
    assert of_position(position(), snapshot("c2"), position(connection="c2")) == HELD
    assert of_position(position(), snapshot("c2"), held(position())) == HELD


def test_a_late_word_of_the_end_overturns_the_unknown_end() -> None:
    assert of_position(position(), snapshot("c2"), closing("c2")) == GONE


def test_a_list_that_is_older_than_the_frames_changes_nothing() -> None:
    assert of_position(position("2", "02"), held(position("9", "01"))) == HELD
    assert of_position(position(), reduction("03"), closing(), held(position("9", "02"))) == GONE
    assert of_position(position(), closing(), held(position("9", "59"))) == GONE


def test_a_list_adds_what_is_newer_and_what_was_not_known() -> None:
    assert of_position(held(position())) == HELD
    assert of_position(position("9", "01"), held(position("2", "02"))) == HELD


def test_what_one_list_leaves_out_is_doubted_and_what_the_next_does_is_gone() -> None:
    assert of_position(position(), held()) == ("open", Decimal(2), "unconfirmed")
    assert of_position(position(), held(), held()) == LOST
    assert of_position(position(), held(), position(), held())[0] == "open"
    assert of_position(position(), held(), held(position())) == HELD


def test_a_list_as_long_as_a_page_leaves_nothing_out() -> None:
    full = held(*(position(positionId=f"q-{number}") for number in range(100)))
    assert of_position(position(), full, full) == HELD


def test_a_position_of_a_list_that_a_connection_names_late_is_not_absent_on_it() -> None:
    assert of_position(held(position("2", "02")), position("9", "01"), snapshot()) == HELD


def test_a_sum_of_closed_positions_gives_an_unknown_end() -> None:
    summary = fetched(FuturesList.CLOSED_SUMMARY, closing(), realisedPnl="-1.27622")
    made = tables(position(), snapshot("c2"), summary)["positions"]["p-1",]
    assert (made["state"], made["realised_pnl"]) == ("closed", Decimal("-1.27622"))
    assert of_position(position(), summary) == HELD


# Conditional orders


def test_a_conditional_order_is_open_until_it_is_removed_and_keeps_the_reason() -> None:
    made = tables(conditional(), removal())
    row = made["conditional_orders"]["k-1",]
    assert (row["state"], row["reason"]) == ("removed", "CANCELLED_BY_USER")
    assert (row["pair"], row["is_open"]) == ("BTCUSDTPERP", False)
    assert len(made["conditional_order_history"]) == 2


def test_an_older_statement_of_a_conditional_order_changes_nothing() -> None:
    made = tables(conditional("02", quantity="2"), conditional("01", quantity="1"))
    assert made["conditional_orders"]["k-1",]["quantity"] == 2


def test_only_a_newer_statement_brings_a_removed_order_back() -> None:
    assert of_order(conditional(), removal(), conditional()) == ("removed", "reported")
    assert of_order(conditional(), removal(), conditional("02")) == ("open", "reported")


def test_nothing_is_inferred_from_a_snapshot_that_may_not_name_conditional_orders() -> None:
    assert of_order(conditional(), snapshot("c2")) == ("open", "unconfirmed")
    assert of_order(conditional(), snapshot()) == ("open", "reported")
    reported_again = [conditional(), conditional(connection="c2"), snapshot("c2")]
    assert of_order(*reported_again) == ("open", "reported")


def test_the_list_decides_what_became_of_an_unconfirmed_order() -> None:
    lost = [conditional(), snapshot("c2")]
    assert of_order(*lost, waiting()) == ("end_unknown", "inferred")
    assert of_order(*lost, waiting(conditional())) == ("open", "reported")
    assert of_order(conditional(), waiting()) == ("open", "unconfirmed")


def test_a_list_never_brings_a_removed_order_back_by_an_old_time() -> None:
    assert of_order(conditional(), removal(), waiting(conditional())) == ("removed", "reported")


def test_a_history_gives_the_final_state_of_a_conditional_order() -> None:
    def history(word: str) -> Draft:
        kind = FuturesList.CONDITIONAL_HISTORY
        return fetched(kind, conditional("03"), conditional("01"), orderStatusType=word)

    lost = [conditional(), snapshot("c2"), waiting()]
    assert of_order(*lost, history("Filled")) == ("filled", "reported")
    assert of_order(*lost, history("Placed")) == ("end_unknown", "inferred")
    assert of_order(conditional(), removal(), history("Filled")) == ("removed", "reported")


def test_published_lists_are_read_whole() -> None:
    names = {
        FuturesList.OPEN_POSITIONS: "GET_v1_positions_open.200.json",
        FuturesList.CLOSED_SUMMARY: "GET_v1_positions_closed_summary.200.json",
        FuturesList.CONDITIONALS: "GET_v1_orders_conditionals.200.json",
        FuturesList.CONDITIONAL_HISTORY: "GET_v1_orders_conditionals_currencyPair_history.200.json",
    }
    reported = [
        Draft("main", 1, None, None, "fetched", kind.value, (REST / name).read_text())
        for kind, name in names.items()
    ]
    made = tables(*reported)
    assert len(made["positions"]) == 3
    assert made["positions"]["bd44a0a5-52b1-a011-28a9-031c6cf96eec",]["realised_pnl"] == Decimal(
        "-80.6776855"
    )
    pair = made["conditional_orders"]["e281eb8e-c315-4372-a7b6-8c5e5f5eb971",]
    assert pair["linked_order_id"] == "5b5ca343-2063-40dd-9c31-840dc72a5aab"
    assert len(made["conditional_orders"]) == 5


def test_a_list_that_can_not_be_read_whole_concludes_nothing() -> None:
    broken = Draft("main", 1, None, None, "fetched", FuturesList.OPEN_POSITIONS.value, "[{}]")
    made, failed = fold(named("futures"), events([position(), broken]))
    assert failed == [2]
    assert made["positions"]["p-1",]["basis"] == "reported"


def test_a_frame_that_bears_the_name_of_a_list_or_note_is_none() -> None:
    fakes = [
        frame(FuturesList.OPEN_POSITIONS.value, []),
        frame("SNAPSHOT_COMPLETE", {"complete": True}, "c2"),
    ]
    assert of_position(position(), *fakes) == HELD


STEPS = st.lists(
    st.one_of(
        st.builds(
            position,
            st.sampled_from(["0", "1", "2.5"]),
            st.sampled_from([None, "01", "02", "03"]),
            st.sampled_from(["c1", "c2"]),
            positionId=st.sampled_from(["p-1", "p-2", None]),
        ),
        st.builds(reduction, st.sampled_from(["01", "02", "03"])),
        st.builds(closing, st.sampled_from(["c1", "c2"]), st.sampled_from(["p-1", "p-2"])),
        st.builds(conditional, st.sampled_from([None, "01", "02"]), st.sampled_from(["c1", "c2"])),
        st.just(removal()),
        st.builds(snapshot, st.sampled_from(["c1", "c2"]), complete=st.booleans()),
        st.builds(lambda some: held(*some), st.lists(st.builds(position), max_size=1)),
        st.builds(lambda some: waiting(*some), st.lists(st.builds(conditional), max_size=1)),
    ),
    max_size=12,
)


@given(STEPS)
def test_the_last_line_of_each_history_is_what_stands(drafts: Sequence[Draft]) -> None:
    made = tables(*drafts)
    pairs = [
        ("positions", "position_history", "position"),
        ("conditional_orders", "conditional_order_history", "last_position"),
    ]
    for current, history, position_column in pairs:
        for key, row in made.get(current, {}).items():
            lines = [line for name, line in made[history].items() if name[0] == key[0]]
            last = max(lines, key=lambda line: line["position"])
            assert last["position"] == row[position_column]
            common = (last.keys() & row.keys()) - {"position"}
            assert {name: last[name] for name in common} == {name: row[name] for name in common}
            assert row["is_open"] == (row["state"] == "open")
            assert row["is_open"] or current != "positions" or row["quantity"] == 0
