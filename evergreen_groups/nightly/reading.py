"""One reading of the ILS for all reports of a run: the widest criteria are read, each report is chosen from that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from evergreen_groups.ils import OrgUnits
from evergreen_groups.message import Message
from evergreen_groups.progress import Progress, silent
from evergreen_groups.report import Choice, Criteria, Report, build_report, chosen

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
    """A report for each of the criteria, in their order; where there is one alone, it is read as it is.

    Raises what :func:`~evergreen_groups.report.build_report` does.
    """
    if len(wanted) == 1:
        return [build_report(gateway, wanted[0], progress, policy=policy, now=now)]
    everything = build_report(gateway, widest(wanted), progress, policy=policy, now=now)
    org_units = OrgUnits(everything.org_units)
    for criteria in wanted:
        org_units.named(criteria.orgs)  # what isn't there would choose nothing
    return [_part(everything, criteria) for criteria in wanted]


def widest(wanted: Sequence[Criteria]) -> Criteria:
    """Criteria that every group meets which meets one of these.

    >>> widest([Criteria(), Criteria(orgs=("BR1",), top=3)]).orgs
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
    """The report of some criteria, out of one that is wide enough."""
    from evergreen_groups.report import for_libraries  # where there is one report, nothing is taken apart

    part = for_libraries(everything, criteria.orgs) if criteria.orgs else everything
    found = chosen(replace(part, notes=everything.notes), criteria)
    if len(found.groups) == len(everything.groups):
        return found
    # What was noted about the reading counts groups of all reports.
    noted = [_of_everything(note) if note in everything.notes else note for note in found.notes]
    return replace(found, notes=tuple(noted))


def _of_everything(note: str) -> Message:
    return Message("Of everything that was read: {note}", values={"note": note})
