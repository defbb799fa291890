"""The page of a statement: what it must report, and what it must never let through."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from typing import Any

import pytest
from attrs import evolve
from markupsafe import Markup, escape

from recorder.log.rules.coverage import Kind, Unobserved, timeline, totals
from recorder.projections.rules.books import Basis, Explained, Line, Reported
from recorder.statement.page import ROWS_MAX, draw, render
from recorder.statement.rules.caveats import caveats, remarks
from recorder.statement.rules.charts import COLUMNS, Chart, Step, Thinned
from recorder.statement.rules.report import End, OrderSums, Proof, Report, Seen, TradeSums

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
END = BEGIN + timedelta(days=1)
HOSTILE = "<script>alert(1)</script>\"' onload=x \u202e\x1b[2J"


def at(hours: float) -> datetime:
    return BEGIN + timedelta(hours=hours)


def reported(amount: str | None, basis: Basis = Basis.REPORTED) -> Reported:
    return Reported(None if amount is None else Decimal(amount), basis)


def explained(closing: str | None = "3", *, amount: str = "2", **more: Any) -> Explained:
    line = Line("deposit", Decimal(amount), 1, **more)
    return Explained("BTC", reported("1"), reported(closing), (line,))


def seen(*unobserved_intervals: Unobserved, unrecorded_s: str = "0", unhealed: int = 0) -> Seen:
    stretches = timeline(unobserved_intervals, BEGIN, END)
    return Seen(totals(stretches), Decimal(unrecorded_s), unhealed, stretches)


def sound() -> Report:
    """Return a report in which nothing is wanting."""
    return Report(
        account="main",
        from_at=BEGIN,
        until_at=END,
        made_at=END,
        version="1",
        as_of=7,
        ends=[End("opening", 0, None, bytes(32)), End("closing", 7, END, b"\x01" * 32)],
        proof=Proof(7, checkpoints=2),
        seen=seen(),
        currencies=[explained()],
        orders=OrderSums(),
        trades=TradeSums(),
        gaps=[],
        comparisons=[{"state": "clean"}],
        differences=[],
        open_orders=[],
        behind={},
        unread=0,
        unmatched=[],
        in_doubt=0,
        unknowable=["what is never reported"],
        charts=[],
        rows={"balances": 1},
    )


def difference(*, is_open: bool) -> dict[str, Any]:
    answer = dict.fromkeys(("list", "key", "field", "ours", "theirs", "state", "found_at"), "x")
    return {**answer, "is_open": is_open}


def gap(cause: str, verdict: str | None = None) -> dict[str, Any]:
    return {
        "cause": cause,
        "unobserved_from": BEGIN,
        "unobserved_until": END,
        "state": "closed",
        "verdict": verdict,
    }


def test_a_sound_statement_lists_what_was_checked_and_has_no_caveat() -> None:
    page = render(sound())
    assert caveats(sound()) == []
    assert "No caveat was found" in page
    assert "What is not known" not in page
    assert "1 comparisons" in page and "All 7 events" in page
    assert "what is never reported" in page


UNTOLD = OrderSums(1, 0, {"end_unknown": 1})
CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("not verified", {"proof": None}),
    ("damaged: position 3", {"proof": Proof(damage="position 3: gone")}),
    ("'ledger' is folded up to position 5 only", {"behind": {"ledger": 5}}),
    ("2 events of the period could not be read", {"unread": 2}),
    ("of the period was observed isn't known", {"seen": Seen(None, Decimal(0), 0)}),
    ("1 min of the period lie before a recorder's first start", {"seen": seen(unrecorded_s="60")}),
    ("1 h were not observed", {"seen": seen(Unobserved(at(1), at(2), "killed"))}),
    ("4.1666 %; killed 1 h", {"seen": seen(Unobserved(at(1), at(2), "killed"))}),
    ("1 gap, too short to be measured, is not", {"seen": seen(unhealed=1)}),
    ("BTC: 1 movement without an amount", {"currencies": [explained(without_amount=1)]}),
    ("BTC: 7 of the change is explained by no", {"currencies": [explained("10")]}),
    ("an end of the period isn't known", {"currencies": [explained(None)]}),
    ("were in flight", {"currencies": [evolve(explained("10"), in_flight=True)]}),
    ("1 order has fills that", {"unmatched": ["order-1"]}),
    ("Nothing in the period was compared", {"comparisons": []}),
    ("Nothing in the period was compared", {"comparisons": [{"state": "running"}]}),
    ("1 comparison was begun", {"comparisons": [{"state": "incomplete"}]}),
    ("1 difference from the exchange's", {"differences": [difference(is_open=True)]}),
    ("1 order is no longer open", {"orders": UNTOLD}),
    ("may have ended before", {"open_orders": [{"certain": False}]}),
    ("2 commands were sent", {"in_doubt": 2}),
]


@pytest.mark.parametrize(("sentence", "change"), CHANGES)
def test_whatever_is_not_known_is_a_doubt(sentence: str, change: dict[str, Any]) -> None:
    found = caveats(evolve(sound(), **change))
    assert sum(sentence in each for each in found) == 1


@pytest.mark.parametrize(("sentence", "change"), CHANGES)
def test_every_doubt_stands_on_the_page(sentence: str, change: dict[str, Any]) -> None:
    if "open_orders" in change:
        names = ("at_end", "order_id", "pair", "side", "price", "remaining_quantity", "state")
        change = {"open_orders": [dict.fromkeys(names, "x") | {"certain": False}]}
    page = render(evolve(sound(), **change))
    top = page.split("<h2>Balances</h2>")[0]
    assert "What is not known" in top and "No caveat was found" not in page
    assert escape(sentence) in top


@pytest.mark.parametrize(
    ("unobserved", "which"),
    [
        (Unobserved(at(0), at(1), "killed", is_healed=True), ["beginning"]),
        (Unobserved(at(23), at(24), "killed", is_healed=True), ["end"]),
        (Unobserved(at(1), at(2), "killed", is_healed=True), []),
    ],
)
def test_what_is_left_over_where_an_end_was_not_observed_is_attributed_to_it(
    unobserved: Unobserved, which: list[str]
) -> None:
    left = evolve(sound(), currencies=[explained("10")], seen=seen(unobserved))
    reported = " ".join(caveats(left))
    ends = ("beginning", "end")
    assert [name for name in ends if f"at the {name} of the period (killed" in reported] == which
    assert caveats(evolve(sound(), seen=seen(unobserved))) == []


def test_what_was_healed_or_has_ended_is_no_doubt() -> None:
    healed = seen(Unobserved(at(1), at(2), "killed", is_healed=True))
    report = evolve(sound(), seen=healed, differences=[difference(is_open=False)])
    assert caveats(report) == []
    assert any("1 h" in each for each in remarks(report))


def test_nothing_that_others_named_gets_in_as_it_came() -> None:
    trades = TradeSums()
    row = {"pair": HOSTILE, "side": HOSTILE, "source": "stream", "fee_currency": HOSTILE}
    trades.add({**row, "price": Decimal(2), "quantity": Decimal(3), "fee": Decimal(1)})
    names = ("at_end", "order_id", "pair", "side", "remaining_quantity", "price", "state")
    report = evolve(
        sound(),
        account=HOSTILE,
        currencies=[evolve(explained("10"), currency=HOSTILE)],
        trades=trades,
        orders=OrderSums(1, 1, {HOSTILE: 1}),
        open_orders=[dict.fromkeys(names, HOSTILE) | {"certain": True}],
        gaps=[gap("killed", HOSTILE)],
        differences=[dict.fromkeys(difference(is_open=True), HOSTILE) | {"is_open": True}],
        charts=[Chart(HOSTILE, [Step(BEGIN, Decimal(1))], 1)],
        unmatched=[HOSTILE],
        in_doubt=1,
    )
    page = render(report)
    assert "&lt;script&gt;" in page
    assert "\u202e" not in page and "\x1b" not in page
    tags, attributes = tags_of(page)
    assert "script" not in tags and "onload" not in attributes


def tags_of(page: str) -> tuple[set[str], set[str]]:
    tags: set[str] = set()
    attributes: set[str] = set()

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.add(tag)
            attributes.update(name for name, _ in attrs)

    Parser().feed(page)
    return tags, attributes


def test_the_page_needs_nothing_from_outside() -> None:
    page = render(evolve(sound(), charts=[chart("1", "2")]))
    addresses = set(re.findall(r"[a-z]+://[^\"' )]+", page))
    assert addresses == {"http://www.w3.org/2000/svg"}
    assert tags_of(page)[0].isdisjoint({"script", "link", "img", "iframe", "a"})
    assert "@media print" in page


def test_no_amount_is_broken_so_that_it_reads_as_another() -> None:
    names = ("at_end", "pair", "side", "state")
    whole, long = "1" + "0" * 9, "123456789.123456789012345678"
    order = dict.fromkeys(names, "x") | {"certain": True, "order_id": "0" * 40}
    rows = [{**order, "price": Decimal(whole), "remaining_quantity": Decimal(long)}]

    page = render(evolve(sound(), open_orders=rows))

    assert f'<td class="n">{whole}</td>' in page
    # What one line may not hold goes on behind its point; a name may be broken anywhere.
    assert '<td class="n">123456789.<wbr>123456789012345678</td>' in page
    assert f'<td class="w">{"0" * 40}</td>' in page
    assert re.findall(r"[^}]*overflow-wrap:anywhere", page.split("</style>")[0]) == [
        "\ntd.w{overflow-wrap:anywhere",
        "code{font-size:.82rem;overflow-wrap:anywhere",
    ]


def test_a_page_has_a_place_to_sign() -> None:
    assert all(f"<th>{name}</th>" in render(sound()) for name in ("name", "signature"))


def test_a_long_table_names_where_the_rest_is() -> None:
    gaps = [gap(f"cause-{number}") for number in range(ROWS_MAX + 5)]
    page = render(evolve(sound(), gaps=gaps))
    assert f"cause-{ROWS_MAX - 1}<" in page and f"cause-{ROWS_MAX}<" not in page
    assert "5 more are in gaps." in page


def test_sums_of_trades_are_exact_and_what_has_no_amount_is_counted() -> None:
    sums = TradeSums()
    row = {"pair": "BTCZAR", "side": "buy", "source": "backfill", "fee_currency": "ZAR"}
    tiny = Decimal("0.000000000000000001")
    for price, fee in ((Decimal("123456789012345678"), tiny), (Decimal(1), None), (None, tiny)):
        sums.add({**row, "price": price, "quantity": tiny, "fee": fee})
    pair = sums.pairs["BTCZAR", "buy"]
    assert (pair.fills, pair.backfilled, pair.without_amount) == (3, 3, 1)
    assert pair.value == Decimal("0.123456789012345679")
    assert (pair.quantity, pair.fees) == (2 * tiny, {"ZAR": 2 * tiny})


# Charts


def chart(*totals_: str | None) -> Chart:
    steps = [
        Step(at(number), None if total is None else Decimal(total))
        for number, total in enumerate(totals_)
    ]
    return Chart("BTC", steps, len(steps))


def lines(drawn: Markup) -> list[str]:
    """Return the paths of a chart but its axis, which come last."""
    svg = ElementTree.fromstring(drawn)
    return [each.attrib["d"] for each in svg.iter("{http://www.w3.org/2000/svg}path")][1:]


def test_a_chart_shades_what_was_not_observed_and_names_it() -> None:
    unobserved_intervals = [
        Unobserved(at(6), at(12), "killed"),
        Unobserved(at(18), at(18.0001), "silent", True),
    ]
    svg = ElementTree.fromstring(
        draw(chart("1", "2"), BEGIN, END, timeline(unobserved_intervals, BEGIN, END))
    )
    rects = list(svg.iter("{http://www.w3.org/2000/svg}rect"))
    assert [each.attrib["fill"] for each in rects] == [
        f"url(#{Kind.UNOBSERVED})",
        f"url(#{Kind.HEALED})",
    ]
    assert float(rects[0].attrib["width"]) == pytest.approx(149, abs=0.1)
    # A gap of a moment is still to be seen.
    assert float(rects[1].attrib["width"]) >= 1.5
    titles = [each.findtext("{http://www.w3.org/2000/svg}title") for each in rects]
    assert titles == ["unobserved: killed, 6 h", "healed: silent, 0.36 s"]


def test_a_line_has_steps_and_breaks_where_the_balance_is_not_known() -> None:
    whole = lines(draw(chart("1", "2", "3"), BEGIN, END, ()))
    broken = lines(draw(chart("1", None, "3"), BEGIN, END, ()))
    assert len(whole) == 1 and whole[0].count("V") == 2
    assert len(broken) == 2


@pytest.mark.parametrize("totals_", [(), (None,), ("5",), ("5", "5"), ("-1e30", "1e30")])
def test_any_balance_can_be_drawn(totals_: tuple[str | None, ...]) -> None:
    drawn = draw(chart(*totals_), BEGIN, END, ())
    for path in lines(drawn):
        numbers = [float(each) for each in re.findall(r"[\d.]+", path)]
        assert all(0 <= number <= 720 for number in numbers)
    assert "nan" not in drawn and "inf" not in drawn


def test_a_million_statements_are_thinned_and_keep_ends_and_extremes() -> None:
    thinned = Thinned(BEGIN, END)
    for number in range(50_000):
        total = Decimal(number % 1_000)
        if number == 31_415:
            total = Decimal(-7)
        thinned.add(Step(BEGIN + timedelta(seconds=number * 86_400 / 50_000), total))
    steps = thinned.steps()
    assert thinned.count == 50_000
    assert len(steps) <= COLUMNS * 5
    assert [each.at for each in steps] == sorted(each.at for each in steps)
    assert min(each.total for each in steps if each.total is not None) == -7
    assert [steps[0].total, steps[-1].total] == [Decimal(0), Decimal(999)]


def test_a_chart_begins_with_what_stood_and_lasts_to_the_end() -> None:
    thinned = Thinned(BEGIN, END)
    thinned.add(Step(at(3), Decimal(4)))
    drawn = Chart.of("BTC", Decimal(1), BEGIN, END, thinned)
    reported = [(BEGIN, Decimal(1)), (at(3), Decimal(4)), (END, Decimal(4))]
    assert drawn.steps == [Step(*each) for each in reported]
    assert drawn.statements == 1
    assert Chart.of("BTC", None, BEGIN, END, Thinned(BEGIN, END)).steps == []
