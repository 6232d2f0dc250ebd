"""What a group owed in the recorded nights: a line for whoever looks, the same as a table for everybody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen_groups.money import NOTHING

if TYPE_CHECKING:
    from decimal import Decimal

    from evergreen_groups.report import GroupNight

WIDTH, HEIGHT = 160, 28
_EDGE = 3
_MEANINGFUL = 2
"""Of fewer nights there is nothing to compare."""


@dataclass(frozen=True, slots=True)
class TrendView:
    """The ``nights``, the latest first; ``lines`` are points of an SVG picture, one for each run of nights without a
    gap, and ``last`` is where the latest stands, None where it wasn't listed then."""

    nights: tuple[GroupNight, ...]
    first: GroupNight
    latest: GroupNight
    lines: tuple[str, ...]
    last: tuple[float, float] | None
    width: int = WIDTH
    height: int = HEIGHT


def trend_view(nights: Sequence[GroupNight]) -> TrendView | None:
    """The view of a group's nights, the earliest first; None where there are too few to be one."""
    listed = [night for night in nights if _fines(night) is not None]
    if len(listed) < _MEANINGFUL:
        return None
    points = _points(nights)
    lines: list[list[str]] = [[]]
    for point in points:
        if point is None:
            lines.append([])
        else:
            lines[-1].append(f"{point[0]:.1f},{point[1]:.1f}")
    return TrendView(
        nights=tuple(reversed(nights)),
        first=listed[0],
        latest=listed[-1],
        lines=tuple(" ".join(line) for line in lines if len(line) > 1),
        last=points[-1],
    )


def _points(nights: Sequence[GroupNight]) -> list[tuple[float, float] | None]:
    """Where each night stands in the picture: by its number of the way across, and by its amount from nothing up."""
    found = [_fines(night) for night in nights]
    amounts = [fines for fines in found if fines is not None]
    lowest, highest = min(*amounts, NOTHING), max(*amounts, NOTHING)
    span = float(highest - lowest) or 1.0
    step = (WIDTH - 2 * _EDGE) / max(len(nights) - 1, 1)
    return [
        None
        if fines is None
        else (_EDGE + place * step, HEIGHT - _EDGE - float(fines - lowest) / span * (HEIGHT - 2 * _EDGE))
        for place, fines in enumerate(found)
    ]


def _fines(night: GroupNight) -> Decimal | None:
    """What the group owed, None if that is unknown or the report didn't list it."""
    return night.combined_fines if night.certain else None
