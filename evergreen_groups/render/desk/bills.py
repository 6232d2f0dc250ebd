"""A member's bills and items as the page has them when they are unfolded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING

from evergreen_groups.ils import Bill, CirculationKind, balance_of
from evergreen_groups.language import gettext
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from decimal import Decimal

    from evergreen_groups.desk import GroupBills, MemberBills
    from evergreen_groups.ils import CirculationCounts, ItemOut

_STATES: Mapping[CirculationKind, Message] = {
    CirculationKind.OUT: Message("out", context="an item"),
    CirculationKind.OVERDUE: Message("overdue", context="an item"),
    CirculationKind.LONG_OVERDUE: Message("long overdue", context="an item"),
    CirculationKind.LOST: Message("lost", context="an item"),
    CirculationKind.CLAIMS_RETURNED: Message("claimed to be returned", context="an item"),
}
_CIRCULATION = "circulation"


@dataclass(frozen=True, slots=True)
class BillLine:
    """A bill; ``title`` is empty where there is none to show, None where it isn't visible."""

    bill: Bill
    library: str
    title: str | None


@dataclass(frozen=True, slots=True)
class ItemLine:
    """An item that is out; ``title`` is empty where there is none to show."""

    due: date | None
    kind: CirculationKind | None
    days_overdue: int
    library: str
    title: str

    @property
    def state(self) -> str:
        """What is said of it in a word."""
        return gettext(_STATES[self.kind]) if self.kind else ""


@dataclass(frozen=True, slots=True)
class MemberAffairs:
    """What a member owes for and has out. ``bills`` None: it isn't known; ``with_titles``: they are shown.

    ``counts`` are those of all items where not all are visible, None where they aren't known.
    """

    id: int
    name: str
    own_fines: Decimal
    bills: tuple[BillLine, ...] | None
    items: tuple[ItemLine, ...]
    all_items: bool
    counts: CirculationCounts | None
    with_titles: bool
    at: datetime

    @property
    def owed(self) -> Decimal:
        """What is owed on the bills together."""
        return balance_of(line.bill for line in self.bills or ())


def member_affairs(group: GroupBills, member: MemberBills, counts: CirculationCounts | None = None) -> MemberAffairs:
    """Make what is shown of a member; ``counts`` are those of all items where not all are visible."""
    return MemberAffairs(
        id=member.patron.id,
        name=member.patron.name,
        own_fines=member.own_fines,
        bills=None if member.bills is None else tuple(_bill(group, member, bill) for bill in member.bills),
        items=item_lines(group, member, member.items.out),
        all_items=member.items.complete,
        counts=counts,
        with_titles=member.titles is not None,
        at=group.at,
    )


def item_lines(group: GroupBills, member: MemberBills, items: Iterable[ItemOut]) -> tuple[ItemLine, ...]:
    """Items as lines, with the titles that are shown."""
    titles = member.titles or {}
    return tuple(
        ItemLine(
            # By the ILS's own calendar: what is due at the end of a day there is due on that day.
            due=item.due.date() if item.due else None,
            kind=item.kind,
            days_overdue=item.days_overdue(group.at),
            library=group.library(item.library),
            title=titles.get(item.copy, ""),
        )
        for item in items
    )


def _bill(group: GroupBills, member: MemberBills, bill: Bill) -> BillLine:
    return BillLine(bill, group.library(bill.library), _title(member, bill))


def _title(member: MemberBills, bill: Bill) -> str | None:
    if member.titles is None or bill.kind.transaction != _CIRCULATION:
        return ""
    item = member.item_of(bill)
    return None if item is None else member.titles.get(item.copy, "")
