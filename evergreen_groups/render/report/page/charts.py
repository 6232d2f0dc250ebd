"""How the totals went over the last runs: two small charts, and the figures behind them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from heapq import nlargest
from typing import TYPE_CHECKING

from evergreen_groups.money import NOTHING, amount
from evergreen_groups.render import Markup, counted, element, joined, local_time, opening, printable, section

if TYPE_CHECKING:
    from evergreen_groups.groups import Group
    from evergreen_groups.report import RunTotals

_HEADINGS = ("Run", "Groups", "Members", "Combined fines")


def trend_section(trend: Sequence[RunTotals]) -> Markup:
    """A bar for each run; nothing as long as there is only one."""
    if len(trend) < 2:
        return Markup()
    charts = element(
        "div",
        _chart("Combined fines", trend, [run.combined_fines for run in trend], amount),
        _chart("Groups", trend, [Decimal(run.group_count) for run in trend], "{:,}".format),
        class_="trends",
    )
    return section("trend", f"The last {len(trend)} runs", charts, _figures(trend))


def _chart(
    name: str, trend: Sequence[RunTotals], values: Sequence[Decimal], written: Callable[[Decimal], str]
) -> Markup:
    """A bar for each value, from nothing up; what the bars show is said in words as well."""
    first, last = (local_time(run.at)[:10] for run in (trend[0], trend[-1]))
    extent = f"between {written(min(values))} and {written(max(values))}"
    label = f"{name} of {len(values)} runs: {written(values[0])} on {first}, {written(values[-1])} on {last}, {extent}"
    highest = max(*values, NOTHING) or Decimal(1)
    bars = [_bar(place, value / highest * 100, place == len(values) - 1) for place, value in enumerate(values)]
    return element(
        "figure",
        element("figcaption", element("strong", f"{name}: {written(values[-1])}"), f", {extent}"),
        element(
            "svg",
            *bars,
            viewBox=f"0 0 {len(values)} 100",
            preserveAspectRatio="none",
            role="img",
            aria_label=label,
            focusable="false",
        ),
        element("div", element("span", first), element("span", last), class_="ends", aria_hidden="true"),
    )


def _bar(place: int, height: Decimal, is_last: bool) -> Markup:
    height = max(height, NOTHING)
    name = "over" if is_last else "all"
    return element("rect", x=f"{place}.1", y=f"{100 - height:.2f}", width="0.8", height=f"{height:.2f}", class_=name)


def _figures(trend: Sequence[RunTotals]) -> Markup:
    head = element("thead", element("tr", *[element("th", word, scope="col") for word in _HEADINGS]))
    return element(
        "details",
        element("summary", "Figures"),
        element(
            "table",
            element("caption", "Totals of the last runs, the latest first"),
            head,
            element("tbody", *[_row(run) for run in reversed(trend)]),
            class_="runs",
        ),
        class_="figures",
    )


def _row(run: RunTotals) -> Markup:
    return element(
        "tr",
        element("th", local_time(run.at)[:16], scope="row"),
        element("td", f"{run.group_count:,}"),
        element("td", f"{run.member_count:,}"),
        element("td", amount(run.combined_fines)),
    )


BARS = 12
"""The greatest number of bars."""


def chart(groups: tuple[Group, ...]) -> Markup:
    """A figure with the ``BARS`` groups whose combined fines are highest; empty when none owes anything.

    Name and amount stand beside each bar as text, so the bars themselves say nothing new to a screen reader.
    """
    worst = [
        group for group in nlargest(BARS, groups, key=lambda group: group.combined_fines) if group.combined_fines > 0
    ]
    if not worst:
        return Markup()
    scale = worst[0].combined_fines
    caption = f"Combined fines of the {counted(len(worst), 'group')} that owe the most. "
    if len(worst) == 1:
        caption = "Combined fines of the group that owes the most. "
    key = element(
        "span",
        opening("i", class_="swatch over"),
        Markup("</i>"),
        "members over the limit ",
        opening("i", class_="swatch"),
        Markup("</i>"),
        "other members",
        class_="key",
    )
    return element(
        "figure",
        element("figcaption", caption, key),
        element("ol", *[_group_bar(group, scale) for group in worst], class_="bars"),
    )


def _group_bar(group: Group, scale: Decimal) -> Markup:
    """One group: name, bar and amount. Credits shorten the part of the members who aren't over the limit."""
    whole = group.combined_fines / scale * 100
    fines_over = sum((member.own_fines for member in group.members if member.over_limit), NOTHING)
    over = min(fines_over / scale * 100, whole)
    bars = joined(
        element("rect", width=f"{whole:.2f}", height="1", class_="all"),
        element("rect", width=f"{over:.2f}", height="1", class_="over"),
    )
    return element(
        "li",
        element("span", element("bdi", printable(group.lead.name)), f" ({group.number})", class_="name"),
        element("svg", bars, viewBox="0 0 100 1", preserveAspectRatio="none", aria_hidden="true", focusable="false"),
        element("span", amount(group.combined_fines), class_="amount"),
    )
