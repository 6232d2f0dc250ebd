"""The report as one HTML file that needs nothing else: style, script and chart are in it.

Without scripts it is the same page, but for what finds, sorts and unfolds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from evergreen_groups.language import gettext, local
from evergreen_groups.money import NOTHING
from evergreen_groups.render import template_text, title_of
from evergreen_groups.render.report import (
    CLEARED,
    KINDS,
    Part,
    cleared_lead,
    cleared_now,
    cleared_remarks,
    describe_group_details,
    explain_cleared,
    remarks,
    write_alone,
    write_side_by_side,
)
from evergreen_groups.render.report.page.charts import group_bars
from evergreen_groups.render.report.page.filters import GroupMarks
from evergreen_groups.render.report.page.group_rows import GroupRows
from evergreen_groups.render.report.page.shared_values import shared_values

if TYPE_CHECKING:
    from datetime import datetime

    from evergreen_groups.groups import Group
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
        }
        self._rows = GroupRows(report, self._marks, client, details, self._values)
        self._tails: dict[tuple[tuple[str, ...], str], str] = {}

    def head(self, part: Report) -> Iterator[str]:
        head, _place, self._tails[part.criteria.orgs, part.name] = self._page(part).partition(_GROUPS)
        yield head

    def group(self, group: Group) -> str:
        return self._rows.of(group)

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


def _day_number(moment: datetime) -> int:
    """The day of a moment as a number, by which the script sorts."""
    return local(moment).date().toordinal()
