"""The report as one HTML file that needs nothing else: style, script and chart are in it.

Without scripts it is the same page, but for what finds, sorts and unfolds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, TextIO

from evergreen_groups.groups import Standing
from evergreen_groups.language import gettext, local, ngettext
from evergreen_groups.money import NOTHING
from evergreen_groups.render import environment, printable, template_text, title_of
from evergreen_groups.render.report import (
    CLEARED,
    KINDS,
    Part,
    cleared_lead,
    cleared_now,
    cleared_remarks,
    compared,
    describe_group_details,
    describe_member_details,
    explain_cleared,
    remarks,
    write_alone,
    write_side_by_side,
)
from evergreen_groups.render.report.page.charts import group_bars
from evergreen_groups.render.report.page.filters import GroupMarks
from evergreen_groups.render.report.page.shared_values import shared_values

if TYPE_CHECKING:
    from datetime import datetime

    from evergreen_groups.groups import Group, Member
    from evergreen_groups.render import StaffClient
    from evergreen_groups.report import Report


_GROUPS = "\0"
"""Stands where the groups are to be; no text of a page has it."""


def write_page(
    report: Report, stream: TextIO, *, details: bool = True, client: StaffClient | None = None, index: str = ""
) -> None:
    """Write the page; with ``details``, the members of each group are in it to be unfolded, and printed where they are.

    Names lead into the staff ``client`` where one is given, and a library's page back to the ``index`` (an address).
    """
    write_alone(_PageWriter(report, details, client, index), report, stream)


def write_parts(
    report: Report, parts: Sequence[Part], *, details: bool = True, client: StaffClient | None = None, index: str = ""
) -> None:
    """Write parts of a report as :func:`write_page` does."""
    write_side_by_side(_PageWriter(report, details, client, index), report, parts)


class _PageWriter:
    between = ""

    def __init__(self, report: Report, details: bool, client: StaffClient | None, index: str) -> None:
        self._marks = GroupMarks(report)
        self._values = {
            "kinds": KINDS,
            "nothing": NOTHING,
            "details": details,
            "client": client,
            "index": index,
            "day_number": _day_number,
            "remarks": remarks,
            "describe_group_details": describe_group_details,
            "details_of": partial(_details_of, report),
            "count_of_members": _count_of_members,
            "members_of_group": _members_of_group,
        }
        changes = compared(report)
        groups = (
            environment()
            .get_template("report_groups.html")
            .make_module(
                {
                    **self._values,
                    "report": report,
                    "changes": changes,
                    "owed_for": self._marks.with_kinds,
                    "column_count": 8 + (2 if report.details else 0) + (1 if changes else 0),
                    "not_blocked_standing": Standing(False, (), ()),
                }
            )
        )
        self._rows_of: Callable[[Group, str, str], str] = groups.rows_of  # type: ignore[attr-defined]  # a macro
        self._tails: dict[tuple[tuple[str, ...], str], str] = {}

    def head(self, part: Report) -> Iterator[str]:
        head, _place, self._tails[part.criteria.orgs, part.name] = self._page(part).partition(_GROUPS)
        yield head

    def group(self, group: Group) -> str:
        return self._rows_of(group, *self._marks.of(group))

    def tail(self, part: Report) -> Iterator[str]:
        yield self._tails.pop((part.criteria.orgs, part.name))

    def _page(self, part: Report) -> str:
        """The page with a mark in the place of its groups."""
        return template_text(
            "report.html",
            **shared_values(part),
            **self._values,
            title=title_of(part.criteria, part.name),
            bars=group_bars(part.groups),
            filters=self._marks.offered_filters(part),
            owed_for=self._marks.offered_kinds(part),
            cleared=part.changes.cleared if part.changes else (),
            cleared_heading=gettext(CLEARED),
            cleared_explanation=explain_cleared(part),
            cleared_lead=cleared_lead,
            cleared_now=cleared_now,
            cleared_remarks=cleared_remarks,
            groups=_GROUPS,
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
