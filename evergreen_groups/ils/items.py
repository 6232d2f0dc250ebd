"""Items that patrons have out, one by one: which, due when, at which library."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Any

from evergreen_groups.ils.circulation_kinds import CirculationKind, kind_of
from evergreen_groups.odd_dates import known

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.ils.org_units import OrgUnits

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
