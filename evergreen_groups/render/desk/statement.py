"""The printed statement of a family: totals, what they are for, and due dates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from evergreen_groups.ils import Bill, CirculationKind
from evergreen_groups.language import day, gettext
from evergreen_groups.message import Message
from evergreen_groups.values import ZERO

if TYPE_CHECKING:
    from evergreen_groups.desk import GroupBills, MemberBills, Statement
    from evergreen_groups.ils import CirculationCounts, ItemOut
    from evergreen_groups.settings import StatementSettings

_STATES: Mapping[CirculationKind, Message] = {
    CirculationKind.OUT: Message("out", context="an item"),
    CirculationKind.OVERDUE: Message("overdue", context="an item"),
    CirculationKind.LONG_OVERDUE: Message("long overdue", context="an item"),
    CirculationKind.LOST: Message("lost", context="an item"),
    CirculationKind.CLAIMS_RETURNED: Message("claims returned", context="an item"),
}
_LATE = (CirculationKind.OVERDUE, CirculationKind.LONG_OVERDUE)
_CIRCULATION = "circulation"


@dataclass(frozen=True, slots=True)
class ItemLine:
    """A checked-out item. ``title`` is empty if none is shown."""

    due: date | None
    kind: CirculationKind | None
    days_overdue: int
    library: str
    title: str

    @property
    def state(self) -> str:
        """The kind of circulation in the reader's language."""
        return gettext(_STATES[self.kind]) if self.kind else ""


def member_overview(
    group: GroupBills, member: MemberBills, counts: CirculationCounts | None = None
) -> dict[str, object]:
    """Return what the template shows of a member. Pass ``counts`` of all items if some aren't visible."""
    items = item_lines(group, member, member.items.out)
    waivers = [
        (waiver.name, [gettext(text) for use, text in _USES.items() if getattr(waiver, use)])
        for waiver in member.waivers
    ]
    return {
        "member": member,
        "bills": _bill_lines(group, member),
        "item_lines": items,
        "counts": counts,
        "waivers": waivers,
    }


_USES = {
    "place_holds": Message("Place holds"),
    "pickup_holds": Message("Pick up holds"),
    "view_history": Message("View borrowing history"),
    "checkout_items": Message("Check out items"),
}
"""What a waiver allows, as the staff client's summary says it."""


def _bill_lines(group: GroupBills, member: MemberBills) -> list[tuple[Bill, str, str | None]] | None:
    """Return each bill with library and title: empty if there is no title to show, None if the item isn't visible.

    Return None if the bills are unknown.
    """
    if member.bills is None:
        return None
    return [(bill, group.library(bill.library), _title(member, bill)) for bill in member.bills]


def item_lines(group: GroupBills, member: MemberBills, items: Iterable[ItemOut]) -> tuple[ItemLine, ...]:
    """Return items as lines, with titles where they are shown."""
    titles = member.titles or {}
    return tuple(
        ItemLine(
            # In Evergreen's time zone: due times are usually 23:59:59, which is another day elsewhere.
            due=item.due.date() if item.due else None,
            kind=item.kind,
            days_overdue=0 if item.kind is CirculationKind.LOST else item.days_overdue(group.at),
            library=group.library(item.library),
            title=titles.get(item.copy, ""),
        )
        for item in items
    )


def _title(member: MemberBills, bill: Bill) -> str | None:
    if member.titles is None or bill.kind.transaction != _CIRCULATION:
        return ""
    item = member.item_of(bill)
    return None if item is None else member.titles.get(item.copy, "")


HOW_TO_PAY = Message("You can pay at the library's front desk.")
"""The setting's default, which is shown in the reader's language unless the library has its own text."""


@dataclass(frozen=True, slots=True)
class OwedAmount:
    """The amount owed for one kind of bill, and for one title where titles are shown."""

    text: str
    title: str
    amount: Decimal


_CREDIT = Message("Credits of {credit} aren't subtracted. Less these credits, the total is {total}.")


def statement_page(statement: Statement, settings: StatementSettings) -> dict[str, Any]:
    """Return the statement as the templates show it. ``how_to_pay`` and ``paragraphs`` are the library's own texts."""
    members = tuple(_member(statement, member, settings) for member in statement.members)
    out = [item for member in statement.members for item in member.items.out] if settings.items else []
    to_come = [item for item in out if item.kind is CirculationKind.OUT]
    owed, credit = statement.owed, statement.credit
    return {
        "library": settings.library or statement.library.name,
        "name": statement.patron.name,
        "at": statement.group.at,
        "members": members,
        "owed": owed,
        "credit": gettext(_CREDIT, credit=credit, total=owed - credit) if credit and owed else "",
        "kinds": _sums(line for member in members if member["owed"] > 0 for line in member["owed_for"]),
        "with_items": settings.items,
        "overdue": sum(item.kind in _LATE for item in out),
        "next_due": min((item.due.date() for item in to_come if item.due), default=None),
        "how_to_pay": _paragraphs(gettext(HOW_TO_PAY) if settings.how_to_pay == HOW_TO_PAY else settings.how_to_pay),
        "paragraphs": _paragraphs(settings.text or ""),
    }


def _member(statement: Statement, member: MemberBills, settings: StatementSettings) -> dict[str, Any]:
    """Return a member, without what the settings leave out. A sentence about items follows their title, if shown."""
    items = item_lines(statement.group, member, member.items.out) if settings.items else ()
    return {
        "name": member.patron.name,
        "barcode": member.patron.barcode,
        "owed": member.own_fines,
        "owed_for": _owed_for(statement.group, member) if settings.bills else (),
        "due": [(item.title, _sentence_of(item, count)) for item, count in Counter(items).items()],
        "all_items": member.items.complete or not settings.items,
    }


_NO_DUE_DATE = Message("{count} item has no due date.", plural="{count} items have no due date.")
_OVERDUE = Message(
    "{count} item was due on {day}. Please bring it back.",
    plural="{count} items were due on {day}. Please bring them back.",
)
_ITEMS = {
    CirculationKind.CLAIMS_RETURNED: Message(
        "{count} item was reported as returned, but not found.",
        plural="{count} items were reported as returned, but not found.",
    ),
    CirculationKind.LOST: Message(  # possibly before the due date, so not "was due"
        "{count} item, due on {day}, is considered lost.", plural="{count} items, due on {day}, are considered lost."
    ),
    CirculationKind.OVERDUE: _OVERDUE,
    CirculationKind.LONG_OVERDUE: _OVERDUE,
    CirculationKind.OUT: Message("{count} item is due on {day}.", plural="{count} items are due on {day}."),
}


def _sentence_of(item: ItemLine, count: int) -> str:
    """Return a sentence about ``count`` equal items, without the title."""
    has_no_day = item.due is None and item.kind is not CirculationKind.CLAIMS_RETURNED
    text = _NO_DUE_DATE if has_no_day else _ITEMS[item.kind or CirculationKind.OUT]
    return gettext(text, count=count, day=day(item.due) if item.due else "")


def _owed_for(group: GroupBills, member: MemberBills) -> tuple[OwedAmount, ...]:
    """Return what a member owes by kind and title. The amounts add up to the member's own fines."""
    if (lines := _bill_lines(group, member)) is None:
        return (OwedAmount(gettext("other charges"), "", member.own_fines),) if member.own_fines else ()
    sums: dict[tuple[str, str], Decimal] = {}
    for bill, _library, title in lines:
        kind = bill.kind.describe()
        key = gettext("{label}: {value}", label=kind, value=bill.note) if bill.note else kind, title or ""
        sums[key] = sums.get(key, ZERO) + bill.balance
    return tuple(OwedAmount(text, title, amount) for (text, title), amount in sums.items())


def _sums(lines: Iterable[OwedAmount]) -> tuple[OwedAmount, ...]:
    """Return the amounts by kind, the highest first."""
    sums: dict[str, Decimal] = {}
    for line in lines:
        sums[line.text] = sums.get(line.text, ZERO) + line.amount
    return tuple(
        OwedAmount(text, "", amount) for text, amount in sorted(sums.items(), key=lambda pair: (-pair[1], pair))
    )


def _paragraphs(text: str) -> tuple[str, ...]:
    return tuple(line for line in map(str.strip, text.splitlines()) if line)
