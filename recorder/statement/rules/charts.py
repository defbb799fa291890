"""A balance over time as a drawing: steps, with what was not observed shaded.

A chart is thinned to the resolution of the picture: of each column the first, the lowest, the
highest and the last value. `drawing` gives it coordinates; templates/chart.svg draws them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from attrs import define, field, frozen

from recorder.display import duration_text, printed
from recorder.log.rules.coverage import Kind, Stretch

#: Of the picture, in its own units; the axes lie within.
WIDTH, HEIGHT = 720, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 116, 712, 10, 146
#: Of a balance beside the axis: so many characters fit as they are, longer ones are drawn closer.
_LABEL_CHARACTERS = 17
#: Columns of time in a picture.
COLUMNS = 600
_TICKS = 4
#: What is shaded must be seen, however short it was.
_SHADE_MIN = 1.5


@frozen
class Step:
    """From this time on the balance was ``total``; None where it was reported without one."""

    at: datetime
    total: Decimal | None


@frozen
class Chart:
    """One currency's balance over the period."""

    currency: str
    steps: Sequence[Step]
    #: How many statements the steps stand for.
    statements: int

    @classmethod
    def of(
        cls,
        currency: str,
        opening: Decimal | None,
        from_at: datetime,
        until_at: datetime,
        thinned: Thinned,
    ) -> Chart:
        """Return the chart of the opening balance and what was reported since."""
        steps = thinned.steps()
        if opening is not None:
            steps.insert(0, Step(from_at, opening))
        if steps:
            # The last report holds to the end.
            steps.append(Step(until_at, steps[-1].total))
        return cls(currency, steps, thinned.count)


@define
class Thinned:
    """Keeps those of many steps, in the order of their times, that a picture shows."""

    from_at: datetime
    until_at: datetime
    count: int = 0
    _kept: list[Step] = field(factory=list)
    _column: int = -1
    _here: list[Step] = field(factory=list)

    def add(self, step: Step) -> None:
        """Take one more."""
        self.count += 1
        column = int(COLUMNS * _share(step.at, self.from_at, self.until_at))
        if column != self._column:
            self._close()
            self._column = column
        self._here.append(step)
        if len(self._here) > 8:
            self._here = _visible(self._here)

    def steps(self) -> list[Step]:
        """Return what is kept of all so far."""
        self._close()
        return list(self._kept)

    def _close(self) -> None:
        self._kept += _visible(self._here)
        self._here = []


def _visible(steps: Sequence[Step]) -> list[Step]:
    """Return first, lowest, highest and last, and one of unknown total, in their order."""
    if len(steps) <= 4:
        return list(steps)
    known = [each for each in steps if each.total is not None]
    wanted = {id(steps[0]), id(steps[-1])}
    if known:
        wanted |= {id(min(known, key=_total)), id(max(known, key=_total))}
    unknown = next((each for each in steps if each.total is None), None)
    if unknown is not None:
        wanted.add(id(unknown))
    return [each for each in steps if id(each) in wanted]


def _total(step: Step) -> Decimal:
    assert step.total is not None
    return step.total


def _share(at: datetime, from_at: datetime, until_at: datetime) -> float:
    """Return where a time lies in the period: 0 at its beginning, 1 at its end."""
    return min(max((at - from_at) / (until_at - from_at), 0.0), 1.0)


@frozen
class Shade:
    """A stretch that was not observed: ``kind`` names its pattern."""

    x: float
    width: float
    kind: Kind
    title: str


@frozen
class Label:
    """A text; ``fitted_to`` is the width that it must not exceed, 0 for none."""

    text: str
    x: float
    y: float
    anchor: str
    fitted_to: int = 0


@frozen
class Drawing:
    """A chart in the coordinates of its picture. ``lines`` are paths of SVG."""

    title: str
    description: str
    shades: Sequence[Shade]
    lines: Sequence[str]
    labels: Sequence[Label]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = _RIGHT
    top: int = _TOP
    bottom: int = _BOTTOM


def drawing(
    chart: Chart, from_at: datetime, until_at: datetime, stretches: Iterable[Stretch]
) -> Drawing:
    """Return a chart with its coordinates."""
    known = [each.total for each in chart.steps if each.total is not None]
    low, high = (min(known), max(known)) if known else (Decimal(0), Decimal(0))
    frame = _Frame(from_at, until_at, low, high)
    extremes = f"Lowest {printed(low)}, highest {printed(high)}." if known else "It is not known."
    labels = frame.times()
    if known:
        labels += [_balance_label(high, _TOP + 8), _balance_label(low, _BOTTOM)]
    return Drawing(
        title=f"Balance of {chart.currency} over the period, in UTC.",
        description=f"{extremes} Shaded is what was not observed.",
        shades=[frame.shade(each) for each in stretches if each.kind is not Kind.OBSERVED],
        lines=[frame.line(run) for run in _runs(chart.steps)],
        labels=labels,
    )


@frozen
class _Frame:
    from_at: datetime
    until_at: datetime
    low: Decimal
    high: Decimal

    def x(self, at: datetime) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * _share(at, self.from_at, self.until_at), 2)

    def y(self, total: Decimal) -> float:
        span = self.high - self.low
        share = float((total - self.low) / span) if span else 0.5
        return round(_TOP + (_BOTTOM - _TOP) * (1 - share), 2)

    def shade(self, stretch: Stretch) -> Shade:
        begin, end = self.x(stretch.from_at), self.x(stretch.until_at)
        wide = max(end - begin, _SHADE_MIN)
        title = f"{stretch.kind}: {stretch.cause}, {duration_text(stretch.seconds)}"
        return Shade(round(min(begin, _RIGHT - wide), 2), round(wide, 2), stretch.kind, title)

    def times(self) -> list[Label]:
        span = self.until_at - self.from_at
        form = "%Y-%m-%d" if span > timedelta(days=_TICKS) else "%m-%d %H:%M:%S"
        anchors = ("start", *["middle"] * (_TICKS - 1), "end")
        ats = [self.from_at + span * number / _TICKS for number in range(_TICKS + 1)]
        return [
            Label(at.strftime(form), self.x(at), HEIGHT - 8, anchor)
            for at, anchor in zip(ats, anchors, strict=True)
        ]

    def line(self, steps: Sequence[Step]) -> str:
        first, *rest = steps
        begin = f"M{self.x(first.at)} {self.y(_total(first))}"
        return begin + "".join(f"H{self.x(each.at)}V{self.y(_total(each))}" for each in rest)


def _runs(steps: Sequence[Step]) -> list[list[Step]]:
    """Cut the steps where the balance isn't known."""
    found: list[list[Step]] = [[]]
    for number, step in enumerate(steps):
        if step.total is not None:
            found[-1].append(step)
        elif found[-1]:
            found[-1].append(Step(step.at, steps[number - 1].total))
            found.append([])
    return [each for each in found if each]


def _balance_label(total: Decimal, y: float) -> Label:
    """Return a balance left of the axis, where no line runs through it."""
    text = printed(total)
    return Label(text, _LEFT - 6, y, "end", _LEFT - 10 if len(text) > _LABEL_CHARACTERS else 0)
