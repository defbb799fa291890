"""The statement as one page of HTML: warnings first, then figures. It holds no script and no link.

It is read on a screen and printed. What it shows in part (the first rows of a long table) it
reports so of, and names the file that has all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from recorder.log.rules.coverage import share_text
from recorder.projections.rules.books import Basis, Explained
from recorder.statement.rules.caveats import caveats, remarks
from recorder.statement.rules.charts import draw, patterns
from recorder.statement.rules.markup import NOTHING, Markup, element, joined, shown
from recorder.statement.rules.report import Report, Seen

#: Rows of a table that the page shows; the files have all.
ROWS_MAX = 40
CHARTS_MAX = 40
#: Characters of a word that any column can hold.
WORD_MAX = 24

STYLE = """
body{font:15px/1.45 system-ui,sans-serif;color:#111;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;margin:0 0 .3rem}
h2{font-size:1.15rem;margin:2rem 0 .5rem;border-bottom:1px solid #999}
h3{font-size:1rem;margin:1.2rem 0 .2rem}
table{border-collapse:collapse;margin:.4rem 0;font-size:.87rem}
th,td{text-align:left;padding:.15rem .9rem .15rem 0;vertical-align:top}
td.w{overflow-wrap:anywhere}
thead th{border-bottom:1px solid #999;font-weight:600}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
tr.sum td{border-top:1px solid #bbb;font-weight:600}
.warnings{border:2px solid #b00;padding:.4rem 1rem;margin:1rem 0}
.sound{border:2px solid #264;padding:.4rem 1rem;margin:1rem 0}
.note{color:#444;font-size:.87rem}code{font-size:.82rem;overflow-wrap:anywhere}
svg{max-width:100%;height:auto;display:block}figure{margin:0}
@page{size:A4;margin:16mm}
@media print{body{font-size:10.5pt;margin:0;max-width:none;padding:0}h2,h3{break-after:avoid}
table{font-size:8.5pt}th,td{padding-right:.5rem}tr,figure,.warnings,.sound,.signed{break-inside:avoid}
thead{display:table-header-group}}
.signed td{padding:2.2rem 3rem 0 0;border-bottom:1px solid #111;width:14rem}
"""

_BASIS = {
    Basis.REPORTED: "",
    Basis.INFERRED_ZERO: "zero by inference: a complete snapshot left it out",
    Basis.NOT_NAMED: "zero by inference: no snapshot named it",
    Basis.UNKNOWN: "not known",
}


def render(report: Report) -> str:
    """Return the whole page."""
    title = f"Statement of account {report.account}"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("title", f"{title}, {shown(report.from_at)} to {shown(report.until_at)} UTC"),
        element("style", Markup(STYLE)),
    )
    sections = [
        element("h1", title),
        _heading(report),
        _verdict(report),
        _balances(report),
        _movements(report),
        _charts(report),
        _orders(report),
        _trades(report),
        _coverage(report),
        _comparisons(report),
        _log(report),
        # Beside the digests: a signature on a sheet of its own would be one under nothing.
        _signature(),
        _files(report),
    ]
    page = element("html", head, element("body", patterns(), *sections), lang="en")
    return f"<!DOCTYPE html>\n{page}\n"


def _heading(report: Report) -> Markup:
    return element(
        "p",
        f"From {shown(report.from_at)} to {shown(report.until_at)} UTC, by the exchange's time:"
        " what happened behind the one and up to the other, as known at position"
        f" {report.as_of:,} of the log. Made {shown(report.made_at)} UTC by recorder"
        f" {report.version}.",
        class_="note",
    )


def _verdict(report: Report) -> Markup:
    found, reported = caveats(report), remarks(report)
    if found:
        box = element("div", element("h2", "What is not known"), _list(found), class_="caveats")
    else:
        box = element("div", element("p", _sound(report)), class_="sound")
    return joined([box, _list(reported, class_="note") if reported else Markup("")])


def _sound(report: Report) -> str:
    compared = sum(each["state"] in ("clean", "differing") for each in report.comparisons)
    return (
        "Nothing was found wanting. The whole log was verified, every moment of the period was"
        " observed or filled in since, the movements explain the change of every balance, and"
        f" {compared:,} comparisons with the exchange's own answers left no difference open."
    )


# Balances and movements


def _balances(report: Report) -> Markup:
    rows = [
        {
            "currency": reported.currency or NOTHING,
            "opening": reported.opening.total,
            "closing": reported.closing.total,
            "moved": reported.moved,
            "residual": reported.residual,
            "note": "; ".join(_ends(reported)),
        }
        for reported in _that_count(report)
    ]
    columns = ("currency", "opening", "closing", "moved", "residual", "note")
    table = _table(columns, rows, "balances", numbers=columns[1:5])
    return joined(
        [
            element("h2", "Balances"),
            table,
            element(
                "p",
                "Opening, what moved, and the residual make the closing balance, exactly. The"
                " residual is what no movement explains. Currencies that were zero at both ends"
                " and didn't move are left out here.",
                class_="note",
            ),
        ]
    )


def _that_count(report: Report) -> list[Explained]:
    return [
        reported
        for reported in report.currencies
        if reported.lines or not (reported.opening.total == 0 and reported.closing.total == 0)
    ]


def _ends(reported: Explained) -> Iterable[str]:
    for name, end in (("opening", reported.opening), ("closing", reported.closing)):
        if _BASIS[end.basis]:
            yield f"{name} {_BASIS[end.basis]}"
        elif end.total is None:
            yield f"{name} reported without a total"


def _movements(report: Report) -> Markup:
    rows = []
    for reported in _that_count(report):
        rows += [
            {
                "currency": reported.currency or NOTHING,
                "kind": line.kind,
                "amount": line.amount,
                "movements": line.movements,
                "back-filled": line.backfilled,
            }
            for line in reported.lines
        ]
        if reported.residual != 0:
            unexplained = {
                "currency": reported.currency or NOTHING,
                "kind": "residual (unexplained)",
            }
            rows.append({**unexplained, "amount": reported.residual})
    columns = ("currency", "kind", "amount", "movements", "back-filled")
    table = _table(columns, rows, "books", numbers=columns[2:], limit=len(rows))
    return joined([element("h2", "Movements"), table])


# Charts


def _charts(report: Report) -> Markup:
    if not report.charts:
        return Markup("")
    figures = [
        element(
            "figure",
            element("h3", f"{chart.currency} (reported {chart.statements:,} times)"),
            draw(chart, report.from_at, report.until_at, report.seen.stretches),
        )
        for chart in report.charts[:CHARTS_MAX]
    ]
    more = len(report.charts) - CHARTS_MAX
    note = "Hatched: not observed, the balance may have been another. Dotted: filled in since."
    if more > 0:
        note += f" {more:,} more currencies moved; balances has them."
    return joined(
        [element("h2", "Balances over time"), element("p", note, class_="note"), *figures]
    )


# Orders and trades


def _orders(report: Report) -> Markup:
    sums = report.orders
    states = [
        {"state": state.replace("_", " "), "orders": count}
        for state, count in sorted(sums.states.items())
    ]
    columns = ("end", "order", "pair", "side", "price", "remaining", "state")
    open_rows = [
        {
            "end": each["at_end"],
            "order": each["order_id"],
            "pair": each["pair"],
            "side": each["side"],
            "price": each["price"],
            "remaining": each["remaining_quantity"],
            "state": each["state"] if each["certain"] else f"{each['state']}, may have ended",
        }
        for each in report.open_orders
    ]
    return joined(
        [
            element("h2", "Orders"),
            element(
                "p",
                f"{sums.lived:,} orders lived in the period, {sums.foreign:,} of them placed by no"
                " command of this recorder. Their states as known now:",
            ),
            _table(("state", "orders"), states, "orders", numbers=("orders",)),
            element("h3", "Open at the ends of the period"),
            _table(columns, open_rows, "open_orders", numbers=columns[4:6]),
        ]
    )


def _trades(report: Report) -> Markup:
    rows = [
        {
            "pair": pair or NOTHING,
            "side": side or NOTHING,
            "fills": sums.fills,
            "quantity": sums.quantity,
            "value": sums.value,
            "fees": ", ".join(f"{shown(fee)} {named}" for named, fee in sorted(sums.fees.items())),
            "back-filled": sums.backfilled,
            "without amounts": sums.without_amount,
        }
        for (pair, side), sums in sorted(report.trades.pairs.items())
    ]
    columns = (
        "pair",
        "side",
        "fills",
        "quantity",
        "value",
        "fees",
        "back-filled",
        "without amounts",
    )
    table = _table(columns, rows, "trades", numbers=(*columns[2:5], *columns[6:]), limit=len(rows))
    return joined([element("h2", "Trades"), table])


# Coverage


def _coverage(report: Report) -> Markup:
    columns = ("cause", "from", "until", "state", "why")
    rows = [
        {
            "cause": each["cause"],
            "from": each["unobserved_from"],
            "until": each["unobserved_until"],
            "state": each["state"],
            "why": each["verdict"] or NOTHING,
        }
        for each in report.gaps
    ]
    return joined(
        [
            element("h2", "Coverage"),
            _table(
                ("part", "seconds", "share"), _shares(report.seen), "coverage", numbers=("seconds",)
            ),
            element("h3", "Gaps"),
            _table(columns, rows, "gaps"),
            element("p", "What no recorder can know:", class_="note"),
            _list(report.unknowable, class_="note"),
        ]
    )


def _shares(seen: Seen) -> list[dict[str, Any]]:
    if seen.sums is None:
        return []
    whole = seen.sums.period_s + seen.unrecorded_s
    parts = (
        ("observed", seen.sums.observed_s),
        ("not observed, filled in since", seen.sums.healed_s),
        ("not observed", seen.sums.unobserved_s),
        ("before the first start", seen.unrecorded_s),
    )
    return [
        {"part": name, "seconds": seconds, "share": share_text(seconds, whole)}
        for name, seconds in parts
    ]


# Comparisons, the log, the files


def _comparisons(report: Report) -> Markup:
    states: dict[str, int] = {}
    for each in report.comparisons:
        states[each["state"]] = states.get(each["state"], 0) + 1
    reported = ", ".join(f"{count:,} {state}" for state, count in sorted(states.items()))
    columns = ("list", "key", "field", "ours", "theirs", "state", "found at")
    rows = [
        {**each, "found at": each["found_at"]}
        for each in sorted(report.differences, key=lambda row: not row["is_open"])
    ]
    return joined(
        [
            element("h2", "Comparisons with the exchange"),
            element("p", f"Made in the period, or of it: {reported or 'none'}."),
            _table(
                columns, rows, "differences", empty="No value differed." if reported else "None."
            ),
        ]
    )


def _log(report: Report) -> Markup:
    rows = [
        {
            "end": each.name,
            "position": each.position,
            "received": each.received_at,
            "digest": element("code", shown(each.digest)),
        }
        for each in report.ends
    ]
    columns = ("end", "position", "received", "digest")
    return joined(
        [
            element("h2", "Heads of the log"),
            element(
                "p",
                "What had come in by the ends of the period, by the recorder's clock, and all that"
                " had when this was made. Who keeps a digest can prove later that nothing up to"
                " there was changed.",
                class_="note",
            ),
            _table(columns, rows, "heads", numbers=("position",)),
            element("p", _proved(report)),
        ]
    )


def _proved(report: Report) -> str:
    proof = report.proof
    if proof is None:
        return "The log was not verified, as was asked for."
    if proof.damage:
        return f"The log is damaged: {proof.damage}."
    compared = proof.not_compared or f"{proof.checkpoints:,} checkpoints agree with it"
    return f"All {proof.events:,} events of the log were verified: it is whole; {compared}."


def _files(report: Report) -> Markup:
    rows = [{"table": name, "rows": count} for name, count in report.rows.items()]
    return joined(
        [
            element("h2", "Files"),
            element(
                "p",
                "Beside this page lie these tables. manifest.json has the SHA-256 of each.",
                class_="note",
            ),
            _table(("table", "rows"), rows, "manifest.json", numbers=("rows",), limit=len(rows)),
        ]
    )


def _signature() -> Markup:
    names = ("name", "place and date", "signature")
    blank = element("tr", *(element("td", Markup("&nbsp;")) for _ in names))
    below = element("tr", *(element("th", each) for each in names))
    return element("table", blank, below, class_="signed")


# Parts of a page


def _list(sentences: Iterable[str], **attributes: object) -> Markup:
    return element("ul", *(element("li", each) for each in sentences), **attributes)


def _table(
    columns: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    file: str,
    *,
    numbers: Sequence[str] = (),
    limit: int = ROWS_MAX,
    empty: str = "None.",
) -> Markup:
    """Return a table of the first rows, and how many more ``file`` has; ``empty`` without rows."""
    if not rows:
        return element("p", empty)
    head = element("tr", *(element("th", each, class_=_class(each, numbers)) for each in columns))
    body = [
        element(
            "tr",
            *(_cell(row.get(each), class_=_class(each, numbers)) for each in columns),
        )
        for row in rows[:limit]
    ]
    table = element("table", element("thead", head), element("tbody", *body))
    if len(rows) <= limit:
        return table
    more = element("p", f"{len(rows) - limit:,} more are in {file}.", class_="note")
    return joined([table, more])


def _cell(value: object, class_: str | None) -> Markup:
    """Return a cell. What is read as one word isn't broken, or a price would read as a lower one.

    A word that no line may be able to hold is broken all the same: a number behind its point, any
    other where it must.
    """
    if isinstance(value, Markup):
        return element("td", value, class_=class_)
    answer = shown(value)
    if all(len(word) <= WORD_MAX for word in answer.replace("-", " ").split()):
        return element("td", answer, class_=class_)
    if class_ is None:
        return element("td", answer, class_="w")
    whole, point, places = answer.partition(".")
    return element("td", f"{whole}{point}", element("wbr"), places, class_=class_)


def _class(column: str, numbers: Sequence[str]) -> str | None:
    return "n" if column in numbers else None
