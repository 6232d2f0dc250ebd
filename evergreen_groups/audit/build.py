"""The audit: what stands in the ILS against the rule that only a member's own fines block that member."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, TypeAlias

from evergreen_groups.audit.findings import Audit, AuditCriteria, FindingKind
from evergreen_groups.audit.store import FindingStore, StoredFindings
from evergreen_groups.errors import PermissionDeniedError
from evergreen_groups.groups import GroupReader, without_collecting
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
    """What is read once for the whole audit, where to look, and what takes the findings.

    ``found`` gets what a search finds, as it comes; ``top`` says how many of each kind will be listed (None: all), so
    that what is only shown needn't be read of the others.
    ``chosen`` are the org units asked for (ids, none: everywhere), and ``homes`` those of them whose patrons the
    account sees. ``bounds`` are the lowest and the highest limit of anybody; ``now`` is when reading began (aware).
    ``institutions`` are the names of institutions' profiles by id. ``to_keep`` are groups that are to be kept as they
    are, with their members when that was decided (ids by number); searches add those that they left out for that to
    ``left_out``, and those whose members have changed since to ``changed``. ``ils_limits`` are the ILS's own limits, of
    the ``thresholds``. Searches add what they find out about these to ``found_thresholds``, and to
    ``hidden_thresholds_at`` the home libraries (ids) whose thresholds the account can't see.
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
    left_out: set[int] = field(default_factory=set)
    changed: set[int] = field(default_factory=set)
    found_thresholds: list[ThresholdFinding] = field(default_factory=list)
    hidden_thresholds_at: set[int] = field(default_factory=set)


Search: TypeAlias = "Callable[[SearchContext], None]"
"""Finds everything of one kind or several, and adds it to ``found``; raises what the gateway does."""


@dataclass(frozen=True, slots=True)
class LimitBounds:
    """The ``lowest`` limit of anybody (None: nobody has one) and the ``highest`` (None: somebody has none).

    ``scoped`` says that some limits count only what is owed at some libraries; ``uniform`` that there is one for all.
    """

    lowest: Limit | None
    highest: Limit | None
    scoped: bool = False
    uniform: bool = False

    @classmethod
    def of(cls, limits: Limits, profiles: Iterable[int], libraries: Iterable[int]) -> LimitBounds:
        """The bounds of the limits of patrons with these profiles and home libraries (ids)."""
        kinds = list(profiles)
        return cls.among([limits.limit_for(profile, library) for library in libraries for profile in kinds])

    @classmethod
    def among(cls, resolved: Iterable[ResolvedLimit]) -> LimitBounds:
        """The bounds of these limits."""
        found = set(resolved)
        amounts = sorted((one.limit for one in found if one.limit.amount is not None), key=_strictness)
        return cls(
            lowest=amounts[0] if amounts else None,
            # Somebody without a limit is never over one, so nobody may be left out as being over the highest.
            highest=amounts[-1] if amounts and all(one.limit.amount is not None for one in found) else None,
            scoped=any(one.scope is not None for one in found),
        )

    @classmethod
    def only(cls, limit: Limit) -> LimitBounds:
        """The bounds where everybody has the same limit."""
        known = None if limit.amount is None else limit
        return cls(known, known, uniform=True)


def _strictness(limit: Limit) -> tuple[object, bool]:
    # At one amount, reaching it is stricter than exceeding it.
    return limit.amount, limit.comparison is Comparison.EXCEEDS


def build_audit(
    gateway: Gateway,
    criteria: AuditCriteria,
    progress: Progress = silent,
    *,
    policy: PolicySettings | None = None,
    to_keep: Mapping[int, frozenset[int]] | None = None,
) -> Audit:
    """Go over everyone who owes something or has a penalty, and over the groups, set by set.

    ``policy`` says which limits patrons have where ``criteria`` names none for all of them. ``to_keep`` are groups that
    needn't be listed as accidental or for review, with the ids of their members, by number: one whose members have
    changed since is.

    Raises:
        ConfigurationError: ``criteria`` names an org unit or a profile that isn't there.
        PermissionDeniedError: the account sees no patrons, or none at the org units asked for.
        GatewayError: the gateway can't be reached or gives no usable answer.
    """
    generated_at = datetime.now(UTC).astimezone()
    # All classes in one request, rather than one for each when it is first met.
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
    if settings.uniform:
        bounds = LimitBounds.only(settings.as_limit())
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
    with without_collecting():
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
        (*_notes(access), *_notes_on_thresholds(context)),
        access.everywhere,
        to_keep=tuple(sorted(context.left_out)),
        changed=tuple(sorted(context.changed)),
        counts=None if criteria.top is None else counts,
        thresholds=tuple(context.found_thresholds),
    )


def _institutions(profiles: Profiles, names: Sequence[str]) -> dict[int, str]:
    """The named profiles and all below them, with their names, by id."""
    named = {profiles.find(name) for name in names}
    return {profile: profiles.name(profile) for profile in profiles if named.intersection(profiles.upwards(profile))}


def _homes(criteria: AuditCriteria, chosen: Set[int], access: Access) -> Set[int]:
    """The home libraries to look at, by id; none: all of them."""
    if access.everywhere:
        return chosen
    # Naming the libraries that the account sees spares the permission function 2 ms for each patron of the others.
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
    """What the audit can't say, because the account doesn't see everybody."""
    if access.everywhere:
        return ()
    return (
        Message(
            "Incomplete: the account lacks {permission} at {libraries}, so their patrons are not looked at, and of "
            "groups with such members only what the others show.",
            values={"permission": VIEW_USER, "libraries": access.missing_names},
        ),
    )


def _notes_on_thresholds(context: SearchContext) -> tuple[Message, ...]:
    """Say for which libraries the thresholds aren't visible, if patrons were found there."""
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
    """Have all kinds searched for, those together that are found together."""
    for name in dict.fromkeys(kind.search for kind in FindingKind):
        search: Search = resolve_name(name)
        search(context)
