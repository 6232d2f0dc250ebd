"""The audit as one HTML file that needs nothing else: style and script are in it.

Without scripts it is the same page, but for the buttons that sort, search and unfold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from evergreen_groups.language import gettext
from evergreen_groups.render import write_template
from evergreen_groups.render.audit.page_rows import sections_of
from evergreen_groups.render.audit.wording import NOTHING_FOUND, TITLE, describe_groups_to_keep, looked_at

if TYPE_CHECKING:
    from evergreen_groups.audit import Audit
    from evergreen_groups.render import StaffClient


def write_page(audit: Audit, stream: TextIO, *, client: StaffClient | None = None) -> None:
    """Write the page: a section with a table for each kind of finding.

    Names lead into the staff ``client`` where one is given, and groups to their pages.
    """
    sections = sections_of(audit, client)
    write_template(
        "audit.html",
        stream,
        title=gettext(TITLE),
        audit=audit,
        sections=sections,
        filters=[(section.id, section.heading) for section in sections] if len(sections) > 1 else (),
        audit_nothing_found=NOTHING_FOUND,
        looked_at=looked_at,
        groups_to_keep=describe_groups_to_keep(audit),
        client=client,
    )
