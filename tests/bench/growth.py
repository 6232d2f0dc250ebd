"""Draw how the report's cost grows with the number of patrons, and with the number of listed groups."""

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

MIN_TOTALS = ("400.00", "200.00", "100.00", "50.00", "25.00", "15.00")
PATRONS, LISTED = "report, patrons growing", "report, list growing"
TEMPLATE = Path(__file__).with_name("growth.svg.j2")
FIGURES = (
    ("seconds", "seconds", 1.0),
    ("calls", "calls", 1.0),
    ("bytes", "sent and received (MB)", 1e-6),
    ("peak_mb", "peak memory (MB)", 1.0),
)
"""The figures to draw, with titles and scales."""


@dataclass(frozen=True)
class Chart:
    """Title, meaning of the horizontal axis, and points of each line of a chart; the vertical axis starts at zero."""

    title: str
    along: str
    lines: tuple[tuple[tuple[float, float], ...], ...]
    logarithmic: bool

    @property
    def highest(self) -> float:
        return _round_up(max(y for line in self.lines for _x, y in line))

    @property
    def ticks(self) -> list[float]:
        """Values along the horizontal axis, which starts at zero if the sizes are evenly spaced, else at the first."""
        across = sorted({x for line in self.lines for x, _y in line})
        return across if self.logarithmic else [0, _round_up(across[-1]) / 2, _round_up(across[-1])]

    def x_of(self, value: float) -> float:
        low, *_others, high = self.ticks
        share = math.log(value / low) / math.log(high / low) if self.logarithmic else value / high
        return 44 + share * 192

    def place(self, x: float, y: float) -> tuple[float, float]:
        return self.x_of(x), 152 - y / self.highest * 118


def draw(rows: Sequence[dict[str, object]], target: Path) -> None:
    """Draw rows of both kinds (as written by ``--save``) as an SVG for light and dark pages."""
    growing = [row for row in rows if row["what"] == PATRONS]
    listed = [row for row in rows if str(row["what"]).startswith(LISTED)]
    charts = [*_charts("patrons", growing, logarithmic=True), *_charts("members listed", listed, logarithmic=False)]
    options = {"autoescape": True, "trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
    template = jinja2.Template(TEMPLATE.read_text("utf-8"), **options)
    names = ("evergreen-groups", "bare client")
    target.write_text(template.render(charts=charts, names=names, short=_short, COLUMNS=4), "utf-8")


def _charts(along: str, rows: Sequence[dict[str, object]], *, logarithmic: bool) -> Iterator[Chart]:
    for figure, title, scale in FIGURES:
        lines = (
            sorted((_place(row, along), float(row["more"][name][figure]) * scale) for row in rows)  # type: ignore[index]
            for name in ("ours", "floor")
        )
        yield Chart(title, along, tuple(map(tuple, lines)), logarithmic)


def _place(row: dict[str, object], along: str) -> float:
    more: dict[str, dict[str, float]] = row["more"]  # type: ignore[assignment]
    return float(more["patrons"]) if along == "patrons" else more["ours"]["members"]  # type: ignore[arg-type]


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


def main() -> None:
    """Draw what a bench saved."""
    parser = argparse.ArgumentParser("python -m tests.bench.growth", description=main.__doc__)
    parser.add_argument("saved", type=Path)
    parser.add_argument("target", type=Path)
    options = parser.parse_args()
    draw(json.loads(options.saved.read_text("utf-8")), options.target)


if __name__ == "__main__":
    main()
