"""What stands above the list: the group's sums, for information, and what the reader has to know about them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen_groups.language import describe_total, gettext, pgettext
from evergreen_groups.render import hidden_members

if TYPE_CHECKING:
    from evergreen_groups.desk import GroupDetails


@dataclass(frozen=True, slots=True)
class GroupSums:
    """Counts of a group's members, as text, and ``items`` with their labels.

    ``items_explained`` says what there is to know about the latter.
    """

    over_limit: str
    blocked: str
    items: tuple[tuple[str, str], ...]
    items_explained: str


def group_sums(details: GroupDetails) -> GroupSums:
    """Write the totals. Each is a lower bound, or unknown, if it depends on something the account can't see."""
    counts, standings = details.all_circulations, details.standing_totals
    labels = gettext("Items out"), pgettext("items", "Overdue"), pgettext("items", "Lost")
    return GroupSums(
        over_limit=describe_total(standings.over_limit),
        blocked=describe_total(standings.blocked_for_fines),
        items=tuple(zip(labels, map(describe_total, counts.totals), strict=True)),
        items_explained="" if counts.complete else gettext("your login may not see all"),
    )


def notes_about(details: GroupDetails) -> Iterator[str]:
    """What is to be known about the list: who isn't in it."""
    group = details.group
    if not group.complete:
        yield hidden_members(group)
