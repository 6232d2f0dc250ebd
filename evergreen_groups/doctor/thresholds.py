"""Compares Evergreen's thresholds for blocks with the rule, and describes each kind of difference with an example."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from decimal import Decimal
from enum import Enum
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from evergreen_groups.doctor.account import name_places, name_some
from evergreen_groups.doctor.finding import ok, warning
from evergreen_groups.ils import (
    Limits,
    PenaltyKind,
    PenaltyKinds,
    Profiles,
    Threshold,
    Thresholds,
    permissions,
    read_fines_penalties,
)
from evergreen_groups.language import name_key
from evergreen_groups.message import Message
from evergreen_groups.policy import Comparison, Limit

if TYPE_CHECKING:
    from evergreen_groups.doctor.finding import Finding, Subject
    from evergreen_groups.ils import OrgUnits, ResolvedLimit


class DifferenceKind(Enum):
    """How the ILS's thresholds and the rule can differ, by the finding's code. Ties in frequency go by this order."""

    BLOCKS_NOTHING = "penalty-blocks-nothing"
    NO_THRESHOLD = "no-threshold"
    NO_LIMIT = "no-limit"
    BLOCKS_LATER = "blocks-later"
    BLOCKS_EARLIER = "blocks-earlier"
    BLOCKS_AT_LIMIT = "blocks-at-limit"
    """A patron who owes exactly the limit is blocked but not over it, because the ILS compares with >=."""
    COUNTS_FEWER = "counts-fewer-bills"


_Case = tuple[DifferenceKind, Limit, Decimal | None, PenaltyKind]


class RuleDifference(NamedTuple):
    """A difference between the ILS's blocks and the rule, with all patrons that it affects."""

    kind: DifferenceKind
    limit: Limit
    """The rule's limit."""
    threshold: Decimal | None
    """The ILS's threshold, or None. From this amount on, the ILS sets ``penalty``."""
    penalty: PenaltyKind
    affected: Mapping[tuple[int, int], Threshold | None]
    """The row of the threshold by the home library and profile (ids) of the patrons that it applies to."""

    @property
    def rows(self) -> frozenset[tuple[int, int]]:
        """Where the threshold is set: pairs of org unit and profile ids."""
        return frozenset((row.org_unit, row.profile) for row in self.affected.values() if row is not None)

    @property
    def libraries(self) -> frozenset[int]:
        """The home libraries of affected patrons (ids)."""
        return frozenset(library for library, _profile in self.affected)

    @property
    def profiles(self) -> frozenset[int]:
        """The profiles of affected patrons (ids)."""
        return frozenset(profile for _library, profile in self.affected)

    @property
    def pair_count(self) -> int:
        """The number of affected pairs of home library and profile."""
        return len(self.affected)

    @property
    def example(self) -> Decimal:
        """The smallest balance on which the rule and the ILS disagree."""
        amounts = (self.threshold, self.limit.least_over)
        return min(amount for amount in amounts if amount is not None)

    @staticmethod
    def find(
        limits: Limits,
        thresholds: Thresholds,
        kinds: PenaltyKinds,
        org_units: OrgUnits,
        *,
        libraries: Iterable[int],
        profiles: Iterable[int],
    ) -> list[RuleDifference]:
        """Find the differences for patrons of these home libraries and profiles (ids), the most frequent first.

        The result holds for recalculations at the home library. A checkout at another library is subject to that
        library's threshold. Raises PermissionDeniedError if the account may not see the thresholds of one of the
        libraries, and DataError if the ILS refers to a profile or penalty that it doesn't list.
        """
        found: dict[_Case, dict[tuple[int, int], Threshold | None]] = defaultdict(dict)
        for library, profile in product(libraries, profiles):
            penalty, threshold = kinds.set_for_fines_at(library), thresholds.find(profile, library)
            rule = limits.limit_for(profile, library)
            amount = None if threshold is None else threshold.amount
            for kind in _differences(rule, threshold, penalty, org_units):
                found[kind, rule.limit, amount, penalty][library, profile] = threshold
        differences = [RuleDifference(*case, affected) for case, affected in found.items()]
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
        # Both are in whole cents, and the ILS compares with >=. So they agree at the smallest amount over the limit.
        if threshold.amount == rule.limit.amount != over:
            yield DifferenceKind.BLOCKS_AT_LIMIT
        elif threshold.amount != over:
            yield DifferenceKind.BLOCKS_EARLIER if threshold.amount < over else DifferenceKind.BLOCKS_LATER
        if rule.scope is None and len(org_units.full_path(threshold.org_unit)) < len(org_units):
            yield DifferenceKind.COUNTS_FEWER


def describe_rule(limit: Limit) -> Message:
    if limit.amount is None:
        return Message("no limit")
    if limit.comparison is Comparison.REACHES:
        return Message("{amount} or more", values={"amount": limit.amount})
    return Message("more than {amount}", values={"amount": limit.amount})


def describe_rows(org_units: OrgUnits, rows: Iterable[tuple[int, int]], profiles: Profiles) -> list[str]:
    """Name the profiles and libraries of thresholds: pairs of org unit and profile ids."""
    return name_some(
        [
            Message(
                "{profile} at {library}",
                values={"profile": profiles.name(profile), "library": org_units.shortname(org_unit)},
            )
            for org_unit, profile in sorted(rows)
        ]
    )


def describe_profiles(some: Collection[int], profiles: Profiles) -> Message:
    """Describe the profiles concerned: their number, and their names unless it is all of them."""
    if len(some) == len(profiles):
        return Message("all profiles ({count:,})", values={"count": len(some)})
    names = sorted(map(profiles.name, some), key=name_key)
    return Message(
        "{count:,} of {all:,} profiles: {names}",
        values={"count": len(some), "all": len(profiles), "names": name_some(names)},
    )


def describe_libraries(some: Collection[int], every: int, org_units: OrgUnits) -> Message:
    """Describe the org units concerned: their number, and their names unless it is all ``every`` of them."""
    if len(some) == every:
        return Message("all org units ({count:,})", values={"count": every})
    return Message(
        "{count:,} of {all:,} org units: {names}",
        values={"count": len(some), "all": every, "names": name_places(org_units, set(some))},
    )


_BLOCKED_EARLY = (
    "Evergreen blocks at {threshold}; limit: {rule}. A patron who owes {example} is blocked in Evergreen, but not "
    "over the limit ({profile_part}; {library_part})"
)
_SET_THRESHOLD = "set the threshold of {rows} to {owed} in Evergreen (Group Penalty Thresholds), or change [policy]"

_DIFFERENCES = {
    DifferenceKind.BLOCKS_AT_LIMIT: warning(
        "blocks-at-limit",
        _BLOCKED_EARLY,
        "set the threshold of {rows} to {owed} in Evergreen (Group Penalty Thresholds), or set [policy] comparison "
        '= "reaches"',
        "policy.comparison",
    ),
    DifferenceKind.BLOCKS_EARLIER: warning("blocks-earlier", _BLOCKED_EARLY, _SET_THRESHOLD, "policy.limit"),
    DifferenceKind.BLOCKS_LATER: warning(
        "blocks-later",
        "Evergreen blocks at {threshold}; limit: {rule}. A patron who owes {example} is over the limit, but not "
        "blocked in Evergreen ({profile_part}; {library_part})",
        _SET_THRESHOLD,
        "policy.limit",
    ),
    DifferenceKind.NO_THRESHOLD: warning(
        "no-threshold",
        "Evergreen has no threshold for {penalty}; limit: {rule}. A patron who owes {example} is over the "
        "limit, but never blocked in Evergreen ({profile_part}; {library_part})",
        "add a threshold of {owed} for {penalty} in Evergreen (Group Penalty Thresholds), or change [policy]",
        "policy.limit",
    ),
    DifferenceKind.NO_LIMIT: warning(
        "no-limit",
        _BLOCKED_EARLY,
        "remove the threshold of {rows} in Evergreen (Group Penalty Thresholds), or set [policy] limit",
        "policy.limit",
    ),
    DifferenceKind.BLOCKS_NOTHING: warning(
        "penalty-blocks-nothing",
        "Evergreen's penalty for fines, {penalty}, blocks nothing; limit: {rule}. A patron who owes {owed} is "
        "over the limit, but not blocked in Evergreen ({profile_part}; {library_part})",
        "make {penalty} block something in Evergreen (Standing Penalties), or name another penalty in {setting}",
        "policy.limit",
    ),
    DifferenceKind.COUNTS_FEWER: warning(
        "counts-fewer-bills",
        "Evergreen's threshold counts only bills at, above and below its own org unit, the rule all bills. A "
        "patron from {threshold_place} who owes {owed} at {elsewhere} is over the limit, but not blocked in "
        "Evergreen ({profile_part}; {library_part})",
        'replace the threshold of {rows} by one at {root}, or set [policy] limit = "ils"',
        "policy.limit",
    ),
}
_THRESHOLDS_NOT_VISIBLE = warning(
    "thresholds-not-visible",
    "the account can't see Evergreen's thresholds for patrons of {places}, so neither doctor nor the audit can "
    "compare them with the rule",
    "grant {permission} at depth 0, with the top org unit as a working location",
)
_MORE_DIFFERENCES = warning(
    "more-differences",
    "more differences, which affect fewer patrons: {count:,}",
    "correct the ones above, then run doctor again",
    "policy.limits",
)
MOST = 6
"""Maximum number of differences with a finding each. Those that concern most patrons come first."""


class _Read(NamedTuple):
    """The thresholds, what they refer to, and the home libraries (ids) whose thresholds the account sees."""

    profiles: Profiles
    penalties: Mapping[int, int]
    thresholds: Thresholds
    libraries: frozenset[int]

    @classmethod
    def of(cls, subject: Subject) -> _Read:
        gateway, org_units = subject.gateway, subject.org_units
        profiles = Profiles.read(gateway)
        penalties = read_fines_penalties(gateway, org_units)
        reader = Thresholds.read(gateway, org_units, profiles, penalties)
        if reader.complete:
            return cls(profiles, penalties, reader, org_units.ids)
        # Without the permission everywhere, compare only where the account can see the thresholds.
        view = permissions.VIEW_THRESHOLDS
        return cls(profiles, penalties, reader, permissions.orgs_by_permission(gateway, org_units, [view])[view])


def describe_thresholds(subject: Subject) -> list[Message]:
    """Say which amounts of own fines reach Evergreen's thresholds, and where. Empty if the account sees none."""
    profiles, _penalties, reader, libraries = _Read.of(subject)
    rows: dict[Decimal, set[tuple[int, int]]] = defaultdict(set)
    for library, profile in product(sorted(libraries), profiles):
        if (found := reader.find(profile, library)) is not None:
            rows[found.amount].add((found.org_unit, found.profile))
    if libraries and not rows:
        return [Message("Evergreen has no threshold for fines.")]
    # Evergreen compares with >= (actor.calculate_system_penalties).
    return [
        Message(
            "Evergreen's threshold for fines: {amount} or more ({rows}).",
            values={"amount": amount, "rows": describe_rows(subject.org_units, places, profiles)},
        )
        for amount, places in sorted(rows.items())
    ]


def thresholds(subject: Subject) -> Iterator[Finding]:
    """Evergreen blocks patrons at the rule's limit, as far as the account may view the thresholds."""
    gateway, org_units = subject.gateway, subject.org_units
    profiles, penalties, reader, libraries = _Read.of(subject)
    if hidden := subject.visible_orgs - libraries:
        places = name_places(org_units, set(hidden))
        yield _THRESHOLDS_NOT_VISIBLE(places=places, permission=permissions.VIEW_THRESHOLDS)
    if not libraries:
        return
    found = RuleDifference.find(
        Limits.read(gateway, subject.settings.policy, org_units, penalties),
        reader,
        PenaltyKinds.read(gateway, org_units, penalties),
        org_units,
        libraries=sorted(libraries),
        profiles=profiles,
    )
    for difference in found[:MOST]:
        yield _describe_difference(difference, profiles, org_units, len(libraries))
    if len(found) > MOST:
        yield _MORE_DIFFERENCES(count=len(found) - MOST)
    if not found:
        everywhere = describe_libraries(libraries, len(org_units), org_units)
        yield ok("Evergreen's thresholds match the rule at {library_part}", library_part=everywhere)


def _describe_difference(
    difference: RuleDifference, profiles: Profiles, org_units: OrgUnits, library_count: int
) -> Finding:
    """Describe a difference in the words for its kind. ``library_count`` is the number of org units compared."""
    place = min((org_unit for org_unit, _profile in difference.rows), default=org_units.root.id)
    scope = org_units.full_path(place)
    # The highest id is usually a branch rather than a system, because ids are assigned from the top down.
    elsewhere = max((unit.id for unit in org_units if unit.id not in scope), default=place)
    values = {
        "rule": describe_rule(difference.limit),
        "threshold": difference.threshold,
        "example": difference.example,
        "owed": difference.limit.least_over,
        "penalty": difference.penalty.name,
        "rows": describe_rows(org_units, difference.rows, profiles),
        "profile_part": describe_profiles(difference.profiles, profiles),
        "profile_count": len(difference.profiles),
        "library_part": describe_libraries(difference.libraries, library_count, org_units),
        "library_count": len(difference.libraries),
        "threshold_place": org_units.shortname(place),
        "elsewhere": org_units.shortname(elsewhere),
        "root": org_units.root.shortname,
        "setting": PenaltyKinds.SETTING,
    }
    return _DIFFERENCES[difference.kind](**values)
