"""Queries that find groups with high combined fines and let the ILS's database do the sums.

Shape and cost were measured (``members-001``, ``members-002``; before that, ``pushdown-001`` and following). Debtors
come first, then the sum over each debtor's group. The result is a hashed filter, which PostgreSQL applies before it
checks permissions row by row. Two conditions are redundant: they are there for PostgreSQL's planner.
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
    """Group numbers over ``low`` and up to ``high``. None leaves that end open."""

    low: int | None
    high: int | None

    def holds(self, group: int) -> bool:
        """Return whether the group is in the range."""
        return (self.low is None or group > self.low) and (self.high is None or group <= self.high)

    def conditions(self) -> list[Query]:
        """Return the range as conditions on ``usrgroup``."""
        found: list[Query] = []
        if self.low is not None:
            found.append({"usrgroup": {">": self.low}})
        if self.high is not None:
            found.append({"usrgroup": {"<=": self.high}})
        return found

    def after(self, group: int) -> GroupRange:
        """Return the rest of the range after a group."""
        return GroupRange(group, self.high)


class GroupList(NamedTuple):
    """Group numbers in ascending order."""

    numbers: tuple[int, ...]

    def holds(self, group: int) -> bool:
        """Return whether the group is in the list."""
        return group in self.numbers

    def conditions(self) -> list[Query]:
        """Return the list as conditions on ``usrgroup``."""
        return [{"usrgroup": list(self.numbers)}]

    def after(self, group: int) -> GroupList:
        """Return the rest of the list after a group."""
        return GroupList(tuple(number for number in self.numbers if number > group))


Groups = GroupRange | GroupList
"""The groups that a query covers."""


@dataclass(frozen=True, slots=True)
class HighFines:
    """The query for groups that owe ``min_total`` or more together.

    ``more_than_one`` leaves out groups with a single member. ``home_orgs`` keeps groups with a member of these home
    libraries. ``visible_orgs`` are the home libraries whose patrons the account sees; naming them saves the database
    the permission checks of all others. Both are org unit ids, and empty means everywhere.
    """

    min_total: Decimal
    more_than_one: bool = False
    home_orgs: Collection[int] = ()
    visible_orgs: Collection[int] = ()

    def members(self, within: Groups) -> Query:
        """Return the condition on patrons (``au``): members of matching groups, without deleted patrons."""
        # The second alternative is never true. Without it, PostgreSQL turns the `in` into a semi-join and checks
        # permissions first, for every patron in the range: over 60 s and a 408 for an ordinary account. With it, the
        # `in` becomes a hashed filter and only matches are checked: 4.1 s for 10,901 members among 200,243 patrons.
        listed = {"-or": [{"usrgroup": {"in": self._groups(within)}}, {"id": {"<": 0}}]}
        conditions = [*within.conditions(), listed]
        # Each permission check takes 0.4 to 2 ms, and refusals are the slow ones. A list of libraries is compared first
        # (pushdown-017).
        if self.visible_orgs:
            conditions.append({"home_ou": sorted(self.visible_orgs)})
        return {"deleted": "f", "-and": conditions}

    def candidates(self, within: Groups) -> Query:
        """Return the condition on patrons: members of all groups in the range that have a member at ``home_orgs``."""
        return candidates(within, self.home_orgs, self.visible_orgs)

    def _groups(self, within: Groups) -> Query:
        # Start with debtors: a quarter of all patrons owe anything (49,894 of 200,243), and only their groups are
        # summed up.
        conditions = [self._owes_enough()]
        if self.more_than_one:
            # Add this only on request: it excludes groups with one member, who may owe enough alone (pushdown-018).
            conditions.append(has_member({"id": {"<>": {"+d": "id"}}}))
        if self.home_orgs:
            conditions.append(has_member({"home_ou": sorted(self.home_orgs)}))
        return {
            "select": {"d": ["usrgroup"]},
            # Use mbts, which has a row for each transaction. The view mous sums up all patrons before any join, so use
            # it with literal ids only.
            "from": {"mbts": {"d": {"class": "au", "fkey": "usr", "field": "id"}}},
            "where": {
                # Not > 0: credits count, and the only debtor of a group may be a member with a credit balance
                # (pushdown-024).
                "+mbts": {"xact_finish": None, "balance_owed": {"<>": 0}},
                # The second test for deleted patrons is written so that PostgreSQL has no statistics for it. The
                # planner assumes that it holds for one in 200 rows and looks up the transactions of patrons in the
                # range one by one. Without it, the planner scans all transactions for each range, which takes a fifth
                # longer with ten ranges.
                "+d": {
                    "deleted": "f",
                    "-and": [*within.conditions(), {"deleted": {"=": {"transform": "int4", "value": "0"}}}],
                },
                "-and": conditions,
            },
        }

    def _owes_enough(self) -> Query:
        # Send the amount as a string with its exact digits: the float 12.40 may be on either side of it (pcrud-131,
        # pcrud-132).
        total = {"balance_owed": {">=": {"transform": "sum", "value": f"{self.min_total:.2f}"}}}
        return {
            "-exists": {
                "select": {"t": [{"column": "balance_owed", "transform": "sum", "aggregate": True}]},
                "from": {"au": {"t": {"class": "mbts", "fkey": "id", "field": "usr"}}},
                "where": {
                    "+au": {"deleted": "f", "usrgroup": {"=": {"+d": "usrgroup"}}},
                    "+t": {"xact_finish": None},
                    # Redundant: the outer query says the same about the debtor's transaction. Without it, PostgreSQL
                    # sums up the groups of all patrons in the range before it looks for debtors. It estimates that at a
                    # cost of 540,000 instead of 18,000 for 20,000 groups, and then its JIT compiles each query, which
                    # takes several times as long as running it.
                    "+mbts": {"xact_finish": None},
                },
                "having": {"+t": total},
            }
        }


def candidates(within: Groups, homes: Collection[int], visible_orgs: Collection[int]) -> Query:
    """Return the condition on patrons: members of groups in a range with a member at ``homes`` (empty: all groups)."""
    conditions = within.conditions()
    if homes:
        at_home = {"deleted": "f", "-and": [*within.conditions(), {"home_ou": sorted(homes)}]}
        # A subquery that is evaluated once. A correlated one would scan a giant group once for each of its members.
        conditions.append({"usrgroup": {"in": {"select": {"au": ["usrgroup"]}, "from": "au", "where": at_home}}})
    if visible_orgs:
        conditions.append({"home_ou": sorted(visible_orgs)})
    return {"deleted": "f", "-and": conditions or [{"id": {"<>": None}}]}


def has_member(condition: Query) -> Query:
    """Return the condition that the group of patron ``d`` has a member for whom ``condition`` holds.

    The first class of a subquery can't have an alias, so join patrons to their home libraries, which all patrons have.
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
"""How many members a range should have."""
# Start with as many ranges as run concurrently, because nothing is known about the density of numbers yet.
_FIRST_WIDTHS = (3_000, 3_000, 10_000)
# An account of a single library waits 2 ms for each row it may not see (10.5 s for everything in one call), so narrow
# the ranges long before the gateway's 60 s.
_SLOW_SECONDS = 8.0
_MAX_GROWTH = 8.0
# Three ranges run concurrently and should end at about the same time: a report with two large ranges took twice as
# long. Eight ranges cost the database hardly more than one.
_MIN_RANGES = 8
_MIN_WIDTH_CAP = 30_000
_PARTS = 8


class GroupRanges:
    """Splits all group numbers into ranges of about ``wanted`` members, as wide as earlier ranges suggest.

    Start with the highest numbers, where groups are dense: numbers are assigned in sequence, and the lowest belong to
    accounts that came with the system. Both ends are open, so new groups belong to a range as well. ``searched`` is the
    number of group numbers up to ``highest`` that are done.
    """

    def __init__(self, highest: int, wanted: int = TARGET_MEMBERS) -> None:
        self.highest = highest
        self._wanted = wanted
        self.searched = 0
        self._next: int | None = None
        self._requeued: list[GroupRange] = []
        self._widest = max(_FIRST_WIDTHS)
        self._width = self._widest
        self._seen_width = self._seen_members = 0.0
        self._decay = 1.0
        self._lock = threading.Lock()

    def first(self) -> list[GroupRange]:
        """Return the ranges to start with. Their results determine the width of the others."""
        return list(chain.from_iterable(self._next_range(width) for width in _FIRST_WIDTHS))

    @property
    def left(self) -> bool:
        """Whether there are ranges left to read. Ranges may be added while they are read (:meth:`learn`)."""
        return bool(self._requeued) or not self._ended

    def others(self) -> Iterator[GroupRange]:
        """Yield the other ranges, requeued ones first. Choose the width of each range when it is requested."""
        self._decay = 0.5  # from now on, older observations count less
        while self.left:
            if self._requeued:
                yield self._take_requeued()
            else:
                yield from self._next_range(self._width)

    def _take_requeued(self) -> GroupRange:
        """Take one range from the low end of a requeued range, or all of it if little is left."""
        with self._lock:
            low, high = within = self._requeued.pop()
            end = (low or 0) + self._width
            if (self.highest if high is None else high) - end <= self._width // 2:
                return within
            self._requeued.append(GroupRange(end, high))
            return GroupRange(low, end)

    @property
    def _ended(self) -> bool:
        return self._next is not None and self._next < 0

    def _next_range(self, width: int) -> Iterator[GroupRange]:
        """Yield the next range below those taken so far, or all that is left if that is little."""
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
        """Split groups into up to ``_PARTS`` parts, the lowest numbers first.

        Return an empty list for a single group.
        """
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
        """Record how many members a range had and how long the search took.

        ``rest`` are parts of the range that weren't searched because it turned out too dense. Requeue them.
        """
        width = self._width_of(within) - sum(map(self._width_of, rest))
        with self._lock:
            self._requeued.extend(rest)
            self.searched += width
            if within.low is None:
                return
            self._widest = max(self._widest, width)
            self._seen_width = self._seen_width * self._decay + width
            self._seen_members = self._seen_members * self._decay + members
            # Average over all ranges, because a single range of new patrons says little about the next.
            wanted = self._wanted * self._seen_width / max(self._seen_members, 1)
            if seconds > _SLOW_SECONDS:
                wanted = min(wanted, width * _SLOW_SECONDS / seconds)
            # Cap the width, so that the last of the concurrent ranges doesn't run alone for long.
            share = max(_MIN_WIDTH_CAP, self.highest // _MIN_RANGES)
            self._width = max(1, int(min(wanted, _MAX_GROWTH * self._widest, share)))

    def _width_of(self, within: GroupRange) -> int:
        return (self.highest if within.high is None else within.high) - (within.low or 0)


def _parts_of_list(groups: GroupList) -> list[GroupList]:
    numbers = groups.numbers
    length = max(1, -(-len(numbers) // _PARTS))
    cut = [GroupList(numbers[start : start + length]) for start in range(0, len(numbers), length)]
    return cut if len(cut) > 1 else []
