"""Finding the members of groups about which the ILS's database can be asked: it does the sums, range by range."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain, groupby
from typing import Protocol, TypeVar

from evergreen_groups.errors import DataError, TimedOutError, UnexpectedAnswerError
from evergreen_groups.gateway import Gateway, columns
from evergreen_groups.groups.patrons import PATRON_FIELDS, PatronRow
from evergreen_groups.groups.queries import GroupRange, Query
from evergreen_groups.progress import Progress, silent

logger = logging.getLogger(__name__)

Whole = TypeVar("Whole")
Complete = Callable[[Sequence[PatronRow]], list[Whole]]
"""Makes something of all members of some groups, such as the groups with their fines."""

PAGE = 4_000
"""The most members in one answer: about 1.7 MB."""
# Less than a page, so that a range that turns out denser than those before still comes in one answer.
_WANTED = 3_000
_PORTION = 2_000
# As many as are under way at once, for nobody knows beforehand how dense the numbers are.
_FIRST_WIDTHS = (3_000, 3_000, 10_000)
# An account of one library waits 2 ms for each row that it may not see (10.5 s for everything in one call): ranges get
# narrower long before the gateway's 60 s.
_SLOW_SECONDS = 8.0
_MOST_GROWTH = 8.0
# Sums over one giant group, a school's or an institution's, grow with the square of its debtors: 2,000 of them 13.7 s,
# 8,000 of them 157 s. So a range has less than the gateway's 60 s, and its parts half of that, until the group stands
# alone and is read without sums. In eighths that takes a handful of time-outs, in halves it would be a dozen.
_RANGE_SECONDS = 30.0
_PART_SECONDS = 15.0
_PARTS = 8
# More than a consortium has of them. Where so many single groups take too long, it is the ILS that is too slow.
_MOST_GIANTS = 40
_MOST_REREADINGS = 3
_BY_GROUP = [{"class": "au", "field": "usrgroup"}, {"class": "au", "field": "id"}]


class _Ranges:
    """Cuts all group numbers into ranges as wide as earlier ones showed to be good: about ``_WANTED`` members each.

    From the highest number down, where the groups are dense: numbers are given in sequence, and the first few belong
    to accounts that came with the system. The ends are open, so that groups made meanwhile belong to a range as well.

    ``searched`` says how many of the numbers up to ``highest`` are done with.
    """

    def __init__(self, highest: int) -> None:
        self.highest = highest
        self.searched = 0
        self._next: int | None = None
        self._widest = max(_FIRST_WIDTHS)
        self._width = self._widest
        self._seen_width = self._seen_members = 0.0
        self._memory = 1.0
        self._lock = threading.Lock()

    def first(self) -> list[GroupRange]:
        """The ranges to begin with; how wide the others should be is known only after them."""
        return list(chain.from_iterable(self._cut(width) for width in _FIRST_WIDTHS))

    def others(self) -> Iterator[GroupRange]:
        """The other ranges, each as wide as seems good when it is taken."""
        self._memory = 0.5  # from now on, what was seen counts for less the longer ago it was
        while not self._ended:
            yield from self._cut(self._width)

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

    def parts(self, within: GroupRange) -> list[GroupRange]:
        """Cut a range into ``_PARTS`` or fewer, from the lowest up; none where it is a single group."""
        low = min(0, self.highest) - 1 if within.low is None else within.low
        high = self.highest if within.high is None else within.high
        count = min(_PARTS, high - low)
        if count < 2:
            return []
        edges = [low + (high - low) * part // count for part in range(1, count)]
        lows, highs = [within.low, *edges], [*edges, within.high]
        return [GroupRange(*edge) for edge in zip(lows, highs, strict=True)]

    def learn(self, within: GroupRange, members: int, seconds: float) -> None:
        """Take in how many members a range had and how long finding them took."""
        width = (self.highest if within.high is None else within.high) - (within.low or 0)
        with self._lock:
            self.searched += width
            if within.low is None:
                return
            self._widest = max(self._widest, width)
            self._seen_width = self._seen_width * self._memory + width
            self._seen_members = self._seen_members * self._memory + members
            # From all that was seen, not from the last range alone: one range of newcomers says little about the next.
            wanted = _WANTED * self._seen_width / max(self._seen_members, 1)
            if seconds > _SLOW_SECONDS:
                wanted = min(wanted, width * _SLOW_SECONDS / seconds)
            self._width = max(1, int(min(wanted, _MOST_GROWTH * self._widest)))


def _portions(batches: Iterable[list[PatronRow]]) -> Iterator[list[PatronRow]]:
    """Cut members, which come a group after the other, into lists of ``_PORTION`` or a little less, groups whole.

    A larger group is a list of its own.
    """
    portion: list[PatronRow] = []
    for batch in batches:
        for _, group in groupby(batch, key=lambda patron: patron.group):
            members = list(group)
            if portion and len(portion) + len(members) > _PORTION:
                yield portion
                portion = []
            portion.extend(members)
    if portion:
        yield portion


class GroupQuery(Protocol):
    """A question about groups that the ILS can answer for a range of group numbers."""

    @property
    def visible_orgs(self) -> Collection[int]:
        """The ids of the home libraries whose patrons the account sees; none: all of them."""

    def members(self, within: GroupRange) -> Query:
        """The condition on patrons (``au``): all visible members of such groups in a range."""

    def candidates(self, within: GroupRange) -> Query:
        """The same without sums: it holds for those, and for members of other groups in the range."""


class GroupSearch:
    """Reads the members of the groups that ``query`` is about.

    ``page`` is the greatest number of members in one answer.
    """

    def __init__(self, gateway: Gateway, query: GroupQuery, progress: Progress = silent, *, page: int = PAGE) -> None:
        self._page = page
        self._gateway = gateway
        self._query = query
        self._progress = progress
        self._giants = 0

    def run(self, complete: Complete[Whole]) -> list[Whole]:
        """Let the ILS do the sums, range by range; what a range needs is read while the next ones are under way.

        ``complete`` gets whole groups. A group so large that its sums take too long is given to it whatever it owes.

        Raises:
            TimedOutError: the ILS is too slow, whatever is asked.
            DataError: patrons were moved from group to group all the while.
        """
        portions: list[list[PatronRow]] = []

        def remembered() -> Iterator[list[PatronRow]]:
            for portion in _portions(self._ranges()):
                portions.append(portion)
                yield portion

        found = list(self._gateway.map(complete, remembered()))
        for _ in range(_MOST_REREADINGS):
            moved = _in_two_groups(portions)
            if not moved:
                return list(chain.from_iterable(found))
            logger.info("patrons were moved while groups were read; reading %d groups again", len(moved))
            self._read_again(moved, portions, found, complete)
        raise DataError(
            "patrons were moved from group to group all the while that groups were read",
            advice="try again later",
            code="groups-unsteady",
        )

    def _read_again(
        self,
        groups: Collection[int],
        portions: list[list[PatronRow]],
        found: list[list[Whole]],
        complete: Complete[Whole],
    ) -> None:
        """Take some groups out of what was found, and put in what they are now."""
        for place, portion in enumerate(portions):
            rest = [patron for patron in portion if patron.group not in groups]
            if len(rest) < len(portion):
                portions[place] = rest
                found[place] = complete(rest) if rest else []
        batches = self._gateway.pcrud.columns_by_values(
            "au", PATRON_FIELDS, "usrgroup", sorted(groups), where=self._visible({})
        )
        rows = sorted(map(PatronRow._make, chain.from_iterable(batches)), key=lambda patron: (patron.group, patron.id))
        if rows:
            portions.append(rows)
            found.append(complete(rows))

    def _ranges(self) -> Iterator[list[PatronRow]]:
        """The members found in one range after the other, the next ones being under way."""
        ranges = _Ranges(self.highest_group())

        def read(within: GroupRange) -> list[PatronRow]:
            started = time.monotonic()
            members = self._range(within, ranges)
            ranges.learn(within, len(members), time.monotonic() - started)
            self._progress("looking through group numbers", ranges.searched, ranges.highest)
            return members

        yield from self._gateway.map(read, ranges.first())
        yield from self._gateway.map(read, ranges.others())

    def highest_group(self) -> int:
        """The highest group number of a visible patron, 0 when no patron is."""
        order = [{"class": "au", "field": "usrgroup", "direction": "desc"}]
        # Naming the libraries leaves no row that is hidden: one that were the highest would come back as none at all
        # before 3.16 (3.12/releases-050).
        where = self._visible({"id": {">": 0}})
        found = self._gateway.pcrud.search("au", where, select=("id", "usrgroup"), order_by=order, limit=1)
        return found[0].usrgroup if found else 0

    def _range(self, within: GroupRange, ranges: _Ranges) -> list[PatronRow]:
        """All members of one range, in as many pages as it takes, each begun after the last whole group."""
        found: list[PatronRow] = []
        rest = [(within, _RANGE_SECONDS)]
        while rest:
            part, seconds = rest.pop()
            try:
                page = self._search(part, seconds)
            except (TimedOutError, UnexpectedAnswerError):
                # Gateways of older releases answer a time-out with nothing.
                parts = ranges.parts(part)
                logger.info("a range of groups took too long; asking for it in %d parts", len(parts) or 1)
                if not parts:
                    self._giants += 1
                    if self._giants > _MOST_GIANTS:
                        raise
                    found.extend(self._giant(part))
                rest.extend((smaller, _PART_SECONDS) for smaller in reversed(parts))
                continue
            if len(page) < self._page:
                found.extend(page)
                continue
            # The last group may go on behind the page's end.
            # Half a group would have too low a total, or lose members without anybody noticing.
            last = page[-1].group
            whole = [patron for patron in page if patron.group != last]
            found.extend(whole or self._read_by_id(self._visible({"usrgroup": last})))
            rest.append((GroupRange(whole[-1].group if whole else last, part.high), seconds))
        return found

    def _giant(self, within: GroupRange) -> list[PatronRow]:
        """The members of a group for which the ILS can't do the sums in time, whatever they owe."""
        rows = self._read_by_id(self._query.candidates(within))
        return sorted(rows, key=lambda patron: (patron.group, patron.id))

    def _read_by_id(self, where: Query) -> list[PatronRow]:
        """The patrons for whom a condition holds that names the libraries the account sees."""
        pages = self._gateway.pcrud.pages(
            "au", where, select=PATRON_FIELDS, page_size=self._page, concurrency=1, all_visible=True
        )
        return [PatronRow(*row) for page in pages for row in columns(page, *PATRON_FIELDS)]

    def _search(self, within: GroupRange, seconds: float) -> list[PatronRow]:
        pcrud = self._gateway.within(seconds).pcrud
        where = self._query.members(within)
        rows = list(
            map(PatronRow._make, pcrud.search_columns("au", PATRON_FIELDS, where, order_by=_BY_GROUP, limit=self._page))
        )
        if not all(within.holds(row.group) for row in rows):
            raise DataError("the ILS gave members of other groups than were asked for", code="groups-not-asked-for")
        return rows

    def _visible(self, where: Query) -> Query:
        if self._query.visible_orgs:
            where = {**where, "home_ou": sorted(self._query.visible_orgs)}
        return {"deleted": "f", **where}


def _in_two_groups(portions: Iterable[Sequence[PatronRow]]) -> set[int]:
    """The groups of patrons who were found in several, having been moved while those were read."""
    counts = Counter(patron.id for portion in portions for patron in portion)
    if counts.total() == len(counts):  # as nearly always
        return set()
    return {patron.group for portion in portions for patron in portion if counts[patron.id] > 1}
