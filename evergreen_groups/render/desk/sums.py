"""What stands above the list: the group's sums, for information, and what the reader has to know about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen_groups.language import gettext, number, pgettext
from evergreen_groups.render import hidden_members

if TYPE_CHECKING:
    from evergreen_groups.desk import GroupDetails
    from evergreen_groups.render.desk.members import ListedMember


@dataclass(frozen=True, slots=True)
class GroupSums:
    """Counts of a group's visible members, as text, and ``items`` with their labels.

    ``items_explained`` says what there is to know about the latter.
    """

    over_limit: str
    blocked: str
    items: tuple[tuple[str, str], ...]
    items_explained: str


def group_sums(details: GroupDetails, rows: Sequence[ListedMember]) -> GroupSums:
    """Count; what isn't visible to the account of one of the members isn't counted, and said to be so."""
    counts = details.all_circulations
    out, overdue, lost = (counts.out, counts.overdue, counts.lost) if counts else (None, None, None)
    more = counts is not None and not counts.complete
    over = [row.standing.over_limit for row in rows]
    return GroupSums(
        over_limit=_count(None if None in over else sum(map(bool, over))),
        blocked=_count(sum(row.standing.blocked_for_fines for row in rows)),
        items=tuple(
            (label, _count(count, at_least=more))
            for label, count in (
                (gettext("Items out"), out),
                (pgettext("items", "Overdue"), overdue),
                (pgettext("items", "Lost"), lost),
            )
        ),
        items_explained=gettext("your login may not see all") if more else "",
    )


def notes_about(details: GroupDetails) -> Iterator[str]:
    """What is to be known about the list: who isn't in it."""
    group = details.group
    if not group.complete:
        yield hidden_members(group)


def _count(count: int | None, *, at_least: bool = False) -> str:
    if count is None:
        return gettext("not visible")
    return gettext("at least {count:,}", count=count) if at_least else number(count)
