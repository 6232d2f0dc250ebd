"""The group around a patron, and what its visible members owe: what the list and the bills begin with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from evergreen_groups.changes import PenaltyReader
from evergreen_groups.errors import PermissionDeniedError
from evergreen_groups.groups import GroupViewer, VisiblePatrons, read_balances, visible_around, visible_in
from evergreen_groups.ils import read_fines_of, read_own_fines

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.ils import OrgUnits


def find_around(gateway: Gateway, id: int, viewer: GroupViewer) -> VisiblePatrons | None:
    """The visible members of the group of the patron with this id, None where no visible patron has it.

    Raises:
        DataError: the group is too large to be a family.
    """
    found = visible_around(gateway, id, viewer)
    if found is not None:
        return found
    # A deleted record keeps the number of the group that it was in, and a card may still lead to it.
    rows = gateway.pcrud.search("au", {"id": id, "deleted": "t"}, select=("id", "usrgroup", "deleted"), limit=1)
    return visible_in(gateway, rows[0].usrgroup, viewer) if rows else None


def with_penalties_now(
    gateway: Gateway, org_units: OrgUnits, found: VisiblePatrons, recalculated: Collection[int]
) -> VisiblePatrons:
    """A group with the penalties that those of the ``recalculated`` patrons (ids) have where they are written."""
    theirs = found.ids.intersection(recalculated)
    if not theirs:
        return found
    reader = PenaltyReader(gateway, org_units)
    read = [penalties for penalties in gateway.map(reader.read, sorted(theirs)) if penalties is not None]
    others = (row for row in found.penalties if row.patron not in theirs)
    return replace(found, penalties=(*others, *(row for penalties in read for row in penalties.in_force)))


def read_visible_fines(gateway: Gateway, user: int, patrons: Collection[int]) -> dict[int, Decimal]:
    """What visible patrons owe themselves, by id; who owes nothing isn't there. ``user`` is whose session it is."""
    fines = read_own_fines(gateway, patrons)
    # Since 3.15 one sees one's own record without VIEW_USER, but not the balance in pcrud (pcrud-056).
    if user in patrons and user not in fines:
        owed = read_fines_of(gateway, user)
        return fines if owed is None else {**fines, user: owed}
    return fines


def put_fines_right(
    gateway: Gateway, group: int, patrons: Collection[int], read: Callable[[], Mapping[int, Decimal]]
) -> Mapping[int, Decimal]:
    """What patrons of a group owe where that is written; ``read`` gives what pcrud says.

    Where plain reads come from copies of the database, one call beside that, and one for each patron of whom the two
    say different things. Else, and where the session may not know, it is what was read.
    """
    if not gateway.reads_copies:
        return read()
    readers: tuple[Callable[[], Any], ...] = (read, lambda: _balances(gateway, group))
    fines, now = gateway.map(lambda read: read(), readers)
    if now is None:
        return {**fines}
    found = {**fines}
    doubtful = sorted(id for id in patrons if fines.get(id) != now.get(id))
    for id, owed in zip(doubtful, gateway.map(lambda id: _owed_by(gateway, id, fines.get(id)), doubtful), strict=True):
        found.pop(id, None)
        if owed is not None:
            found[id] = owed
    return found


def _balances(gateway: Gateway, group: int) -> Mapping[int, Decimal] | None:
    try:
        return read_balances(gateway, group, current=True)
    except PermissionDeniedError:
        return None


def _owed_by(gateway: Gateway, id: int, read: Decimal | None) -> Decimal | None:
    # An answer about one says whose it is, which a list of a group's balances doesn't.
    try:
        return read_fines_of(gateway, id, current=True)
    except PermissionDeniedError:
        return read
