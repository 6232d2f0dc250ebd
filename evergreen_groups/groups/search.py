"""Search for groups range by range. Evergreen's database finds those with high combined fines or items, and sums up.

Shape and cost of the queries were measured (``members-001``, ``members-002``; before that, ``pushdown-001`` and
following). Debtors come first, then the sum over each debtor's group. The result is a hashed filter, which PostgreSQL
applies before it checks permissions row by row. Two conditions are redundant: they are for PostgreSQL's planner.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import chain, groupby, pairwise
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

from evergreen_groups.batches import batched, batched_by_size
from evergreen_groups.errors import DataError, TimedOutError, UnexpectedAnswerError
from evergreen_groups.gateway import Gateway, columns, mixed_up, rows_beyond
from evergreen_groups.groups.models import PATRON_FIELDS, ItemCondition, PatronRow, Query
from evergreen_groups.message import Message, Progress, silent


class IdRange(NamedTuple):
    """Group numbers, or other ids, over ``low`` and up to ``high``. None leaves that end open."""

    low: int | None
    high: int | None

    def conditions(self, field: str = "usrgroup") -> list[Query]:
        """Return the range as conditions on a field."""
        ends = ((">", self.low), ("<=", self.high))
        return [{field: {operator: end}} for operator, end in ends if end is not None]


class GroupList(NamedTuple):
    """Group numbers."""

    numbers: tuple[int, ...]

    def conditions(self) -> list[Query]:
        return [{"usrgroup": list(self.numbers)}]


Groups = IdRange | GroupList
"""The groups that a query covers."""


def listed(operator: str, query: Query, field: str = "id") -> Query:
    """Return the condition that a patron's field is in the result of a query, or isn't (``not in``)."""
    # The second alternative is never true. Without it, PostgreSQL turns the `in` into a semi-join and checks
    # permissions first, for every patron in the range: over 60 s and a 408 for an ordinary account. With it, the
    # `in` becomes a hashed filter and only matches are checked: 4.1 s for 10,901 members among 200,243 patrons.
    return {"-or": [{field: {operator: query}}, {"id": {"<": 0}}]}


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupQuery:
    """A query for groups that the ILS can answer for a range of group numbers.

    ``homes`` keeps the groups with a member of these home libraries. ``visible_orgs`` are the home libraries whose
    patrons the account sees; naming them saves the database the permission checks of all others. Both are org unit ids,
    and empty means everywhere.
    """

    homes: Collection[int] = ()
    visible_orgs: Collection[int] = ()

    def members(self, within: Groups) -> Query:
        """Return the condition on patrons (``au``): members of matching groups, without deleted patrons."""
        # Each permission check takes 0.4 to 2 ms, and refusals are the slow ones. A list of libraries is compared first
        # (pushdown-017).
        return self.visible(*within.conditions(), listed("in", self.groups(within), "usrgroup"))

    def candidates(self, within: Groups) -> Query:
        """Return a condition without sums: members of all groups in the range that have a member at ``homes``."""
        conditions = within.conditions()
        if self.homes:
            at_home = {"deleted": "f", "-and": [*within.conditions(), {"home_ou": sorted(self.homes)}]}
            # A subquery that is evaluated once. A correlated one would scan a giant group once for each of its members.
            conditions.append({"usrgroup": {"in": {"select": {"au": ["usrgroup"]}, "from": "au", "where": at_home}}})
        return self.visible(*conditions)

    def visible(self, *conditions: Query) -> Query:
        """Return the condition on visible patrons for whom ``conditions`` hold, without deleted patrons."""
        homes = [{"home_ou": sorted(self.visible_orgs)}] if self.visible_orgs else []
        return {"deleted": "f", "-and": [*conditions, *homes] or [{"id": {"<>": None}}]}

    def groups(self, within: Groups) -> Query:
        """Return the query for the numbers of matching groups."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class HighFines(GroupQuery):
    """The query for groups that owe ``min_total`` or more together, without groups of one if ``more_than_one``."""

    min_total: Decimal
    more_than_one: bool = False

    def groups(self, within: Groups) -> Query:
        # Start with debtors: a quarter of all patrons owe anything (49,894 of 200,243), and only their groups are
        # summed up.
        conditions = [self._owes_enough(), *_of_members(self.homes, more_than_one=self.more_than_one)]
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


@dataclass(frozen=True, slots=True)
class UnreturnedInGroups(GroupQuery):
    """The query for groups whose members together meet ``condition``, without groups of one if ``more_than_one``."""

    condition: ItemCondition
    now: datetime
    more_than_one: bool = False

    def groups(self, within: Groups) -> Query:
        # Start with circulations that count, a few for each hundred patrons. circ_outstanding_idx has those not
        # checked in. Only their groups are counted, and no further than necessary.
        wanted = self.condition.of_circulation(self.now)
        conditions = _of_members(self.homes, more_than_one=self.more_than_one)
        if self.condition.least > 1:
            conditions.append({"-exists": self._beyond(self.condition.least - 1, wanted)})
        patron: Query = {"deleted": "f"}
        if within.conditions():
            patron["-and"] = within.conditions()
        return {
            "select": {"d": ["usrgroup"]},
            "from": {"circ": {"d": {"class": "au", "fkey": "usr", "field": "id"}}},
            "where": {"+circ": wanted, "+d": patron, **({"-and": conditions} if conditions else {})},
        }

    def _beyond(self, count: int, wanted: Query) -> Query:
        """Return the query for circulations of the group of patron ``d`` after the first ``count``."""
        source = {"au": {"t": {"class": "circ", "fkey": "id", "field": "usr"}}}
        where = {"+au": {"deleted": "f", "usrgroup": {"=": {"+d": "usrgroup"}}}, "+t": wanted}
        return rows_beyond(count, source, where, "id")


@dataclass(frozen=True, slots=True)
class AnyQuery(GroupQuery):
    """The query for groups that any of ``queries`` matches."""

    queries: tuple[GroupQuery, ...]

    def groups(self, within: Groups) -> Query:
        return {"union": [query.groups(within) for query in self.queries]}


def query_for(
    min_total: Decimal,
    conditions: Iterable[ItemCondition],
    now: datetime,
    *,
    more_than_one: bool = False,
    homes: Collection[int] = (),
    visible_orgs: Collection[int] = (),
) -> GroupQuery:
    """Return the query for groups that owe ``min_total`` or more (unless 0), or meet any of the conditions."""
    scope = {"homes": homes, "visible_orgs": visible_orgs}
    queries: list[GroupQuery] = [HighFines(min_total, more_than_one, **scope)] if min_total else []
    queries += [UnreturnedInGroups(condition, now, more_than_one, **scope) for condition in conditions]
    return queries[0] if len(queries) == 1 else AnyQuery(tuple(queries), **scope)


def _of_members(homes: Collection[int], *, more_than_one: bool) -> list[Query]:
    """Return the conditions that the group of patron ``d`` has another member, and one of these ``homes``, if any."""
    # Add the first only on request: it excludes groups with one member, who may be enough alone (pushdown-018).
    others = [has_member({"id": {"<>": {"+d": "id"}}})] if more_than_one else []
    return [*others, *([has_member({"home_ou": sorted(homes)})] if homes else [])]


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


# Ranges that make about equal work, three at a time: nine of them cost the database hardly more than one. In a large
# consortium, narrower ranges keep an answer below a page.
_MIN_RANGES = 9
_RANGE_WIDTH = 60_000
# So many group numbers are one range.
_FEW = 4_500
# A range with fewer patrons of the sample isn't worth a call.
_MIN_SAMPLED = 5
# Ids that the sample asks about.
_SAMPLE = 300
_PARTS = 8


def equal_ranges(sample: Iterable[int], count: int) -> list[IdRange]:
    """Split all group numbers into up to ``count`` ranges with equal shares of the sample, the highest numbers first.

    Both ends are open, so new groups belong to a range as well.

    >>> equal_ranges([], 9)
    [IdRange(low=None, high=None)]
    """
    numbers = sorted(sample)
    count = max(1, min(count, len(numbers) // _MIN_SAMPLED))
    edges = sorted({numbers[len(numbers) * part // count] for part in range(1, count)}, reverse=True)
    return [IdRange(low, high) for high, low in pairwise([None, *edges, None])]


def parts_of(within: IdRange, highest: int) -> list[IdRange]:
    """Split a range into up to ``_PARTS`` parts, the lowest numbers first. Return nothing for a single number."""
    low = min(0, highest) - 1 if within.low is None else within.low
    high = highest if within.high is None else within.high
    count = min(_PARTS, high - low)
    if count < 2:
        return []
    edges = [low + (high - low) * part // count for part in range(1, count)]
    return [IdRange(*edge) for edge in pairwise([within.low, *edges, within.high])]


MAX_BATCH = 3_000
"""The most members to ask about in one list. Their ids and a query fit into a request."""


def groups_of_moved(group_of: Mapping[int, int], changed: Mapping[int, int]) -> set[int]:
    """Return the groups that patrons left or joined, by the numbers of their groups as they were read and are now."""
    moved = {id: group for id, group in changed.items() if group_of.get(id) != group}
    return {group_of[id] for id in moved.keys() & group_of.keys()}.union(moved.values())


def batch_by_group(batches: Iterable[list[PatronRow]]) -> Iterator[list[PatronRow]]:
    """Split members, which come by group, into lists of up to ``MAX_BATCH`` with whole groups, or one larger group."""
    groups = (list(members) for _, members in groupby(chain.from_iterable(batches), attrgetter("group")))
    for batch in batched_by_size(groups, MAX_BATCH, len):
        yield list(chain.from_iterable(batch))


# The database's clock may differ from ours. An extra patron costs a row, but a missed one would be left out of all
# totals.
_CLOCKS_DIFFER = timedelta(minutes=30)
_FIELDS = ("id", "usrgroup")


class ChangedPatrons:
    """Finds patrons whose records have changed since this object was made, and their groups.

    The database sets ``last_update_time`` with every change, moves included (``au_update_trig`` in
    ``Open-ILS/src/sql/Pg/005.schema.actors.sql``).
    """

    def __init__(self, gateway: Gateway, visible: Query) -> None:
        """``visible`` is a condition on patrons (``au``) with the home libraries that the account sees."""
        self._gateway = gateway
        self._visible = visible
        self._since = datetime.now(UTC) - _CLOCKS_DIFFER
        self._known: dict[int, int] = {}

    def groups(self) -> dict[int, int]:
        """Return the group of each changed patron, by id. Leave out patrons returned before with the same group."""
        since = self._since.strftime("%Y-%m-%dT%H:%M:%S+0000")
        where = {**self._visible, "last_update_time": {">=": since}}
        pages = self._gateway.pcrud.pages("au", where, select=_FIELDS, concurrency=1, all_visible=True)
        changed = dict(chain.from_iterable(columns(page, *_FIELDS) for page in pages))
        new = {id: group for id, group in changed.items() if self._known.get(id) != group}
        self._known = changed
        return new


logger = logging.getLogger(__name__)

Result = TypeVar("Result")
BuildResults = Callable[[Sequence[PatronRow]], list[Result]]
"""Turns all members of some groups into results, such as groups with their fines."""
DropGroups = Callable[[list[Result], Collection[int]], list[Result]]
"""Removes the results about the groups with these numbers."""

PAGE = 4_000
"""The most members in one answer, about 1.7 MB."""
# Group numbers to read again in one call. The query contains each up to four times, some 20 kB.
_GROUPS_AT_ONCE = 500
# The time for a giant group, such as a school, grows with the square of its debtors: 13.7 s for 2,000 of them, 157 s
# for 8,000. So a range gets less than the gateway's 60 s, and its parts half of that, until the giant is alone and can
# be read without sums. Splitting into eighths takes a handful of timeouts, halves would take a dozen.
_RANGE_SECONDS = 30.0
_PART_SECONDS = 15.0
# No consortium has as many giants. If this many single groups time out, the ILS itself is too slow.
_MAX_GIANTS = 40
_MAX_REREADS = 3
_BY_GROUP = [{"class": "au", "field": "usrgroup"}, {"class": "au", "field": "id"}]


class GroupSearch:
    """Reads the members of the groups that ``query`` matches.

    ``take`` gets each member's id and the values of ``extra_fields`` (of ``au``), from several threads.
    """

    def __init__(
        self,
        gateway: Gateway,
        query: GroupQuery,
        progress: Progress = silent,
        *,
        page: int = PAGE,
        extra_fields: Sequence[str] = (),
        take: Callable[[int, Sequence[Any]], None] = lambda _patron, _values: None,
    ) -> None:
        self._page = page
        self._take = take if extra_fields else None
        self._fields = (*PATRON_FIELDS, *extra_fields)
        self._gateway = gateway
        self._query = query
        self._progress = progress
        self._giants = 0
        self._highest = 0

    def run(self, build: BuildResults[Result], drop: DropGroups[Result]) -> list[Result]:
        """Search range by range and build results from one batch while the next ranges are read.

        ``build`` gets whole groups, including giant groups that time out, whatever these owe. If groups have to be read
        again, ``drop`` removes them from its results. Raises TimedOutError if the ILS is too slow even for single
        groups, and DataError if patrons kept being moved during the search.
        """
        group_of: dict[int, int] = {}
        in_several: set[int] = set()

        def noted(answers: Iterable[list[PatronRow]]) -> Iterator[list[PatronRow]]:
            for batch in batch_by_group(answers):
                for row in batch:
                    if group_of.setdefault(row.id, row.group) != row.group:
                        in_several.update((group_of[row.id], row.group))
                yield batch

        changed = ChangedPatrons(self._gateway, self._query.visible())
        found = list(chain.from_iterable(self._gateway.map(build, noted(self._batches()))))
        for _ in range(_MAX_REREADS):
            moved = in_several | groups_of_moved(group_of, changed.groups())
            if not moved:
                return found
            logger.info("patrons were changed while groups were read; reading %d groups again", len(moved))
            found = drop(found, moved)
            group_of = {id: group for id, group in group_of.items() if group not in moved}
            in_several = set()
            lists = [GroupList(tuple(batch)) for batch in batched(sorted(moved), _GROUPS_AT_ONCE)]
            for batch in noted(self._gateway.map(self._read_list, lists)):
                found += build(batch)
        if not in_several:
            # On a busy day records change all the time. Ignore the latest changes: no patron is counted twice.
            return found
        raise DataError(
            "patrons kept moving between groups while they were read", advice="try again later", code="groups-unsteady"
        )

    def read(self, numbers: Collection[int], build: BuildResults[Result]) -> list[Result]:
        """Build results from the groups with these numbers, whatever they owe."""
        rows = self._read_by_id(self._query.candidates(GroupList(tuple(sorted(numbers))))) if numbers else []
        return list(chain.from_iterable(map(build, batch_by_group([rows]))))

    def highest_group(self) -> int:
        """Return the highest group number of a visible patron, 0 if no patron is visible."""
        return self._highest_of("usrgroup")

    def _batches(self) -> Iterator[list[PatronRow]]:
        self._highest = self.highest_group()
        sample = self._sample() if self._highest > _FEW else []
        ranges = equal_ranges(sample, max(_MIN_RANGES, self._highest // _RANGE_WIDTH))
        seconds, searched = _RANGE_SECONDS, 0
        while ranges:
            # What is left of a range is read in the next round, so that memory holds a page for each call at once.
            left: list[IdRange] = []
            read = partial(self._read_range, seconds=seconds)
            for within, (members, rest) in zip(ranges, self._gateway.map(read, ranges), strict=True):
                searched = max(searched, self._highest - (within.low or 0))
                self._progress(Message("reading groups"), searched, self._highest)
                left += rest
                yield members
            ranges, seconds = left, _PART_SECONDS

    def _sample(self) -> list[int]:
        """Return the group numbers of some patrons, with ids spread evenly over all ids."""
        highest = self._highest_of("id")
        ids = list(range(highest, 0, -max(1, highest // _SAMPLE)))[:_SAMPLE]
        where = self._query.visible({"id": ids})
        rows = self._gateway.pcrud.search_columns("au", _FIELDS, where, order_by="id", limit=_SAMPLE)
        return [group for _id, group in rows]

    def _highest_of(self, field: str) -> int:
        order = [{"class": "au", "field": field, "direction": "desc"}]
        # Naming the visible libraries excludes hidden rows. Before 3.14, a hidden highest row makes the answer empty
        # (3.12/releases-050).
        where = self._query.visible({"id": {">": 0}})
        found = self._gateway.pcrud.search("au", where, select=_FIELDS, order_by=order, limit=1)
        return int(getattr(found[0], field)) if found else 0

    def _read_range(self, within: IdRange, seconds: float) -> tuple[list[PatronRow], list[IdRange]]:
        """Read a page of members, and return the ranges that are left: after the last whole group, or smaller ones."""
        try:
            page = self._search(within, seconds)
        except (TimedOutError, UnexpectedAnswerError):
            # Older gateways answer with an empty body when they time out.
            parts = parts_of(within, self._highest)
            logger.info("a range of groups took too long; asking for it in %d parts", len(parts) or 1)
            if parts:
                return [], parts
            self._giants += 1
            if self._giants > _MAX_GIANTS:
                raise
            # Read the giant group without sums, whatever it owes.
            return self._read_by_id(self._query.candidates(within)), []
        if len(page) < self._page:
            return page, []
        groups = [patron.group for patron in page]
        if groups != sorted(groups):
            # The next page begins after this one's last group: groups between them would be left out.
            raise mixed_up("groups-in-another-order", "au rows not in the requested order")
        # The last group may continue on the next page. With half of its members its total would silently be too low.
        last = page[-1].group
        whole = [patron for patron in page if patron.group != last]
        if not whole:
            return self._read_by_id(self._query.visible({"usrgroup": last})), [IdRange(last, within.high)]
        return whole, [IdRange(whole[-1].group, within.high)]

    def _read_list(self, groups: GroupList) -> list[PatronRow]:
        """Read the listed groups that the query matches, or all of them if that takes too long or gives a full page."""
        try:
            found = self._search(groups, _RANGE_SECONDS)
        except (TimedOutError, UnexpectedAnswerError):
            found = None
        if found is None or len(found) == self._page:
            return self._read_by_id(self._query.candidates(groups))
        return found

    def _read_by_id(self, where: Query) -> list[PatronRow]:
        """Read patrons, in the order of :data:`_BY_GROUP`. ``where`` must name the libraries that the account sees."""
        pages = self._gateway.pcrud.pages(
            "au", where, select=self._fields, page_size=self._page, concurrency=1, all_visible=True
        )
        found = self._rows(row for page in pages for row in columns(page, *self._fields))
        return sorted(found, key=lambda patron: (patron.group, patron.id))

    def _search(self, within: Groups, seconds: float) -> list[PatronRow]:
        # A shorter deadline than the gateway's, so a slow range can still be split.
        pcrud = self._gateway.within(seconds).pcrud
        where = self._query.members(within)
        return self._rows(pcrud.search_columns("au", self._fields, where, order_by=_BY_GROUP, limit=self._page))

    def _rows(self, rows: Iterable[tuple[Any, ...]]) -> list[PatronRow]:
        if self._take is None:
            return list(map(PatronRow._make, rows))
        found, width = [], len(PATRON_FIELDS)
        for row in rows:
            found.append(PatronRow._make(row[:width]))
            self._take(row[0], row[width:])
        return found


@contextmanager
def gc_paused() -> Iterator[None]:
    """Pause cyclic garbage collection. Reading creates tens of thousands of records and no cycles."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            if not gc.get_freeze_count():
                # Moves the new records to the oldest generation. The next collection would go through all of them.
                gc.freeze()
                gc.unfreeze()
            gc.enable()
