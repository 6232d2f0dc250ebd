"""Finding the members of groups about which the ILS's database can be asked: it does the sums, range by range."""

from __future__ import annotations

import gc
import logging
import time
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain, pairwise
from typing import Any, Protocol, TypeVar

from evergreen_groups.errors import DataError, TimedOutError, UnexpectedAnswerError
from evergreen_groups.gateway import Gateway, columns
from evergreen_groups.groups.models import PATRON_FIELDS, STATE_FIELDS, PatronRow, PatronState
from evergreen_groups.groups.queries import TARGET_MEMBERS, GroupList, GroupRange, GroupRanges, Groups, Query
from evergreen_groups.message import Message
from evergreen_groups.progress import Progress, silent

MAX_BATCH = 3_000
"""Members about whom is asked in one list; their ids and a question fit into a request."""


class MemberBatch:
    """Who was read together: patrons' ids and their groups' numbers, side by side, as they are looked at once more."""

    def __init__(self, members: Iterable[tuple[int, int]]) -> None:
        self.ids, self.groups = array("q"), array("q")
        for id, group in members:
            self.ids.append(id)
            self.groups.append(group)

    @classmethod
    def of(cls, rows: Iterable[PatronRow]) -> MemberBatch:
        """That of these rows."""
        return cls((row.id, row.group) for row in rows)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self.ids, self.groups, strict=True)

    def __len__(self) -> int:
        return len(self.ids)

    def without(self, groups: Collection[int]) -> MemberBatch:
        """The same without the members of some groups."""
        return MemberBatch((id, group) for id, group in self if group not in groups)


def groups_of_moved(batches: Iterable[MemberBatch], changed: Mapping[int, int]) -> set[int]:
    """The groups that patrons were found in and have left, or are in and weren't found in.

    Somebody who was moved from a range not yet read into one already read is found in neither.
    """
    if not changed:
        return set()
    left = {group for batch in batches for id, group in batch if changed.get(id, group) != group}
    found = {id for batch in batches for id, group in batch if changed.get(id) == group}
    return left | {group for id, group in changed.items() if id not in found}


def groups_of_duplicates(batches: Iterable[MemberBatch]) -> set[int]:
    """The groups of patrons who were found in several, having been moved while those were read."""
    ids = sorted(chain.from_iterable(batch.ids for batch in batches))
    several = {id for id, following in pairwise(ids) if id == following}  # nearly always nobody
    return {group for batch in batches for id, group in batch if id in several} if several else set()


def batch_by_group(batches: Iterable[list[PatronRow]]) -> Iterator[list[PatronRow]]:
    """Cut members, which come a group after the other, into lists of ``MAX_BATCH`` or less, groups whole.

    A larger group is a list of its own.
    """
    waiting: list[PatronRow] = []
    for batch in batches:
        waiting += batch
        while len(waiting) > MAX_BATCH:
            end = MAX_BATCH
            while end and waiting[end].group == waiting[end - 1].group:
                end -= 1
            if not end:
                first = waiting[0].group
                end = next((at for at, patron in enumerate(waiting) if patron.group != first), len(waiting))
            yield waiting[:end]
            waiting = waiting[end:]
    if waiting:
        yield waiting


# Our clock and the database's may differ. A patron too many costs a row, one too few would be counted nowhere.
_CLOCKS_DIFFER = timedelta(minutes=30)
_FIELDS = ("id", "usrgroup")


class ChangedPatrons:
    """Looks up whose records were changed since a moment, this one, and in which groups they are.

    The database itself writes ``last_update_time`` with every change of a patron, a move among them (the trigger
    ``au_update_trig`` in ``Open-ILS/src/sql/Pg/005.schema.actors.sql``).
    """

    def __init__(self, gateway: Gateway, visible: Query) -> None:
        """``visible`` is a condition on patrons (``au``) that names the home libraries the account sees."""
        self._gateway = gateway
        self._visible = visible
        self._since = datetime.now(UTC) - _CLOCKS_DIFFER
        self._known: dict[int, int] = {}

    def groups(self) -> dict[int, int]:
        """The group of each patron who was changed, by id; without those who were told earlier, in the same group."""
        since = self._since.strftime("%Y-%m-%dT%H:%M:%S+0000")
        where = {**self._visible, "last_update_time": {">=": since}}
        pages = self._gateway.pcrud.pages("au", where, select=_FIELDS, concurrency=1, all_visible=True)
        changed = dict(chain.from_iterable(columns(page, *_FIELDS) for page in pages))
        new = {id: group for id, group in changed.items() if self._known.get(id) != group}
        self._known = changed
        return new


class ExtraFields(Protocol):
    """Takes it, patron by patron."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of an ``au`` to read."""

    def take(self, patron: int, values: Sequence[Any]) -> None:
        """Take what they hold of a patron (id), decoded, in their order; called from several threads."""


class StateCollector:
    """Takes the state of each patron's account."""

    fields = STATE_FIELDS

    def __init__(self, states: dict[int, PatronState]) -> None:
        self._states = states
        self._now = datetime.now(UTC)

    def take(self, patron: int, values: Sequence[Any]) -> None:
        """Keep a patron's state, by id."""
        self._states[patron] = PatronState.of(values, self._now)


logger = logging.getLogger(__name__)

Result = TypeVar("Result")
BuildResults = Callable[[Sequence[PatronRow]], list[Result]]
"""Makes something of all members of some groups, such as the groups with their fines."""
DropGroups = Callable[[list[Result], Collection[int]], list[Result]]
"""Takes out of what was made of some groups what is about those with these numbers."""

PAGE = 4_000
"""The most members in one answer: about 1.7 MB."""
# Group numbers that are read again in one call: they stand in the query up to four times, in some 20 kB.
_LIST = 500
# Sums over one giant group, a school's or an institution's, grow with the square of its debtors: 2,000 of them 13.7 s,
# 8,000 of them 157 s. So a range has less than the gateway's 60 s, and its parts half of that, until the group stands
# alone and is read without sums. In eighths that takes a handful of time-outs, in halves it would be a dozen.
_RANGE_SECONDS = 30.0
_PART_SECONDS = 15.0
# More than a consortium has of them. Where so many single groups take too long, it is the ILS that is too slow.
_MAX_GIANTS = 40
_MAX_REREADS = 3
_BY_GROUP = [{"class": "au", "field": "usrgroup"}, {"class": "au", "field": "id"}]


class GroupQuery(Protocol):
    """A question about groups that the ILS can answer for a range of group numbers."""

    @property
    def visible_orgs(self) -> Collection[int]:
        """The ids of the home libraries whose patrons the account sees; none: all of them."""

    def members(self, within: Groups) -> Query:
        """The condition on patrons (``au``): all visible members of such groups in a range."""

    def candidates(self, within: Groups) -> Query:
        """The same without sums: it holds for those, and for members of other groups in the range."""


class GroupSearch:
    """Reads the members of the groups that ``query`` is about.

    ``page`` is the greatest number of members in one answer. ``states`` is filled with the state of each member's
    account, by patron's id; ``beside`` takes other fields of each, in place of it. Without either, none is read.
    """

    def __init__(
        self,
        gateway: Gateway,
        query: GroupQuery,
        progress: Progress = silent,
        *,
        page: int = PAGE,
        states: dict[int, PatronState] | None = None,
        extra_fields: ExtraFields | None = None,
    ) -> None:
        self._page = page
        self._extra_fields = extra_fields if states is None else StateCollector(states)
        self._fields = PATRON_FIELDS if self._extra_fields is None else (*PATRON_FIELDS, *self._extra_fields.fields)
        self._gateway = gateway
        self._query = query
        self._progress = progress
        self._giants = 0

    def run(self, complete: BuildResults[Result], without: DropGroups[Result] | None = None) -> list[Result]:
        """Let the ILS do the sums, range by range; what a range needs is read while the next ones are under way.

        ``complete`` gets whole groups. Where some have to be read again, ``without`` takes them out of what it made
        (None: by their ``group``, a number or something with one). A group so large that its sums take too long is
        given to it whatever it owes.

        Raises:
            TimedOutError: the ILS is too slow, whatever is asked.
            DataError: patrons were moved from group to group all the while.
        """
        # Less than a page, so that a range that turns out denser than those before still comes in one answer.
        ranges = GroupRanges(self.highest_group(), min(TARGET_MEMBERS, self._page * 3 // 4))
        batches: list[MemberBatch] = []
        changed = ChangedPatrons(self._gateway, self._visible({}))
        changes: list[dict[int, int]] = []

        def jobs() -> Iterator[Callable[[], list[Result]]]:
            for batch in batch_by_group(self._batches(ranges)):
                batches.append(MemberBatch.of(batch))
                yield partial(complete, batch)
            # When all ranges have been read, and while the last batches are still being made something of.
            yield look

        def look() -> list[Result]:
            changes.append(changed.groups())
            return []

        found = list(self._gateway.map(lambda job: job(), jobs()))
        found.pop()  # what looking gave
        for _ in range(_MAX_REREADS):
            moved = groups_of_duplicates(batches) | groups_of_moved(batches, changes.pop())
            if not moved:
                return list(chain.from_iterable(found))
            logger.info("patrons were changed while groups were read; reading %d groups again", len(moved))
            self._drop_groups(moved, batches, found, without or _of_other_groups)
            self._read_again(moved, ranges, batches, found, complete)
            changes.append(changed.groups())
        if not groups_of_duplicates(batches):
            # Records are changed all the time on a busy day. Those of the last moment count as they were just before.
            return list(chain.from_iterable(found))
        raise DataError(
            "patrons were moved from group to group all the while that groups were read",
            advice="try again later",
            code="groups-unsteady",
        )

    def _drop_groups(
        self,
        groups: Collection[int],
        batches: list[MemberBatch],
        found: list[list[Result]],
        without: DropGroups[Result],
    ) -> None:
        """Take some groups out of what was found."""
        for place, batch in enumerate(batches):
            rest = batch.without(groups)
            if len(rest) < len(batch):
                batches[place], found[place] = rest, without(found[place], groups)

    def _read_again(
        self,
        groups: Collection[int],
        ranges: GroupRanges,
        batches: list[MemberBatch],
        found: list[list[Result]],
        complete: BuildResults[Result],
    ) -> None:
        """Put in what some groups are now."""
        numbers = sorted(groups)
        lists = [GroupList(tuple(numbers[at : at + _LIST])) for at in range(0, len(numbers), _LIST)]
        for rows in batch_by_group(self._gateway.map(lambda within: self._range(within, ranges), lists)):
            batches.append(MemberBatch.of(rows))
            found.append(complete(rows))

    def _batches(self, ranges: GroupRanges) -> Iterator[list[PatronRow]]:
        """The members found in one range after the other, the next ones being under way."""

        def read(within: GroupRange) -> list[PatronRow]:
            started = time.monotonic()
            rest: list[GroupRange] = []
            members = self._range(within, ranges, rest)
            ranges.learn(within, len(members), time.monotonic() - started, rest)
            self._progress(Message("looking through group numbers"), ranges.searched, ranges.highest)
            return members

        yield from self._gateway.map(read, ranges.first())
        while ranges.left:
            yield from self._gateway.map(read, ranges.others())

    def highest_group(self) -> int:
        """The highest group number of a visible patron, 0 when no patron is."""
        order = [{"class": "au", "field": "usrgroup", "direction": "desc"}]
        # Naming the libraries leaves no row that is hidden: one that were the highest would come back as none at all
        # before 3.14 (3.12/releases-050).
        where = self._visible({"id": {">": 0}})
        found = self._gateway.pcrud.search("au", where, select=("id", "usrgroup"), order_by=order, limit=1)
        return found[0].usrgroup if found else 0

    def _range(self, within: Groups, ranges: GroupRanges, not_read: list[GroupRange] | None = None) -> list[PatronRow]:
        """All members of one range, in as many pages as it takes, each begun after the last whole group.

        Where ``not_read`` is given, what comes behind a full page is put there instead: a range may be far denser than
        those before, and several of such would be in memory at once.
        """
        found: list[PatronRow] = []
        rest: list[tuple[Groups, float]] = [(within, _RANGE_SECONDS)]
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
                    if self._giants > _MAX_GIANTS:
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
            behind = part.after(whole[-1].group if whole else last)
            if not_read is not None and isinstance(behind, GroupRange):
                not_read.append(behind)
            else:
                rest.append((behind, seconds))
        return found

    def _giant(self, within: Groups) -> list[PatronRow]:
        """The members of a group for which the ILS can't do the sums in time, whatever they owe."""
        rows = self._read_by_id(self._query.candidates(within))
        return sorted(rows, key=lambda patron: (patron.group, patron.id))

    def _read_by_id(self, where: Query) -> list[PatronRow]:
        """The patrons for whom a condition holds that names the libraries the account sees."""
        pages = self._gateway.pcrud.pages(
            "au", where, select=self._fields, page_size=self._page, concurrency=1, all_visible=True
        )
        return self._rows(row for page in pages for row in columns(page, *self._fields))

    def _search(self, within: Groups, seconds: float) -> list[PatronRow]:
        pcrud = self._gateway.within(seconds).pcrud
        where = self._query.members(within)
        return self._rows(pcrud.search_columns("au", self._fields, where, order_by=_BY_GROUP, limit=self._page))

    def _rows(self, rows: Iterable[tuple[Any, ...]]) -> list[PatronRow]:
        """Make rows of patrons, and hand on what is read beside them."""
        if self._extra_fields is None:
            return list(map(PatronRow._make, rows))
        found, width = [], len(PATRON_FIELDS)
        for row in rows:
            found.append(PatronRow._make(row[:width]))
            self._extra_fields.take(row[0], row[width:])
        return found

    def _visible(self, where: Query) -> Query:
        if self._query.visible_orgs:
            where = {**where, "home_ou": sorted(self._query.visible_orgs)}
        return {"deleted": "f", **where}


def _of_other_groups(found: list[Any], groups: Collection[int]) -> list[Any]:
    return [whole for whole in found if getattr(whole.group, "number", whole.group) not in groups]


@contextmanager
def gc_paused() -> Iterator[None]:
    """Keep Python from looking for garbage in cycles: reading makes records by the ten thousand, and no cycles."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
