"""Build the audit: compare what is in the ILS with the rule that only a member's own fines block that member."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Set
from datetime import UTC, datetime
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from evergreen_groups.audit.findings import Audit, AuditCriteria, FindingKind
from evergreen_groups.audit.queries import id_ranges
from evergreen_groups.audit.search import LimitBounds, SearchContext
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
    Thresholds,
)
from evergreen_groups.message import Message, Progress, silent
from evergreen_groups.settings import PolicySettings

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway


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
    access = Access.read(gateway, org_units)
    homes = _homes(criteria, chosen, access)
    settings = policy or PolicySettings()
    if criteria.limit is not None:
        settings = PolicySettings(criteria.limit.amount, criteria.limit.comparison)
    reader = GroupReader(gateway, org_units, access, progress=progress)
    penalty_kinds, profiles = gateway.in_parallel(
        lambda: PenaltyKinds.read(gateway, org_units),
        lambda: Profiles.read(gateway),
    )
    thresholds = Thresholds.read(gateway, org_units, profiles, penalty_kinds.fines_penalties)
    limits = Limits(settings, org_units, profiles, thresholds)
    # With the same limit for all patrons, there is no need to look up thresholds.
    if settings.uniform:
        known = settings.as_limit() if settings.as_limit().amount is not None else None
        bounds = LimitBounds(known, known, uniform=True)
    else:
        libraries = homes or [unit.id for unit in org_units]
        bounds = LimitBounds.of(limits.limit_for(profile, library) for library in libraries for profile in profiles)
    named = {profiles.find(name) for name in criteria.institution_profiles}
    institutions = {id: profiles.name(id) for id in profiles if named.intersection(profiles.upwards(id))}
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
        id_ranges=id_ranges(_highest_id(gateway, homes)),
        now=generated_at,
        progress=progress,
        adults=criteria.adults,
        institutions=institutions,
        to_keep=to_keep or {},
        found=FindingStore(),
        top=criteria.top,
    )
    with gc_paused():
        for search in dict.fromkeys(kind.search for kind in FindingKind):  # one may find several kinds
            resolve_name(search)(context)
    counts = context.found.counts()
    of_patrons = {kind: count for kind, count in counts.items() if not kind.about_groups}
    of_groups = {kind: count for kind, count in counts.items() if kind.about_groups}
    return Audit(
        generated_at,
        gateway.url,
        criteria,
        StoredFindings(context.found, of_patrons, criteria.top),
        StoredFindings(context.found, of_groups, criteria.top),
        tuple(_notes(context)),
        access.everywhere,
        to_keep=tuple(sorted(context.left_out_groups)),
        changed=tuple(sorted(context.changed_groups)),
        counts=None if criteria.top is None else counts,
        thresholds=tuple(context.found_thresholds),
    )


def _homes(criteria: AuditCriteria, chosen: Set[int], access: Access) -> Set[int]:
    """Return the ids of the home libraries to search, empty for all."""
    if access.everywhere:
        return chosen
    # Naming the visible libraries saves a permission check of 2 ms for each patron of the others.
    homes = access.visible_orgs & chosen if chosen else access.visible_orgs
    if chosen and not homes:
        raise PermissionDeniedError(
            "the account can't see any patrons at {places}: it lacks {permission}",
            advice="grant it there",
            code="no-patrons-visible-there",
            values={"places": ", ".join(criteria.orgs), "permission": VIEW_USER},
            textcode="PERM_FAILURE",
            number=5000,
            permission=VIEW_USER,
        )
    return homes


def _highest_id(gateway: Gateway, homes: Collection[int]) -> int:
    """Return the highest id of a patron to search, 0 if there is none."""
    where = {"deleted": "f", "id": {">": 0}, **({"home_ou": sorted(homes)} if homes else {})}
    order = [{"class": "au", "field": "id", "direction": "desc"}]
    found = gateway.pcrud.search("au", where, select=("id",), order_by=order, limit=1)
    return found[0].id if found else 0


def _notes(context: SearchContext) -> Iterator[Message]:
    """Say what the audit leaves out because the account doesn't see all patrons, or all thresholds."""
    if not context.access.everywhere:
        yield Message(
            "Incomplete: the account lacks {permission} at {libraries}, so it can't see patrons there.",
            values={"permission": VIEW_USER, "libraries": context.access.missing_names},
        )
    if context.hidden_thresholds_at:
        names = [unit.shortname for unit in context.org_units if unit.id in context.hidden_thresholds_at]
        yield Message(
            "Incomplete: thresholds for {libraries} can't be read. Grant {permission} with depth 0.",
            values={"libraries": ", ".join(names), "permission": VIEW_THRESHOLDS},
        )
