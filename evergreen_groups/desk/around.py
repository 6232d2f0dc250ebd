"""What a group's visible members owe, and their penalties after recent recalculations."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from evergreen_groups.changes import PenaltyReader
from evergreen_groups.ils import read_fines_of, read_own_fines

if TYPE_CHECKING:
    from evergreen_groups.changes import RecentlyChanged
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups import VisiblePatrons
    from evergreen_groups.ils import OrgUnits, PenaltyRow


def with_penalties_now(
    gateway: Gateway, org_units: OrgUnits, found: VisiblePatrons, recent: RecentlyChanged
) -> VisiblePatrons:
    """A group with the penalties that recently recalculated members have where they are written."""
    return replace(found, penalties=tuple(rows_put_right(gateway, org_units, found.penalties, found.ids, recent)))


def rows_put_right(
    gateway: Gateway,
    org_units: OrgUnits,
    rows: Iterable[PenaltyRow],
    patrons: Collection[int],
    recent: RecentlyChanged,
) -> list[PenaltyRow]:
    """The penalties of ``patrons`` (ids), with those of the recalculated as they are where they are written."""
    theirs = frozenset(patrons)
    if recent.recalculated is not None:
        theirs &= recent.recalculated
    reader = PenaltyReader(gateway, org_units)
    read = [penalties for penalties in gateway.map(reader.read, sorted(theirs)) if penalties is not None]
    others = (row for row in rows if row.patron not in theirs)
    return [*others, *(row for penalties in read for row in penalties.in_force)]


def read_visible_fines(gateway: Gateway, user: int, patrons: Collection[int]) -> dict[int, Decimal]:
    """What visible patrons owe themselves, by id; who owes nothing isn't there. ``user`` is whose session it is."""
    fines = read_own_fines(gateway, patrons)
    # Since 3.15 one sees one's own record without VIEW_USER, but not the balance in pcrud (pcrud-056).
    if user in patrons and user not in fines:
        owed = read_fines_of(gateway, user)
        return fines if owed is None else {**fines, user: owed}
    return fines
