"""The audit as one self-contained HTML file, with its style and script embedded.

Without JavaScript the page still shows everything; only sorting, searching and folding are missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from evergreen_groups.language import gettext
from evergreen_groups.render.audit import columns, wording
from evergreen_groups.render.audit.columns import GroupFindingRow, PatronFindingRow
from evergreen_groups.render.pages import write_template

if TYPE_CHECKING:
    from evergreen_groups.audit import Audit, FindingKind
    from evergreen_groups.render import StaffClient
    from evergreen_groups.render.report import Column

_FIX = "evergreen-groups audit --fix"


@dataclass(frozen=True)
class Section:
    """The findings of one kind that are listed, out of ``count`` in all. ``more`` says where to find the others.

    ``command`` resolves many of the findings at once, and is empty if no command does. ``columns`` are
    name, value, heading, kind, and whether that is a number; columns without values are left out.
    """

    kind: FindingKind
    heading: str
    meaning: str
    command: str
    columns: list[tuple[str, Callable[[Any], Any], str, str, bool]]
    rows: list[Any]
    count: int
    more: str


def _section(audit: Audit, kind: FindingKind, client: StaffClient | None) -> Section:
    rows: list[Any]
    every: tuple[Column[Any], ...]
    if kind.about_thresholds:
        every, rows = columns.THRESHOLD, list(audit.thresholds_of_kind(kind))
    elif kind.about_groups:
        every, rows = columns.GROUP, [GroupFindingRow(finding, client) for finding in audit.groups_of_kind(kind)]
    else:
        every, rows = columns.PATRON, [PatronFindingRow(finding, client) for finding in audit.of_kind(kind)]
    return Section(
        kind=kind,
        heading=gettext(wording.HEADINGS[kind]),
        meaning=gettext(wording.MEANINGS.get(kind, wording.WHAT_TO_DO[kind])),
        command=_FIX if kind.recalculable else "",
        columns=[
            # For each cell, Jinja takes far longer to look up attributes than local names.
            (column.page, column.value, gettext(column.heading or ""), column.kind, column.is_number)
            for column in every
            if column.page and (column.page == "threshold" or any(column.value(row) is not None for row in rows))
        ],
        rows=rows,
        count=audit.count(kind),
        more=wording.describe_unlisted(audit, kind),
    )


def write_page(audit: Audit, stream: TextIO, *, client: StaffClient | None = None) -> None:
    """Write the page. With a staff ``client``, names link to patrons and groups to their pages."""
    sections = [_section(audit, kind, client) for kind in wording.kinds_found(audit)]
    write_template(
        "audit.html",
        stream,
        title=gettext(wording.TITLE),
        audit=audit,
        sections=sections,
        filters=[(section.kind.value, section.heading) for section in sections] if len(sections) > 1 else (),
        with_members=any(section.kind.about_groups for section in sections),
        levels=wording.LEVELS,
        audit_nothing_found=wording.NOTHING_FOUND,
        describe_scope=wording.describe_scope,
        groups_to_keep=wording.describe_groups_to_keep(audit),
        client=client,
    )
