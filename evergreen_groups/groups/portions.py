"""Who was read together of the members of groups, kept small: to see who was moved from group to group meanwhile."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain, pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evergreen_groups.groups.patrons import PatronRow

LARGEST_PORTION = 3_000
"""Members about whom is asked in one list; their ids and a question fit into a request."""


class Portion:
    """Who was read together: patrons' ids and their groups' numbers, side by side, as they are looked at once more."""

    def __init__(self, places: Iterable[tuple[int, int]]) -> None:
        self.ids, self.groups = array("q"), array("q")
        for id, group in places:
            self.ids.append(id)
            self.groups.append(group)

    @classmethod
    def of(cls, rows: Iterable[PatronRow]) -> Portion:
        """That of these rows."""
        return cls((row.id, row.group) for row in rows)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self.ids, self.groups, strict=True)

    def __len__(self) -> int:
        return len(self.ids)

    def without(self, groups: Collection[int]) -> Portion:
        """The same without the members of some groups."""
        return Portion((id, group) for id, group in self if group not in groups)


def elsewhere(portions: Iterable[Portion], changed: Mapping[int, int]) -> set[int]:
    """The groups that patrons were found in and have left, or are in and weren't found in.

    Somebody who was moved from a range not yet read into one already read is found in neither.
    """
    if not changed:
        return set()
    left = {group for portion in portions for id, group in portion if changed.get(id, group) != group}
    found = {id for portion in portions for id, group in portion if changed.get(id) == group}
    return left | {group for id, group in changed.items() if id not in found}


def in_two_groups(portions: Iterable[Portion]) -> set[int]:
    """The groups of patrons who were found in several, having been moved while those were read."""
    ids = sorted(chain.from_iterable(portion.ids for portion in portions))
    several = {id for id, following in pairwise(ids) if id == following}  # nearly always nobody
    return {group for portion in portions for id, group in portion if id in several} if several else set()


def cut_into_portions(batches: Iterable[list[PatronRow]]) -> Iterator[list[PatronRow]]:
    """Cut members, which come a group after the other, into lists of ``LARGEST_PORTION`` or less, groups whole.

    A larger group is a list of its own.
    """
    waiting: list[PatronRow] = []
    for batch in batches:
        waiting += batch
        while len(waiting) > LARGEST_PORTION:
            end = LARGEST_PORTION
            while end and waiting[end].group == waiting[end - 1].group:
                end -= 1
            if not end:
                first = waiting[0].group
                end = next((at for at, patron in enumerate(waiting) if patron.group != first), len(waiting))
            yield waiting[:end]
            waiting = waiting[end:]
    if waiting:
        yield waiting
