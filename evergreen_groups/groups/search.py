"""Finding the members of groups with high combined fines.

The threshold is pushed down into the ILS where it takes the query; where it refuses, all debtors are read instead.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import chain, groupby
from typing import Protocol, TypeVar

from evergreen_groups.errors import ServerError, TimedOutError, UnexpectedAnswerError
from evergreen_groups.gateway import Gateway, columns
from evergreen_groups.groups.patrons import PATRON_FIELDS, PatronRow
from evergreen_groups.groups.queries import GroupRange, HighFines, Query
from evergreen_groups.money import NOTHING
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

    def halves(self, within: GroupRange) -> tuple[GroupRange, GroupRange] | None:
        """Cut a range in two, None where it is a single group."""
        low = min(0, self.highest) - 1 if within.low is None else within.low
        high = self.highest if within.high is None else within.high
        if high - low < 2:
            return None
        middle = (low + high) // 2
        return GroupRange(within.low, middle), GroupRange(middle, within.high)

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


class RangeSearch:
    """Reads the members of the groups that ``query`` is about.

    ``page`` is the greatest number of members in one answer.
    """

    def __init__(self, gateway: Gateway, query: GroupQuery, progress: Progress = silent, *, page: int = PAGE) -> None:
        self._page = page
        self._gateway = gateway
        self._query = query
        self._progress = progress

    def pushed_down(self, complete: Complete[Whole]) -> list[Whole]:
        """Let the ILS do the sums, range by range; what a range needs is read while the next ones are under way.

        Raises:
            ServerError: the ILS refuses the query.
        """
        found: list[Whole] = []
        for wholes in self._gateway.map(complete, _portions(self._ranges())):
            found.extend(wholes)
        return found

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
        where = self._visible({"id": {">": 0}})
        found = self._gateway.pcrud.search("au", where, select=("id", "usrgroup"), order_by=order, limit=1)
        return found[0].usrgroup if found else 0

    def _range(self, within: GroupRange, ranges: _Ranges) -> list[PatronRow]:
        """All members of one range, in as many pages as it takes, each begun after the last whole group."""
        found: list[PatronRow] = []
        rest = [within]
        while rest:
            part = rest.pop()
            try:
                page = self._search(self._query.members(part))
            except (TimedOutError, UnexpectedAnswerError):
                # Gateways of older releases answer a time-out with nothing.
                halves = ranges.halves(part)
                if halves is None:
                    raise
                logger.info("a range of groups took too long; asking for it in two parts")
                rest.extend(reversed(halves))
                continue
            if len(page) < self._page:
                found.extend(page)
                continue
            # The last group may go on behind the page's end.
            # Half a group would have too low a total, or lose members without anybody noticing.
            last = page[-1].group
            whole = [patron for patron in page if patron.group != last]
            found.extend(whole or self._one_group(last))
            rest.append(GroupRange(whole[-1].group if whole else last, part.high))
        return found

    def _one_group(self, group: int) -> list[PatronRow]:
        """All members of a group that is larger than a page, by id."""
        where = self._visible({"usrgroup": group})
        pages = self._gateway.pcrud.pages("au", where, select=PATRON_FIELDS, page_size=self._page, concurrency=1)
        return [PatronRow(*row) for page in pages for row in columns(page, *PATRON_FIELDS)]

    def _search(self, where: dict[str, object]) -> list[PatronRow]:
        rows = self._gateway.pcrud.search_columns("au", PATRON_FIELDS, where, order_by=_BY_GROUP, limit=self._page)
        return list(map(PatronRow._make, rows))

    def _visible(self, where: dict[str, object]) -> dict[str, object]:
        if self._query.visible_orgs:
            where = {**where, "home_ou": sorted(self._query.visible_orgs)}
        return {"deleted": "f", **where}


class GroupSearch(RangeSearch):
    """Reads the members of groups that together owe ``high_fines.min_total`` or more."""

    def __init__(
        self, gateway: Gateway, high_fines: HighFines, progress: Progress = silent, *, page: int = PAGE
    ) -> None:
        super().__init__(gateway, high_fines, progress, page=page)
        self._high_fines = high_fines

    def run(self, complete: Complete[Whole]) -> tuple[list[Whole], bool]:
        """Find the members and make ``complete`` things of them, whole groups at a time.

        Also says whether the ILS took the query (False: all debtors were read instead).
        """
        try:
            return self.pushed_down(complete), True
        except ServerError as error:
            logger.info("the ILS refused the combined query (status %s); reading all debtors instead", error.status)
            found = self.from_all_debtors()
            return (complete(found) if found else []), False

    def from_all_debtors(self) -> list[PatronRow]:
        """Read all debtors in keyset pages, add up their groups here, then read the members of the high ones.

        An account that can't see every patron can't see every debtor either, so groups whose fines are owed by hidden
        members may be missing from the answer. Groups of one are in it, whatever was asked for.
        """
        totals = self._totals(self._debtors())
        high = sorted(group for group, total in totals.items() if total >= self._high_fines.min_total)
        found: list[PatronRow] = []
        for batch in self._gateway.pcrud.columns_by_values(
            "au", PATRON_FIELDS, "usrgroup", high, where=self._visible({})
        ):
            found.extend(map(PatronRow._make, batch))
            self._progress("reading members", len(found))
        return self._at_home(found)

    def _debtors(self) -> dict[int, Decimal]:
        owed: dict[int, Decimal] = {}
        # Paid-up transactions that are still open are rows of nought (groups-008). Credits stay in: they count
        # (pcrud-049).
        owes = {"balance_owed": {"<>": 0}}
        # 2.1 to 2.9 s for 50,000 debtors as a superuser; for others it is a check of permission for each of them.
        for page in self._gateway.pcrud.pages("mous", owes, key="usr", select=("usr", "balance_owed"), page_size=5_000):
            owed.update(columns(page, "usr", "balance_owed"))
            self._progress("reading debtors", len(owed))
        return owed

    def _totals(self, owed: dict[int, Decimal]) -> dict[int, Decimal]:
        totals: dict[int, Decimal] = {}
        for batch in self._gateway.pcrud.columns_by_values(
            "au", ("id", "usrgroup"), "id", owed, where={"deleted": "f"}
        ):
            for id, group in batch:
                totals[group] = totals.get(group, NOTHING) + owed[id]
            self._progress("adding up groups", len(totals))
        return totals

    def _at_home(self, patrons: Collection[PatronRow]) -> list[PatronRow]:
        homes = set(self._high_fines.home_orgs)
        groups = {patron.group for patron in patrons if patron.home_library in homes}
        return [patron for patron in patrons if not homes or patron.group in groups]
