"""Holds of patrons that are ready for pickup."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from evergreen_groups.ils.circulations import patrons_with
from evergreen_groups.values import plausible

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.ils.org_units import OrgUnits

# As hold_request_count (Actor.pm) counts holds that are ready (``slip-001``). A hold whose pickup library changes while
# its item is on the shelf has another current_shelf_lib (status 8 in Holds.pm).
_READY: dict[str, Any] = {
    "cancel_time": None,
    "fulfillment_time": None,
    "current_shelf_lib": {"=": {"+ahr": "pickup_lib"}},
}
_FIELDS = ("id", "usr", "current_copy", "pickup_lib", "shelf_expire_time")


@dataclass(frozen=True, slots=True)
class ReadyHold:
    """A hold whose item waits at the pickup ``library`` (an org unit's id) for a ``patron`` (id).

    ``copy`` is the item's id (``acp``), None if Evergreen names none. ``until`` is in the ILS's time zone, None if the
    library sets no limit. Evergreen keeps a hold ready after that time, until staff clear the shelf.
    """

    id: int
    patron: int
    copy: int | None
    library: int
    until: datetime | None


@dataclass(frozen=True, slots=True)
class PatronHolds:
    """The visible holds of a patron that are ready for pickup, by ``until``. ``complete``: no ready hold is hidden."""

    ready: tuple[ReadyHold, ...]
    complete: bool

    @staticmethod
    def read(
        gateway: Gateway, org_units: OrgUnits, visible_at: Collection[int], patrons: Collection[int]
    ) -> dict[int, PatronHolds]:
        """Return the ready holds of each patron, by patron id.

        Takes a call per 3,000 patrons. ``visible_at`` are the ids of the libraries where the account has VIEW_HOLD. If
        there are others, whose holds pcrud silently omits, one more call finds the patrons with ready holds there.
        """
        if not patrons or not visible_at:
            return dict.fromkeys(patrons, PatronHolds((), complete=False))
        hidden_at = sorted(org_units.ids.difference(visible_at))
        read = gateway.pcrud.columns_by_values
        rows, hidden = gateway.in_parallel(
            lambda: list(read("ahr", _FIELDS, "usr", sorted(patrons), where=_READY, all_visible=not hidden_at)),
            lambda: patrons_with(gateway, "ahr", patrons, {"pickup_lib": hidden_at, **_READY}) if hidden_at else set(),
        )
        found: dict[int, list[ReadyHold]] = {id: [] for id in patrons}
        for id, usr, copy, library, until in rows:
            found[usr].append(ReadyHold(id, usr, copy, library, plausible(until)))
        for theirs in found.values():
            theirs.sort(key=lambda hold: (hold.until is None, hold.until and hold.until.timestamp(), hold.id))
        return {id: PatronHolds(tuple(theirs), complete=id not in hidden) for id, theirs in found.items()}
