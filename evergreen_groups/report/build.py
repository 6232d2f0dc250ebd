"""The nightly report: groups whose members together owe a lot, for information only."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from evergreen_groups.groups import Group, GroupReader, GroupSearch, HighFines, PatronRow
from evergreen_groups.ils import VIEW_USER, Access, OrgUnits, PenaltyKinds, PenaltyRow, granted_at
from evergreen_groups.limits import LimitFinder, Limits, OneLimit
from evergreen_groups.progress import Progress, silent
from evergreen_groups.report.blocks import blocks_of, read_block_rows
from evergreen_groups.report.models import Criteria, Report, Totals
from evergreen_groups.settings import PolicySettings

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway

SortKey = Callable[[Group], tuple[object, ...]]

_SORT_KEYS: dict[str, SortKey] = {
    "total": lambda _group: (),
    "members": lambda group: (-group.member_count,),
    "name": lambda group: (group.lead.name.casefold(),),
    "library": lambda group: (group.library.casefold(),),
}


def build_report(
    gateway: Gateway, criteria: Criteria, progress: Progress = silent, *, policy: PolicySettings | None = None
) -> Report:
    """Read the groups that meet ``criteria`` and add up what they owe.

    ``policy`` says which limit counts for whom where ``criteria`` has none for everybody.

    Raises:
        ConfigurationError: ``criteria`` names an org unit that isn't there, or a limit a profile or library.
        PermissionDeniedError: the account sees no patrons.
        GatewayError: the gateway can't be reached or gives no usable answer.
    """
    with _without_collecting():
        return _build(gateway, criteria, progress, policy or PolicySettings())


@contextmanager
def _without_collecting() -> Iterator[None]:
    """Keep Python from looking for garbage in cycles: a report makes records by the ten thousand, and no cycles."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _build(gateway: Gateway, criteria: Criteria, progress: Progress, policy: PolicySettings) -> Report:
    generated_at = datetime.now(UTC).astimezone()
    readers: tuple[Callable[[Gateway], Any], ...] = (_org_units, granted_at)
    org_units, granted = gateway.map(lambda read: read(gateway), readers)
    home_orgs = _home_orgs(criteria, org_units)
    beside: tuple[Callable[[], Any], ...] = (
        lambda: Access.read(gateway, org_units, granted),
        lambda: PenaltyKinds.read(gateway, org_units),
        lambda: _limits(gateway, criteria, policy, org_units),
    )
    access, kinds, limits = gateway.map(lambda read: read(), beside)
    high_fines = HighFines(
        min_total=criteria.min_total,
        more_than_one=criteria.min_members > 1,
        home_orgs=home_orgs,
        visible_orgs=() if access.everywhere else access.visible_orgs,
    )
    reader = GroupReader(gateway, org_units, access, limits)

    def complete(rows: Sequence[PatronRow]) -> list[tuple[list[Group], list[PenaltyRow]]]:
        readers: tuple[Callable[[], Any], ...] = (
            lambda: reader.complete(rows),
            lambda: read_block_rows(gateway, kinds, [row.id for row in rows]),
        )
        groups, blocks = gateway.map(lambda read: read(), readers)
        return [(groups, blocks)]

    found = GroupSearch(gateway, high_fines, progress).run(complete)
    listed, left_out = _choose([group for groups, _blocks in found for group in groups], criteria)
    members = {member.id for group in listed for member in group.members}
    blocks = (row for _groups, rows in found for row in rows if row.patron in members)
    return Report(
        generated_at=generated_at,
        gateway=gateway.url,
        criteria=criteria,
        groups=tuple(listed),
        totals=Totals.of(listed),
        notes=tuple(_notes(access, listed)),
        left_out_count=len(left_out),
        left_out=tuple(left_out),
        org_units=tuple(org_units),
        hidden_libraries=frozenset(unit.shortname for unit in org_units if unit.id not in access.visible_orgs),
        blocks=blocks_of(blocks, kinds, org_units),
    )


def _limits(gateway: Gateway, criteria: Criteria, policy: PolicySettings, org_units: OrgUnits) -> LimitFinder:
    """The criteria's one limit, or those of the policy."""
    if criteria.limit is not None:
        return OneLimit(criteria.limit)
    return OneLimit(policy.as_limit()) if policy.uniform else Limits.read(gateway, policy, org_units)


def _org_units(gateway: Gateway) -> OrgUnits:
    gateway.idl("au", "aou", "mous", "ac", "ausp", "csp")
    return OrgUnits.read(gateway)


def _home_orgs(criteria: Criteria, org_units: OrgUnits) -> frozenset[int]:
    """The ids of the home libraries asked for; none where they are all asked for."""
    chosen = org_units.named(criteria.orgs)
    return frozenset() if len(chosen) == sum(1 for _ in org_units) else frozenset(chosen)


def _choose(groups: Sequence[Group], criteria: Criteria) -> tuple[list[Group], list[Group]]:
    """The groups that meet the criteria, the highest ``top`` of them, in the order asked for; and those left out.

    The criteria are looked at once more because a balance may have changed since the ILS did its sums.
    """
    meeting = [
        group
        for group in groups
        if group.member_count >= criteria.min_members
        and (group.combined_fines >= criteria.min_total or group.hidden_fines is None)
    ]
    meeting.sort(key=lambda group: (-group.combined_fines, group.number))
    count = len(meeting) if criteria.top is None else criteria.top
    return sorted(meeting[:count], key=_SORT_KEYS[criteria.sort]), meeting[count:]


def _notes(access: Access, listed: Sequence[Group]) -> list[str]:
    notes = []
    incomplete = sum(not group.complete for group in listed)
    if incomplete:
        notes.append(
            f"Incomplete: {incomplete} of {len(listed)} groups {'has' if incomplete == 1 else 'have'} members whom "
            f"the account can't see. It lacks {VIEW_USER} at {access.missing_names}."
        )
    if not access.everywhere:
        notes.append(
            f"Groups with no visible member are not listed: the account lacks {VIEW_USER} at {access.missing_names}."
        )
    return notes
