"""The ILS's own thresholds for fines (``pgpt``), found by the same search that recalculates penalties.

Source: the SQL function ``actor.calculate_system_penalties`` (Evergreen's ``100.circ_matrix.sql``).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Self

from evergreen_groups.errors import DataError, PermissionDeniedError
from evergreen_groups.gateway import TOKEN, Gateway
from evergreen_groups.ils.penalties import PATRON_EXCEEDS_FINES
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from evergreen_groups.ils.org_units import OrgUnits
    from evergreen_groups.ils.profiles import Profiles

VIEW_THRESHOLDS = "VIEW_GROUP_PENALTY_THRESHOLD"
"""The permission to see thresholds."""

_SERVICE = "open-ils.actor"
_WORK_PERMISSIONS = "open-ils.actor.user.has_work_perm_at.batch"
_RANGED = "open-ils.actor.grp_penalty_threshold.ranged.retrieve.atomic"
_FIELDS = ("org_unit", "grp", "penalty", "threshold")
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Threshold:
    """A row of ``pgpt``: at ``org_unit``, patrons of ``profile`` and below who owe ``amount`` get ``penalty``."""

    org_unit: int
    profile: int
    penalty: int
    amount: Decimal

    def __post_init__(self) -> None:
        """Raise DataError for an amount that doesn't fit the database column, ``NUMERIC(8,2)``."""
        if abs(self.amount) >= _MILLION:
            raise DataError(
                "the field {field} of class {name} has a wrong value; expected: {what}",
                code="field-broken",
                values={"field": "threshold", "name": "pgpt", "what": Message("an amount of money")},
            )


@dataclass(frozen=True, slots=True)
class ThresholdLookup:
    """A step of the search for a threshold: an org unit and a profile (ids), and the threshold set there, if any."""

    org_unit: int
    profile: int
    found: Threshold | None


class Thresholds:
    """Finds the threshold that applies to a patron. ``penalties`` come from :func:`read_fines_penalties`."""

    def __init__(
        self,
        rows: Iterable[Threshold],
        penalties: Mapping[int, int],
        org_units: OrgUnits,
        profiles: Profiles,
    ) -> None:
        self._penalties = penalties
        self._org_units = org_units
        self._profiles = profiles
        self._rows: dict[tuple[int, int, int], Threshold] = {}
        self._add(rows)

    def _add(self, rows: Iterable[Threshold]) -> None:
        self._rows.update({(row.org_unit, row.profile, row.penalty): row for row in rows})

    def with_gateway(self, gateway: Gateway) -> Self:  # noqa: ARG002  # as ThresholdReader has it
        """Return the same thresholds, which read through ``gateway``, of the same session, from now on."""
        return self

    def are_visible(self, home_library: int) -> bool:  # noqa: ARG002  # likewise
        """Return whether the account may see the thresholds that apply to patrons of this home library."""
        return True

    def find(self, profile: int, home_library: int) -> Threshold | None:
        """Return the nearest threshold, or None.

        The nearest is searched from the profile upwards at the home library, then the same at each org unit above.

        Raises:
            PermissionDeniedError: the account lacks VIEW_GROUP_PENALTY_THRESHOLD at the home library.
        """
        return next((step.found for step in self.lookups(profile, home_library) if step.found is not None), None)

    def lookups(self, profile: int, home_library: int) -> Iterator[ThresholdLookup]:
        """Yield the steps of the ILS's search in its order, up to the first with a threshold.

        Raises what :meth:`find` does.
        """
        penalty = self._penalties.get(home_library, PATRON_EXCEEDS_FINES)
        profiles = self._profiles.upwards(profile)
        # The SQL function searches all profiles at one org unit before the org unit above (penalties-update-019: a
        # profile's own 25.00 comes before the 10.00 for all patrons).
        for org_unit in self._org_units.upwards(home_library):
            for ancestor in profiles:
                found = self._rows.get((org_unit, ancestor, penalty))
                yield ThresholdLookup(org_unit, ancestor, found)
                if found is not None:
                    return


class ThresholdReader(Thresholds):
    """Reads thresholds: all at once if the account may see them all, else once per home library.

    pcrud silently omits the rows of higher org units for branch staff (``pcrud-080``), but
    ``grp_penalty_threshold.ranged.retrieve`` includes them (``settings-023``).
    """

    def __init__(self, gateway: Gateway, org_units: OrgUnits, profiles: Profiles, penalties: Mapping[int, int]) -> None:
        super().__init__((), penalties, org_units, profiles)
        self._gateway = gateway
        result = gateway.call(_SERVICE, _WORK_PERMISSIONS, TOKEN, [VIEW_THRESHOLDS])
        permitted = result.mapping().get(VIEW_THRESHOLDS)
        if not isinstance(permitted, list | None):
            raise result.unexpected(Message("a list of org units for each permission"))
        # Check the permission first: hidden rows look like missing rows, and missing a threshold means a wrong limit.
        self.complete = org_units.root.id in (permitted or ())
        """Whether all thresholds are loaded, so that :meth:`find` needs no call."""
        self._libraries: set[int] = set()
        self._refused: set[int] = set()
        if self.complete:
            self._add(Threshold(*row) for row in gateway.pcrud.all_columns("pgpt", _FIELDS))

    def with_gateway(self, gateway: Gateway) -> Self:
        """Return a reader that shares what was read so far, but reads through ``gateway``, of the same session."""
        reader = copy.copy(self)
        reader._gateway = gateway
        return reader

    def are_visible(self, home_library: int) -> bool:
        """Return whether the account may see the thresholds that apply to patrons of this home library."""
        if home_library in self._refused:
            return False  # ask once per library, not once per patron
        try:
            self._read(home_library)
        except PermissionDeniedError:
            self._refused.add(home_library)
            return False
        return True

    def lookups(self, profile: int, home_library: int) -> Iterator[ThresholdLookup]:
        """Yield the steps of the search, see :meth:`Thresholds.lookups`."""
        self._read(home_library)
        return super().lookups(profile, home_library)

    def _read(self, home_library: int) -> None:
        if self.complete or home_library in self._libraries:
            return
        # The ILS checks the permission at the requested library, so branch staff get only their own (settings-024).
        result = self._gateway.call(_SERVICE, _RANGED, TOKEN, home_library)
        above = self._org_units.upwards(home_library)
        records = self._gateway.pcrud.checked("pgpt", result.listing(), {"org_unit": above})
        self._add(Threshold(row.org_unit, row.grp, row.penalty, row.threshold) for row in records)
        self._libraries.add(home_library)
