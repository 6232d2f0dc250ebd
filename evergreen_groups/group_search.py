"""Finding the members of groups with high combined fines.

The threshold is pushed down into the ILS where it takes the query; where it refuses, all debtors are read instead.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from decimal import Decimal

from evergreen_groups.errors import ServerError, TimedOutError
from evergreen_groups.gateway import Gateway, Record
from evergreen_groups.group_query import GroupRange, HighFines
from evergreen_groups.models import NOTHING
from evergreen_groups.progress import Progress, silent

logger = logging.getLogger(__name__)

PAGE = 4_000
"""The most members in one answer: about 1.7 MB."""
_WANTED = 2_500
_FIRST_WIDTH = 16_384
_SLOW_SECONDS = 8.0
_BY_GROUP = [{"class": "au", "field": "usrgroup"}, {"class": "au", "field": "id"}]
_FIELDS = (
    "id",
    "usrgroup",
    "home_ou",
    "card",
    "master_account",
    "family_name",
    "first_given_name",
    "second_given_name",
    "suffix",
    "pref_family_name",
    "pref_first_given_name",
    "pref_second_given_name",
    "pref_suffix",
)


@dataclass(frozen=True, slots=True)
class Patron:
    """What the search needs of a patron: ``home_library`` and ``card`` are ids, ``name`` is family name first."""

    id: int
    group: int
    home_library: int
    card: int | None
    group_lead: bool
    name: str

    @classmethod
    def from_record(cls, record: Record) -> Patron:
        """Take over an ``au`` record."""
        return cls(
            record.id, record.usrgroup, record.home_ou, record.card, bool(record.master_account), display_name(record)
        )


def display_name(record: Record) -> str:
    """Write a patron's name, preferred parts before legal ones: ``Family, First Second, Suffix``."""

    def part(field: str) -> str:
        return str(record[f"pref_{field}"] or record[field] or "").strip()

    given = " ".join(filter(None, (part("first_given_name"), part("second_given_name"))))
    return ", ".join(filter(None, (part("family_name"), given, part("suffix"))))


class _Ranges:
    """Cuts all group numbers into ranges as wide as earlier ones showed to be good: about ``_WANTED`` members each."""

    def __init__(self, highest: int) -> None:
        self._highest = highest
        self._width = _FIRST_WIDTH

    def __iter__(self) -> Iterator[GroupRange]:
        low: int | None = None
        while True:
            high = (low or 0) + self._width
            if high >= self._highest:
                # Open at the end: groups made while the report runs belong to it as well.
                yield GroupRange(low, None)
                return
            yield GroupRange(low, high)
            low = high

    def learn(self, within: GroupRange, members: int, seconds: float) -> None:
        """Take in how many members a range had and how long its answer took."""
        if within.high is None:
            return
        width = within.high - (within.low or 0)
        factor = min(4.0, max(0.25, _WANTED / max(members, 1)))
        if seconds > _SLOW_SECONDS:
            factor = min(factor, _SLOW_SECONDS / seconds)
        self._width = max(1, int(width * factor))


class GroupSearch:
    """Reads the members of groups that together owe ``high_fines.min_total`` or more."""

    def __init__(self, gateway: Gateway, high_fines: HighFines, progress: Progress = silent) -> None:
        self._gateway = gateway
        self._high_fines = high_fines
        self._progress = progress
        self._highest = 0

    def highest_group(self) -> int | None:
        """The highest group number of a patron in sight, None when no patron is."""
        where: dict[str, object] = {"deleted": "f", "id": {">": 0}}
        if self._high_fines.viewable_orgs:
            where["home_ou"] = sorted(self._high_fines.viewable_orgs)
        order = [{"class": "au", "field": "usrgroup", "direction": "desc"}]
        found = self._gateway.pcrud.search("au", where, select=("id", "usrgroup"), order_by=order, limit=1)
        return found[0].usrgroup if found else None

    def pushed_down(self) -> list[Patron]:
        """Let the ILS do the sums, range by range, several at a time.

        Raises:
            ServerError: the ILS refuses the query; :meth:`from_all_debtors` gives the same answer.
        """
        self._highest = self.highest_group() or 0
        ranges, found = _Ranges(self._highest), list[Patron]()

        def read(within: GroupRange) -> list[Patron]:
            started = time.monotonic()
            members = self._range(within)
            ranges.learn(within, len(members), time.monotonic() - started)
            return members

        for members in self._gateway.map(read, ranges):
            found.extend(members)
            self._progress("finding groups", len(found))
        return found

    def _range(self, within: GroupRange) -> list[Patron]:
        """All members of one range, in as many pages as it takes, each begun after the last whole group."""
        found: list[Patron] = []
        rest: GroupRange | None = within
        while rest is not None:
            page, rest = self._page(rest)
            found.extend(page)
        return found

    def _page(self, within: GroupRange) -> tuple[list[Patron], GroupRange | None]:
        """The first page of a range and the range that is left, None when nothing is."""
        try:
            page = self._search(self._high_fines.members(within))
        except TimedOutError:
            low, high = within.low or 0, within.high or self._highest
            if high - low < 2:
                raise
            middle = (low + high) // 2
            logger.info("a range of groups took too long; asking for half of it")
            return self._range(GroupRange(within.low, middle)), GroupRange(middle, within.high)
        if len(page) < PAGE:
            return page, None
        last = page[-1].group
        whole = [patron for patron in page if patron.group != last]
        if not whole:
            whole = self._one_group(last)
            return whole, GroupRange(last, within.high)
        return whole, GroupRange(whole[-1].group, within.high)

    def _one_group(self, group: int) -> list[Patron]:
        """All members of a group that is larger than a page, by id."""
        where = self._visible({"usrgroup": group})
        pages = self._gateway.pcrud.pages("au", where, select=_FIELDS, page_size=PAGE, concurrency=1)
        return [Patron.from_record(record) for page in pages for record in page]

    def _search(self, where: dict[str, object]) -> list[Patron]:
        records = self._gateway.pcrud.search("au", where, select=_FIELDS, order_by=_BY_GROUP, limit=PAGE)
        return [Patron.from_record(record) for record in records]

    def _visible(self, where: dict[str, object]) -> dict[str, object]:
        if self._high_fines.viewable_orgs:
            where = {**where, "home_ou": sorted(self._high_fines.viewable_orgs)}
        return {"deleted": "f", **where}

    def from_all_debtors(self) -> list[Patron]:
        """Read all debtors in keyset pages, add up their groups here, then read the members of the high ones.

        An account that can't see every patron can't see every debtor either, so groups whose fines are owed by hidden
        members may be missing from the answer.
        """
        totals = self._totals(self._debtors())
        high = sorted(group for group, total in totals.items() if total >= self._high_fines.min_total)
        found: list[Patron] = []
        batches = self._gateway.pcrud.by_values("au", "usrgroup", high, where=self._visible({}), select=_FIELDS)
        for batch in batches:
            found.extend(Patron.from_record(record) for record in batch)
            self._progress("reading members", len(found))
        return self._at_home(found)

    def _debtors(self) -> dict[int, Decimal]:
        owed: dict[int, Decimal] = {}
        pages = self._gateway.pcrud.pages(
            "mous", {"balance_owed": {"<>": 0}}, key="usr", select=("usr", "balance_owed"), page_size=5_000
        )
        for page in pages:
            owed.update((record.usr, record.balance_owed) for record in page)
            self._progress("reading debtors", len(owed))
        return owed

    def _totals(self, owed: dict[int, Decimal]) -> dict[int, Decimal]:
        totals: dict[int, Decimal] = {}
        batches = self._gateway.pcrud.by_values("au", "id", owed, where={"deleted": "f"}, select=("id", "usrgroup"))
        for batch in batches:
            for record in batch:
                totals[record.usrgroup] = totals.get(record.usrgroup, NOTHING) + owed[record.id]
            self._progress("adding up groups", len(totals))
        return totals

    def _at_home(self, patrons: Collection[Patron]) -> list[Patron]:
        homes = set(self._high_fines.home_orgs)
        groups = {patron.group for patron in patrons if patron.home_library in homes}
        return [patron for patron in patrons if not homes or patron.group in groups]

    def run(self) -> tuple[list[Patron], bool]:
        """Find the members, and say whether the ILS took the query (False: all debtors were read instead)."""
        try:
            return self.pushed_down(), True
        except ServerError as error:
            logger.info("the ILS refused the combined query (status %s); reading all debtors instead", error.status)
            return self.from_all_debtors(), False
