"""Privacy waivers (``aupw``): the people who may act for a patron, as staff typed their names."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway

_USES = ("place_holds", "pickup_holds", "view_history", "checkout_items")


@dataclass(frozen=True, slots=True)
class Waiver:
    """What someone else may do on a patron's account. ``name`` is free text, not a patron: show it, never match it."""

    name: str
    place_holds: bool
    pickup_holds: bool
    view_history: bool
    checkout_items: bool

    @staticmethod
    def read(gateway: Gateway, patrons: Collection[int]) -> dict[int, tuple[Waiver, ...]]:
        """Return the waivers of patrons at whose home libraries the account has VIEW_USER, by patron id. One call.

        Return nothing if the ILS has no waivers. Source: ``slip-002``.
        """
        if not patrons or "waiver_entries" not in gateway.idl("au")["au"].positions:
            return {}
        found: dict[int, list[tuple[int, Waiver]]] = {id: [] for id in patrons}
        for id, usr, name, *uses in gateway.pcrud.columns_by_values(
            "aupw", ("id", "usr", "name", *_USES), "usr", sorted(patrons), all_visible=True
        ):
            found[usr].append((id, Waiver(name, *map(bool, uses))))
        by_id = {usr: sorted(theirs, key=itemgetter(0)) for usr, theirs in found.items()}
        return {usr: tuple(waiver for _id, waiver in theirs) for usr, theirs in by_id.items()}
