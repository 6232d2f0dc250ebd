"""Where the ILS's thresholds and the rule differ, for all home libraries and profiles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from evergreen_groups.ils.limits import LimitFinder, ResolvedLimit
    from evergreen_groups.ils.org_units import OrgUnits
    from evergreen_groups.ils.penalties import PenaltyKind, PenaltyKinds
    from evergreen_groups.ils.thresholds import Threshold, Thresholds
    from evergreen_groups.policy import Limit


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
    thresholds: Thresholds,
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
