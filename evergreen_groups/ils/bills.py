"""Bills: the open transactions on which patrons owe something, or have something to their credit.

A bill for an item is of the kind of what happened to the item; any other one is of the billing type with the largest
amount. Payments are made on a transaction, not on one of its billings, so what is still owed can't be divided further.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from itertools import chain
from typing import Any

from evergreen_groups.errors import DataError
from evergreen_groups.gateway import TOKEN, Gateway
from evergreen_groups.language import gettext
from evergreen_groups.message import Message
from evergreen_groups.money import NOTHING
from evergreen_groups.odd_dates import known

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
_OVERDUE = "Overdue Materials"
_DAMAGE = ("Damaged Item", "Damaged Item Processing Fee")
# These say what happened to an item, which its circulation knows better.
_OF_ITEMS = (
    *(_OVERDUE, "Lost Materials", "Lost Materials Processing Fee"),
    *("Long-Overdue Materials", "Long-Overdue Materials Processing Fee"),
)
_CLAIMED = {
    "CLAIMSRETURNED": Message("items claimed returned"),
    "CLAIMSNEVERCHECKEDOUT": Message("items claimed never checked out"),
}
_OVERDUE_FINES = 1
"""Their id among the billing types, the same in every Evergreen (950.data.seed-values.sql)."""
_WITHOUT_BILLING = {
    "circulation": Message("items"),
    "grocery": Message("other bills"),
    "reservation": Message("reservations"),
}


@dataclass(frozen=True, slots=True, order=True)
class BillKind:
    """What a bill is for: the type of its transaction (``circulation``, ``grocery`` …), and a billing type.

    >>> BillKind("circulation", "Lost Materials").text, BillKind("grocery", "Photocopies").text
    ('lost materials', 'Photocopies')
    """

    transaction: str
    billing_type: str = ""
    """As the library calls it; empty for a claim, and for a transaction with no billing in force (a mere payment)."""
    claim: str = ""
    """What the patron claims of the item: the circulation's ``stop_fines``, such as ``CLAIMSRETURNED``."""

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

    def after(self, stop_fines: str | None) -> BillKind:
        """The kind of an item's bill, given why its fines stopped; this is the kind by its leading billing type.

        >>> BillKind("circulation", "Lost Materials Processing Fee").after("LOST").text
        'lost materials'
        """
        if self.billing_type in _DAMAGE:
            return _BY_STOP_FINES["DAMAGED"]
        if stop_fines in _BY_STOP_FINES:
            return _BY_STOP_FINES[stop_fines]
        return BillKind("circulation", _OVERDUE) if self.billing_type in _OF_ITEMS else self

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
        if self.claim:
            return _CLAIMED.get(self.claim, self.claim)
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
        names = (self.text, self.billing_type, self.claim, self.transaction)
        return name.casefold() in {part.casefold() for part in names if part}


_BY_STOP_FINES = {
    "LOST": BillKind("circulation", "Lost Materials"),
    "LONGOVERDUE": BillKind("circulation", "Long-Overdue Materials"),
    "DAMAGED": BillKind("circulation", "Damaged Item"),
    **{claim: BillKind("circulation", claim=claim) for claim in _CLAIMED},
}
"""The kinds of bills for items, by what happened to them."""
STOPPED = ("LOST", "LONGOVERDUE", *_CLAIMED)
"""The values of ``stop_fines`` that make a kind of bill."""


@dataclass(frozen=True, slots=True)
class Billed:
    """What one transaction was billed for one type, voided and adjusted billings left out.

    ``billing_type`` is empty for what isn't listed by type: overdue fines, and what was adjusted.
    """

    billing_type: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Bill:
    """An open transaction of the patron with the id ``patron`` on which the balance isn't nought.

    ``balance`` is what is owed, below zero for a credit: ``billed`` without what was ``paid``. ``since`` is when the
    transaction began and ``last_payment`` when something was last paid on it (both aware). ``library`` is the id of
    the org unit that billed, None where the ILS names none. ``by_type`` are its billings by type, overdue fines left
    out.
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
    by_type: tuple[Billed, ...] = ()

    @property
    def billings(self) -> tuple[Billed, ...]:
        """What was billed by type, which adds up to ``billed``; empty where it was billed for one type alone."""
        rest = self.billed - sum((billed.amount for billed in self.by_type), NOTHING)
        found = (*self.by_type, Billed("", rest)) if rest > 0 else self.by_type
        return found if len(found) > 1 else ()

    def describe_billings(self) -> str:
        """Say what was billed by type: ``lost materials: $12.99, processing of lost materials: $5.00``."""
        return ", ".join(
            gettext("{kind}: {amount}", kind=self._describe_type(billed.billing_type), amount=billed.amount)
            for billed in self.billings
        )

    def _describe_type(self, billing_type: str) -> str:
        if billing_type:
            return BillKind.of(self.kind.transaction, billing_type).describe()
        return (
            gettext("other billings")
            if self.paid or self.kind.transaction != "circulation"
            else gettext(_STOCK[_OVERDUE])
        )


def balance_of(bills: Iterable[Bill]) -> Decimal:
    """What is owed on bills together, credits counted."""
    return sum((bill.balance for bill in bills), NOTHING)


def read_bills(gateway: Gateway, patrons: Collection[int]) -> dict[int, tuple[Bill, ...]]:
    """The visible bills of patrons, oldest first, by patron's id, up to 3,000 patrons in a call, and as many bills in
    another (``mobts``, with the library that bills since before 3.12: ``3.12/family-002``, ``details-002``).

    Their kinds are those by billing type; :func:`kinds_of_items` makes them those of what happened to items.

    Bills are visible where the account has VIEW_USER_TRANSACTIONS at the patron's home library; those of others are
    left out without a word (``family-018``, ``details-003``), so that nobody's lack of bills says that nothing is owed:
    :func:`read_bills_that_add_up` does.
    """
    # Each item that is out has an open transaction, on which mostly nothing is owed (family-001): hundreds of them.
    owed = {"balance_owed": {"<>": 0}}
    # Whoever's bills are hidden isn't asked about, and if some were hidden even so, they wouldn't add up.
    pages = gateway.pcrud.columns_by_values("mobts", _FIELDS, "usr", sorted(patrons), where=owed, all_visible=True)
    rows = list(chain.from_iterable(pages))
    found: dict[int, list[Bill]] = {}
    for bill in _bills(rows, _read_billed(gateway, sorted(row[0] for row in rows))):
        found.setdefault(bill.patron, []).append(bill)
    return {id: tuple(sorted(theirs, key=lambda bill: (bill.since, bill.id))) for id, theirs in found.items()}


def _read_billed(gateway: Gateway, transactions: Sequence[int]) -> dict[int, tuple[Billed, ...]]:
    """What transactions were billed for by type, the first billing first; those with overdue fines alone are left out.

    There may be a billing for each day of overdue fines: they are told by what is left of the transaction's total.
    Adjustments can't be read through pcrud, but asked about. The account sees the billings of whom it sees bills.
    """
    adjusted = {"billing": {"=": {"+mb": "id"}}, "amount": {">=": {"+mb": "amount"}}}
    where = {
        "voided": "f",
        "btype": {"<>": _OVERDUE_FINES},
        "-not-exists": {"select": {"maa": ["id"]}, "from": "maa", "where": adjusted},
    }
    fields = ("xact", "billing_type", "amount")
    sums: dict[int, dict[str, Decimal]] = {}
    pages = gateway.pcrud.columns_by_values("mb", fields, "xact", transactions, where=where, all_visible=True)
    for transaction, billing_type, amount in chain.from_iterable(pages):
        theirs = sums.setdefault(transaction, {})
        theirs[billing_type] = theirs.get(billing_type, NOTHING) + amount
    return {id: tuple(Billed(name, amount) for name, amount in theirs.items()) for id, theirs in sums.items()}


def _bills(rows: Iterable[tuple[Any, ...]], by_type: Mapping[int, tuple[Billed, ...]]) -> Iterator[Bill]:
    kinds: dict[tuple[str, str], BillKind] = {}
    for id, usr, transaction, last, balance, billed, paid, since, last_payment, library in rows:
        types = by_type.get(id, ())
        billing_type = _leading(transaction, types, (billed or NOTHING) - (paid or NOTHING)) if types else last or ""
        kind = kinds.get((transaction, billing_type))
        if kind is None:
            kind = kinds[transaction, billing_type] = BillKind.of(transaction, billing_type)
        yield Bill(
            id, usr, kind, balance, billed or NOTHING, paid or NOTHING, since, known(last_payment), library, types
        )


def _leading(transaction: str, types: Collection[Billed], balance: Decimal) -> str:
    """The billing type with the largest amount, the first of equal ones.

    Overdue fines are what is left of the balance: payments go to what was billed first.
    """
    largest = max(types, key=lambda billed: billed.amount)
    overdue = balance - sum((billed.amount for billed in types), NOTHING)
    return _OVERDUE if transaction == "circulation" and overdue > largest.amount else largest.billing_type


def kinds_of_items(
    bills: Iterable[Bill], stop_fines: Mapping[int, str | None], visible_at: Collection[int]
) -> tuple[Bill, ...]:
    """Bills with the kinds of what happened to the items that they are for.

    ``stop_fines`` are those of circulations by id, as far as they make a kind. ``visible_at`` are the ids of the org
    units whose circulations the account sees; bills from elsewhere keep their kind.
    """
    return tuple(
        bill
        if bill.kind.transaction != "circulation" or bill.library not in visible_at
        else _of_kind(bill, bill.kind.after(stop_fines.get(bill.id)))
        for bill in bills
    )


def _of_kind(bill: Bill, kind: BillKind) -> Bill:
    return bill if kind == bill.kind else replace(bill, kind=kind)


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


Scope = frozenset[int] | None
"""The ids of the org units whose transactions count, None for those of everywhere."""

_SUMMARY = "open-ils.actor.user.fines.summary"

Transaction = tuple[int | None, Decimal]
"""Where an open transaction was made (an org unit's id), and what is owed on it, below zero for a credit."""


def within(transactions: Iterable[Transaction], scope: Scope) -> Decimal | None:
    """What is owed on the transactions within a scope, None where there are none.

    >>> within([(4, Decimal("3.00")), (5, Decimal("1.50"))], frozenset({4}))
    Decimal('3.00')
    """
    owed = [amount for place, amount in transactions if scope is None or place in scope]
    # None isn't nought: over no transaction at all the ILS's sum reaches no threshold, not even one of 0.00.
    return sum(owed, NOTHING) if owed else None


def read_own_fines(gateway: Gateway, ids: Collection[int], *, debtors_only: bool = False) -> dict[int, Decimal]:
    """What patrons owe anywhere (``mous``), by id; who has no open transaction is left out.

    So is the session's own user, unless they have VIEW_USER at their home library (``pcrud-056``). ``debtors_only``
    leaves out those whose open transactions come to nothing as well, which makes the answer for many patrons smaller.
    """
    fields = ("usr", "balance_owed")
    owes = {"balance_owed": {"<>": 0}} if debtors_only else None
    return dict(chain.from_iterable(gateway.pcrud.columns_by_values("mous", fields, "usr", sorted(ids), where=owes)))


def read_fines_of(gateway: Gateway, id: int, *, current: bool = False) -> Decimal | None:
    """What one patron owes anywhere, the session's own user too (``patrons-070``); None without an open transaction.

    ``current`` asks where changes are written.

    Raises:
        PermissionDeniedError: the session may not know, unless it is the patron's own.
    """
    # An empty payload, for a null result, where nothing is open (patrons-056).
    method = f"{_SUMMARY}.authoritative" if current else _SUMMARY
    result = gateway.call("open-ils.actor", method, TOKEN, id, expect="optional")
    if result.value is None:
        return None
    with result.understood(Message("a summary of fines")):
        summary = gateway.decode(result.value)
        owner, owed = summary.usr, summary.balance_owed
    if owner != id or not isinstance(owed, Decimal):
        raise result.unexpected(Message("a summary of this user's fines"))
    return owed


def read_fines_within(
    gateway: Gateway,
    scopes: Mapping[int, frozenset[int]],
    totals: Mapping[int, Decimal],
    *,
    leave_out_hidden: bool = False,
) -> dict[int, Decimal | None]:
    """What each patron owes within the scope of each, by patron's id; None for no open transaction there.

    ``totals`` are what those with an open transaction owe anywhere. Reads the open transactions (``mobts``) up to 3,000
    patrons at a time. ``leave_out_hidden`` leaves out patrons whose transactions the account can't see.

    Raises:
        DataError: somebody has open transactions of which the account may see none (VIEW_USER_TRANSACTIONS).
    """
    found: dict[int, list[Transaction]] = {id: [] for id in scopes}
    fields = ("usr", "billing_location", "balance_owed")
    for page in gateway.pcrud.columns_by_values("mobts", fields, "usr", sorted(scopes)):
        for id, place, amount in page:
            found[id].append((place, amount))
    # Hidden transactions are left out without a word (family-018): who has a total, be it 0.00, and shows none isn't
    # somebody without any. Unless the last one was closed between the two looks.
    suspects = [id for id in scopes if id in totals and not found[id]]
    hidden = read_own_fines(gateway, suspects) if suspects else {}
    if hidden and not leave_out_hidden:
        raise DataError(
            "the account can't see the transactions of everybody who has any, so what they owe at the "
            "libraries that count isn't known",
            advice="give the account VIEW_USER_TRANSACTIONS",
            code="transactions-hidden",
        )
    return {id: within(found[id], scope) for id, scope in scopes.items() if id not in hidden}
