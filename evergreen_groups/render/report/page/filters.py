"""By what the page shows some of its groups: marks that each has, kinds of what it owes for, and words for both."""

from __future__ import annotations

from collections import Counter
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


class GroupMarks:
    """The marks of the groups of a report, and what they owe for: each kind has a short mark of its own."""

    def __init__(self, report: Report) -> None:
        self._with_details = report.details is not None
        counts: Counter[BillKind] = Counter()
        self._groups: dict[int, tuple[tuple[str, ...], frozenset[BillKind]]] = {}
        alike: dict[object, tuple[tuple[str, ...], frozenset[BillKind]]] = {}  # of thousands of groups few differ
        for group in report.groups:
            kinds: frozenset[BillKind] = frozenset()
            if report.details is not None:
                kinds = report.details.of_group(group).owed_kinds
                counts.update(kinds)
            found = (_marks_of(group, report), kinds)
            self._groups[group.number] = alike.setdefault(found, found)
        self._marks = {kind: str(place) for place, kind in enumerate(_most_first(counts))}
        self._written = {found: self._as_written(*found) for found in alike.values()}

    def _as_written(self, marks: tuple[str, ...], kinds: frozenset[BillKind]) -> tuple[str, str]:
        return " ".join(marks), " ".join(sorted((self._marks[kind] for kind in kinds), key=int))

    @property
    def with_kinds(self) -> bool:
        """Whether the groups owe for several kinds of things, as far as it was read."""
        return len(self._marks) > 1

    def of(self, group: Group) -> tuple[str, str]:
        """What a group is shown by: its marks, and those of the kinds that it owes for."""
        return self._written[self._groups[group.number]]

    def offered_kinds(self, part: Report) -> list[tuple[str, str]]:
        """The marks of the kinds that groups of a part owe for, with words; those that most owe for come first."""
        counts: Counter[BillKind] = Counter()
        for (_marks, kinds), number in self._alike(part).items():
            counts.update(dict.fromkeys(kinds, number))
        return [(self._marks[kind], kind.describe()) for kind in _most_first(counts)]

    def offered_filters(self, part: Report) -> list[tuple[str, str]]:
        """The marks that some groups of a part have and others haven't, with the words for them."""
        each = [set(marks) for marks, _kinds in self._alike(part)]
        some = set().union(*each)
        every = set.intersection(*each) if each else set()
        return [(mark, gettext(words)) for mark, words in _FILTERS.items() if mark in some - every]

    def _alike(self, part: Report) -> Counter[tuple[tuple[str, ...], frozenset[BillKind]]]:
        return Counter(self._groups[group.number] for group in part.groups)


def _marks_of(group: Group, report: Report) -> tuple[str, ...]:
    """What a group is shown by."""
    over = group.over_limit_count
    found = ["over"] if over.at_least else ["within"] if over.exact else []
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


def _most_first(counts: Counter[BillKind]) -> list[BillKind]:
    return sorted(counts, key=lambda kind: (-counts[kind], kind))
