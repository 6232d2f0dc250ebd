"""The audit: what stands in the ILS against the rule that only a member's own fines block that member."""

from __future__ import annotations

from datetime import UTC, datetime

from evergreen_groups.access import VIEW_USER, Access
from evergreen_groups.audit_groups import AccidentalGroupSearch
from evergreen_groups.audit_search import BlockSearch
from evergreen_groups.findings import Audit, AuditCriteria
from evergreen_groups.gateway import Gateway
from evergreen_groups.groups import GroupReader
from evergreen_groups.org_units import OrgUnits
from evergreen_groups.penalties import Penalties
from evergreen_groups.progress import Progress, silent


def build_audit(gateway: Gateway, criteria: AuditCriteria, progress: Progress = silent) -> Audit:
    """Go over everyone who owes something or has a penalty, and over the groups, set by set.

    Raises:
        ConfigurationError: ``criteria`` names an org unit that isn't there.
        PermissionDeniedError: the account sees no patrons.
        GatewayError: the gateway can't be reached or gives no usable answer.
    """
    generated_at = datetime.now(UTC).astimezone()
    gateway.idl("au", "aou", "mous", "ac", "ausp", "csp", "aua")
    org_units = OrgUnits.read(gateway)
    chosen = org_units.named(criteria.orgs)
    access = Access.read(gateway, org_units)
    homes = chosen if access.everywhere or not chosen else chosen & access.viewable
    visible = homes if access.everywhere else (homes or access.viewable)
    reader = GroupReader(gateway, org_units, access, criteria.limit)
    penalties = Penalties.read(gateway, org_units)
    progress("reading penalties", len(penalties.names))
    people = BlockSearch(gateway, org_units, reader, penalties, criteria.limit).run(visible)
    progress("reading people", len(people))
    groups = AccidentalGroupSearch(gateway, reader, access, generated_at, progress).run(chosen)
    notes = (
        ()
        if access.everywhere
        else (
            f"Incomplete: the account lacks {VIEW_USER} at {access.missing_names}, so patrons at home there are not "
            "looked at, and of groups with such members only what the others show.",
        )
    )
    return Audit(generated_at, gateway.url, criteria, tuple(people), tuple(groups), notes, access.everywhere)
