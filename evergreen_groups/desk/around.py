"""The group around a patron, and where the session may see what its members owe for and have out."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from evergreen_groups.errors import not_visible
from evergreen_groups.groups import VisiblePatrons, visible_around, visible_in
from evergreen_groups.ils import VIEW_USER_TRANSACTIONS, held_at, read_fines_of_oneself, read_own_fines

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.limits import ReferenceData


@dataclass(frozen=True, slots=True)
class VisibleAffairs:
    """The ids of the org units whose patrons' bills the session sees, and of those whose circulations it does."""

    bills_at: frozenset[int]
    items_at: frozenset[int]

    @classmethod
    def read(cls, gateway: Gateway, reference: ReferenceData) -> VisibleAffairs:
        """Read them."""
        org_units = reference.org_units(gateway)
        bills_at = held_at(gateway, org_units, [VIEW_USER_TRANSACTIONS])[VIEW_USER_TRANSACTIONS]
        return cls(bills_at, reference.circulations_visible_at(gateway))


def find_around(gateway: Gateway, reference: ReferenceData, id: int) -> VisiblePatrons:
    """The visible members of the group of the patron with this id, who may be a deleted one.

    Raises:
        NotFoundError: no visible patron has it.
        DataError: the group is too large to be a family.
    """
    granted = reference.granted(gateway)
    found = visible_around(gateway, id, granted)
    if found is not None:
        return found
    # A deleted record keeps the number of the group that it was in, and a card may still lead to it.
    rows = gateway.pcrud.search("au", {"id": id, "deleted": "t"}, select=("id", "usrgroup", "deleted"), limit=1)
    if not rows:
        raise not_visible("no visible patron has this id", code="no-patron-with-id")
    return visible_in(gateway, rows[0].usrgroup, granted)


def read_visible_fines(gateway: Gateway, reference: ReferenceData, patrons: Collection[int]) -> dict[int, Decimal]:
    """What visible patrons owe themselves, by id; who owes nothing isn't there."""
    fines = read_own_fines(gateway, patrons)
    user = reference.user(gateway)
    # Since 3.15 one sees one's own record without VIEW_USER, but not the balance in pcrud (pcrud-056).
    if user in patrons and user not in fines:
        owed = read_fines_of_oneself(gateway, user)
        return fines if owed is None else {**fines, user: owed}
    return fines
