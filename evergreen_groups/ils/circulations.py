"""What patrons have out: counts by the library's rules, and items with title, due date and library."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from evergreen_groups.errors import RequestTooLargeError, unreadable
from evergreen_groups.gateway import TOKEN, Gateway, columns, rows_beyond, unrequested_rows, whole_number
from evergreen_groups.ils.bills import STOPPED
from evergreen_groups.values import Total, plausible

if TYPE_CHECKING:
    from evergreen_groups.ils.org_units import OrgUnits

Query = dict[str, Any]

NOT_CATALOGED = -1
"""The call number id of all uncataloged items, the same in every Evergreen."""

_DAY = 86_400
# For comparisons, PostgreSQL takes a month as 30 days and a day as 24 hours (interval_cmp_value).
_UNITS = (360 * _DAY, 30 * _DAY, _DAY)
_INTERVAL = re.compile(
    r"(?:([+-]?\d{1,9}) years? ?)?(?:([+-]?\d{1,9}) mons? ?)?(?:([+-]?\d{1,9}) days? ?)?"
    r"(?:([+-]?)(\d{1,9}):(\d\d):(\d\d)(?:\.\d+)?)?",
    re.ASCII,
)


class CirculationKind(Enum):
    """The kinds of circulations that the ILS counts separately, under these names."""

    OUT = "out"
    OVERDUE = "overdue"
    LOST = "lost"
    CLAIMS_RETURNED = "claims_returned"
    LONG_OVERDUE = "long_overdue"


_STOPPED = {
    "LOST": CirculationKind.LOST,
    "CLAIMSRETURNED": CirculationKind.CLAIMS_RETURNED,
    "LONGOVERDUE": CirculationKind.LONG_OVERDUE,
}


def kind_of(
    stop_fines: str | None, due_date: datetime | None, fine_interval: str | None, *, finished: bool, now: datetime
) -> CirculationKind | None:
    """Return the kind of a circulation that isn't checked in, or None if the ILS doesn't count it.

    ``finished`` means that the transaction is closed, as when a lost item has been paid. Raises DataError for a fine
    interval that PostgreSQL doesn't write.
    """
    stopped = _STOPPED.get(stop_fines or "")
    if stopped is not None:
        # Lost items stop counting once they are paid; items claimed returned count either way.
        return None if finished and stopped is not CirculationKind.CLAIMS_RETURNED else stopped
    if due_date is None or fine_interval is None:
        return None  # in SQL, a comparison with null is neither true nor false
    if plausible(due_date) is None:
        return CirculationKind.OUT  # due at infinity
    if seconds_of(fine_interval) >= _DAY:
        # Items with daily fines are overdue from the next day. 'Today' is by the server's time zone, which is also the
        # time zone of the timestamps it sends.
        late = due_date.date() < now.astimezone(due_date.tzinfo).date()
    else:
        late = due_date < now
    return CirculationKind.OVERDUE if late else CirculationKind.OUT


@lru_cache(maxsize=100)
def seconds_of(interval: str) -> int:
    """Return the length of a PostgreSQL interval in seconds, as PostgreSQL compares intervals. Raises DataError."""
    found = _INTERVAL.fullmatch(interval)
    if found is None or not interval:
        raise unreadable("interval-broken", "a bad fine interval")
    *dates, sign, hours, minutes, seconds = found.groups(default="0")
    time = int(hours) * 3600 + int(minutes) * 60 + int(seconds)
    return sum(int(part) * unit for part, unit in zip(dates, _UNITS, strict=True)) + (-time if sign == "-" else time)


# A circulation's fields for kind_of, after its patron.
_COUNTED_FIELDS = ("usr", "stop_fines", "due_date", "fine_interval", "xact_finish")
_UNRETURNED_FIELDS = ("id", "usr", "circ_lib", "due_date", "fine_interval", "stop_fines", "checkin_time", "xact_finish")
_OVERDUE = (CirculationKind.OVERDUE, CirculationKind.LONG_OVERDUE)
_LATE = (*_OVERDUE, CirculationKind.LOST)


@dataclass(frozen=True, slots=True)
class ItemOut:
    """An item that a patron has out, or has returned but still owes something for.

    ``id`` is that of the circulation and its bill, ``copy`` the item's (``acp``; 0 if it wasn't asked for), ``library``
    the lending org unit's. ``due`` is in the ILS's time zone. ``kind`` is None for items that the ILS doesn't count,
    such as returned ones, and ``stop_fines`` is None while fines accrue. ``renewals`` is how often the patron may still
    renew it (None if it wasn't asked for).
    """

    id: int
    patron: int
    copy: int
    library: int
    due: datetime | None
    kind: CirculationKind | None
    stop_fines: str | None = None
    renewals: int | None = None

    def days_overdue(self, now: datetime) -> int:
        """Return how many days ago the item was due, in the ILS's time zone. 0 unless it is overdue or lost."""
        if self.due is None or self.kind not in _LATE:
            return 0
        return max((now.astimezone(self.due.tzinfo).date() - self.due.date()).days, 0)

    @staticmethod
    def read_titles(gateway: Gateway, copies: Collection[int]) -> dict[int, str]:
        """Return titles by item id (``acp.id``). Items without a title are left out.

        Takes three calls per 3,000 items (``items-007`` to ``items-009``): fleshing would make the ILS run three
        queries per item. All three tables are public.
        """
        if not copies:
            return {}
        read = gateway.pcrud.columns_by_values
        items = {id: rest for id, *rest in read("acp", ("id", "call_number", "dummy_title"), "id", sorted(copies))}
        volumes = {volume for volume, _dummy in items.values()} - {NOT_CATALOGED}
        records = dict(read("acn", ("id", "record"), "id", sorted(volumes))) if volumes else {}
        titles = dict(read("rmsr", ("id", "title"), "id", sorted({*records.values()}))) if records else {}
        # Like the staff client (circ.service.ts), use dummy_title only for uncataloged items: it stays set after
        # cataloging.
        found = {
            id: dummy if volume == NOT_CATALOGED else titles.get(records.get(volume))
            for id, (volume, dummy) in items.items()
        }
        # ISBD puts punctuation after titles that other data follow on a catalog card.
        return {id: title.rstrip(" /:;,=") for id, title in found.items() if title}


@dataclass(frozen=True, slots=True)
class UnreturnedItems:
    """How many of a patron's items are ``overdue`` (including long overdue) and ``lost``."""

    overdue: int = 0
    lost: int = 0

    def __add__(self, other: UnreturnedItems) -> UnreturnedItems:
        return UnreturnedItems(self.overdue + other.overdue, self.lost + other.lost)


_OUT: Query = {"checkin_time": None}


def late_circulations(now: datetime) -> Query:
    """Return the condition on circulations (``circ``) of items that may be overdue or lost."""
    # Lost items are read whatever their due date (items-002, items-003).
    due = {"<": now.isoformat(timespec="seconds")}
    return {**_OUT, "-or": [{"due_date": due}, {"stop_fines": ["LOST", "LONGOVERDUE"]}]}


@dataclass(frozen=True, slots=True)
class PatronItems:
    """The visible circulations of a patron. ``complete`` says that no item still out is hidden."""

    items: tuple[ItemOut, ...]
    complete: bool

    @property
    def out(self) -> tuple[ItemOut, ...]:
        """The items still out, lost and claimed ones included, by due date."""
        return tuple(item for item in self.items if item.kind is not None)

    @property
    def stop_fines(self) -> dict[int, str | None]:
        """Why fines stopped, by circulation id."""
        return {item.id: item.stop_fines for item in self.items}

    @property
    def unreturned(self) -> UnreturnedItems | None:
        """The numbers of overdue and lost items, None if some may be hidden."""
        return self.visible_unreturned if self.complete else None

    @property
    def visible_unreturned(self) -> UnreturnedItems:
        """The numbers of visible overdue and lost items."""
        numbers = Counter(item.kind for item in self.items)
        overdue = numbers[CirculationKind.OVERDUE] + numbers[CirculationKind.LONG_OVERDUE]
        return UnreturnedItems(overdue, numbers[CirculationKind.LOST])

    @property
    def copies(self) -> list[int]:
        """The ids (``acp``) of the overdue and lost items that are visible."""
        return [item.copy for item in self.items if item.kind in _LATE]

    @property
    def overdue_since(self) -> tuple[datetime | None, ...]:
        """The due dates of the overdue items that are visible, the oldest first. None: the date isn't usable."""
        return tuple(item.due for item in self.items if item.kind in _OVERDUE)

    @staticmethod
    def read(
        gateway: Gateway,
        org_units: OrgUnits,
        visible_at: Collection[int],
        patrons: Collection[int],
        *,
        late_only: bool = False,
        copies: bool = False,
        renewals: bool = False,
    ) -> dict[int, PatronItems]:
        """Return the items of each patron, by patron id, including returned ones for which something is still owed.

        ``late_only`` leaves out items that aren't due yet, the majority (``items-001``), and returned ones that aren't
        lost or claimed. It asks which items these are only for ``copies``, because that is what someone reads.
        ``renewals`` asks how often each may still be renewed.

        Takes a call per 3,000 patrons. ``visible_at`` are the ids of the libraries where the account has
        VIEW_CIRCULATIONS. If there are others, whose circulations pcrud silently omits, one more call finds the patrons
        who have items of those libraries (``items-005``, ``items-006``).
        """
        if not patrons or not visible_at:
            return dict.fromkeys(patrons, PatronItems((), complete=False))
        # The transaction of a returned item stays open until everything is paid (items-004).
        out, owed, now = _OUT, Query(xact_finish=None), datetime.now(UTC)
        more = (
            *(("target_copy",) if copies or not late_only else ()),
            *(("renewal_remaining",) if renewals else ()),
        )
        fields = (*_UNRETURNED_FIELDS, *more)
        if late_only:
            out, owed["stop_fines"] = late_circulations(now), list(STOPPED)
        # Hashes in a list after -or are joined with OR as well, which would find all past circulations.
        where = {"-or": [{"-and": out}, {"-and": owed}] if late_only else [out, owed]}
        hidden_at = sorted(org_units.ids.difference(visible_at))
        read = gateway.pcrud.columns_by_values
        rows, hidden = gateway.in_parallel(
            lambda: list(read("circ", fields, "usr", sorted(patrons), where=where, all_visible=not hidden_at)),
            lambda: _patrons_with_items_of(gateway, patrons, hidden_at, out),
        )
        found: dict[int, list[ItemOut]] = {id: [] for id in patrons}
        for id, usr, library, due_date, interval, stopped, returned, finish, *rest in rows:
            kind = None if returned else kind_of(stopped, due_date, interval, finished=finish is not None, now=now)
            asked = dict(zip(more, rest, strict=True))
            copy, remaining = asked.get("target_copy", 0), asked.get("renewal_remaining")
            found[usr].append(ItemOut(id, usr, copy, library, plausible(due_date), kind, stopped, remaining))
        for theirs in found.values():
            theirs.sort(key=lambda item: (item.due is None, item.due or now, item.id))
        return {id: PatronItems(tuple(theirs), complete=id not in hidden) for id, theirs in found.items()}


def _patrons_with_items_of(
    gateway: Gateway, patrons: Collection[int], libraries: Collection[int], out: Query = _OUT
) -> set[int]:
    """Return the patrons with items of these libraries that meet the condition ``out``. One call."""
    return patrons_with(gateway, "circ", patrons, {"circ_lib": sorted(libraries), **out}) if libraries else set()


def patrons_with(gateway: Gateway, class_id: str, patrons: Collection[int], where: Query) -> set[int]:
    """Return the patrons with a row of a class that meets a condition, even if the row is hidden. One call."""
    # pcrud doesn't check permissions inside subqueries (items-003, items-006).
    exists = {"-exists": _ids({"usr": {"=": {"+au": "id"}}, **where}, class_id)}
    return {id for (id,) in gateway.pcrud.columns_by_values("au", ("id",), "id", sorted(patrons), where=exists)}


# Exact counts take a call for each patron with hidden circulations. With hundreds of calls the program would take too
# long, and the ILS would run out of children for others.
_MOST_ONE_BY_ONE = 6
_MOST_ROWS_UNDER_CONDITION = 2_000  # about 500 kB with these fields


@dataclass(frozen=True, slots=True)
class CirculationCounts:
    """How many items a patron has ``out`` by the library's rules, and how many are ``overdue`` and ``lost``.

    If ``complete`` is false, the counts are lower bounds: the account can't see all circulations.
    """

    out: int = 0
    overdue: int = 0
    lost: int = 0
    complete: bool = True

    @property
    def totals(self) -> tuple[Total[int], Total[int], Total[int]]:
        """``out``, ``overdue`` and ``lost`` as totals."""
        return Total(self.out, self.complete), Total(self.overdue, self.complete), Total(self.lost, self.complete)

    def __add__(self, other: CirculationCounts) -> CirculationCounts:
        """Add up counts. The sum is complete only if both are."""
        complete = self.complete and other.complete
        return CirculationCounts(self.out + other.out, self.overdue + other.overdue, self.lost + other.lost, complete)


@dataclass(frozen=True, slots=True)
class CirculationTally:
    """The library's rules: whether items claimed returned and lost items count as out."""

    claims_returned: bool = True
    lost: bool = False

    @classmethod
    def read(cls, gateway: Gateway, library: int) -> CirculationTally:
        """Read the settings of a library (its id), which must be where the account works. One call."""
        names = ["circ.do_not_tally_claims_returned", "circ.tally_lost"]
        method = "open-ils.actor.ou_setting.ancestor_default.batch"
        result = gateway.call("open-ils.actor", method, library, names, TOKEN)
        settings = result.mapping()
        with result.understood("the values of settings"):
            # Null if the setting has no value at the library or above (settings-015).
            no_claims, lost = (bool(settings[name] and settings[name]["value"]) for name in names)
        return cls(claims_returned=not no_claims, lost=lost)

    def counts(self, numbers: Mapping[CirculationKind, int], *, complete: bool = True) -> CirculationCounts:
        """Combine the numbers by kind in the same way as the staff client (``patron.service.ts``)."""
        kind = CirculationKind
        overdue, lost = numbers[kind.OVERDUE] + numbers[kind.LONG_OVERDUE], numbers[kind.LOST]
        out = numbers[kind.OUT] + overdue
        out += numbers[kind.CLAIMS_RETURNED] if self.claims_returned else 0
        out += lost if self.lost else 0
        return CirculationCounts(out, overdue, lost, complete)


Patrons = Mapping[int, int]  # the ids of home libraries by patron id
Counted = dict[int, CirculationCounts | None]  # by patron id; None: the account may not ask for this patron's counts


class CirculationReader:
    """Counts the circulations of patrons.

    pcrud returns rows for many patrons at once, but silently omits circulations at libraries where the account lacks
    VIEW_CIRCULATIONS. ``checked_out.count`` counts all circulations of one patron, if the account has it at the
    patron's home library. So exact counts are requested only for patrons with hidden circulations.
    """

    def __init__(
        self, gateway: Gateway, org_units: OrgUnits, tally: CirculationTally, visible_at: Collection[int], user: int
    ) -> None:
        """``visible_at`` are the ids of the org units with VIEW_CIRCULATIONS, ``user`` is the session's user id."""
        self._gateway = gateway
        self._tally = tally
        self._visible_at = visible_at
        self._hidden_at = sorted(org_units.ids.difference(visible_at))
        self._user = user

    def count(self, patrons: Patrons, *, none_hidden: bool = False, find_hidden: bool = True) -> Counted:
        """Count each patron's circulations. Patrons with hidden ones get lower bounds. Two parallel calls at most.

        ``none_hidden`` says that pcrud hides none of these patrons' circulations. Without ``find_hidden``, all counts
        are lower bounds where it may hide any.
        """
        asked = self._countable(patrons)
        if not asked:
            return dict.fromkeys(patrons)
        # Without VIEW_CIRCULATIONS anywhere, pcrud shows no circulations, not even the user's own.
        ids, read = asked if self._visible_at else [], self._gateway.pcrud.columns_by_values

        def incomplete() -> Collection[int]:
            if none_hidden or not self._hidden_at:
                return ()
            return _patrons_with_items_of(self._gateway, asked, self._hidden_at) if find_hidden else asked

        rows, hidden = self._gateway.in_parallel(
            lambda: list(read("circ", _COUNTED_FIELDS, "usr", ids, where=_OUT)), incomplete
        )
        return self._counted(patrons, rows, hidden)

    def count_if(self, condition: Query, patrons: Patrons, *, none_hidden: bool = False) -> Counted | None:
        """Check a condition made of subqueries and count as without ``find_hidden``. One call. None unless it holds.

        The query also selects one visible circulation of another patron if the condition holds, as a signal
        (``desk-004``; without the row the condition is false, ``desk-005``). So the result is also None if there is no
        other circulation that could be the signal, or if the query would be too large.
        """
        asked = self._countable(patrons)
        if not asked or not self._visible_at:
            return None
        query = self._conditional_query(condition, asked)
        try:
            found = self._gateway.pcrud.search("circ", query, select=_COUNTED_FIELDS, limit=_MOST_ROWS_UNDER_CONDITION)
        except RequestTooLargeError:
            return None
        rows = list(columns(found, *_COUNTED_FIELDS))
        theirs = [row for row in rows if row[0] in asked]
        if len(rows) > len(theirs) + 1:
            raise unrequested_rows()
        if len(rows) == len(theirs):
            # The condition doesn't hold, or the signal's row came with a wrong id: don't trust the other rows either.
            return None
        return self._counted(patrons, theirs, asked if self._hidden_at and not none_hidden else ())

    def with_exact_counts(self, counted: Counted) -> Counted:
        """Replace lower bounds by exact counts, in one call and one for each of six patrons, or by None after these."""
        unsure = {id: counts for id, counts in counted.items() if counts is not None and not counts.complete}
        hidden = sorted(_patrons_with_items_of(self._gateway, unsure, self._hidden_at)) if unsure else []
        requested = hidden[:_MOST_ONE_BY_ONE]
        exact = dict(zip(requested, self._gateway.map(self._count_exactly, requested), strict=True))
        sure = {id: replace(counts, complete=True) for id, counts in unsure.items()}
        return {**counted, **sure, **dict.fromkeys(hidden), **exact}

    def count_one(self, patron: int, home: int) -> CirculationCounts | None:
        """Count all circulations of one patron, hidden ones included. ``home`` is the home library's id. One call."""
        return self._count_exactly(patron) if self._countable({patron: home}) else None

    def _countable(self, patrons: Patrons) -> list[int]:
        # The ILS always lets users see their own counts (Actor.pm, checked_out).
        return sorted(id for id, home in patrons.items() if home in self._visible_at or id == self._user)

    def _conditional_query(self, condition: Query, patrons: Sequence[int]) -> Query:
        """Build the query for the patrons' circulations and, if the condition holds, one row of another patron."""
        theirs = {"usr": list(patrons), **_OUT}
        others: Query = {"usr": {"not in": list(patrons)}}
        if self._hidden_at:
            others["circ_lib"] = sorted(self._visible_at)
        signal: Query = {
            "id": {"in": {**_ids(others), "limit": 1}},
            # Before 3.14, hidden rows count toward the limit, so an answer below the limit may still be cut off
            # (3.12/releases-044). Send no signal then.
            "-and": [{"-not-exists": rows_beyond(_MOST_ROWS_UNDER_CONDITION - 2, "circ", theirs, "id")}, condition],
        }
        # A union lets the database use an index for each part. With "or" it would scan all circulations.
        return {"id": {"in": {"union": [_ids(theirs), _ids(signal)]}}}

    def _counted(self, patrons: Patrons, rows: Iterable[tuple[Any, ...]], incomplete: Collection[int]) -> Counted:
        now = datetime.now(UTC)
        numbers: dict[int, Counter[CirculationKind]] = {id: Counter() for id in self._countable(patrons)}
        for usr, stop_fines, due_date, fine_interval, xact_finish in rows:
            kind = kind_of(stop_fines, due_date, fine_interval, finished=xact_finish is not None, now=now)
            if kind is not None:
                numbers[usr][kind] += 1
        counts = {id: self._tally.counts(theirs, complete=id not in incomplete) for id, theirs in numbers.items()}
        return {id: counts.get(id) for id in patrons}

    def _count_exactly(self, patron: int) -> CirculationCounts | None:
        # Without VIEW_CIRCULATIONS the answer is empty (patrons-083). The answer doesn't name the patron, so a mixed-up
        # answer would go unnoticed on a shared connection.
        method = "open-ils.actor.user.checked_out.count"
        result = self._gateway.call("open-ils.actor", method, TOKEN, patron, expect="optional", own_connection=True)
        if result.value is None:
            return None
        answer = result.mapping()
        with result.understood("counts of circulations"):
            return self._tally.counts({kind: _count(answer[kind.value]) for kind in CirculationKind})


def _ids(where: Query, class_id: str = "circ") -> Query:
    return {"select": {class_id: ["id"]}, "from": class_id, "where": where}


def _count(value: object) -> int:
    """Return a count, or raise ValueError, also for null, which doesn't mean 0."""
    number = whole_number(value)
    if number is None or number < 0:
        raise ValueError("not a count")
    return number
