"""The JSON form of what the members of a group owe for and have out; ``schemas/group-bills.schema.json`` describes it.

What isn't known is null, and never nought or an empty list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evergreen_groups.hooks.documents import NOTE
from evergreen_groups.money import plain_amount

if TYPE_CHECKING:
    from datetime import datetime

    from evergreen_groups.desk import GroupBills, MemberBills
    from evergreen_groups.ils import Bill, ItemOut

VERSION = 2


def group_bills(group: GroupBills) -> dict[str, Any]:
    """The visible members of a group with their open bills, and the items that they have out."""
    return {
        "version": VERSION,
        "kind": "group-bills",
        "group": group.group,
        "for_information_only": True,
        "note": NOTE,
        "at": _moment(group.at),
        "complete": group.complete,
        "members": [_member(group, member) for member in group.members],
    }


def _member(group: GroupBills, member: MemberBills) -> dict[str, Any]:
    return {
        "id": member.patron.id,
        "own_fines": plain_amount(member.own_fines),
        "bills": None if member.bills is None else [_bill(group, member, bill) for bill in member.bills],
        "items": [_item(group, member, item) for item in member.items.out],
        "all_items": member.items.complete,
    }


def _bill(group: GroupBills, member: MemberBills, bill: Bill) -> dict[str, Any]:
    item = member.item_of(bill)
    return {
        "id": bill.id,
        "transaction": bill.kind.transaction,
        "billing_type": bill.kind.billing_type or None,
        "for": bill.kind.text,
        "since": _moment(bill.since),
        "library": group.library(bill.library) or None,
        "billed": plain_amount(bill.billed),
        "paid": plain_amount(bill.paid),
        "owed": plain_amount(bill.balance),
        "billings": [
            {"billing_type": billed.billing_type or None, "amount": plain_amount(billed.amount)}
            for billed in bill.billings
        ],
        "last_payment": _moment(bill.last_payment) if bill.last_payment else None,
        "title": None if item is None else _title(member, item),
    }


def _item(group: GroupBills, member: MemberBills, item: ItemOut) -> dict[str, Any]:
    return {
        "id": item.id,
        "state": item.kind.value if item.kind else None,
        "due": _moment(item.due) if item.due else None,
        "days_overdue": item.days_overdue(group.at),
        "library": group.library(item.library) or None,
        "title": _title(member, item),
    }


def _title(member: MemberBills, item: ItemOut) -> str | None:
    return None if member.titles is None else member.titles.get(item.copy)


def _moment(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
