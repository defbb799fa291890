"""What keeps a statement from being sound, in sentences.

A caveat is anything for which the period's figures may be wrong or incomplete. What no recorder
could know (`Report.unknowable`) is listed separately.
"""

from __future__ import annotations

from collections.abc import Iterator

from recorder.display import counted, duration_text, printed
from recorder.log.rules.coverage import Kind, Totals, share_text
from recorder.projections.rules.books import Explained
from recorder.statement.rules.report import Report, Seen

#: The states of a comparison that has looked at everything.
COMPARED = frozenset({"clean", "differing"})
_NO_CURRENCY = "movements without a currency"


def caveats(report: Report) -> list[str]:
    """Return all caveats, the worst first; none if the statement is sound."""
    return [
        *_of_the_log(report),
        *_of_what_was_seen(report),
        *_of_the_books(report),
        *_of_comparisons(report),
        *_of_orders(report),
    ]


def remarks(report: Report) -> list[str]:
    """Return what a reader should know that is no caveat."""
    found = []
    if report.proof is not None and report.proof.not_compared:
        found.append(f"The log: {report.proof.not_compared}.")
    healed = report.seen.sums.healed_s if report.seen.sums else 0
    if healed:
        found.append(
            f"{duration_text(healed)} of the period were not observed and have been filled in since"
            " from the exchange's histories. Between their ends no balance is known."
        )
    for reported in report.currencies:
        later = sum(line.reported_later for line in reported.lines)
        if later:
            moved = counted(later, "movement was", "movements were")
            found.append(f"{_name(reported)}: {moved} reported after the period.")
        assumed = [line.assumed_fees for line in reported.lines if line.assumed_fees]
        if assumed and reported.adds_up:
            found.append(
                f"{_name(reported)}: nothing but the sum proves what fees of"
                f" {', '.join(map(printed, assumed))} were taken off."
            )
    return found


def _of_the_log(report: Report) -> Iterator[str]:
    if report.proof is None:
        yield "The log was not verified, as was requested."
    elif report.proof.damage:
        yield f"The log is damaged: {report.proof.damage}."
    for projection, position in sorted(report.behind.items()):
        yield (
            f"The table {projection!r} is folded up to position {position:,} only, before the"
            " period's end: run the recorder, and make the statement again."
        )
    if report.unread:
        unread = counted(report.unread, "event", "events")
        yield f"{unread} of the period could not be read, or only in part (fold_failures)."


def _of_what_was_seen(report: Report) -> Iterator[str]:
    seen = report.seen
    if seen.sums is None:
        yield "How much of the period was observed isn't known."
        return
    if seen.unrecorded_s:
        unrecorded = duration_text(seen.unrecorded_s)
        yield f"{unrecorded} of the period lie before a recorder's first start."
    if seen.sums.unobserved_s:
        yield (
            f"{duration_text(seen.sums.unobserved_s)} were not observed and not filled in"
            f" ({share_text(seen.sums.unobserved_s, seen.sums.period_s)}; {_causes(seen.sums)}):"
            " what came and went in them may be missing."
        )
    elif seen.unhealed:
        gaps = counted(
            seen.unhealed,
            "gap, too short to be measured, is",
            "gaps, too short to be measured, are",
        )
        yield f"{gaps} not filled in."


def _causes(sums: Totals) -> str:
    return ", ".join(
        f"{cause} {duration_text(unobserved)}" for cause, unobserved, _ in sums.causes if unobserved
    )


def _of_the_books(report: Report) -> Iterator[str]:
    for reported in report.currencies:
        name = _name(reported)
        if reported.without_amount:
            without_amount = counted(reported.without_amount, "movement", "movements")
            yield f"{name}: {without_amount} without an amount, in no sum."
        if reported.residual is None:
            yield f"{name}: the balance at an end of the period isn't known, so nothing is proved."
        elif reported.residual and reported.in_flight:
            yield (
                f"{name}: {printed(reported.residual)} were in flight at an end of the period;"
                " another end, shortly before or after, shows it."
            )
        elif reported.residual:
            yield f"{name}: {printed(reported.residual)} of the change is explained by no movement."
    if any(reported.residual for reported in report.currencies):
        yield from _unseen_ends(report.seen)
    if report.unmatched:
        some = ", ".join(report.unmatched[:3]) + (" …" if len(report.unmatched) > 3 else "")
        orders = counted(len(report.unmatched), "order has", "orders have")
        yield (
            f"{orders} fills that trades and ledger don't report alike"
            f" ({some}): a frame of one of the two was missed."
        )


def _unseen_ends(seen: Seen) -> Iterator[str]:
    """Name each end that was not observed: its balances were reported before."""
    for name, place in (("beginning", 0), ("end", -1)):
        if not seen.stretches or seen.stretches[place].kind is Kind.OBSERVED:
            continue
        unobserved = seen.stretches[place]
        yield (
            f"Nothing was received at the {name} of the period"
            f" ({unobserved.cause}, {printed(unobserved.from_at)}"
            f" to {printed(unobserved.until_at)} UTC): the balances there were reported before, and"
            " what moved since is in the difference. Choose an end that was observed."
        )


def _name(reported: Explained) -> str:
    return reported.currency or _NO_CURRENCY


def _of_comparisons(report: Report) -> Iterator[str]:
    made = [each for each in report.comparisons if each["state"] in COMPARED]
    if not made:
        yield (
            "Nothing in the period was compared with the exchange's own answers"
            " (`recorder reconcile` does it)."
        )
    left = [each for each in report.comparisons if each["state"] == "incomplete"]
    if left and not made:
        yield f"{counted(len(left), 'comparison was', 'comparisons were')} begun and not finished."
    still_open = [each for each in report.differences if each["is_open"]]
    if still_open:
        named = sorted({f"{each['list']} {each['key']}" for each in still_open})
        some = ", ".join(named[:3]) + (" …" if len(named) > 3 else "")
        differences = counted(len(still_open), "difference", "differences")
        yield f"{differences} from the exchange's answers: still open ({some})."


def _of_orders(report: Report) -> Iterator[str]:
    if report.orders.of_unknown_end:
        ended = counted(report.orders.of_unknown_end, "order is", "orders are")
        yield f"{ended} no longer open, with an unknown final state."
    unsure = sum(not each["certain"] for each in report.open_orders)
    if unsure:
        orders = counted(unsure, "order counts", "orders count")
        yield f"{orders} as open at an end of the period and may have ended before."
    if report.in_doubt:
        sent = counted(report.in_doubt, "command was", "commands were")
        yield f"{sent} sent, and the effect isn't known."
