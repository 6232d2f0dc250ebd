"""The rows of the page's groups, with those of their members.

There may be a hundred thousand members, so the template is rendered once with its values left open
(:class:`~evergreen_groups.render.Form`), and what many have in common, such as amounts, is made once for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from markupsafe import escape

from evergreen_groups.language import describe_total, gettext, ngettext, number, price
from evergreen_groups.render import Form, describe_limit, describe_penalty, environment, printable
from evergreen_groups.render.report import compared, describe_member_details, remarks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evergreen_groups.groups import Group, Member
    from evergreen_groups.render import StaffClient
    from evergreen_groups.render.report.page.filters import GroupMarks
    from evergreen_groups.report import GroupChange, Report

_REMEMBERED = 4096
"""So many different values of a kind are remembered as they are written."""


class GroupRows:
    """Makes the rows of groups of a report, with their ``marks``; ``values`` are those that all its templates have."""

    def __init__(
        self, report: Report, marks: GroupMarks, client: StaffClient | None, details: bool, values: Mapping[str, object]
    ) -> None:
        changes = compared(report)
        self._report = report
        self._marks = marks
        self._client = client
        self._with_members = details
        self._changes = changes.by_group if changes else None
        given = {
            **values,
            "report": report,
            "owed_for": marks.with_kinds,
            "column_count": 8 + (2 if report.details else 0) + (1 if changes else 0),
            "members_of_group": _members_of_group,
        }
        macros: Any = environment().get_template("report_groups.html").make_module(given)
        self._group, self._member, self._about_member = map(
            Form, (macros.group_form, macros.member_form, macros.about_form)
        )
        self._about, self._dated = macros.about, macros.dated
        self._incomplete, self._lead = str(macros.incomplete_mark()), str(macros.lead_mark())
        self._no_card, self._no_change = str(macros.no_card()), str(macros.no_change())
        self._price, self._number = _remembered(price), _remembered(number)
        self._total = _remembered(describe_total)
        self._library = _remembered(printable)
        self._summary = _remembered(_count_of_members)
        self._count_over_limit = _remembered(macros.count_over_limit)
        self._over_limit = _remembered(macros.over_limit)
        self._blocked = _remembered(macros.blocked_cell)
        self._change = _remembered(macros.change_cell)

    def of(self, group: Group) -> str:
        """The rows of a group."""
        lead, client = group.lead, self._client
        change = self._changes.get(group.number) if self._changes is not None else None
        marks, owed = self._marks.of(group)
        about = self._about_group(group, lead, change)
        incomplete = "" if group.complete else self._incomplete
        return self._group.filled(
            {
                "marks": marks,
                "owed": owed,
                "link": escape(client.group_page(lead.id)) if client else "",
                "number": group.number,
                "lead_link": escape(client.patron_page(lead.id)) if client else "",
                "lead": escape(printable(lead.name)),
                "beside": incomplete if self._with_members else about,
                "library": self._library(lead.library),
                "member_count": self._number(group.member_count),
                "owing_count": self._total(group.owing_count),
                "combined_fines": self._total(group.combined_fines),
                "highest": self._total(group.highest_own_fines),
                "over_limit": self._count_over_limit(group.over_limit_count, group.no_member_over_limit),
                "dated": self._dated(self._report.details.of_group(group)) if self._report.details else "",
                "change": self._change_cell(change),
                "summary": self._summary(len(group.members), group.member_count) if self._with_members else "",
                "about": about,
                "members": "".join(map(self._of_member, group.members)) if self._with_members else "",
            }
        )

    def _about_group(self, group: Group, lead: Member, change: GroupChange | None) -> str:
        remarkable = self._report.details or not group.complete or not lead.group_lead or remarks(change)
        return str(self._about(group, change)) if remarkable else ""

    def _change_cell(self, change: GroupChange | None) -> str:
        if self._changes is None:
            return ""
        return self._change(change.kind, change.difference, change.certain) if change else self._no_change

    def _of_member(self, member: Member) -> str:
        patron, client = member.patron, self._client
        limit = describe_limit(member.limit) if self._report.criteria.limit is None else ""
        return self._member.filled(
            {
                "link": escape(client.patron_page(patron.id)) if client else "",
                "name": escape(printable(patron.name)),
                "lead": self._lead if patron.group_lead else "",
                "barcode": self._no_card if patron.barcode is None else escape(printable(patron.barcode)),
                "library": self._library(patron.home_library.shortname),
                "own_fines": self._price(member.own_fines),
                "over_limit": self._over_limit(member.over_limit, limit),
                "blocked": self._blocked_cell(member),
                "about": self._details_of(member),
            }
        )

    def _blocked_cell(self, member: Member) -> str:
        standing = self._report.standing(member)
        if standing is None:
            return ""
        return self._blocked(tuple(map(describe_penalty, standing.blocks_for_fines)), standing.difference)

    def _details_of(self, member: Member) -> str:
        """What a member owes for and has out, with the profile; empty where it wasn't read."""
        if self._report.details is None:
            return ""
        found = self._report.details.of(member)
        text = "; ".join(filter(None, (describe_member_details(found), printable(found.profile))))
        return self._about_member.filled({"text": escape(text)}) if text else ""


def _remembered(write: Callable[..., str]) -> Callable[..., str]:
    """What writes values as HTML, and remembers how; what is none is escaped."""
    return lru_cache(maxsize=_REMEMBERED)(lambda *values: str(escape(write(*values))))


def _count_of_members(visible: int, count: int) -> str:
    """How many members a group has, and how many of them are visible where not all are."""
    if visible == count:
        return ngettext("{count} member", "{count} members", count)
    return ngettext("{visible:,} of {count} member", "{visible:,} of {count} members", count, visible=visible)


def _members_of_group(group: object) -> str:
    return gettext("Members of group {group}", group=group)
