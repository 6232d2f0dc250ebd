"""The JSON form of Group Member Details, version 2; ``schemas/group-details.schema.json`` describes it.

It is what the desk's page shows. The rule's decision and the ILS's penalties stand side by side, and are never mixed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evergreen_groups.hooks.documents import NOTE, limit_amount
from evergreen_groups.money import plain_amount, plain_amount_or_none
from evergreen_groups.render import (
    item_totals_document,
    prospect_document,
    standing_document,
    standing_totals_document,
)

if TYPE_CHECKING:
    from evergreen_groups.desk import GroupDetails
    from evergreen_groups.groups import Member
    from evergreen_groups.ils import CirculationCounts

VERSION = 2


def group_details(details: GroupDetails) -> dict[str, Any]:
    """A group with all that a desk sees of its members."""
    group = details.group
    return {
        "version": VERSION,
        "kind": "group-details",
        "group": group.number,
        "for_information_only": True,
        "note": NOTE,
        "group_fines": plain_amount_or_none(group.combined_fines),
        "member_count": group.member_count,
        "lead": group.lead.id if group.members and group.lead.group_lead else None,
        "hidden_members": {"count": group.hidden_member_count, "fines": plain_amount_or_none(group.hidden_fines)},
        **standing_totals_document(details.standing_totals),
        **item_totals_document("items", details.all_circulations),
        "members": [_member(details, member) for member in group.members],
    }


def _member(details: GroupDetails, member: Member) -> dict[str, Any]:
    account = details.accounts[member.id]
    return {
        "id": member.id,
        "name": member.name,
        "barcode": member.barcode,
        "library": member.library,
        "profile": details.profiles[member.id],
        "own_fines": plain_amount(member.own_fines),
        "limit": limit_amount(member),
        **standing_document(details.standing(member)),
        **prospect_document(details.prospects.get(member.id)),
        "items": _items(details.circulations[member.id]),
        "group_lead": member.group_lead,
        "juvenile": account.juvenile,
        "active": account.active,
        "barred": account.barred,
        "expired": account.expired,
        "expires": account.expire_date.isoformat(timespec="seconds") if account.expire_date else None,
        "deleted": member.patron.deleted,
    }


def _items(counts: CirculationCounts | None) -> dict[str, int] | None:
    # A number that is at least so many isn't one.
    return (
        None
        if counts is None or not counts.complete
        else {"out": counts.out, "overdue": counts.overdue, "lost": counts.lost}
    )
