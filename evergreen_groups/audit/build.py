"""Build the audit: compare what is in the ILS with the rule that only a member's own fines block that member."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, TypeAlias

from evergreen_groups.audit.findings import Audit, AuditCriteria, FindingKind
from evergreen_groups.audit.store import FindingStore, StoredFindings
from evergreen_groups.errors import PermissionDeniedError
from evergreen_groups.groups import GroupReader, gc_paused
from evergreen_groups.ils import (
    VIEW_THRESHOLDS,
    VIEW_USER,
    Access,
    Limits,
    OrgUnits,
    PenaltyKinds,
    Profiles,
    ThresholdReader,
    highest_view_user_orgs,
)
from evergreen_groups.message import Message
from evergreen_groups.policy import Comparison, Limit
from evergreen_groups.progress import Progress, silent
from evergreen_groups.settings import PolicySettings

if TYPE_CHECKING:
    from collections.abc import Sequence, Set

    from evergreen_groups.audit.findings import ThresholdFinding
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups import AdultRule
    from evergreen_groups.ils import ResolvedLimit


@dataclass(frozen=True, slots=True)
class SearchContext:
    """What all searches share: data that is read once, where to search, and the collectors of results.

    ``chosen`` are the requested org units (ids; empty: everywhere), ``homes`` those of them whose patrons the account
    sees. ``bounds`` are the lowest and highest limit of any patron. ``ils_limits`` are the ILS's own limits, from its
    ``thresholds``. ``now`` is when reading began (aware). ``institutions`` are names of institution profiles by id.
    ``to_keep`` are groups to keep as they are, with the members' ids at the time.

    Searches add findings to ``found``. ``top`` is how many of each kind will be listed (None: all), so that searches
    can skip reading what isn't listed. They also add to ``left_out_groups`` the groups left out because of ``to_keep``,
    to ``changed_groups`` those whose members have changed since, to ``found_thresholds`` findings about thresholds, and
    to ``hidden_thresholds_at`` the home libraries (ids) whose thresholds the account can't see.
    """

    gateway: Gateway
    org_units: OrgUnits
    access: Access
    reader: GroupReader
    penalty_kinds: PenaltyKinds
    limits: Limits
    ils_limits: Limits
    thresholds: ThresholdReader
    profiles: Profiles
    bounds: LimitBounds
    chosen: Collection[int]
    homes: Collection[int]
    now: datetime
    progress: Progress
    adults: AdultRule
    institutions: Mapping[int, str]
    to_keep: Mapping[int, frozenset[int]]
    found: FindingStore
    top: int | None = None
    left_out_groups: set[int] = field(default_factory=set)
    changed_groups: set[int] = field(default_factory=set)
    found_thresholds: list[ThresholdFinding] = field(default_factory=list)
    hidden_thresholds_at: set[int] = field(default_factory=set)


Search: TypeAlias = "Callable[[SearchContext], None]"
"""Adds all findings of one or several kinds to ``found``. Raises the gateway's errors."""


@dataclass(frozen=True, slots=True)
class LimitBounds:
    """The ``lowest`` and the ``highest`` limit of any patron.

    ``lowest`` is None if no patron has a limit, ``highest`` if some have none. ``scoped`` means that some limits count
    only what is owed at certain libraries, ``uniform`` that all patrons have the same limit.
    """

    lowest: Limit | None
    highest: Limit | None
    scoped: bool = False
    uniform: bool = False

    @classmethod
    def of(cls, limits: Limits, profiles: Iterable[int], libraries: Iterable[int]) -> LimitBounds:
        """Return the bounds for patrons with these profiles and home libraries (ids)."""
        kinds = list(profiles)
        return cls.of_limits([limits.limit_for(profile, library) for library in libraries for profile in kinds])

    @classmethod
    def of_limits(cls, limits: Iterable[ResolvedLimit]) -> LimitBounds:
        """Return the bounds of these limits."""
        found = set(limits)
        amounts = sorted((limit.limit for limit in found if limit.limit.amount is not None), key=_strictness)
        return cls(
            lowest=amounts[0] if amounts else None,
            # A patron without a limit is never over it, so there is no highest limit that excludes patrons from a
            # search.
            highest=amounts[-1] if amounts and all(limit.limit.amount is not None for limit in found) else None,
            scoped=any(limit.scope is not None for limit in found),
        )

    @classmethod
    def uniform_limit(cls, limit: Limit) -> LimitBounds:
        """Return the bounds if all patrons have the same limit."""
        known = None if limit.amount is None else limit
        return cls(known, known, uniform=True)


def _strictness(limit: Limit) -> tuple[object, bool]:
    # For the same amount, a limit that blocks on reaching it is stricter than one that blocks on exceeding it.
    return limit.amount, limit.comparison is Comparison.EXCEEDS


def build_audit(
    gateway: Gateway,
    criteria: AuditCriteria,
    progress: Progress = silent,
    *,
    policy: PolicySettings | None = None,
    to_keep: Mapping[int, frozenset[int]] | None = None,
) -> Audit:
    """Audit all patrons who owe anything or have a penalty, and all groups.

    ``policy`` has the limits if ``criteria`` has none. ``to_keep`` are groups not to list as accidental or for review,
    with their members' ids, by number. Groups whose members have changed since are listed all the same.

    Raises:
        ConfigurationError: ``criteria`` names an unknown org unit or profile.
        PermissionDeniedError: the account sees no patrons, or none at the requested org units.
        GatewayError: the gateway can't be reached or gives no usable answer.
    """
    generated_at = datetime.now(UTC).astimezone()
    # Load all classes in one request instead of one at a time.
    gateway.idl("au", "aou", "mous", "ac", "ausp", "csp", "aua", "pgt", "pgpt")
    org_units = OrgUnits.read(gateway)
    chosen = org_units.named(criteria.orgs)
    access = Access.read(gateway, org_units, highest_view_user_orgs(gateway))
    homes = _homes(criteria, chosen, access)
    settings = policy or PolicySettings()
    if criteria.limit is not None:
        settings = PolicySettings(criteria.limit.amount, criteria.limit.comparison)
    reader = GroupReader(gateway, org_units, access, progress=progress)
    readers: tuple[Callable[[], Any], ...] = (
        lambda: PenaltyKinds.read(gateway, org_units),
        lambda: Profiles.read(gateway),
    )
    penalty_kinds, profiles = gateway.map(lambda read: read(), readers)
    thresholds = ThresholdReader(gateway, org_units, profiles, penalty_kinds.fines_penalties)
    limits = Limits(settings, org_units, profiles, thresholds)
    # With the same limit for all patrons, there is no need to look up thresholds.
    if settings.uniform:
        bounds = LimitBounds.uniform_limit(settings.as_limit())
    else:
        bounds = LimitBounds.of(limits, profiles, homes or [unit.id for unit in org_units])
    context = SearchContext(
        gateway=gateway,
        org_units=org_units,
        access=access,
        reader=reader,
        penalty_kinds=penalty_kinds,
        limits=limits,
        ils_limits=Limits(PolicySettings(limit="ils"), org_units, profiles, thresholds),
        thresholds=thresholds,
        profiles=profiles,
        bounds=bounds,
        chosen=chosen,
        homes=homes,
        now=generated_at,
        progress=progress,
        adults=criteria.adults,
        institutions=_institutions(profiles, criteria.institution_profiles),
        to_keep=to_keep or {},
        found=FindingStore(),
        top=criteria.top,
    )
    with gc_paused():
        _search(context)
    counts = context.found.counts()
    of_patrons = {kind: count for kind, count in counts.items() if not kind.about_groups}
    of_groups = {kind: count for kind, count in counts.items() if kind.about_groups}
    return Audit(
        generated_at,
        gateway.url,
        criteria,
        StoredFindings(context.found, of_patrons, criteria.top),
        StoredFindings(context.found, of_groups, criteria.top),
        (*_notes(access), *_threshold_notes(context)),
        access.everywhere,
        to_keep=tuple(sorted(context.left_out_groups)),
        changed=tuple(sorted(context.changed_groups)),
        counts=None if criteria.top is None else counts,
        thresholds=tuple(context.found_thresholds),
    )


def _institutions(profiles: Profiles, names: Sequence[str]) -> dict[int, str]:
    """Return the names of the named profiles and all profiles below, by id."""
    named = {profiles.find(name) for name in names}
    return {profile: profiles.name(profile) for profile in profiles if named.intersection(profiles.upwards(profile))}


def _homes(criteria: AuditCriteria, chosen: Set[int], access: Access) -> Set[int]:
    """Return the ids of the home libraries to search, empty for all."""
    if access.everywhere:
        return chosen
    # Naming the visible libraries saves a permission check of 2 ms for each patron of the others.
    homes = access.visible_orgs & chosen if chosen else access.visible_orgs
    if chosen and not homes:
        raise PermissionDeniedError(
            "the account sees no patrons at {places}",
            advice="grant the account {permission} there",
            code="no-patrons-visible-there",
            values={"places": ", ".join(criteria.orgs), "permission": VIEW_USER},
            textcode="PERM_FAILURE",
            number=5000,
            permission=VIEW_USER,
        )
    return homes


def _notes(access: Access) -> tuple[Message, ...]:
    """Say what the audit leaves out because the account doesn't see all patrons."""
    if access.everywhere:
        return ()
    return (
        Message(
            "Incomplete: the account lacks {permission} at {libraries}, so their patrons are not looked at, and of "
            "groups with such members only what the others show.",
            values={"permission": VIEW_USER, "libraries": access.missing_names},
        ),
    )


def _threshold_notes(context: SearchContext) -> tuple[Message, ...]:
    """Name the libraries whose thresholds aren't visible, if the audit found patrons there."""
    if not context.hidden_thresholds_at:
        return ()
    names = [unit.shortname for unit in context.org_units if unit.id in context.hidden_thresholds_at]
    return (
        Message(
            "Evergreen's thresholds aren't visible to the account for patrons of {libraries}, so recalculating may "
            "change nothing for some of them: grant {permission} with depth 0.",
            values={"libraries": ", ".join(names), "permission": VIEW_THRESHOLDS},
        ),
    )


def _search(context: SearchContext) -> None:
    """Run each search once, even if it finds several kinds."""
    for name in dict.fromkeys(kind.search for kind in FindingKind):
        search: Search = resolve_name(name)
        search(context)
