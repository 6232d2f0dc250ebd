"""Items that patrons should have brought back: overdue and lost ones, of many patrons at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Any

from evergreen_groups.ils.bills import STOPPED
from evergreen_groups.ils.circulation_kinds import CirculationKind, kind_of

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.ils.org_units import OrgUnits

_FIELDS = ("id", "usr", "stop_fines", "due_date", "fine_interval", "checkin_time", "xact_finish")
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
        lambda: _visible(gateway, patrons, now, all_visible=not hidden_at),
        lambda: _with_hidden(gateway, patrons, now, hidden_at) if hidden_at else (),
    )
    (found, stop_fines), hidden = gateway.map(lambda read: read(), readers)
    return UnreturnedRead({id: None if id in hidden else found.get(id, _NONE) for id in patrons}, stop_fines)


def _unreturned(now: datetime) -> dict[str, Any]:
    due = now.isoformat(timespec="seconds")
    return {"checkin_time": None, "-or": [{"due_date": {"<": due}}, {"stop_fines": _AWAY}]}


def _visible(
    gateway: Gateway, patrons: Collection[int], now: datetime, *, all_visible: bool
) -> tuple[dict[int, UnreturnedItems], dict[int, str]]:
    where = {"-or": [_unreturned(now), {"xact_finish": None, "stop_fines": list(STOPPED)}]}
    pages = gateway.pcrud.columns_by_values(
        "circ", _FIELDS, "usr", sorted(patrons), where=where, all_visible=all_visible
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
