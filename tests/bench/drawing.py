"""Small charts side by side as an SVG for light and dark pages, with text as text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 250, 190
"""The size of one chart."""
LEFT, TOP, RIGHT, BOTTOM = 44, 34, 14, 38
LEGEND = 30
STYLE = """
svg { color-scheme: light dark; }
.paper { fill: #ffffff; }
text { font: 12px system-ui, sans-serif; fill: #24292f; }
.title { font-weight: 600; }
.axis { stroke: #8c959f; }
.grid { stroke: #d8dee4; }
.a { stroke: #0969da; fill: none; stroke-width: 2; }
.a-dot { fill: #0969da; }
.b { stroke: #9a6700; fill: none; stroke-width: 2; stroke-dasharray: 5 3; }
.b-dot { fill: #9a6700; }
@media (prefers-color-scheme: dark) {
  .paper { fill: #0d1117; }
  text { fill: #e6edf3; }
  .axis { stroke: #7d8590; }
  .grid { stroke: #30363d; }
  .a { stroke: #58a6ff; }
  .a-dot { fill: #58a6ff; }
  .b { stroke: #d29922; }
  .b-dot { fill: #d29922; }
}
"""


@dataclass(frozen=True)
class Line:
    """A name, and points from left to right."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Panel:
    """One chart: title, meaning of the horizontal axis, and up to two lines; the vertical axis starts at zero."""

    title: str
    along: str
    lines: tuple[Line, ...]
    logarithmic: bool = False


def drawing(panels: Sequence[Panel], columns: int) -> str:
    """Return the charts in rows of so many, below a legend."""
    rows = -(-len(panels) // columns)
    width, height = columns * WIDTH, LEGEND + rows * HEIGHT
    names = [line.name for line in panels[0].lines]
    label = f"{'; '.join(f'{panel.title} by {panel.along}' for panel in panels)}, of {' and '.join(names)}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        f"<title>{escape(label)}</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{width}" height="{height}"/>',
        *_legend(names),
    ]
    for index, panel in enumerate(panels):
        left, top = index % columns * WIDTH, LEGEND + index // columns * HEIGHT
        parts += [f'<g transform="translate({left} {top})">', *_panel(panel), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _legend(names: Sequence[str]) -> Iterator[str]:
    for index, (name, style) in enumerate(zip(names, "ab", strict=False)):
        left = LEFT + index * 170
        yield f'<line class="{style}" x1="{left}" x2="{left + 26}" y1="18" y2="18"/>'
        yield f'<text x="{left + 32}" y="22">{escape(name)}</text>'


def _panel(panel: Panel) -> Iterator[str]:
    across = [x for line in panel.lines for x, _y in line.points]
    highest = _round_up(max(y for line in panel.lines for _x, y in line.points))
    # Start at zero if the sizes are evenly spaced; if not, the first and last size are the ends.
    low = min(across) if panel.logarithmic else 0.0
    high = max(across) if panel.logarithmic else _round_up(max(across))
    bottom = HEIGHT - BOTTOM

    def x_of(value: float) -> float:
        share = math.log(value / low) / (math.log(high / low) or 1) if panel.logarithmic else value / high
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y_of(value: float) -> float:
        return bottom - value / highest * (bottom - TOP)

    yield f'<text class="title" x="{LEFT}" y="20">{escape(panel.title)}</text>'
    for share in (0.5, 1.0):
        y = y_of(highest * share)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_short(highest * share)}</text>'
    yield f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom}" y2="{bottom}"/>'
    yield f'<text x="{LEFT - 6}" y="{bottom + 4}" text-anchor="end">0</text>'
    for value in sorted(set(across)) if panel.logarithmic else (0, high / 2, high):
        anchor = "end" if value == high else "start" if value == low else "middle"
        yield f'<text x="{x_of(value):.1f}" y="{bottom + 15}" text-anchor="{anchor}">{_short(value)}</text>'
    yield f'<text x="{WIDTH - RIGHT}" y="{bottom + 30}" text-anchor="end">{escape(panel.along)}</text>'
    for line, style in zip(panel.lines, "ab", strict=False):
        points = [(x_of(x), y_of(y)) for x, y in line.points]
        yield f'<polyline class="{style}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>'
        yield from (f'<circle class="{style}-dot" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in points)


def _round_up(value: float) -> float:
    """The next number above that is easily halved.

    >>> [_round_up(value) for value in (0.37, 4.2, 61, 12_000)]
    [0.4, 6, 80, 20000]
    """
    unit = 10.0 ** math.floor(math.log10(value or 1))
    wanted = next(step for step in (1, 2, 4, 6, 8, 10) if step * unit >= value)
    return round(wanted * unit, 6)


def _short(value: float) -> str:
    """Format a number for an axis label.

    >>> [_short(value) for value in (0.25, 3.0, 4_500, 20_000, 3_000_000)]
    ['0.25', '3', '4,500', '20k', '3M']
    """
    for size, letter in ((1_000_000, "M"), (10_000, "k")):
        if value >= size:
            return f"{value / (1_000_000 if letter == 'M' else 1_000):g}{letter}"
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:g}"
