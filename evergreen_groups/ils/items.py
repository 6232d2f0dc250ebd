"""Items that patrons have out, one by one: which, due when, at which library."""

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
from evergreen_groups.odd_dates import known

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.ils.org_units import OrgUnits

_NOT_CATALOGED = -1
"""The call number that all items have which aren't cataloged (``-1`` in every Evergreen)."""
_ISBD = " /:;,="
"""What a cataloger's title ends with where more follows it on the card."""


def read_titles(gateway: Gateway, copies: Collection[int]) -> dict[int, str]:
    """The titles of items by the items' ids (``acp.id``); an item without one isn't there.

    Three calls for up to 3,000 items, one for each table (``items-007``, ``items-008``, ``items-009``): fleshing would
    be three queries for each item in the ILS.
    All three are public in Evergreen (``permacrud`` of ``acp``, ``acn`` and ``rmsr`` in its ``fm_IDL.xml``); who may
    know what somebody has out is decided where circulations are read. What isn't cataloged yet has a title of its own
    (``dummy_title``).
    """
    if not copies:
        return {}
    fields = ("id", "call_number", "dummy_title")
    items = {id: rest for id, *rest in _rows(gateway, "acp", fields, copies)}
    volumes = {volume for volume, _dummy in items.values()} - {_NOT_CATALOGED}
    records = dict(_rows(gateway, "acn", ("id", "record"), volumes)) if volumes else {}
    titles = dict(_rows(gateway, "rmsr", ("id", "title"), {*records.values()})) if records else {}
    # As the staff client says it (circ.service.ts): an item that was cataloged later keeps its former title beside.
    found = {
        id: dummy if volume == _NOT_CATALOGED else titles.get(records.get(volume))
        for id, (volume, dummy) in items.items()
    }
    return {id: title.rstrip(_ISBD) for id, title in found.items() if title}


def _rows(gateway: Gateway, class_id: str, fields: tuple[str, ...], ids: Collection[int]) -> chain[tuple[Any, ...]]:
    return chain.from_iterable(gateway.pcrud.columns_by_values(class_id, fields, "id", sorted(ids)))


_DAY = 86_400
# As PostgreSQL compares intervals (interval_cmp_value): a month is 30 days, a day is 24 hours.
_SECONDS = {"year": 360 * _DAY, "mon": 30 * _DAY, "day": _DAY}
_PARTS = re.compile(r"(?P<number>[+-]?\d{1,9}) (?P<unit>year|mon|day)s?", re.ASCII)
_TIME = re.compile(r"(?P<sign>[+-]?)(?P<hours>\d{1,9}):(?P<minutes>\d\d):(?P<seconds>\d\d)(?:\.\d+)?", re.ASCII)


class CirculationKind(Enum):
    """The kinds that the ILS counts apart; the values are its own names for them."""

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
    """The kind of a circulation that hasn't been checked in, None for one that the ILS counts nowhere.

    ``finished`` says that its transaction is: all that was lost with it has been paid. ``now`` is aware.

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
        # What is claimed to have been returned counts whether anything is owed for it or not.
        return None if finished and stopped is not CirculationKind.CLAIMS_RETURNED else stopped
    if due_date is None or fine_interval is None:
        return None  # a comparison with null is neither true nor false
    if known(due_date) is None:
        return CirculationKind.OUT  # the ILS compares the infinity that it has stored
    if seconds_of(fine_interval) >= _DAY:
        # What is fined by the day is overdue from the day after. The server's 'today' begins by its own clock, which
        # the times that it writes are in.
        late = due_date.date() < now.astimezone(due_date.tzinfo).date()
    else:
        late = due_date < now
    return CirculationKind.OVERDUE if late else CirculationKind.OUT


def seconds_of(interval: str) -> int:
    """How long an interval is, in whole seconds, as PostgreSQL writes and compares them.

    >>> seconds_of("1 day"), seconds_of("23:59:59"), seconds_of("1 mon -1 days +00:00:01")
    (86400, 86399, 2505601)

    Raises:
        DataError: it is none.
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
    """An item that the patron with the id ``patron`` has out, or has brought back and still owes something for.

    ``id`` is that of the circulation, and of its bill where it has one; ``copy`` is the item's (``acp.id``) and
    ``library`` the id of the org unit that lent it. ``due`` is aware, in the ILS's own time. ``kind`` is None for what
    the ILS counts nowhere, such as an item that has come back; ``stop_fines`` is why fines stopped, None where they go
    on.
    """

    id: int
    patron: int
    copy: int
    library: int
    due: datetime | None
    kind: CirculationKind | None
    stop_fines: str | None = None

    def days_overdue(self, now: datetime) -> int:
        """How many days ago it was due, by the ILS's calendar; 0 for what isn't overdue or lost."""
        if self.due is None or self.kind not in _LATE:
            return 0
        return max((now.astimezone(self.due.tzinfo).date() - self.due.date()).days, 0)


@dataclass(frozen=True, slots=True)
class PatronItems:
    """The visible circulations of a patron. ``complete`` says that there are no others with the item still out."""

    items: tuple[ItemOut, ...]
    complete: bool

    @property
    def out(self) -> tuple[ItemOut, ...]:
        """The items that count as out in some way, what is due first before the others."""
        return tuple(item for item in self.items if item.kind is not None)


def read_items(
    gateway: Gateway, org_units: OrgUnits, visible_at: Collection[int], patrons: Collection[int]
) -> dict[int, PatronItems]:
    """The items of each patron, by id, up to 3,000 patrons in a call.

    Those that came back are among them where something is still owed for them, so that a bill can be told by its item.
    pcrud shows a circulation where the account has VIEW_CIRCULATIONS at the library of the circulation (``visible_at``
    are the ids of those), and leaves out the others without a word. Where it hasn't it everywhere, one more call finds
    out who has something out elsewhere (``items-005``, ``items-006``).
    """
    if not patrons or not visible_at:
        return dict.fromkeys(patrons, PatronItems((), complete=False))
    hidden_at = sorted({unit.id for unit in org_units} - set(visible_at))
    readers: tuple[Callable[[], Any], ...] = (
        lambda: _visible(gateway, patrons),
        lambda: patrons_with_circulations_at(gateway, patrons, hidden_at),
    )
    found, hidden = gateway.map(lambda read: read(), readers)
    return {id: PatronItems(tuple(found.get(id, ())), complete=id not in hidden) for id in patrons}


def patrons_with_circulations_at(gateway: Gateway, patrons: Collection[int], libraries: Collection[int]) -> set[int]:
    """Those of the patrons who have something out of one of the libraries (ids), visible or not; one call."""
    if not libraries:
        return set()
    # Inside a query nothing is hidden (items-006).
    there = {"usr": {"=": {"+au": "id"}}, "checkin_time": None, "circ_lib": sorted(libraries)}
    exists = {"-exists": {"select": {"circ": ["id"]}, "from": "circ", "where": there}}
    pages = gateway.pcrud.columns_by_values("au", ("id",), "id", sorted(patrons), where=exists)
    return {id for page in pages for (id,) in page}


def _visible(gateway: Gateway, patrons: Collection[int]) -> dict[int, list[ItemOut]]:
    now = datetime.now(UTC)
    # An item that came back has an open transaction as long as something is owed for it (items-004).
    where = {"-or": [{"checkin_time": None}, {"xact_finish": None}]}
    pages = gateway.pcrud.columns_by_values("circ", _FIELDS, "usr", sorted(patrons), where=where)
    found: dict[int, list[ItemOut]] = {}
    for id, usr, library, due, interval, stopped, returned, finish, copy in chain.from_iterable(pages):
        kind = None if returned else kind_of(stopped, due, interval, finished=finish is not None, now=now)
        found.setdefault(usr, []).append(ItemOut(id, usr, copy, library, known(due), kind, stopped))
    for theirs in found.values():
        theirs.sort(key=lambda item: (item.due is None, item.due or now, item.id))
    return found


_CIRCULATION_FIELDS = ("id", "usr", "stop_fines", "due_date", "fine_interval", "checkin_time", "xact_finish")
_OVERDUE = (CirculationKind.OVERDUE, CirculationKind.LONG_OVERDUE)
_AWAY = ["LOST", "LONGOVERDUE"]


@dataclass(frozen=True, slots=True)
class UnreturnedItems:
    """How many items a patron has ``overdue`` (long overdue ones among them) and how many are ``lost``, now."""

    overdue: int = 0
    lost: int = 0

    @classmethod
    def sum_of(cls, items: Iterable[UnreturnedItems]) -> UnreturnedItems:
        """All of these together."""
        found = list(items)
        return cls(sum(it.overdue for it in found), sum(it.lost for it in found))


_NONE = UnreturnedItems()


@dataclass(frozen=True, slots=True)
class UnreturnedRead:
    """What was read: unreturned items by patron's id, None where some are hidden, and why fines stopped.

    ``stop_fines`` are those of visible circulations by id, those that came back among them where something is owed;
    only such as make a kind of bill.
    """

    items: Mapping[int, UnreturnedItems | None]
    stop_fines: Mapping[int, str | None]


def read_unreturned_items(
    gateway: Gateway, org_units: OrgUnits, visible_at: Collection[int], patrons: Collection[int]
) -> UnreturnedRead:
    """The unreturned items of each patron, by id, in lists of up to 3,000; None where some are hidden.

    pcrud shows a circulation where the account has VIEW_CIRCULATIONS at the library of the circulation
    (``visible_at`` are the ids of those), and leaves out the others without a word. Where it hasn't it everywhere, one
    more call finds out who has an unreturned item elsewhere (``items-002``, ``items-003``). Items that are out and not
    yet due aren't read (``items-001``): they are most of them. What is lost is, whenever it is due.
    """
    if not patrons or not visible_at:
        return UnreturnedRead(dict.fromkeys(patrons), {})
    now = datetime.now(UTC)
    hidden_at = sorted({unit.id for unit in org_units} - set(visible_at))
    readers: tuple[Callable[[], Any], ...] = (
        lambda: _visible_circulations(gateway, patrons, now, all_visible=not hidden_at),
        lambda: _with_hidden(gateway, patrons, now, hidden_at) if hidden_at else (),
    )
    (found, stop_fines), hidden = gateway.map(lambda read: read(), readers)
    return UnreturnedRead({id: None if id in hidden else found.get(id, _NONE) for id in patrons}, stop_fines)


def _unreturned(now: datetime) -> dict[str, Any]:
    due = now.isoformat(timespec="seconds")
    return {"checkin_time": None, "-or": [{"due_date": {"<": due}}, {"stop_fines": _AWAY}]}


def _visible_circulations(
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


def _with_hidden(gateway: Gateway, patrons: Collection[int], now: datetime, hidden_at: list[int]) -> set[int]:
    """Those of the patrons who have an unreturned item that pcrud hides."""
    # Inside a query nothing is hidden (items-003: somebody's item at a branch that the account doesn't see).
    hidden = {"usr": {"=": {"+au": "id"}}, "circ_lib": hidden_at, **_unreturned(now)}
    exists = {"-exists": {"select": {"circ": ["id"]}, "from": "circ", "where": hidden}}
    pages = gateway.pcrud.columns_by_values("au", ("id",), "id", sorted(patrons), where=exists)
    return {id for page in pages for (id,) in page}
