"""The family statement as it is printed: sums, what they are for, and when what is due."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from evergreen_groups.ils import Bill, CirculationKind, balance_of
from evergreen_groups.language import gettext, long_day, ngettext
from evergreen_groups.message import Message
from evergreen_groups.money import ZERO

if TYPE_CHECKING:
    from evergreen_groups.desk import GroupBills, MemberBills, Statement
    from evergreen_groups.ils import CirculationCounts, ItemOut
    from evergreen_groups.settings import StatementSettings

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


HOW_TO_PAY = Message("You can pay at the desk of the library.")
"""What is said, in the reader's language, where the library says nothing of its own: the setting's default."""


@dataclass(frozen=True, slots=True)
class OwedFor:
    """What is owed for one kind of thing; ``title`` is empty where none is shown."""

    text: str
    title: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class DueItems:
    """What is said of items that are due, or were, on the same day.

    Where titles are shown, ``sentence`` is what goes on after the ``title`` that they have.
    """

    title: str
    sentence: str


@dataclass(frozen=True, slots=True)
class StatementMember:
    """A member on the sheet; ``owed_for`` and ``due`` are empty where the library leaves that out."""

    name: str
    owed: Decimal
    owed_for: tuple[OwedFor, ...]
    due: tuple[DueItems, ...]
    all_items: bool


@dataclass(frozen=True, slots=True)
class StatementPage:
    """The sheet. ``paragraphs`` are the library's own text, ``how_to_pay`` as well."""

    library: str
    name: str
    at: datetime
    members: tuple[StatementMember, ...]
    owed: Decimal
    kinds: tuple[OwedFor, ...]
    with_bills: bool
    with_items: bool
    next_due: date | None
    all_items: bool
    how_to_pay: tuple[str, ...]
    paragraphs: tuple[str, ...]


def statement_page(statement: Statement, settings: StatementSettings) -> StatementPage:
    """Make the sheet of a statement."""
    members = tuple(_member(statement, member, settings) for member in statement.members)
    out = [item for member in statement.members for item in member.items.out] if settings.items else []
    today = statement.group.at.date()
    expected = [item.due for item in out if item.kind is CirculationKind.OUT and item.due is not None]
    to_come = [due.date() for due in expected if due.date() >= today]
    return StatementPage(
        library=settings.library or statement.library.name,
        name=statement.patron.name,
        at=statement.group.at,
        members=members,
        owed=statement.owed,
        kinds=_sums(line for member in members for line in member.owed_for),
        with_bills=settings.bills,
        with_items=settings.items,
        next_due=min(to_come, default=None),
        all_items=all(member.all_items for member in members),
        how_to_pay=_paragraphs(gettext(HOW_TO_PAY) if settings.how_to_pay == HOW_TO_PAY else settings.how_to_pay),
        paragraphs=_paragraphs(settings.text or ""),
    )


def _member(statement: Statement, member: MemberBills, settings: StatementSettings) -> StatementMember:
    affairs = member_affairs(statement.group, member)
    items = item_lines(statement.group, member, member.items.out) if settings.items else ()
    return StatementMember(
        name=member.patron.name,
        owed=member.own_fines,
        owed_for=_owed_for(affairs) if settings.bills else (),
        due=tuple(DueItems(item.title, _sentence_of(item, count)) for item, count in Counter(items).items()),
        all_items=member.items.complete or not settings.items,
    )


def _sentence_of(item: ItemLine, count: int) -> str:
    """A line about items without titles, or what goes on after one and a colon."""
    describe = _describe_copies if item.title else _describe_items
    return describe(item, count, long_day(item.due) if item.due else None)


def _describe_items(item: ItemLine, count: int, day: str | None) -> str:
    if item.kind is CirculationKind.CLAIMS_RETURNED:
        return ngettext("{count} item was reported as returned.", "{count} items were reported as returned.", count)
    if day is None:
        return ngettext("{count} item has no due date.", "{count} items have no due date.", count)
    match item.kind:
        case CirculationKind.LOST:  # it may be lost before it is due
            return ngettext(
                "{count} item, due on {day}, counts as lost.",
                "{count} items, due on {day}, count as lost.",
                count,
                day=day,
            )
        case CirculationKind.OVERDUE | CirculationKind.LONG_OVERDUE:
            return ngettext(
                "{count} item was due on {day}. Please bring it back.",
                "{count} items were due on {day}. Please bring them back.",
                count,
                day=day,
            )
    return ngettext("{count} item is due on {day}.", "{count} items are due on {day}.", count, day=day)


def _describe_copies(item: ItemLine, count: int, day: str | None) -> str:
    if item.kind is CirculationKind.CLAIMS_RETURNED:
        return ngettext("reported as returned.", "{count} copies were reported as returned.", count)
    if day is None:
        return ngettext("no due date.", "{count} copies, no due date.", count)
    match item.kind:
        case CirculationKind.LOST:
            return ngettext(
                "due on {day}, counts as lost.", "{count} copies, due on {day}, count as lost.", count, day=day
            )
        case CirculationKind.OVERDUE | CirculationKind.LONG_OVERDUE:
            return ngettext(
                "was due on {day}. Please bring it back.",
                "{count} copies were due on {day}. Please bring them back.",
                count,
                day=day,
            )
    return ngettext("due on {day}.", "{count} copies, due on {day}.", count, day=day)


def _owed_for(member: MemberAffairs) -> tuple[OwedFor, ...]:
    """What a member owes by kinds, and by titles where they are shown; together it is what they owe."""
    if member.bills is None:
        unknown = gettext("for something that cannot be listed here")
        return (OwedFor(unknown, "", member.own_fines),) if member.own_fines else ()
    sums: dict[tuple[str, str], Decimal] = {}
    for line in member.bills:
        key = line.bill.kind.describe(), line.title or ""
        sums[key] = sums.get(key, ZERO) + line.bill.balance
    return tuple(OwedFor(text, title, amount) for (text, title), amount in sums.items())


def _sums(lines: Iterable[OwedFor]) -> tuple[OwedFor, ...]:
    """The same of all members together, the most first."""
    sums: dict[str, Decimal] = {}
    for line in lines:
        sums[line.text] = sums.get(line.text, ZERO) + line.amount
    return tuple(OwedFor(text, "", amount) for text, amount in sorted(sums.items(), key=lambda pair: (-pair[1], pair)))


def _paragraphs(text: str) -> tuple[str, ...]:
    return tuple(line for line in map(str.strip, text.splitlines()) if line)
