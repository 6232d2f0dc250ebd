"""The ILS's own thresholds for fines (``pgpt``), found as it finds them itself when it recalculates penalties.

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
"""The stock penalty for fines (``csp``), unless a library has one of its own."""

PENALTY_OVERRIDE = "circ.custom_penalty_override.PATRON_EXCEEDS_FINES"
"""The library setting that names a penalty of its own."""
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
    """One row of ``pgpt``: from ``amount`` on, patrons of ``profile`` and below get ``penalty`` at ``org_unit``."""

    org_unit: int
    profile: int
    penalty: int
    amount: Decimal

    def __post_init__(self) -> None:
        """Raise DataError for an amount that the column, ``NUMERIC(8,2)``, can't hold."""
        if abs(self.amount) >= _MILLION:
            raise DataError(
                "the field {field} of class {name} has a wrong value; expected: {what}",
                code="field-broken",
                values={"field": "threshold", "name": "pgpt", "what": Message("an amount of money")},
            )


@dataclass(frozen=True, slots=True)
class ThresholdLook:
    """One place where a threshold is looked for: an org unit and a profile (ids), and what was found there."""

    org_unit: int
    profile: int
    found: Threshold | None


def read_fines_penalties(gateway: Gateway, org_units: OrgUnits) -> dict[int, int]:
    """The id of the penalty that each org unit sets for fines: the stock one, or the one its settings name.

    One call (``explanation-008``).

    Raises:
        DataError: the setting names something else than a penalty's id.
    """
    try:
        answer = gateway.call(_SERVICE, _FOR_ALL, TOKEN, PENALTY_OVERRIDE).listing()
        values = {int(entry["org_unit"]): entry["summary"]["value"] for entry in answer}
        # Each org unit is there, be it with null (explanation-008): one that isn't may well have a penalty of its own.
        complete = len(values) == len(answer) and values.keys() >= {unit.id for unit in org_units}
    except (TypeError, KeyError, ValueError):
        values, complete = {}, False
    if not complete:
        raise DataError(
            "the ILS gave no usable values of the setting {name}",
            code="ils-setting-unusable",
            values={"name": PENALTY_OVERRIDE},
        )
    return {unit.id: _penalty(values[unit.id]) for unit in org_units}


def _penalty(value: object) -> int:
    """The penalty that a setting's value names: a number, or a number as a text."""
    if value is None:
        return PATRON_EXCEEDS_FINES
    try:
        # Settings are JSON texts in the database: a number (settings-001), or one in quotation marks.
        return int(str(value).strip('"'))
    except ValueError:
        raise DataError(
            "the setting {name} names no penalty by its id",
            advice="correct the setting in the ILS",
            code="ils-setting-without-penalty",
            values={"name": PENALTY_OVERRIDE},
        ) from None


class Thresholds:
    """Finds the threshold that counts for a patron. ``penalties`` are those of :func:`read_fines_penalties`."""

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
        """Take in more rows."""
        self._rows.update({(row.org_unit, row.profile, row.penalty): row for row in rows})

    def find(self, profile: int, home_library: int) -> Threshold | None:
        """The nearest threshold: up the profiles at the home library, then at each org unit above; None: none."""
        return next((look.found for look in self.looks(profile, home_library) if look.found is not None), None)

    def looks(self, profile: int, home_library: int) -> Iterator[ThresholdLook]:
        """Where the ILS looks for it, in its order, up to the place where it finds one."""
        penalty = self._penalties.get(home_library, PATRON_EXCEEDS_FINES)
        profiles = self._profiles.upwards(profile)
        # In the SQL function's order: all profiles at one org unit before the next above (penalties-update-019: a
        # profile's own 25.00 counts before everybody's 10.00).
        for org_unit in self._org_units.upwards(home_library):
            for ancestor in profiles:
                found = self._rows.get((org_unit, ancestor, penalty))
                yield ThresholdLook(org_unit, ancestor, found)
                if found is not None:
                    return


class ThresholdReader:
    """Reads thresholds, all at once where the account may, otherwise once for each home library asked about.

    Branch staff don't see the rows of the org units above in pcrud, without a word (``pcrud-080``), but do see them in
    ``grp_penalty_threshold.ranged.retrieve`` (``settings-023``).
    """

    def __init__(self, gateway: Gateway, org_units: OrgUnits, profiles: Profiles, penalties: Mapping[int, int]) -> None:
        self._gateway = gateway
        self._org_units = org_units
        self._thresholds = Thresholds((), penalties, org_units, profiles)
        result = gateway.call(_SERVICE, _WORK_PERMISSIONS, TOKEN, [VIEW_THRESHOLDS])
        permitted = result.mapping().get(VIEW_THRESHOLDS)  # without it, each library is asked about
        if not isinstance(permitted, list | None):
            raise result.unexpected(Message("a list of org units for each permission"))
        # Asked beforehand: rows that are hidden look the same as rows that aren't there, and a threshold that is
        # missed makes somebody's limit another.
        self._complete = org_units.root.id in (permitted or ())
        self._libraries: set[int] = set()
        self._refused: set[int] = set()
        if self._complete:
            rows = gateway.pcrud.all_columns("pgpt", _FIELDS)
            self._thresholds.add(Threshold(*row) for row in rows)

    @property
    def complete(self) -> bool:
        """Whether the account sees all thresholds, so that asking for one takes no call."""
        return self._complete

    def reading_with(self, gateway: Gateway) -> ThresholdReader:
        """What has been read so far, with the rest read through ``gateway``, which is of the same session."""
        reader = copy.copy(self)
        reader._gateway = gateway
        return reader

    def are_visible(self, home_library: int) -> bool:
        """Whether the account may see the thresholds that count for patrons with this home library."""
        if home_library in self._refused:
            return False  # asked once, and not for each patron of the library
        try:
            self._read(home_library)
        except PermissionDeniedError:
            self._refused.add(home_library)
            return False
        return True

    def find(self, profile: int, home_library: int) -> Threshold | None:
        """The threshold that counts for a patron, None where there is none.

        Raises:
            PermissionDeniedError: the account lacks VIEW_GROUP_PENALTY_THRESHOLD at the home library.
        """
        self._read(home_library)
        return self._thresholds.find(profile, home_library)

    def looks(self, profile: int, home_library: int) -> Iterator[ThresholdLook]:
        """Where the ILS looks for it, as :meth:`Thresholds.looks` has it; raises what :meth:`find` does."""
        self._read(home_library)
        return self._thresholds.looks(profile, home_library)

    def _read(self, home_library: int) -> None:
        if self._complete or home_library in self._libraries:
            return
        # The permission counts at the library asked about: refused for any other than one's own (settings-024).
        result = self._gateway.call(_SERVICE, _RANGED, TOKEN, home_library)
        above = self._org_units.upwards(home_library)
        records = self._gateway.pcrud.checked("pgpt", result.listing(), {"org_unit": above})
        self._thresholds.add(Threshold(row.org_unit, row.grp, row.penalty, row.threshold) for row in records)
        self._libraries.add(home_library)


class DifferenceKind(Enum):
    """How the ILS and the rule may differ. Those that concern as many patrons are listed in this order."""

    BLOCKS_NOTHING = "penalty-blocks-nothing"
    """The penalty that is set for fines is a mere note."""
    NO_THRESHOLD = "no-threshold"
    """There is a limit, and no threshold: nobody is blocked."""
    NO_LIMIT = "no-limit"
    """There is a threshold, and no limit."""
    BLOCKS_LATER = "blocks-later"
    """Who is over the limit is blocked only when they owe more."""
    BLOCKS_EARLIER = "blocks-earlier"
    """Who is within the limit is blocked."""
    BLOCKS_AT_LIMIT = "blocks-at-limit"
    """Only who owes the limit to the cent is blocked, and not over the limit: the ILS compares with "or more"."""
    COUNTS_FEWER = "counts-fewer-bills"
    """The threshold counts the bills of some libraries alone, the rule those of all."""


@dataclass(frozen=True, slots=True)
class RuleDifference:
    """One way in which the ILS blocks otherwise than the rule, with all whom it is about.

    ``limit`` is the rule's, ``threshold`` the ILS's (None: none), from which on ``penalty`` is set. ``rows`` are the
    places where the threshold stands, as ids of org unit and profile. ``libraries`` and ``profiles`` (ids) are those
    of the patrons concerned, ``pair_count`` how many pairs of both that makes.
    """

    kind: DifferenceKind
    limit: Limit
    threshold: Decimal | None
    penalty: PenaltyKind
    rows: frozenset[tuple[int, int]]
    libraries: frozenset[int]
    profiles: frozenset[int]
    pair_count: int

    @property
    def threshold_to_set(self) -> Decimal | None:
        """The threshold with which the ILS would block whom the rule means, None where it would block nobody."""
        return self.limit.least_over

    @property
    def example(self) -> Decimal:
        """What somebody owes whom the rule and the ILS see differently: the smallest such amount."""
        amounts = (self.threshold, self.limit.least_over)
        return min(amount for amount in amounts if amount is not None)


class ThresholdSource(Protocol):
    """Finds the ILS's threshold for a patron."""

    def find(self, profile: int, home_library: int) -> Threshold | None:
        """The threshold for patrons with this profile and home library (ids), None where there is none."""


class _Case(NamedTuple):
    """What makes two differences the same one. Limits are the same wherever they come from."""

    kind: DifferenceKind
    limit: Limit
    threshold: Decimal | None
    penalty: PenaltyKind


class _Place(NamedTuple):
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
    """The differences for patrons of these home libraries and profiles (ids), those that concern most pairs first.

    Seen from the home library, as when the ILS recalculates there: a check-out at another library may count for that
    one's threshold.

    Raises:
        PermissionDeniedError: the account may not see the thresholds of one of the libraries.
        DataError: the ILS names a profile or penalty that it doesn't list.
    """
    found: dict[_Case, list[_Place]] = {}
    everyone = list(profiles)
    for library in libraries:
        penalty = kinds.set_for_fines_at(library)
        for profile in everyone:
            threshold = thresholds.find(profile, library)
            rule = limits.limit_for(profile, library)
            row = None if threshold is None else (threshold.org_unit, threshold.profile)
            for kind in _kinds_of(rule, threshold, penalty, org_units):
                case = _Case(kind, rule.limit, None if threshold is None else threshold.amount, penalty)
                found.setdefault(case, []).append(_Place(library, profile, row))
    order = {kind: place for place, kind in enumerate(DifferenceKind)}
    differences = _differences(found)
    return sorted(differences, key=lambda one: (-one.pair_count, order[one.kind], one.example))


def _differences(found: Mapping[_Case, list[_Place]]) -> Iterator[RuleDifference]:
    for case, places in found.items():
        yield RuleDifference(
            *case,
            rows=frozenset(place.row for place in places if place.row is not None),
            libraries=frozenset(place.library for place in places),
            profiles=frozenset(place.profile for place in places),
            pair_count=len(places),
        )


def _kinds_of(
    rule: ResolvedLimit, threshold: Threshold | None, penalty: PenaltyKind, org_units: OrgUnits
) -> Iterator[DifferenceKind]:
    """How the two differ for one profile and library: in the amount, in what is counted, in both or not at all."""
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
        # Amounts are in whole cents on both sides (pgpt.threshold is numeric(8,2)), and the ILS compares with >=
        # (penalties-update-015): so the two agree where the threshold is the least amount over the limit.
        if threshold.amount == rule.limit.amount != over:
            yield DifferenceKind.BLOCKS_AT_LIMIT
        elif threshold.amount != over:
            yield DifferenceKind.BLOCKS_EARLIER if threshold.amount < over else DifferenceKind.BLOCKS_LATER
        if rule.scope is None and len(org_units.full_path(threshold.org_unit)) < len(org_units):
            yield DifferenceKind.COUNTS_FEWER
