"""Line charts as SVG: each point is reached with a pointer or the keyboard, and says its day and value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from typing import NamedTuple

from evergreen_groups.language import current_language, gettext

WIDTH, HEIGHT = 640, 150
_SIDE = 12
"""Room for the first and the last point, in the chart's units."""
_LABEL_HEIGHT = 28


class Value(NamedTuple):
    """A value of a line, and its text."""

    value: Decimal
    text: str


class Line(NamedTuple):
    """A line with a value for each day of the chart. None: not known, which leaves a gap."""

    name: str
    values: Sequence[Value | None]


class Point(NamedTuple):
    """A day of the chart at ``x``, with the ``heights`` (from the top) of its known values.

    ``texts`` are shown on pointing and on focus, aligned by ``anchor``, and ``spoken`` is what a screen reader says.
    """

    x: float
    left: float
    heights: Sequence[tuple[int, float]]
    texts: Sequence[str]
    spoken: str
    anchor: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart of lines. ``paths`` are the points of each line's pieces, for ``polyline``."""

    name: str
    first: str
    last: str
    highest: str
    names: Sequence[str]
    points: Sequence[Point]
    paths: Sequence[tuple[int, str]]
    zero: float
    step: float
    top: int
    width: int = WIDTH

    @property
    def height(self) -> int:
        return self.top + HEIGHT + _SIDE

    @classmethod
    def of(cls, name: str, days: Sequence[str], lines: Sequence[Line]) -> Chart | None:
        """Return a chart of these days (texts, the earliest first), None unless some line has two values.

        It includes zero, so that a change looks as large as it is. Time runs in the direction of reading.
        """
        if not any(sum(value is not None for value in line.values) > 1 for line in lines):
            return None
        known = [value for line in lines for value in line.values if value is not None]
        high = max(known, key=lambda one: one.value)
        most, least = max(high.value, Decimal(0)), min(*(one.value for one in known), Decimal(0))
        span = (most - least) or Decimal(1)
        top = _LABEL_HEIGHT * (1 if len(lines) == 1 else 1 + len(lines))
        step = (WIDTH - 2 * _SIDE) / max(len(days) - 1, 1)
        is_reversed = current_language().direction == "rtl"

        def x(place: int) -> float:
            return WIDTH - _SIDE - place * step if is_reversed else _SIDE + place * step

        def y(value: Decimal) -> float:
            return float(top + _SIDE / 2 + HEIGHT * float((most - value) / span))

        points = []
        for place, day in enumerate(days):
            here = [(index, one) for index, line in enumerate(lines) if (one := line.values[place]) is not None]
            if not here:
                continue
            named = [gettext("{label}: {value}", label=lines[index].name, value=one.text) for index, one in here]
            texts = [day, *named]
            if len(lines) == 1:
                texts = [gettext("{label}: {value}", label=day, value=here[0][1].text)]
            heights = [(index, y(one.value)) for index, one in here]
            share = x(place) / WIDTH
            anchor = "start" if share < 0.34 else "end" if share > 0.66 else "middle"
            points.append(Point(x(place), x(place) - step / 2, heights, texts, "; ".join(texts), anchor))
        paths = []
        for index, line in enumerate(lines):
            for is_known, piece in groupby(enumerate(line.values), lambda one: one[1] is not None):
                if is_known:
                    at = [f"{x(place):.1f},{y(one.value):.1f}" for place, one in piece if one is not None]
                    paths.append((index, " ".join(at)))
        names = [line.name for line in lines]
        return cls(name, days[0], days[-1], high.text, names, points, paths, y(Decimal(0)), step, top)
