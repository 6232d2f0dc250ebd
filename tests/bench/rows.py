"""The results of a bench: rows of the table, with the figures of the product and of the floor."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Spread:
    """The results of several runs: the median, minimum and maximum."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        """The median, with the least and the most in brackets where they are others.

        >>> str(Spread((1.0, 1.204, 3.0)))
        '1.20 (1.00–3.00) s'
        """
        median, least, most = (f"{one:,.2f}" for one in (self.median, min(self.values), max(self.values)))
        return f"{median} s" if least == most else f"{median} ({least}–{most}) s"


@dataclass(frozen=True)
class Row:
    """One row: ``what`` was measured, by which ``account``, and the ``size``.

    ``ours`` and ``floor`` are seconds, in pairs; a row may have no ``floor``. ``cpu`` (seconds), ``calls`` and
    ``bytes`` are for both, ``peak_mb`` for the product only. ``goal`` says what is wanted, and ``met`` whether it is
    reached (None: there is no goal). ``more`` has further figures for drawings.
    """

    what: str
    account: str
    size: str
    ours: Spread
    floor: Spread | None = None
    cpu: tuple[float, float] | None = None
    calls: tuple[int, int] | None = None
    bytes: tuple[int, int] | None = None
    peak_mb: float | None = None
    goal: str = ""
    met: bool | None = None
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """The product divided by the floor: the median of the pairs, so both had the same conditions."""
        if self.floor is None:
            return None
        return statistics.median(mine / other for mine, other in zip(self.ours.values, self.floor.values, strict=True))

    @property
    def ratio_of_medians(self) -> float | None:
        return None if self.floor is None else self.ours.median / self.floor.median


HEADINGS = ("what", "account", "size", "ours", "floor", "ratio", "CPU s", "calls", "MB", "peak MB", "goal", "met")


def markdown(rows: Sequence[Row]) -> str:
    lines = [HEADINGS, tuple("---" for _ in HEADINGS), *(_cells(row) for row in rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _cells(row: Row) -> tuple[str, ...]:
    ratio = "" if row.ratio is None else f"{row.ratio:.2f} ({row.ratio_of_medians:.2f})"
    met = {None: "", True: "yes", False: "**no**"}[row.met]
    return (
        row.what,
        row.account,
        row.size,
        str(row.ours),
        "" if row.floor is None else str(row.floor),
        ratio,
        _pair(row.cpu, lambda seconds: f"{seconds:.2f}"),
        _pair(row.calls, lambda number: f"{number:,}"),
        _pair(row.bytes, lambda number: f"{number / 1e6:.2f}"),
        "" if row.peak_mb is None else f"{row.peak_mb:.0f}",
        row.goal,
        met,
    )


def _pair(figures: tuple[float, float] | None, text: Callable[[Any], str]) -> str:
    return "" if figures is None else " / ".join(map(text, figures))
