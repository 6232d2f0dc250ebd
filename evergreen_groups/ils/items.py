"""The items that patrons have out: title, due date, library, and whether they are overdue or lost."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from itertools import chain
from typing import TYPE_CHECKING, Any

from evergreen_groups.errors import DataError
from evergreen_groups.ils.bills import STOPPED
from evergreen_groups.odd_dates import plausible

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.ils.org_units import OrgUnits

_NOT_CATALOGED = -1
"""The call number id of all uncataloged items, the same in every Evergreen."""
_ISBD = " /:;,="
"""ISBD punctuation at the end of titles that is followed by other data on a catalog card."""


def read_titles(gateway: Gateway, copies: Collection[int]) -> dict[int, str]:
    """Return titles by item id (``acp.id``). Items without a title are left out.

    Takes three calls per 3,000 items, one for each table (``items-007``, ``items-008``, ``items-009``). Fleshing would
    make the ILS run three queries per item.

    All three tables are public in Evergreen (``permacrud`` of ``acp``, ``acn`` and ``rmsr`` in ``fm_IDL.xml``).
    Permissions to know what a patron has out are checked when circulations are read.
    """
    if not copies:
        return {}
    fields = ("id", "call_number", "dummy_title")
    items = {id: rest for id, *rest in _rows(gateway, "acp", fields, copies)}
    volumes = {volume for volume, _dummy in items.values()} - {_NOT_CATALOGED}
    records = dict(_rows(gateway, "acn", ("id", "record"), volumes)) if volumes else {}
    titles = dict(_rows(gateway, "rmsr", ("id", "title"), {*records.values()})) if records else {}
    # Like the staff client (circ.service.ts), use dummy_title only for uncataloged items: it stays set after
    # cataloging.
    found = {
        id: dummy if volume == _NOT_CATALOGED else titles.get(records.get(volume))
        for id, (volume, dummy) in items.items()
    }
    return {id: title.rstrip(_ISBD) for id, title in found.items() if title}


def _rows(gateway: Gateway, class_id: str, fields: tuple[str, ...], ids: Collection[int]) -> chain[tuple[Any, ...]]:
    return chain.from_iterable(gateway.pcrud.columns_by_values(class_id, fields, "id", sorted(ids)))


_DAY = 86_400
# For comparisons, PostgreSQL takes a month as 30 days and a day as 24 hours (interval_cmp_value).
_SECONDS = {"year": 360 * _DAY, "mon": 30 * _DAY, "day": _DAY}
_PARTS = re.compile(r"(?P<number>[+-]?\d{1,9}) (?P<unit>year|mon|day)s?", re.ASCII)
_TIME = re.compile(r"(?P<sign>[+-]?)(?P<hours>\d{1,9}):(?P<minutes>\d\d):(?P<seconds>\d\d)(?:\.\d+)?", re.ASCII)


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
    stop_fines: str | None,
    due_date: datetime | None,
    fine_interval: str | None,
    *,
    finished: bool,
    now: datetime,
) -> CirculationKind | None:
    """Return the kind of a circulation that isn't checked in, or None if the ILS doesn't count it.

    ``finished`` says whether the transaction is closed, as when a lost item has been paid. ``now`` is aware.

    >>> from datetime import UTC
    >>> noon, midnight = datetime(2026, 11, 2, 12, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC)
    >>> kind_of(None, midnight, "1 day", finished=False, now=noon)
    <CirculationKind.OUT: 'out'>
    >>> kind_of(None, midnight, "01:00:00", finished=False, now=noon)
    <CirculationKind.OVERDUE: 'overdue'>

    Raises:
        DataError: the fine interval isn't one that PostgreSQL writes.
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


def seconds_of(interval: str) -> int:
    """Return the length of a PostgreSQL interval in whole seconds, as PostgreSQL compares intervals.

    >>> seconds_of("1 day"), seconds_of("23:59:59"), seconds_of("1 mon -1 days +00:00:01")
    (86400, 86399, 2505601)

    Raises:
        DataError: the text isn't an interval.
    """
    total, rest = 0, interval.strip()
    for part in _PARTS.finditer(interval):
        total += int(part["number"]) * _SECONDS[part["unit"]]
        rest = rest.replace(part.group(), "", 1).strip()
    time = _TIME.fullmatch(rest)
    if time is not None:
        seconds = int(time["hours"]) * 3600 + int(time["minutes"]) * 60 + int(time["seconds"])
        total += -seconds if time["sign"] == "-" else seconds
    elif rest or not interval.strip():
        raise DataError("the ILS gave a fine interval that isn't a length of time", code="interval-broken")
    return total


_FIELDS = (
    "id",
    "usr",
    "circ_lib",
    "due_date",
    "fine_interval",
    "stop_fines",
    "checkin_time",
    "xact_finish",
    "target_copy",
)
_LATE = (CirculationKind.OVERDUE, CirculationKind.LONG_OVERDUE, CirculationKind.LOST)


@dataclass(frozen=True, slots=True)
class ItemOut:
    """An item that a patron has out, or has returned but still owes something for."""

    id: int
    """The id of the circulation, and of its bill if there is one."""
    patron: int
    """The patron's id."""
    copy: int
    """The item's id (``acp.id``)."""
    library: int
    """The id of the org unit that lent it."""
    due: datetime | None
    """The due date (aware), in the ILS's time zone."""
    kind: CirculationKind | None
    """None for items that the ILS doesn't count, for example returned ones."""
    stop_fines: str | None = None
    """Why fines stopped. None: they haven't."""

    def days_overdue(self, now: datetime) -> int:
        """Return how many days ago the item was due, in the ILS's time zone. 0 unless it is overdue or lost."""
        if self.due is None or self.kind not in _LATE:
            return 0
        return max((now.astimezone(self.due.tzinfo).date() - self.due.date()).days, 0)


@dataclass(frozen=True, slots=True)
class PatronItems:
    """The visible circulations of a patron. ``complete`` says that no item still out is hidden."""

    items: tuple[ItemOut, ...]
    complete: bool

    @property
    def out(self) -> tuple[ItemOut, ...]:
        """The items still out, lost and claimed ones included, by due date."""
        return tuple(item for item in self.items if item.kind is not None)


def read_items(
    gateway: Gateway, org_units: OrgUnits, visible_at: Collection[int], patrons: Collection[int]
) -> dict[int, PatronItems]:
    """Return the items of each patron, by patron id. Takes a call per 3,000 patrons.

    Includes returned items for which something is still owed, so that bills can be matched with items.

    pcrud silently omits circulations at libraries where the account lacks VIEW_CIRCULATIONS. ``visible_at`` are the ids
    of the libraries where it has the permission. If there are others, one more call finds the patrons who have items of
    those libraries (``items-005``, ``items-006``).
    """
    if not patrons or not visible_at:
        return dict.fromkeys(patrons, PatronItems((), complete=False))
    hidden_at = sorted({unit.id for unit in org_units} - set(visible_at))
    readers: tuple[Callable[[], Any], ...] = (
        lambda: _read_visible(gateway, patrons),
        lambda: patrons_with_circulations_at(gateway, patrons, hidden_at),
    )
    found, hidden = gateway.map(lambda read: read(), readers)
    return {id: PatronItems(tuple(found.get(id, ())), complete=id not in hidden) for id in patrons}


def patrons_with_circulations_at(
    gateway: Gateway,
    patrons: Collection[int],
    libraries: Collection[int],
    *,
    unreturned_at: datetime | None = None,
) -> set[int]:
    """Return the patrons who have items out from one of the libraries (ids), hidden ones included. One call.

    With ``unreturned_at`` (aware), only items that are overdue or lost by then count.
    """
    if not libraries:
        return set()
    # pcrud doesn't check permissions inside subqueries (items-003, items-006).
    out: dict[str, Any] = {"checkin_time": None} if unreturned_at is None else _unreturned(unreturned_at)
    there = {"usr": {"=": {"+au": "id"}}, "circ_lib": sorted(libraries), **out}
    exists = {"-exists": {"select": {"circ": ["id"]}, "from": "circ", "where": there}}
    pages = gateway.pcrud.columns_by_values("au", ("id",), "id", sorted(patrons), where=exists)
    return {id for page in pages for (id,) in page}


def _read_visible(gateway: Gateway, patrons: Collection[int]) -> dict[int, list[ItemOut]]:
    now = datetime.now(UTC)
    # The transaction of a returned item stays open until everything is paid (items-004).
    where = {"-or": [{"checkin_time": None}, {"xact_finish": None}]}
    pages = gateway.pcrud.columns_by_values("circ", _FIELDS, "usr", sorted(patrons), where=where)
    found: dict[int, list[ItemOut]] = {}
    for id, usr, library, due, interval, stopped, returned, finish, copy in chain.from_iterable(pages):
        kind = None if returned else kind_of(stopped, due, interval, finished=finish is not None, now=now)
        found.setdefault(usr, []).append(ItemOut(id, usr, copy, library, plausible(due), kind, stopped))
    for theirs in found.values():
        theirs.sort(key=lambda item: (item.due is None, item.due or now, item.id))
    return found


_CIRCULATION_FIELDS = ("id", "usr", "stop_fines", "due_date", "fine_interval", "checkin_time", "xact_finish")
_OVERDUE = (CirculationKind.OVERDUE, CirculationKind.LONG_OVERDUE)
_AWAY = ["LOST", "LONGOVERDUE"]


@dataclass(frozen=True, slots=True)
class UnreturnedItems:
    """How many of a patron's items are ``overdue`` (including long overdue) and ``lost``."""

    overdue: int = 0
    lost: int = 0

    @classmethod
    def sum_of(cls, items: Iterable[UnreturnedItems]) -> UnreturnedItems:
        """Add up the numbers of several patrons."""
        found = list(items)
        return cls(sum(count.overdue for count in found), sum(count.lost for count in found))


_NONE = UnreturnedItems()


@dataclass(frozen=True, slots=True)
class UnreturnedResult:
    """The result of :func:`read_unreturned_items`.

    ``items`` are by patron id, None if some are hidden. ``stop_fines`` are by circulation id: the values of ``STOPPED``
    of all visible open circulations, including returned items for which something is owed.
    """

    items: Mapping[int, UnreturnedItems | None]
    stop_fines: Mapping[int, str | None]


def read_unreturned_items(
    gateway: Gateway, org_units: OrgUnits, visible_at: Collection[int], patrons: Collection[int]
) -> UnreturnedResult:
    """Count the overdue and lost items of each patron. Takes a call per 3,000 patrons.

    Items that aren't due yet aren't read, because they are the majority (``items-001``). Lost items are read whatever
    their due date.

    pcrud silently omits circulations at libraries where the account lacks VIEW_CIRCULATIONS. ``visible_at`` are the ids
    of the libraries where it has the permission. If there are others, one more call finds the patrons who have
    unreturned items of those libraries (``items-002``, ``items-003``).
    """
    if not patrons or not visible_at:
        return UnreturnedResult(dict.fromkeys(patrons), {})
    now = datetime.now(UTC)
    hidden_at = sorted({unit.id for unit in org_units} - set(visible_at))
    readers: tuple[Callable[[], Any], ...] = (
        lambda: _count_visible(gateway, patrons, now, all_visible=not hidden_at),
        lambda: patrons_with_circulations_at(gateway, patrons, hidden_at, unreturned_at=now),
    )
    (found, stop_fines), hidden = gateway.map(lambda read: read(), readers)
    return UnreturnedResult({id: None if id in hidden else found.get(id, _NONE) for id in patrons}, stop_fines)


def _unreturned(now: datetime) -> dict[str, Any]:
    due = now.isoformat(timespec="seconds")
    return {"checkin_time": None, "-or": [{"due_date": {"<": due}}, {"stop_fines": _AWAY}]}


def _count_visible(
    gateway: Gateway, patrons: Collection[int], now: datetime, *, all_visible: bool
) -> tuple[dict[int, UnreturnedItems], dict[int, str]]:
    where = {"-or": [_unreturned(now), {"xact_finish": None, "stop_fines": list(STOPPED)}]}
    pages = gateway.pcrud.columns_by_values(
        "circ", _CIRCULATION_FIELDS, "usr", sorted(patrons), where=where, all_visible=all_visible
    )
    found: dict[int, UnreturnedItems] = {}
    stopped: dict[int, str] = {}
    for id, usr, stop_fines, due_date, fine_interval, checkin_time, xact_finish in chain.from_iterable(pages):
        if stop_fines in STOPPED:
            stopped[id] = stop_fines
        if checkin_time is not None:
            continue
        kind = kind_of(stop_fines, due_date, fine_interval, finished=xact_finish is not None, now=now)
        before = found.get(usr, _NONE)
        if kind in _OVERDUE:
            found[usr] = UnreturnedItems(before.overdue + 1, before.lost)
        elif kind is CirculationKind.LOST:
            found[usr] = UnreturnedItems(before.overdue, before.lost + 1)
    return found, stopped
