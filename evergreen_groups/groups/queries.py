"""The question that finds groups with high combined fines, put so that the ILS's database does the sums.

Shape and cost were measured (``members-001``, ``members-002``, and before them ``pushdown-001`` and the following):
debtors first, then the sum over each debtor's group, as a hashed filter that the database applies before it asks for
permission row by row. What two of the conditions say is said elsewhere as well: those are for PostgreSQL's planner.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain
from typing import Any, NamedTuple

Query = dict[str, Any]


class GroupRange(NamedTuple):
    """Group numbers over ``low`` and up to ``high``; None leaves that end open."""

    low: int | None
    high: int | None

    def holds(self, group: int) -> bool:
        """Whether a group belongs to the range."""
        return (self.low is None or group > self.low) and (self.high is None or group <= self.high)

    def conditions(self) -> list[Query]:
        """The range as conditions on ``usrgroup``."""
        found: list[Query] = []
        if self.low is not None:
            found.append({"usrgroup": {">": self.low}})
        if self.high is not None:
            found.append({"usrgroup": {"<=": self.high}})
        return found

    def after(self, group: int) -> GroupRange:
        """What is left of the range behind a group."""
        return GroupRange(group, self.high)


class GroupList(NamedTuple):
    """Some group numbers, ascending."""

    numbers: tuple[int, ...]

    def holds(self, group: int) -> bool:
        """Whether a group is in the list."""
        return group in self.numbers

    def conditions(self) -> list[Query]:
        """The list as conditions on ``usrgroup``."""
        return [{"usrgroup": list(self.numbers)}]

    def after(self, group: int) -> GroupList:
        """What is left of the list behind a group."""
        return GroupList(tuple(number for number in self.numbers if number > group))


Groups = GroupRange | GroupList
"""The groups that a query is asked about."""


@dataclass(frozen=True, slots=True)
class HighFines:
    """Groups that together owe ``min_total`` or more, as a query.

    ``more_than_one`` leaves out groups of one; ``home_orgs`` (ids, none: everywhere) keeps the groups with a member
    of these home libraries; ``visible_orgs`` (ids, none: everywhere) are those whose patrons the account sees, named
    so that the database needn't ask for permission to see the others.
    """

    min_total: Decimal
    more_than_one: bool = False
    home_orgs: Collection[int] = ()
    visible_orgs: Collection[int] = ()

    def members(self, within: Groups) -> Query:
        """The condition on patrons (``au``): members of such groups, deleted ones left out."""
        # Without the alternative that is never true, PostgreSQL turns the `in` into a semi-join and asks for permission
        # first, on every patron of the range: over 60 s and a 408 for an ordinary account. With it the `in` is a hashed
        # filter, and the function runs on those found alone: 4.1 s for 10,901 members among 200,243 patrons.
        listed = {"-or": [{"usrgroup": {"in": self._groups(within)}}, {"id": {"<": 0}}]}
        conditions = [*within.conditions(), listed]
        # The permission function costs 0.4 to 2 ms for each row it looks at, and says no at the dear end. A list of
        # libraries is looked up before it is called (pushdown-017).
        if self.visible_orgs:
            conditions.append({"home_ou": sorted(self.visible_orgs)})
        return {"deleted": "f", "-and": conditions}

    def candidates(self, within: Groups) -> Query:
        """The condition on patrons: members of all groups in the range that have a member at ``home_orgs``."""
        return candidates(within, self.home_orgs, self.visible_orgs)

    def _groups(self, within: Groups) -> Query:
        # Debtors first: a quarter of all patrons owe anything (49,894 of 200,243), and their groups alone are summed
        # up.
        conditions = [self._owes_enough()]
        if self.more_than_one:
            # Only where it's asked for: with it a group of one, which may owe enough as well, is no longer found
            # (pushdown-018).
            conditions.append(has_member({"id": {"<>": {"+d": "id"}}}))
        if self.home_orgs:
            conditions.append(has_member({"home_ou": sorted(self.home_orgs)}))
        return {
            "select": {"d": ["usrgroup"]},
            # mbts, one row for each transaction. The view mous sums up everybody's before anything is joined to it, so
            # it is for literal ids alone.
            "from": {"mbts": {"d": {"class": "au", "fkey": "usr", "field": "id"}}},
            "where": {
                # Not just above nought: credits count, and a group may be one whose debtor is the one in credit
                # (pushdown-024).
                "+mbts": {"xact_finish": None, "balance_owed": {"<>": 0}},
                # That they aren't deleted is said once more, in a way that PostgreSQL has no figures about: it takes
                # it to be true of one in 200, and looks up the transactions of those in the range one by one. Otherwise
                # it goes through everybody's for each range: a fifth more time with ten ranges.
                "+d": {
                    "deleted": "f",
                    "-and": [*within.conditions(), {"deleted": {"=": {"transform": "int4", "value": "0"}}}],
                },
                "-and": conditions,
            },
        }

    def _owes_enough(self) -> Query:
        # As text, in the digits that people gave: a float of 12.40 may lie on either side (pcrud-131, pcrud-132).
        total = {"balance_owed": {">=": {"transform": "sum", "value": f"{self.min_total:.2f}"}}}
        return {
            "-exists": {
                "select": {"t": [{"column": "balance_owed", "transform": "sum", "aggregate": True}]},
                "from": {"au": {"t": {"class": "mbts", "fkey": "id", "field": "usr"}}},
                "where": {
                    "+au": {"deleted": "f", "usrgroup": {"=": {"+d": "usrgroup"}}},
                    "+t": {"xact_finish": None},
                    # The debtor's transaction, of which it is said below: without a word about it in here PostgreSQL
                    # sums up the group of everybody in the range before it looks who owes anything, and believes that
                    # so dear (cost 540,000 for 20,000 groups instead of 18,000) that its JIT compiles each question,
                    # which takes several times as long as answering it.
                    "+mbts": {"xact_finish": None},
                },
                "having": {"+t": total},
            }
        }


def candidates(within: Groups, homes: Collection[int], visible_orgs: Collection[int]) -> Query:
    """The condition on patrons: members of the groups in a range with a member of ``homes`` (none: all)."""
    conditions = within.conditions()
    if homes:
        at_home = {"deleted": "f", "-and": [*within.conditions(), {"home_ou": sorted(homes)}]}
        # As a list, looked up once: asked of each member of a giant group, it would go through the group each time.
        conditions.append({"usrgroup": {"in": {"select": {"au": ["usrgroup"]}, "from": "au", "where": at_home}}})
    if visible_orgs:
        conditions.append({"home_ou": sorted(visible_orgs)})
    return {"deleted": "f", "-and": conditions or [{"id": {"<>": None}}]}


def has_member(condition: Query) -> Query:
    """The group of the patron ``d`` has a member for whom ``condition`` holds.

    The query language can't give the first class of a subquery another name, so patrons are joined to their home
    libraries, which every patron has.
    """
    member = {"deleted": "f", "usrgroup": {"=": {"+d": "usrgroup"}}, **condition}
    return {
        "-exists": {
            "select": {"o": ["id"]},
            "from": {"aou": {"o": {"class": "au", "fkey": "id", "field": "home_ou"}}},
            "where": {"+o": member},
        }
    }


TARGET_MEMBERS = 3_000
"""How many members a range is to have."""
# As many as are under way at once, for nobody knows beforehand how dense the numbers are.
_FIRST_WIDTHS = (3_000, 3_000, 10_000)
# An account of one library waits 2 ms for each row that it may not see (10.5 s for everything in one call): ranges get
# narrower long before the gateway's 60 s.
_SLOW_SECONDS = 8.0
_MOST_GROWTH = 8.0
# Three ranges are under way at once, and end at about the same time where none is much of the whole: with two large
# ones a report took twice as long. Eight cost the database hardly more than one does.
_MOST_SHARE = 8
_USUAL_WIDTH = 30_000
_PARTS = 8


class GroupRanges:
    """Cuts all group numbers into ranges as wide as earlier ones showed to be good: ``wanted`` members each or less.

    From the highest number down, where the groups are dense: numbers are given in sequence, and the first few belong
    to accounts that came with the system. The ends are open, so that groups made meanwhile belong to a range as well.

    ``searched`` says how many of the numbers up to ``highest`` are done with.
    """

    def __init__(self, highest: int, wanted: int = TARGET_MEMBERS) -> None:
        self.highest = highest
        self._wanted = wanted
        self.searched = 0
        self._next: int | None = None
        self._put_back: list[GroupRange] = []
        self._widest = max(_FIRST_WIDTHS)
        self._width = self._widest
        self._seen_width = self._seen_members = 0.0
        self._memory = 1.0
        self._lock = threading.Lock()

    def first(self) -> list[GroupRange]:
        """The ranges to begin with; how wide the others should be is known only after them."""
        return list(chain.from_iterable(self._cut(width) for width in _FIRST_WIDTHS))

    @property
    def left(self) -> bool:
        """Whether there are others to be read: after all have been, some of them may have been put back in part."""
        return bool(self._put_back) or not self._ended

    def others(self) -> Iterator[GroupRange]:
        """The other ranges, each as wide as seems good when it is taken; what was put back comes first."""
        self._memory = 0.5  # from now on, what was seen counts for less the longer ago it was
        while self.left:
            if self._put_back:
                yield self._cut_off_put_back()
            else:
                yield from self._cut(self._width)

    def _cut_off_put_back(self) -> GroupRange:
        """Cut off one range of what was put back, from the lowest number up, or all of it where that is little."""
        with self._lock:
            low, high = within = self._put_back.pop()
            end = (low or 0) + self._width
            if (self.highest if high is None else high) - end <= self._width // 2:
                return within
            self._put_back.append(GroupRange(end, high))
            return GroupRange(low, end)

    @property
    def _ended(self) -> bool:
        return self._next is not None and self._next < 0

    def _cut(self, width: int) -> Iterator[GroupRange]:
        """Cut off one range below those cut so far, or all that is left where that is little."""
        if self._ended:
            return
        high = self._next
        low = (self.highest if high is None else high) - width
        if low <= width // 2:
            self._next = -1
            yield GroupRange(None, high)
        else:
            self._next = low
            yield GroupRange(low, high)

    def parts(self, within: Groups) -> Sequence[Groups]:
        """Cut groups into ``_PARTS`` or fewer, from the lowest up; none where it is a single one."""
        if isinstance(within, GroupList):
            return _parts_of_list(within)
        low = min(0, self.highest) - 1 if within.low is None else within.low
        high = self.highest if within.high is None else within.high
        count = min(_PARTS, high - low)
        if count < 2:
            return []
        edges = [low + (high - low) * part // count for part in range(1, count)]
        lows, highs = [within.low, *edges], [*edges, within.high]
        return [GroupRange(*edge) for edge in zip(lows, highs, strict=True)]

    def learn(self, within: GroupRange, members: int, seconds: float, rest: Sequence[GroupRange] = ()) -> None:
        """Take in how many members a range had and how long finding them took.

        ``rest`` are the parts of it that weren't looked at, being denser than was thought; they are put back.
        """
        width = self._width_of(within) - sum(map(self._width_of, rest))
        with self._lock:
            self._put_back.extend(rest)
            self.searched += width
            if within.low is None:
                return
            self._widest = max(self._widest, width)
            self._seen_width = self._seen_width * self._memory + width
            self._seen_members = self._seen_members * self._memory + members
            # From all that was seen, not from the last range alone: one range of newcomers says little about the next.
            wanted = self._wanted * self._seen_width / max(self._seen_members, 1)
            if seconds > _SLOW_SECONDS:
                wanted = min(wanted, width * _SLOW_SECONDS / seconds)
            share = max(_USUAL_WIDTH, self.highest // _MOST_SHARE)
            self._width = max(1, int(min(wanted, _MOST_GROWTH * self._widest, share)))

    def _width_of(self, within: GroupRange) -> int:
        return (self.highest if within.high is None else within.high) - (within.low or 0)


def _parts_of_list(groups: GroupList) -> list[GroupList]:
    numbers = groups.numbers
    length = max(1, -(-len(numbers) // _PARTS))
    cut = [GroupList(numbers[start : start + length]) for start in range(0, len(numbers), length)]
    return cut if len(cut) > 1 else []
