"""Looking up how groups stand now that a report no longer lists."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from evergreen_groups.errors import DataError, GatewayError
from evergreen_groups.groups import Group, GroupReader
from evergreen_groups.ils import Access, OrgUnits, granted_at
from evergreen_groups.limits import OneLimit
from evergreen_groups.policy import Limit
from evergreen_groups.report.models import GroupChange, Present, Report

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway

logger = logging.getLogger(__name__)


def look_up_cleared(gateway: Gateway, report: Report) -> Report:
    """The report with the present state of its cleared groups, as far as the account sees their members.

    That takes a handful of calls, however many groups there are, and none when there are none. A gateway that fails
    now doesn't cost the report, which is whole without this.
    """
    changes = report.changes
    if changes is None or not changes.cleared:
        return report
    try:
        cleared = _looked_up(gateway, report, changes.cleared)
    except (DataError, GatewayError) as error:
        logger.warning("how the cleared groups stand now could not be looked up: %s", error)
        return report
    return replace(report, changes=replace(changes, cleared=cleared))


def _looked_up(gateway: Gateway, report: Report, cleared: Sequence[GroupChange]) -> tuple[GroupChange, ...]:
    numbers = _present_numbers(gateway, cleared)
    org_units = OrgUnits(report.org_units) if report.org_units else OrgUnits.read(gateway)
    access = Access.read(gateway, org_units, granted_at(gateway))
    reader = GroupReader(gateway, org_units, access, OneLimit(Limit()))  # no limit matters here
    groups = reader.of_numbers(numbers.values()) if numbers else {}
    return tuple(
        replace(change, present=_present(groups[numbers[change.group]]))
        if numbers.get(change.group) in groups
        else change
        for change in cleared
    )


def _present_numbers(gateway: Gateway, cleared: Sequence[GroupChange]) -> dict[int, int]:
    """The group that most of a cleared group's former members are in now, by the number it had."""
    patrons = sorted(set(chain.from_iterable(change.members for change in cleared)))
    rows = gateway.pcrud.columns_by_values("au", ("id", "usrgroup"), "id", patrons, where={"deleted": "f"})
    groups = dict(chain.from_iterable(rows))
    found = {}
    for change in cleared:
        counts = Counter(groups[patron] for patron in sorted(change.members) if patron in groups)
        number, count = counts.most_common(1)[0] if counts else (0, 0)
        if count * 2 > counts.total():
            found[change.group] = number
    return found


def _present(group: Group) -> Present:
    return Present(
        group=group.number,
        lead_name=group.lead.name,
        member_count=group.member_count,
        combined_fines=group.combined_fines,
    )
