"""Bills: the open transactions on which patrons owe something, or have something to their credit.

What a bill is for is what its transaction was billed for last. Payments are made on a transaction, not on one of its
billings, so what is still owed can't be divided any further.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import chain
from typing import TYPE_CHECKING

from evergreen_groups.language import gettext
from evergreen_groups.message import Message
from evergreen_groups.money import NOTHING

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway

_FIELDS = (
    "id",
    "usr",
    "xact_type",
    "last_billing_type",
    "balance_owed",
    "total_owed",
    "total_paid",
    "xact_start",
    "last_payment_ts",
    "billing_location",
)
# The billing types of a stock Evergreen (950.data.seed-values.sql), as people say them. A library's own, and renamed
# ones, are said as they are called.
_STOCK = {
    "Overdue Materials": Message("overdue materials"),
    "Lost Materials": Message("lost materials"),
    "Lost Materials Processing Fee": Message("processing of lost materials"),
    "Long-Overdue Materials": Message("long overdue materials"),
    "Long-Overdue Materials Processing Fee": Message("processing of long overdue materials"),
    "Long Overdue Collection Fee": Message("collection of long overdue materials"),
    "Damaged Item": Message("damage"),
    "Damaged Item Processing Fee": Message("processing of damaged items"),
    "Notification Fee": Message("notification"),
    "System: Deposit": Message("deposit"),
    "System: Rental": Message("rental"),
}
_SPELLING = {name.casefold(): name for name in _STOCK}
_WITHOUT_BILLING = {
    "circulation": Message("items"),
    "grocery": Message("other bills"),
    "reservation": Message("reservations"),
}


@dataclass(frozen=True, slots=True, order=True)
class BillKind:
    """What a bill is for: the type of its transaction (``circulation``, ``grocery`` …), and of its last billing.

    >>> BillKind("circulation", "Lost Materials").text, BillKind("grocery", "Photocopies").text
    ('lost materials', 'Photocopies')
    """

    transaction: str
    billing_type: str = ""
    """As the library calls it; empty for a transaction with no billing in force, such as a mere payment."""

    @classmethod
    def of(cls, transaction: str, billing_type: str) -> BillKind:
        """The kind of a transaction with this billing type; for an item, a stock one's capitals don't matter.

        What makes the fines writes "Overdue materials", while the table has "Overdue Materials" (``desk-003``;
        ``CircCommon.pm``, generate_fines): it is the same thing.

        >>> BillKind.of("circulation", "Overdue materials") == BillKind("circulation", "Overdue Materials")
        True
        """
        if transaction == "circulation":
            billing_type = _SPELLING.get(billing_type.casefold(), billing_type)
        return cls(transaction, billing_type)

    def describe(self) -> str:
        """What it is for, in the language that is written now; billing types of the library's own are its names."""
        text = self.text
        if isinstance(text, Message):
            return gettext(text)
        if self.transaction == "circulation":
            return gettext("{billing_type} (item)", billing_type=self.billing_type)
        return text

    @property
    def text(self) -> str:
        """What it is for, in English; two kinds never have the same text."""
        if not self.billing_type:
            return _WITHOUT_BILLING.get(self.transaction, self.transaction)
        if self.transaction == "circulation":
            return _STOCK.get(self.billing_type) or f"{self.billing_type} (item)"
        if self.transaction == "grocery":
            return self.billing_type
        return f"{self.billing_type} ({self.transaction})"

    def is_called(self, name: str) -> bool:
        """Whether people may mean this kind by a name: its text, its billing type, or the type of its transaction.

        >>> BillKind("circulation", "Overdue Materials").is_called("overdue materials")
        True
        """
        return name.casefold() in {part.casefold() for part in (self.text, self.billing_type, self.transaction) if part}


@dataclass(frozen=True, slots=True)
class Bill:
    """An open transaction of the patron with the id ``patron`` on which the balance isn't nought.

    ``balance`` is what is owed, below zero for a credit: ``billed`` without what was ``paid``. ``since`` is when the
    transaction began and ``last_payment`` when something was last paid on it (both aware). ``library`` is the id of
    the org unit that billed, None where the ILS names none.
    """

    id: int
    patron: int
    kind: BillKind
    balance: Decimal
    billed: Decimal
    paid: Decimal
    since: datetime
    last_payment: datetime | None
    library: int | None


def balance_of(bills: Iterable[Bill]) -> Decimal:
    """What is owed on bills together, credits counted."""
    return sum((bill.balance for bill in bills), NOTHING)


def read_bills(gateway: Gateway, patrons: Collection[int]) -> dict[int, tuple[Bill, ...]]:
    """The visible bills of patrons, oldest first, by patron's id, up to 3,000 patrons in a call
    (``mobts``, with the library that bills since before 3.12: ``3.12/family-002``, ``details-002``).

    Bills are visible where the account has VIEW_USER_TRANSACTIONS at the patron's home library; those of others are
    left out without a word (``family-018``, ``details-003``), so that nobody's lack of bills says that nothing is owed:
    :func:`read_bills_that_add_up` does.
    """
    # Each item that is out has an open transaction, on which mostly nothing is owed (family-001): hundreds of them.
    owed = {"balance_owed": {"<>": 0}}
    # Whoever's bills are hidden isn't asked about, and if some were hidden even so, they wouldn't add up.
    pages = gateway.pcrud.columns_by_values("mobts", _FIELDS, "usr", sorted(patrons), where=owed, all_visible=True)
    found: dict[int, list[Bill]] = {}
    for bill in _bills(chain.from_iterable(pages)):
        found.setdefault(bill.patron, []).append(bill)
    return {id: tuple(sorted(theirs, key=lambda bill: (bill.since, bill.id))) for id, theirs in found.items()}


def _bills(rows: Iterable[tuple[object, ...]]) -> Iterator[Bill]:
    kinds: dict[tuple[object, object], BillKind] = {}
    for row in rows:
        id, usr, transaction, billing_type, balance, billed, paid, since, last_payment, library = row
        kind = kinds.get((transaction, billing_type))
        if kind is None:
            kind = kinds[transaction, billing_type] = BillKind.of(str(transaction), str(billing_type or ""))
        yield Bill(id, usr, kind, balance, billed or NOTHING, paid or NOTHING, since, last_payment, library)  # type: ignore[arg-type]  # rows are of the class's datatypes


def read_bills_that_add_up(
    gateway: Gateway, own_fines: Mapping[int, Decimal], hidden: Collection[int] = ()
) -> dict[int, tuple[Bill, ...] | None]:
    """The bills of each patron, by id; None where they aren't known: hidden, or they don't add up to the own fines.

    ``own_fines`` is what each of the patrons owes, 0.00 for who owes nothing. ``hidden`` are the ids of those whose
    bills the account may not see. Whoever paid between the two looks is looked at once more.
    """
    asked = own_fines.keys() - set(hidden)
    return add_up(gateway, own_fines, read_bills(gateway, asked) if asked else {}, hidden)


def add_up(
    gateway: Gateway,
    own_fines: Mapping[int, Decimal],
    bills: Mapping[int, tuple[Bill, ...]],
    hidden: Collection[int] = (),
) -> dict[int, tuple[Bill, ...] | None]:
    """Like :func:`read_bills_that_add_up`, with the bills that were read beside the own fines."""
    # Who owes something and shows no bill has hidden ones: they aren't asked about again.
    doubtful = [id for id, theirs in bills.items() if id in own_fines and balance_of(theirs) != own_fines[id]]
    again = read_bills(gateway, doubtful) if doubtful else {}
    found: dict[int, tuple[Bill, ...] | None] = {}
    for id, owed in own_fines.items():
        theirs = again.get(id, ()) if id in again or id in doubtful else bills.get(id, ())
        found[id] = theirs if id not in hidden and balance_of(theirs) == owed else None
    return found
