"""A balance over time as a drawing: steps, with what was not observed shaded. SVG, by hand.

What is drawn is thinned to what an eye can report different: of each column of the picture the
first, the lowest, the highest and the last value. Numbers that are read stand in the tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from attrs import define, field, frozen

from recorder.log.rules.coverage import Kind, Stretch
from recorder.statement.rules.markup import Markup, element, shown

#: Of the picture, in its own units.
WIDTH, HEIGHT = 720, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 116, 8, 10, 24
#: Of a balance beside the axis: so many characters fit as they are, longer ones are drawn closer.
_LABEL_CHARACTERS = 17
#: So many columns of time are reported different.
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
        """Return the chart of what stood at the beginning and what was reported since."""
        steps = thinned.steps()
        if opening is not None:
            steps.insert(0, Step(from_at, opening))
        if steps:
            # What was reported last holds to the end.
            steps.append(Step(until_at, steps[-1].total))
        return cls(currency, steps, thinned.count)


@define
class Thinned:
    """Keeps of many steps, given in the order of their times, those that a picture shows."""

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
            self._here = _telling(self._here)

    def steps(self) -> list[Step]:
        """Return what is kept of all so far."""
        self._close()
        return list(self._kept)

    def _close(self) -> None:
        self._kept += _telling(self._here)
        self._here = []


def _telling(steps: Sequence[Step]) -> list[Step]:
    """Return first, lowest, highest and last, and where it wasn't known, in their order."""
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


def draw(
    chart: Chart, from_at: datetime, until_at: datetime, stretches: Iterable[Stretch]
) -> Markup:
    """Return a chart as one SVG element."""
    known = [each.total for each in chart.steps if each.total is not None]
    low, high = (min(known), max(known)) if known else (Decimal(0), Decimal(0))
    frame = _Frame(from_at, until_at, low, high)
    what = f"Balance of {shown(chart.currency)} over the period, in UTC."
    reported = f"Lowest {shown(low)}, highest {shown(high)}." if known else "It is not known."
    parts = [
        element("title", what),
        element("desc", f"{reported} Shaded is what was not observed."),
        *(_shade(frame, each) for each in stretches if each.kind is not Kind.OBSERVED),
        *_axis(frame),
        *(_line(frame, run) for run in _runs(chart.steps)),
    ]
    if known:
        parts += [
            _balance_label(shown(high), _TOP + 8),
            _balance_label(shown(low), HEIGHT - _BOTTOM),
        ]
    box = f"0 0 {WIDTH} {HEIGHT}"
    return element("svg", *parts, viewBox=box, role="img", xmlns="http://www.w3.org/2000/svg")


def patterns() -> Markup:
    """Return the SVG that defines the shadings, once for all charts of a page."""
    unobserved = element(
        "pattern",
        element("path", d="M0 6L6 0", stroke="#b00", stroke_width="1.2"),
        id="unobserved",
        width=6,
        height=6,
        patternUnits="userSpaceOnUse",
    )
    healed = element(
        "pattern",
        element("circle", cx=2, cy=2, r="0.8", fill="#579"),
        id="healed",
        width=4,
        height=4,
        patternUnits="userSpaceOnUse",
    )
    return element(
        "svg", element("defs", unobserved, healed), width=0, height=0, aria_hidden="true"
    )


@frozen
class _Frame:
    from_at: datetime
    until_at: datetime
    low: Decimal
    high: Decimal

    def x(self, at: datetime) -> float:
        wide = WIDTH - _LEFT - _RIGHT
        return round(_LEFT + wide * _share(at, self.from_at, self.until_at), 2)

    def y(self, total: Decimal) -> float:
        tall = HEIGHT - _TOP - _BOTTOM
        span = self.high - self.low
        share = float((total - self.low) / span) if span else 0.5
        return round(_TOP + tall * (1 - share), 2)


def _shade(frame: _Frame, stretch: Stretch) -> Markup:
    begin, end = frame.x(stretch.from_at), frame.x(stretch.until_at)
    wide = max(end - begin, _SHADE_MIN)
    left = min(begin, WIDTH - _RIGHT - wide)
    tall = HEIGHT - _TOP - _BOTTOM
    title = element("title", f"{stretch.kind}: {stretch.cause}, {shown(stretch.seconds)} s")
    fill = f"url(#{stretch.kind})"
    return element(
        "rect", title, x=round(left, 2), y=_TOP, width=round(wide, 2), height=tall, fill=fill
    )


def _axis(frame: _Frame) -> list[Markup]:
    bottom = HEIGHT - _BOTTOM
    found = [
        element("path", d=f"M{_LEFT} {_TOP}V{bottom}H{WIDTH - _RIGHT}", fill="none", stroke="#888")
    ]
    span = frame.until_at - frame.from_at
    form = "%Y-%m-%d" if span > timedelta(days=_TICKS) else "%m-%d %H:%M:%S"
    for number in range(_TICKS + 1):
        at = frame.from_at + span * number / _TICKS
        anchor = "start" if number == 0 else "end" if number == _TICKS else "middle"
        found.append(_label(at.strftime(form), frame.x(at), HEIGHT - 8, anchor))
    return found


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


def _line(frame: _Frame, steps: Sequence[Step]) -> Markup:
    first = steps[0]
    path = [f"M{frame.x(first.at)} {frame.y(_total(first))}"]
    path += [f"H{frame.x(each.at)}V{frame.y(_total(each))}" for each in steps[1:]]
    return element("path", d="".join(path), fill="none", stroke="#036", stroke_width="1.4")


def _balance_label(text: str, y: float) -> Markup:
    """Return a balance left of the axis, where no line runs through it."""
    fitted = {"textLength": _LEFT - 10, "lengthAdjust": "spacingAndGlyphs"}
    closer = fitted if len(text) > _LABEL_CHARACTERS else {}
    return _label(text, _LEFT - 6, y, "end", **closer)


def _label(text: str, x: float, y: float, anchor: str = "start", **more: object) -> Markup:
    return element("text", text, x=x, y=y, font_size=10, text_anchor=anchor, fill="#333", **more)
