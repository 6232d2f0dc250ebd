"""The audit as JSON lines, for programs that read it a line at a time.

The first line says what the audit went over and how many findings of each kind there are, as the JSON document does,
and each other one is a finding: a patron's as it stands in ``people`` there, a threshold's as in ``thresholds``, or a
group's as in ``groups``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from evergreen_groups.render.audit.json import group_document, head_document, patron_document, threshold_document
from evergreen_groups.render.report import line

if TYPE_CHECKING:
    from evergreen_groups.audit import Audit
    from evergreen_groups.render import StaffClient

SCHEMA = "evergreen-groups/audit-lines/1"


def write_lines(audit: Audit, stream: TextIO, *, client: StaffClient | None = None) -> None:
    """Write the lines, each ended by a line feed, so that none of them is in memory longer than it takes to write.

    Groups lead into the staff ``client`` where one is given.
    """
    stream.write(line({"schema": SCHEMA, **head_document(audit), "groups_to_keep": list(audit.to_keep)}))
    stream.writelines(line(patron_document(finding)) for finding in audit.patrons)
    stream.writelines(line(threshold_document(finding)) for finding in audit.thresholds)
    stream.writelines(line(group_document(finding, client)) for finding in audit.groups)
