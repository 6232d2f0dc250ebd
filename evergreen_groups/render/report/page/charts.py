"""What the charts show: how the totals went over the last runs, and the groups whose combined fines are highest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from heapq import nlargest
from typing import TYPE_CHECKING

from evergreen_groups.language import gettext, number, pgettext, price
from evergreen_groups.money import NOTHING

if TYPE_CHECKING:
    from evergreen_groups.groups import Group
    from evergreen_groups.report import RunTotals

BARS = 12
"""The greatest number of groups in the chart."""


@dataclass(frozen=True, slots=True)
class TrendChart:
    """A bar for each run, the oldest first: heights in percent of the highest.

    ``first`` and ``last`` are the first and the last value as people read them, ``extent`` says between which they are.
    """

    name: str
    first: str
    last: str
    extent: str
    bars: tuple[Decimal, ...]


@dataclass(frozen=True, slots=True)
class GroupBar:
    """A group's bar: its length, and that of the part of the members over the limit, in percent of the longest."""

    group: Group
    whole: Decimal
    over: Decimal


def trend_charts(trend: Sequence[RunTotals]) -> tuple[TrendChart, ...]:
    """A chart of the fines and one of the groups; none as long as there is only one run.

    The fines have none if those of a run are unknown: the figures say which.
    """
    if len(trend) < 2:
        return ()
    fines = [run.combined_fines for run in trend if run.combined_fines is not None]
    groups = _trend_chart(gettext("Groups"), [Decimal(run.group_count) for run in trend], _count)
    if len(fines) < len(trend):
        return (groups,)
    return _trend_chart(pgettext("of all groups", "Combined fines"), fines, price), groups


def _trend_chart(name: str, values: Sequence[Decimal], written: Callable[[Decimal], str]) -> TrendChart:
    """The bars go from nothing up: a sum of credits has none."""
    highest = max(*values, NOTHING) or Decimal(1)
    return TrendChart(
        name=name,
        first=written(values[0]),
        last=written(values[-1]),
        extent=gettext("between {lowest} and {highest}", lowest=written(min(values)), highest=written(max(values))),
        bars=tuple(max(value / highest * 100, NOTHING) for value in values),
    )


def _count(value: Decimal) -> str:
    return number(int(value))


def group_bars(groups: Sequence[Group]) -> list[GroupBar]:
    """The ``BARS`` groups whose combined fines are highest; none when nobody owes anything."""
    highest = nlargest(BARS, groups, key=lambda group: group.known_fines)
    return [_group_bar(group, highest[0].known_fines) for group in highest if group.known_fines > 0]


def _group_bar(group: Group, scale: Decimal) -> GroupBar:
    """Credits shorten the part of the members who aren't over the limit."""
    whole = group.known_fines / scale * 100
    fines_over = sum((member.own_fines for member in group.members if member.over_limit), NOTHING)
    return GroupBar(group, whole, min(fines_over / scale * 100, whole))
