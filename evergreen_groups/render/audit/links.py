"""Where the group of a finding is looked at: as whose page it is opened, and who is selected there."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evergreen_groups.audit import GroupFinding
    from evergreen_groups.render import StaffClient

MOST_SELECTED = 100
"""So many members are selected by the link to a group's page at the most."""


def group_link(finding: GroupFinding, client: StaffClient) -> str:
    """The address of a group's page, with those selected who would be taken out.

    There they can be removed or moved, with the plan shown before.
    """
    split = finding.split
    patron = split.stay[0] if split else finding.group.lead.id
    # As many as fit an address; of more than that nobody selects by a link.
    chosen = split.leaving if split and len(split.leaving) <= MOST_SELECTED else ()
    return client.group_page(patron, select=chosen)
