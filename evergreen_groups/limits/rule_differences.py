"""Where the ILS blocks otherwise than the rule says: its thresholds against the limit, for each profile and library."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from evergreen_groups.ils import OrgUnits, PenaltyKind, PenaltyKinds, Threshold
    from evergreen_groups.limits.limits import LimitFinder, ResolvedLimit
    from evergreen_groups.policy import Limit


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
