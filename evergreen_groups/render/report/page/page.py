"""The report as one HTML file that needs nothing else: style, script and chart are in it.

Without scripts it is the same page, but for what finds, sorts and unfolds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from evergreen_groups.language import gettext, local, ngettext
from evergreen_groups.money import NOTHING
from evergreen_groups.render import printable, title_of, write_template
from evergreen_groups.render.report import (
    CLEARED,
    KINDS,
    cleared_lead,
    cleared_now,
    cleared_remarks,
    describe_group_details,
    describe_member_details,
    explain_cleared,
    remarks,
)
from evergreen_groups.render.report.page.charts import group_bars
from evergreen_groups.render.report.page.filters import OwedKinds, marks_of, offered_filters
from evergreen_groups.render.report.page.shared_values import shared_values

if TYPE_CHECKING:
    from datetime import datetime

    from evergreen_groups.groups import Group, Member
    from evergreen_groups.render import StaffClient
    from evergreen_groups.report import Report


def write_page(
    report: Report, stream: TextIO, *, details: bool = True, client: StaffClient | None = None, index: str = ""
) -> None:
    """Write the page; with ``details``, the members of each group are in it to be unfolded, and printed where they are.

    Names lead into the staff ``client`` where one is given, and a library's page back to the ``index`` (an address).
    """
    marks = {group.number: marks_of(group, report) for group in report.groups}
    kinds = OwedKinds(report)
    write_template(
        "report.html",
        stream,
        **shared_values(report),
        kinds=KINDS,
        nothing=NOTHING,
        count_of_members=_count_of_members,
        members_of_group=_members_of_group,
        title=title_of(report.criteria, report.name),
        details=details,
        client=client,
        index=index,
        bars=group_bars(report.groups),
        marks_of=lambda group: " ".join(marks[group.number]),
        filters=offered_filters(marks.values()),
        owed_for=kinds.offered,
        kinds_of=kinds.of if len(kinds.offered) > 1 else None,
        day_number=_day_number,
        remarks=remarks,
        describe_group_details=describe_group_details,
        details_of=lambda member: _details_of(report, member),
        cleared=report.changes.cleared if report.changes else (),
        cleared_heading=gettext(CLEARED),
        cleared_explanation=explain_cleared(report),
        cleared_lead=cleared_lead,
        cleared_now=cleared_now,
        cleared_remarks=cleared_remarks,
    )


def _count_of_members(group: Group) -> str:
    """How many members a group has, and how many of them are visible where not all are."""
    if group.complete:
        return ngettext("{count} member", "{count} members", group.member_count)
    return ngettext(
        "{visible:,} of {count} member",
        "{visible:,} of {count} members",
        group.member_count,
        visible=len(group.members),
    )


def _members_of_group(group: Group) -> str:
    return gettext("Members of group {group}", group=group.number)


def _day_number(moment: datetime) -> int:
    """The day of a moment as a number, by which the script sorts."""
    return local(moment).date().toordinal()


def _details_of(report: Report, member: Member) -> str:
    """What a member owes for and has out, with the profile; empty where it wasn't read."""
    if report.details is None:
        return ""
    found = report.details.of(member)
    return "; ".join(filter(None, (describe_member_details(found), printable(found.profile))))
