"""The reports of a run, made from a single reading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from evergreen_groups.ils import OrgUnits
from evergreen_groups.message import Message
from evergreen_groups.progress import Progress, silent
from evergreen_groups.report import Choice, Criteria, Report, apply_criteria, build_report

if TYPE_CHECKING:
    from datetime import datetime

    from evergreen_groups.gateway import Gateway
    from evergreen_groups.settings import PolicySettings


def read_reports(
    gateway: Gateway,
    wanted: Sequence[Criteria],
    progress: Progress = silent,
    *,
    policy: PolicySettings | None = None,
    now: datetime | None = None,
) -> list[Report]:
    """Return a report for each of the criteria, in order, from a single reading.

    Raises the same errors as :func:`~evergreen_groups.report.build_report`.
    """
    if len(wanted) == 1:
        return [build_report(gateway, wanted[0], progress, policy=policy, now=now)]
    everything = build_report(gateway, combined_criteria(wanted), progress, policy=policy, now=now)
    org_units = OrgUnits(everything.org_units)
    for criteria in wanted:
        org_units.named(criteria.orgs)  # an unknown library would silently select nothing
    return [_part(everything, criteria) for criteria in wanted]


def combined_criteria(wanted: Sequence[Criteria]) -> Criteria:
    """Return criteria that include every group which meets any of ``wanted``.

    >>> combined_criteria([Criteria(), Criteria(orgs=("BR1",), top=3)]).orgs
    ()
    """
    first = wanted[0]
    orgs = {name: None for criteria in wanted for name in criteria.orgs}
    return Criteria(
        min_total=min(criteria.min_total for criteria in wanted),
        min_members=min(criteria.min_members for criteria in wanted),
        orgs=tuple(orgs) if all(criteria.orgs for criteria in wanted) else (),
        limit=first.limit,
        choice=Choice(),
        details=any(criteria.details for criteria in wanted),
    )


def _part(everything: Report, criteria: Criteria) -> Report:
    """Select the report of some criteria from one with wider criteria."""
    from evergreen_groups.report import for_libraries  # imported late: not needed for a single report

    part = for_libraries(everything, criteria.orgs) if criteria.orgs else everything
    found = apply_criteria(replace(part, notes=everything.notes), criteria)
    if len(found.groups) == len(everything.groups):
        return found
    # Notes about the reading count the groups of all reports, so say so.
    notes = (
        Message("Of everything that was read: {note}", values={"note": note}) if note in everything.notes else note
        for note in found.notes
    )
    return replace(found, notes=tuple(notes))
