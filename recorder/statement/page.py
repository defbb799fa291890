"""The statement as one page of HTML, made by the templates beside this module.

Every value is escaped, with what cannot be printed (or turns what is) as its escape. A page shows
the first rows of a long table and names the file that has all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from recorder.display import NOTHING, printed
from recorder.log.rules.coverage import Stretch, share_text
from recorder.projections.rules.books import Basis, Explained
from recorder.statement.rules.caveats import COMPARED, caveats, remarks
from recorder.statement.rules.charts import Chart, drawing
from recorder.statement.rules.report import Report

#: Rows of a table, and charts, that the page shows; the files have all.
ROWS_MAX = 40
CHARTS_MAX = 40
#: Characters of a word that any column can hold.
WORD_MAX = 24
_BASIS = {
    Basis.REPORTED: "",
    Basis.INFERRED_ZERO: "zero by inference: a complete snapshot left it out",
    Basis.NOT_NAMED: "zero by inference: no snapshot named it",
    Basis.UNKNOWN: "not known",
}
Rows = list[dict[str, Any]]


def render(report: Report) -> str:
    """Return the whole page."""
    counted = [each for each in report.currencies if _counts(each)]
    return (
        _templates()
        .get_template("statement.html")
        .render(
            report=report,
            caveats=caveats(report),
            remarks=remarks(report),
            compared=sum(each["state"] in COMPARED for each in report.comparisons),
            balances=[_balance(each) for each in counted],
            movements=[row for each in counted for row in _movements(each)],
            states=_named(report.orders.states),
            open_orders=[_open_order(each) for each in report.open_orders],
            trades=_trades(report),
            shares=_shares(report),
            gaps=[_gap(each) for each in report.gaps],
            comparisons=", ".join(
                f"{count:,} {state}"
                for state, count in sorted(
                    Counter(each["state"] for each in report.comparisons).items()
                )
            ),
            differences=[
                {**each, "found at": each["found_at"]}
                for each in sorted(report.differences, key=lambda row: not row["is_open"])
            ],
            heads=[
                {
                    "end": each.name,
                    "position": each.position,
                    "received": each.received_at,
                    "digest": Markup("<code>{}</code>").format(each.digest.hex()),
                }
                for each in report.ends
            ],
            files=[{"table": name, "rows": count} for name, count in report.rows.items()],
        )
    )


def draw(
    chart: Chart, from_at: datetime, until_at: datetime, stretches: Iterable[Stretch]
) -> Markup:
    """Return a chart as one SVG element; a page that shows it needs the patterns once."""
    macros: Any = _templates().get_template("chart.svg").module
    drawn: Markup = macros.draw(drawing(chart, from_at, until_at, stretches))
    return drawn


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("recorder.statement"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else printed(value),
        keep_trailing_newline=True,
    )
    environment.globals.update(rows_max=ROWS_MAX, charts_max=CHARTS_MAX)
    environment.filters["cell"] = _cell
    environment.filters["drawing"] = lambda chart, report: drawing(
        chart, report.from_at, report.until_at, report.seen.stretches
    )
    return environment


def _cell(value: object, is_number: bool) -> Markup:
    """Return a cell. What is read as one word isn't broken, or a price would read as a lower one.

    A word that no line may be able to hold is broken all the same: a number behind its point, any
    other where it must.
    """
    class_ = Markup(' class="n"') if is_number else ""
    text = value if isinstance(value, Markup) else printed(value)
    if isinstance(text, Markup) or all(
        len(word) <= WORD_MAX for word in text.replace("-", " ").split()
    ):
        return Markup("<td{}>{}</td>").format(class_, text)
    if not is_number:
        return Markup('<td class="w">{}</td>').format(text)
    whole, point, places = text.partition(".")
    return Markup("<td{}>{}{}<wbr>{}</td>").format(class_, whole, point, places)


def _counts(reported: Explained) -> bool:
    """Return whether a currency moved, or wasn't zero at both ends."""
    return bool(reported.lines) or not (reported.opening.total == reported.closing.total == 0)


def _balance(reported: Explained) -> dict[str, Any]:
    return {
        "currency": reported.currency or NOTHING,
        "opening": reported.opening.total,
        "closing": reported.closing.total,
        "moved": reported.moved,
        "residual": reported.residual,
        "note": "; ".join(_ends(reported)),
    }


def _ends(reported: Explained) -> Iterable[str]:
    for name, end in (("opening", reported.opening), ("closing", reported.closing)):
        if _BASIS[end.basis]:
            yield f"{name} {_BASIS[end.basis]}"
        elif end.total is None:
            yield f"{name} reported without a total"


def _movements(reported: Explained) -> Rows:
    currency = reported.currency or NOTHING
    rows: Rows = [
        {
            "currency": currency,
            "kind": line.kind,
            "amount": line.amount,
            "movements": line.movements,
            "back-filled": line.backfilled,
        }
        for line in reported.lines
    ]
    if reported.residual != 0:
        unexplained = {"currency": currency, "kind": "residual (unexplained)"}
        rows.append(
            {**unexplained, "amount": reported.residual, "movements": None, "back-filled": None}
        )
    return rows


def _named(states: Mapping[str, int]) -> Rows:
    return [{"state": name.replace("_", " "), "orders": n} for name, n in sorted(states.items())]


def _open_order(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "end": row["at_end"],
        "order": row["order_id"],
        "pair": row["pair"],
        "side": row["side"],
        "price": row["price"],
        "remaining": row["remaining_quantity"],
        "state": row["state"] if row["certain"] else f"{row['state']}, may have ended",
    }


def _trades(report: Report) -> Rows:
    return [
        {
            "pair": pair or NOTHING,
            "side": side or NOTHING,
            "fills": sums.fills,
            "quantity": sums.quantity,
            "value": sums.value,
            "fees": ", ".join(
                f"{printed(fee)} {named}" for named, fee in sorted(sums.fees.items())
            ),
            "back-filled": sums.backfilled,
            "without amounts": sums.without_amount,
        }
        for (pair, side), sums in sorted(report.trades.pairs.items())
    ]


def _shares(report: Report) -> Rows:
    seen = report.seen
    if seen.sums is None:
        return []
    parts = {
        "observed": seen.sums.observed_s,
        "not observed, filled in since": seen.sums.healed_s,
        "not observed": seen.sums.unobserved_s,
        "before the first start": seen.unrecorded_s,
    }
    whole = seen.sums.period_s + seen.unrecorded_s
    return [
        {"part": part, "seconds": seconds, "share": share_text(seconds, whole)}
        for part, seconds in parts.items()
    ]


def _gap(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "cause": row["cause"],
        "from": row["unobserved_from"],
        "until": row["unobserved_until"],
        "state": row["state"],
        "why": row["verdict"] or NOTHING,
    }
