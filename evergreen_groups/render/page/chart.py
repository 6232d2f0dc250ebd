"""The chart: a bar for each of the worst groups, split into what members over the limit owe and the rest."""

from __future__ import annotations

from decimal import Decimal
from heapq import nlargest

from evergreen_groups.models import NOTHING, GroupFines
from evergreen_groups.render.page.markup import Markup, element, joined, opening
from evergreen_groups.render.wording import amount, counted, printable

BARS = 12
"""The greatest number of bars."""


def chart(groups: tuple[GroupFines, ...]) -> Markup:
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
        element("ol", *[_bar(group, scale) for group in worst], class_="bars"),
    )


def _bar(group: GroupFines, scale: Decimal) -> Markup:
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
        element("span", element("bdi", printable(group.lead.name)), f" ({group.group})", class_="name"),
        element("svg", bars, viewBox="0 0 100 1", preserveAspectRatio="none", aria_hidden="true", focusable="false"),
        element("span", amount(group.combined_fines), class_="amount"),
    )
