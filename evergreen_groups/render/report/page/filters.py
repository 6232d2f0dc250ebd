"""By what the page shows some of its groups: marks that each has, kinds of what it owes for, and words for both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from evergreen_groups.language import gettext
from evergreen_groups.message import Message
from evergreen_groups.render.report import compared

if TYPE_CHECKING:
    from evergreen_groups.groups import Group
    from evergreen_groups.ils import BillKind
    from evergreen_groups.report import Report

_FILTERS = {
    "over": Message("with a member over the limit"),
    "within": Message("with no member over the limit"),
    "blocked": Message("with a member blocked in Evergreen"),
    "items": Message("with items that can still be returned"),
    "new": Message("new since the last run"),
    "worse": Message("owing more than in the last run"),
    "better": Message("owing less than in the last run"),
    "unchanged": Message("owing the same as in the last run"),
    "incomplete": Message("incomplete", context="groups"),
}


def marks_of(group: Group, report: Report) -> tuple[str, ...]:
    """What a group is shown by."""
    found = ["within" if group.no_member_over_limit else "over"]
    if report.blocks is not None and any(report.blocks.standing(one).blocked_for_fines for one in group.members):
        found.append("blocked")
    if report.details is not None and report.details.of_group(group).returnable:
        found.append("items")
    if not group.complete:
        found.append("incomplete")
    changes = compared(report)
    change = changes.by_group.get(group.number) if changes else None
    if change is not None:
        found.append(change.kind.value)
    return tuple(found)


class OwedKinds:
    """What the groups of a report owe for: each kind has a short mark, those that most groups owe for come first."""

    def __init__(self, report: Report) -> None:
        self._details = report.details
        counts: Counter[BillKind] = Counter()
        if report.details is not None:
            for group in report.groups:
                counts.update(report.details.of_group(group).owed_kinds)
        ordered = sorted(counts, key=lambda kind: (-counts[kind], kind))
        self._marks = {kind: str(place) for place, kind in enumerate(ordered)}

    @property
    def offered(self) -> list[tuple[str, str]]:
        """The marks, with the words for them; none where it wasn't read what is owed for."""
        return [(mark, kind.describe()) for kind, mark in self._marks.items()]

    def of(self, group: Group) -> str:
        """The marks of a group, in the order of those that are offered."""
        if self._details is None:
            return ""
        return " ".join(sorted((self._marks[kind] for kind in self._details.of_group(group).owed_kinds), key=int))


def offered_filters(marks: Iterable[Collection[str]]) -> list[tuple[str, str]]:
    """The marks that some groups have and others haven't, with the words for them."""
    each = list(map(set, marks))
    some = set().union(*each)
    every = set.intersection(*each) if each else set()
    return [(mark, gettext(words)) for mark, words in _FILTERS.items() if mark in some - every]
