"""The audit as one self-contained HTML file, with its style and script embedded.

Without JavaScript the page still shows everything; only sorting, searching and folding are missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TextIO

from evergreen_groups.language import gettext
from evergreen_groups.render.audit import columns, wording
from evergreen_groups.render.audit.columns import GroupFindingRow, PatronFindingRow
from evergreen_groups.render.pages import write_template

if TYPE_CHECKING:
    from evergreen_groups.audit import Audit, FindingKind
    from evergreen_groups.render import StaffClient
    from evergreen_groups.render.column import Column

_FIX = "evergreen-groups audit --fix"


def _section(audit: Audit, kind: FindingKind, client: StaffClient | None) -> dict[str, Any]:
    """Return what the template shows of a kind: the findings that are listed, and how many there are in all.

    Each column is a tuple of name, function for the value, heading, kind, and whether that is a number. Columns without
    values are left out.
    """
    rows: list[Any]
    every: tuple[Column[Any], ...]
    if kind.about_thresholds:
        every, rows = columns.THRESHOLD, list(audit.thresholds_of_kind(kind))
    elif kind.about_groups:
        every, rows = columns.GROUP, [GroupFindingRow(finding, client) for finding in audit.groups_of_kind(kind)]
    else:
        every, rows = columns.PATRON, [PatronFindingRow(finding, client) for finding in audit.of_kind(kind)]
    return {
        "kind": kind,
        "heading": gettext(wording.HEADINGS[kind]),
        "meaning": gettext(wording.MEANINGS.get(kind, wording.WHAT_TO_DO[kind])),
        "command": _FIX if kind.recalculable else "",
        "columns": [
            # For each cell, Jinja takes far longer to look up attributes than local names.
            (column.page, column.value, gettext(column.heading or ""), column.kind, column.is_number)
            for column in every
            if column.page and (column.page == "threshold" or any(column.value(row) is not None for row in rows))
        ],
        "rows": rows,
        "count": audit.count(kind),
        "more": wording.describe_unlisted(audit, kind),
    }


def write_page(audit: Audit, stream: TextIO, *, client: StaffClient | None = None) -> None:
    """Write the page. With a staff ``client``, names link to patrons and groups to their pages."""
    kinds = wording.kinds_found(audit)
    write_template(
        "audit.html",
        stream,
        title=gettext(wording.TITLE),
        audit=audit,
        sections=[_section(audit, kind, client) for kind in kinds],
        filters=[(kind.value, gettext(wording.HEADINGS[kind])) for kind in kinds] if len(kinds) > 1 else (),
        with_members=any(kind.about_groups for kind in kinds),
        levels=wording.LEVELS,
        audit_nothing_found=wording.NOTHING_FOUND,
        describe_scope=wording.describe_scope,
        groups_to_keep=wording.describe_groups_to_keep(audit),
        client=client,
    )
