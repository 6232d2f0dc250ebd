"""How the report's cost grows with the number of patrons, and with the number of listed groups."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from .drawing import Line, Panel, drawing
from .reading import report
from .rows import Row
from .sites import Account, Site

MIN_TOTALS = ("400.00", "200.00", "100.00", "50.00", "25.00", "15.00")
MOST = 1.5
"""Calls and bytes may grow by this factor over the first size, whatever the number of patrons."""
PATRONS, LISTED = "report, patrons growing", "report, list growing"


def with_patrons(site: Site, account: Account, patrons: int, runs: int, first: Row | None) -> Row:
    """Return the report's row for a number of patrons, compared with the first and smallest site (None: this one)."""
    row = replace(report(site, account, runs, what=PATRONS), goal="", met=None)
    row.more["patrons"] = patrons
    return row if first is None else _held_against(first, row)


def _held_against(first: Row, row: Row) -> Row:
    """Return the row with the goal that calls and bytes don't grow with the patrons."""
    before, now = first.more["ours"], row.more["ours"]
    times = max(now["calls"] / before["calls"], now["bytes"] / before["bytes"])
    goal = f"calls and bytes at most {MOST} times those of {first.more['patrons']:,} patrons ({times:.2f})"
    return replace(row, goal=goal, met=times <= MOST)


def with_list(site: Site, account: Account, runs: int) -> Iterator[Row]:
    """Yield the report's rows for longer and longer lists at one site, with lower and lower minimum totals."""
    for amount in MIN_TOTALS:
        row = report(site, account, runs, "--min-total", amount, what=f"{LISTED}: {amount} and more")
        yield replace(row, goal="", met=None)


def draw(rows: Sequence[dict[str, object]], target: Path) -> None:
    """Draw rows of both kinds (as written by ``--save``) as an SVG."""
    growing = [row for row in rows if row["what"] == PATRONS]
    listed = [row for row in rows if str(row["what"]).startswith(LISTED)]
    panels = [*_panels("patrons", growing, logarithmic=True), *_panels("members listed", listed, logarithmic=False)]
    target.write_text(drawing(panels, columns=4), "utf-8")


def _panels(along: str, rows: Sequence[dict[str, object]], *, logarithmic: bool) -> Iterator[Panel]:
    for figure, unit, scale in (("seconds", "", 1.0), ("calls", "", 1.0), ("bytes", "MB", 1e-6), ("peak_mb", "MB", 1)):
        lines = []
        for name in ("ours", "floor"):
            points = [(_place(row, along), float(row["more"][name][figure]) * scale) for row in rows]  # type: ignore[index]
            lines.append(Line("evergreen-groups" if name == "ours" else "bare client", tuple(sorted(points))))
        title = {"peak_mb": "peak memory", "bytes": "sent and received"}.get(figure, figure)
        yield Panel(f"{title} ({unit})" if unit else title, along, tuple(lines), logarithmic)


def _place(row: dict[str, object], along: str) -> float:
    more: dict[str, dict[str, float]] = row["more"]  # type: ignore[assignment]
    return float(more["patrons"]) if along == "patrons" else more["ours"]["members"]  # type: ignore[arg-type]


def main() -> None:
    """Draw what a bench saved."""
    parser = argparse.ArgumentParser("python -m tests.bench.growth", description=main.__doc__)
    parser.add_argument("saved", type=Path)
    parser.add_argument("target", type=Path)
    options = parser.parse_args()
    draw(json.loads(options.saved.read_text("utf-8")), options.target)


if __name__ == "__main__":
    main()
