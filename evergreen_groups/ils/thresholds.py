"""The ILS's own thresholds for fines (``pgpt``), found by the same search that recalculates penalties.

Source: the SQL function ``actor.calculate_system_penalties`` (Evergreen's ``100.circ_matrix.sql``).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from evergreen_groups.errors import DataError, PermissionDeniedError
from evergreen_groups.gateway import TOKEN, Gateway
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from evergreen_groups.ils.limits import LimitFinder, ResolvedLimit
    from evergreen_groups.ils.org_units import OrgUnits
    from evergreen_groups.ils.penalties import PenaltyKind, PenaltyKinds
    from evergreen_groups.ils.profiles import Profiles
    from evergreen_groups.policy import Limit

PATRON_EXCEEDS_FINES = 1
"""The id of the stock penalty for fines (``csp``)."""

PENALTY_OVERRIDE = "circ.custom_penalty_override.PATRON_EXCEEDS_FINES"
"""The library setting that replaces the stock penalty."""
VIEW_THRESHOLDS = "VIEW_GROUP_PENALTY_THRESHOLD"
"""The permission to see thresholds."""

_SERVICE = "open-ils.actor"
_FOR_ALL = "open-ils.actor.settings.value_for_all_orgs.atomic"
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


def read_fines_penalties(gateway: Gateway, org_units: OrgUnits) -> dict[int, int]:
    """Return the id of each org unit's penalty for fines: the stock one, or the one set in :data:`PENALTY_OVERRIDE`.

    One call (``explanation-008``).

    Raises:
        DataError: a setting's value isn't a penalty id.
    """
    try:
        answer = gateway.call(_SERVICE, _FOR_ALL, TOKEN, PENALTY_OVERRIDE).listing()
        values = {int(entry["org_unit"]): entry["summary"]["value"] for entry in answer}
        # The answer lists every org unit, with null for no setting (explanation-008). If one is missing, its penalty
        # is unknown, which isn't the same as the stock one.
        complete = len(values) == len(answer) and values.keys() >= {unit.id for unit in org_units}
    except (TypeError, KeyError, ValueError):
        values, complete = {}, False
    if not complete:
        raise DataError(
            "the ILS gave no usable values of the setting {name}",
            code="ils-setting-unusable",
            values={"name": PENALTY_OVERRIDE},
        )
    return {unit.id: _penalty_id(values[unit.id]) for unit in org_units}


def _penalty_id(value: object) -> int:
    """Return the penalty id in a setting's value, or the stock penalty for None."""
    if value is None:
        return PATRON_EXCEEDS_FINES
    try:
        # Settings are stored as JSON: a number (settings-001), or a number in quotation marks.
        return int(str(value).strip('"'))
    except ValueError:
        raise DataError(
            "the setting {name} names no penalty by its id",
            advice="correct the setting in the ILS",
            code="ils-setting-without-penalty",
            values={"name": PENALTY_OVERRIDE},
        ) from None


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
        self.add(rows)

    def add(self, rows: Iterable[Threshold]) -> None:
        """Add more rows."""
        self._rows.update({(row.org_unit, row.profile, row.penalty): row for row in rows})

    def find(self, profile: int, home_library: int) -> Threshold | None:
        """Return the nearest threshold, or None.

        The nearest is searched from the profile upwards at the home library, then the same at each org unit above.
        """
        return next((step.found for step in self.lookups(profile, home_library) if step.found is not None), None)

    def lookups(self, profile: int, home_library: int) -> Iterator[ThresholdLookup]:
        """Yield the steps of the ILS's search in its order, up to the first with a threshold."""
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


class ThresholdReader:
    """Reads thresholds: all at once if the account may see them all, else once per home library.

    pcrud silently omits the rows of higher org units for branch staff (``pcrud-080``), but
    ``grp_penalty_threshold.ranged.retrieve`` includes them (``settings-023``).
    """

    def __init__(self, gateway: Gateway, org_units: OrgUnits, profiles: Profiles, penalties: Mapping[int, int]) -> None:
        self._gateway = gateway
        self._org_units = org_units
        self._thresholds = Thresholds((), penalties, org_units, profiles)
        result = gateway.call(_SERVICE, _WORK_PERMISSIONS, TOKEN, [VIEW_THRESHOLDS])
        permitted = result.mapping().get(VIEW_THRESHOLDS)
        if not isinstance(permitted, list | None):
            raise result.unexpected(Message("a list of org units for each permission"))
        # Check the permission first: hidden rows look like missing rows, and missing a threshold means a wrong limit.
        self._complete = org_units.root.id in (permitted or ())
        self._libraries: set[int] = set()
        self._refused: set[int] = set()
        if self._complete:
            rows = gateway.pcrud.all_columns("pgpt", _FIELDS)
            self._thresholds.add(Threshold(*row) for row in rows)

    @property
    def complete(self) -> bool:
        """Whether all thresholds are loaded, so that :meth:`find` needs no call."""
        return self._complete

    def with_gateway(self, gateway: Gateway) -> ThresholdReader:
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

    def find(self, profile: int, home_library: int) -> Threshold | None:
        """Return the threshold that applies to a patron, or None.

        Raises:
            PermissionDeniedError: the account lacks VIEW_GROUP_PENALTY_THRESHOLD at the home library.
        """
        self._read(home_library)
        return self._thresholds.find(profile, home_library)

    def lookups(self, profile: int, home_library: int) -> Iterator[ThresholdLookup]:
        """Yield the steps of the search, see :meth:`Thresholds.lookups`. Raises what :meth:`find` does."""
        self._read(home_library)
        return self._thresholds.lookups(profile, home_library)

    def _read(self, home_library: int) -> None:
        if self._complete or home_library in self._libraries:
            return
        # The ILS checks the permission at the requested library, so branch staff get only their own (settings-024).
        result = self._gateway.call(_SERVICE, _RANGED, TOKEN, home_library)
        above = self._org_units.upwards(home_library)
        records = self._gateway.pcrud.checked("pgpt", result.listing(), {"org_unit": above})
        self._thresholds.add(Threshold(row.org_unit, row.grp, row.penalty, row.threshold) for row in records)
        self._libraries.add(home_library)


class DifferenceKind(Enum):
    """How the ILS's thresholds and the rule can differ. The order breaks ties between equally frequent differences."""

    BLOCKS_NOTHING = "penalty-blocks-nothing"
    """The penalty for fines is only a note."""
    NO_THRESHOLD = "no-threshold"
    """There is a limit but no threshold, so the ILS blocks no one."""
    NO_LIMIT = "no-limit"
    """There is a threshold but no limit."""
    BLOCKS_LATER = "blocks-later"
    """The threshold is above the limit, so some patrons over the limit aren't blocked."""
    BLOCKS_EARLIER = "blocks-earlier"
    """The threshold is below the limit, so patrons within the limit are blocked."""
    BLOCKS_AT_LIMIT = "blocks-at-limit"
    """A patron who owes exactly the limit is blocked but not over it, because the ILS compares with >=."""
    COUNTS_FEWER = "counts-fewer-bills"
    """The threshold counts only the bills of some libraries; the rule counts all bills."""


@dataclass(frozen=True, slots=True)
class RuleDifference:
    """A difference between the ILS's blocks and the rule, with all patrons that it affects."""

    kind: DifferenceKind
    limit: Limit
    """The rule's limit."""
    threshold: Decimal | None
    """The ILS's threshold, or None. From this amount on, the ILS sets ``penalty``."""
    penalty: PenaltyKind
    rows: frozenset[tuple[int, int]]
    """Where the threshold is set: pairs of org unit and profile ids."""
    libraries: frozenset[int]
    """The home libraries of affected patrons (ids)."""
    profiles: frozenset[int]
    """The profiles of affected patrons (ids)."""
    pair_count: int
    """The number of affected pairs of home library and profile."""

    @property
    def threshold_to_set(self) -> Decimal | None:
        """The threshold that would make the ILS follow the rule. None: no threshold."""
        return self.limit.least_over

    @property
    def example(self) -> Decimal:
        """The smallest balance on which the rule and the ILS disagree."""
        amounts = (self.threshold, self.limit.least_over)
        return min(amount for amount in amounts if amount is not None)


class ThresholdSource(Protocol):
    """Finds the ILS's threshold for a patron."""

    def find(self, profile: int, home_library: int) -> Threshold | None:
        """Return the threshold for patrons with this profile and home library (ids), or None."""


class _Case(NamedTuple):
    """The key by which differences are grouped."""

    kind: DifferenceKind
    limit: Limit
    threshold: Decimal | None
    penalty: PenaltyKind


class _Affected(NamedTuple):
    """The patrons of one home library and profile, and the threshold's row as ids of org unit and profile."""

    library: int
    profile: int
    row: tuple[int, int] | None


def find_rule_differences(
    limits: LimitFinder,
    thresholds: ThresholdSource,
    kinds: PenaltyKinds,
    org_units: OrgUnits,
    *,
    libraries: Iterable[int],
    profiles: Iterable[int],
) -> list[RuleDifference]:
    """Find the differences for patrons of these home libraries and profiles (ids), the most frequent first.

    The result holds for recalculations at the home library. A checkout at another library is subject to that library's
    threshold.

    Raises:
        PermissionDeniedError: the account may not see the thresholds of one of the libraries.
        DataError: the ILS refers to a profile or penalty that it doesn't list.
    """
    found: dict[_Case, list[_Affected]] = {}
    profile_ids = list(profiles)
    for library in libraries:
        penalty = kinds.set_for_fines_at(library)
        for profile in profile_ids:
            threshold = thresholds.find(profile, library)
            rule = limits.limit_for(profile, library)
            row = None if threshold is None else (threshold.org_unit, threshold.profile)
            for kind in _differences(rule, threshold, penalty, org_units):
                case = _Case(kind, rule.limit, None if threshold is None else threshold.amount, penalty)
                found.setdefault(case, []).append(_Affected(library, profile, row))
    differences = [
        RuleDifference(
            *case,
            rows=frozenset(pair.row for pair in pairs if pair.row is not None),
            libraries=frozenset(pair.library for pair in pairs),
            profiles=frozenset(pair.profile for pair in pairs),
            pair_count=len(pairs),
        )
        for case, pairs in found.items()
    ]
    order = list(DifferenceKind)
    return sorted(differences, key=lambda one: (-one.pair_count, order.index(one.kind), one.example))


def _differences(
    rule: ResolvedLimit, threshold: Threshold | None, penalty: PenaltyKind, org_units: OrgUnits
) -> Iterator[DifferenceKind]:
    """Yield the differences for one profile and library: in the amount, in which bills count, in both, or none."""
    over = rule.limit.least_over
    if threshold is None:
        if over is not None:
            yield DifferenceKind.NO_THRESHOLD
    elif not penalty.blocks:
        if over is not None:
            yield DifferenceKind.BLOCKS_NOTHING
    elif over is None:
        yield DifferenceKind.NO_LIMIT
    else:
        # Both amounts are in whole cents (pgpt.threshold is numeric(8,2)), and the ILS compares with >=
        # (penalties-update-015). So they agree if the threshold is the smallest amount over the limit.
        if threshold.amount == rule.limit.amount != over:
            yield DifferenceKind.BLOCKS_AT_LIMIT
        elif threshold.amount != over:
            yield DifferenceKind.BLOCKS_EARLIER if threshold.amount < over else DifferenceKind.BLOCKS_LATER
        if rule.scope is None and len(org_units.full_path(threshold.org_unit)) < len(org_units):
            yield DifferenceKind.COUNTS_FEWER
