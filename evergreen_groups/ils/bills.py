"""Bills: open transactions with a balance, which is positive for debts and negative for credits.

The kind of a bill for an item says what happened to the item. The kind of any other bill is the billing type with the
largest amount. A bill has only one kind because payments belong to a transaction, not to one of its billings, so the
balance can't be divided among billing types.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from difflib import get_close_matches
from typing import Any, NamedTuple

from evergreen_groups.errors import ConfigurationError, DataError, PermissionDeniedError
from evergreen_groups.gateway import TOKEN, Gateway
from evergreen_groups.language import gettext
from evergreen_groups.message import Message
from evergreen_groups.values import ZERO, one_line, plausible

_AMOUNTS = ("balance_owed", "total_owed", "total_paid")
_TIMES = ("xact_start", "last_payment_ts")
_FIELDS = ("id", "usr", "xact_type", "last_billing_type", *_AMOUNTS, *_TIMES, "billing_location")
# The billing types of a stock Evergreen (950.data.seed-values.sql), with translatable names. Billing types that the
# library added or renamed are shown under the library's names.
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
_STOCK_SPELLING = {name.casefold(): name for name in _STOCK}
_OVERDUE, _DAMAGED, _FEE = "Overdue Materials", "Damaged Item", " Processing Fee"
_STOPPED = {"LOST": "Lost Materials", "LONGOVERDUE": "Long-Overdue Materials"}
# Billing types that say what happened to an item. The circulation's stop_fines overrides them.
_OF_ITEMS = (_OVERDUE, *_STOPPED.values(), *(f"{name}{_FEE}" for name in _STOPPED.values()))
_CLAIMED = {
    "CLAIMSRETURNED": Message("items claimed returned"),
    "CLAIMSNEVERCHECKEDOUT": Message("items claimed never checked out"),
}
STOPPED = (*_STOPPED, *_CLAIMED)
"""The values of ``stop_fines`` that decide the kind of a bill."""
_OVERDUE_FINES = 1
"""The billing type's id, the same in every Evergreen (950.data.seed-values.sql)."""
# pcrud doesn't let anyone read adjustments (maa), but allows them in a subquery.
_ADJUSTED = {"billing": {"=": {"+mb": "id"}}, "amount": {">=": {"+mb": "amount"}}}
IN_FORCE: dict[str, Any] = {
    "voided": "f",
    "-not-exists": {"select": {"maa": ["id"]}, "from": "maa", "where": _ADJUSTED},
}
"""The condition on billings (``mb``) that are neither voided nor adjusted to zero."""
_WITHOUT_BILLING = {
    "circulation": Message("items"),
    "grocery": Message("other bills"),
    "reservation": Message("reservations"),
}


@dataclass(frozen=True, slots=True, order=True)
class BillKind:
    """What a bill is for, by transaction type (``circulation``, ``grocery`` …) and billing type.

    >>> BillKind("circulation", "Lost Materials").text, BillKind("grocery", "Photocopies").text
    ('lost materials', 'Photocopies')
    """

    transaction: str
    billing_type: str = ""
    """The library's name for it. Empty for claims, and for transactions without billings in force (only payments)."""
    claim: str = ""
    """The circulation's ``stop_fines`` if it is a claim (``CLAIMSRETURNED``), or an empty string."""

    @classmethod
    def of(cls, transaction: str, billing_type: str) -> BillKind:
        """Return the kind for a billing type. For items, ignore upper and lower case in stock billing types.

        Evergreen's fine generator writes "Overdue materials", the billing type is "Overdue Materials" (``desk-003``).
        """
        if transaction == "circulation":
            billing_type = _STOCK_SPELLING.get(billing_type.casefold(), billing_type)
        return cls(transaction, billing_type)

    def with_stop_fines(self, stop_fines: str | None) -> BillKind:
        """Return the kind of an item's bill by the circulation's ``stop_fines``, where ``self`` is by billing type."""
        if self.billing_type in (_DAMAGED, f"{_DAMAGED}{_FEE}"):
            return BillKind("circulation", _DAMAGED)
        if stop_fines in _STOPPED:
            return BillKind("circulation", _STOPPED[stop_fines])
        if stop_fines in _CLAIMED:
            return BillKind("circulation", claim=stop_fines)
        return BillKind("circulation", _OVERDUE) if self.billing_type in _OF_ITEMS else self

    def describe(self) -> str:
        """Return the kind's name in the current language. The library's own billing types aren't translated."""
        return gettext(self.text) if isinstance(self.text, Message) else self.text

    @property
    def text(self) -> str:
        """The kind's name in English, a Message if it can be translated. No two kinds have the same name."""
        if self.claim:
            return _CLAIMED.get(self.claim, self.claim)
        if not self.billing_type:
            return _WITHOUT_BILLING.get(self.transaction, self.transaction)
        if self.transaction == "circulation":
            values = {"billing_type": self.billing_type}
            return _STOCK.get(self.billing_type) or Message("{billing_type} (item)", values=values)
        if self.transaction == "grocery":
            return self.billing_type
        return f"{self.billing_type} ({self.transaction})"

    def matches_name(self, name: str) -> bool:
        """Return whether a name matches the kind's text, billing type, claim or transaction type, in any case."""
        names = (self.text, self.billing_type, self.claim, self.transaction)
        return name.casefold() in {part.casefold() for part in names if part}


class KindNames:
    """The names of kinds of bills. ``billing_types`` are the library's, all of them if ``complete``.

    >>> KindNames().similar("lost material")
    'lost materials'
    """

    def __init__(self, billing_types: Iterable[str] = (), *, complete: bool = False) -> None:
        # The names that BillKind.matches_name takes in every Evergreen, and the library's own.
        known = [str(name) for names in (_STOCK, _CLAIMED, _WITHOUT_BILLING) for pair in names.items() for name in pair]
        self._known = {name.casefold(): name for name in (*billing_types, *known)}
        self._complete = complete

    @classmethod
    def read(cls, gateway: Gateway, names: Iterable[str]) -> KindNames:
        """Read the library's billing types, in two calls, if one of ``names`` isn't known without them."""
        without = cls()
        if not without.unknown(names):
            return without
        rows = gateway.pcrud.all_columns("cbt", ("id", "name"))
        # All of Evergreen's own belong to the top org unit. Who sees them there sees those below as well.
        return cls((name for _id, name in rows), complete=_OVERDUE_FINES in {id for id, _name in rows})

    def unknown(self, names: Iterable[str]) -> list[str]:
        """Return the names that no kind is known by."""
        return [name for name in names if re.sub(r" \((item|reservation)\)$", "", name.casefold()) not in self._known]

    def similar(self, name: str) -> str:
        """Return the most similar names, in one line; empty without any."""
        return ", ".join(self._known[one] for one in get_close_matches(name.casefold(), self._known, 3, 0.7))

    def check(self, names: Iterable[str]) -> None:
        """Raise ConfigurationError for the first unknown name, unless it may be a billing type that is hidden."""
        for name in self.unknown(names):
            similar = self.similar(name)
            if similar or self._complete:
                known = Message("use one of Evergreen's billing types, or one of {known}")
                raise ConfigurationError(
                    'there is no kind of bill called "{name}"',
                    advice=Message("did you mean {similar}?") if similar else known,
                    setting="report.kinds",
                    code="no-such-kind",
                    values={"name": name, "similar": similar, "known": ", ".join(map(str, _STOCK.values()))},
                )


class Billed(NamedTuple):
    """The sum of a transaction's billings of one type, or of the rest: overdue fines and adjusted billings."""

    billing_type: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Bill:
    """A patron's open transaction with a balance other than 0.00."""

    id: int
    patron: int
    kind: BillKind
    balance: Decimal
    """``billed`` minus ``paid``; negative for a credit."""
    billed: Decimal
    paid: Decimal
    since: datetime
    last_payment: datetime | None
    library: int | None
    """The id of the org unit that billed, or None if the ILS names none."""
    by_type: tuple[Billed, ...] = ()
    """The billings by type, without overdue fines."""
    note: str = field(default="", repr=False)
    """What staff wrote about it. Only letters read notes, for the kinds of bills that the library names."""

    @property
    def billings(self) -> tuple[Billed, ...]:
        """The billings by type, which add up to ``billed``. Empty if there is only one type."""
        rest = self.billed - sum((billed.amount for billed in self.by_type), ZERO)
        found = (*self.by_type, Billed("", rest)) if rest > 0 else self.by_type
        return found if len(found) > 1 else ()

    def describe_billings(self) -> str:
        """List the billings by type: ``lost materials: $12.99, processing of lost materials: $5.00``."""
        is_overdue = self.kind.transaction == "circulation" and not self.paid
        rest = gettext(_STOCK[_OVERDUE] if is_overdue else _WITHOUT_BILLING["grocery"])
        described = []
        for billing_type, amount in self.billings:
            label = BillKind.of(self.kind.transaction, billing_type).describe() if billing_type else rest
            described.append(gettext("{label}: {value}", label=label, value=amount))
        return ", ".join(described)

    @staticmethod
    def balance_of(bills: Iterable[Bill]) -> Decimal:
        """Add up the balances of bills, credits included."""
        return sum((bill.balance for bill in bills), ZERO)

    @staticmethod
    def read(gateway: Gateway, patrons: Collection[int]) -> dict[int, tuple[Bill, ...]]:
        """Return the visible bills of patrons by patron id, oldest first, with kinds by billing type.

        Takes a call per 3,000 patrons and another per 3,000 bills (``mobts``, which names the billing library since
        before 3.12: ``3.12/family-002``, ``details-002``). pcrud silently omits the bills of
        patrons at whose home library the account lacks VIEW_USER_TRANSACTIONS (``family-018``, ``details-003``), so a
        patron without bills may still owe something. :meth:`Bill.verify` tells the difference.
        """
        # A patron may have hundreds of open transactions: each checked-out item has one, usually without a balance
        # (family-001). all_visible is safe: callers leave out patrons with hidden bills, and a wrong guess shows when
        # the bills are added up.
        owed, read = {"balance_owed": {"<>": 0}}, gateway.pcrud.columns_by_values
        rows = list(read("mobts", _FIELDS, "usr", sorted(patrons), where=owed, all_visible=True))
        by_type = _read_billed(gateway, sorted(row[0] for row in rows))
        found: dict[int, list[Bill]] = {}
        for id, usr, transaction, last, balance, billed, paid, since, last_payment, library in rows:
            types = by_type.get(id, ())
            kind = BillKind.of(transaction, _largest_type(transaction, types, balance) if types else last or "")
            amounts = balance, billed or ZERO, paid or ZERO
            bill = Bill(id, usr, kind, *amounts, since, plausible(last_payment), library, types)
            found.setdefault(usr, []).append(bill)
        return {id: tuple(sorted(theirs, key=lambda bill: (bill.since, bill.id))) for id, theirs in found.items()}

    @staticmethod
    def with_notes(gateway: Gateway, bills: Iterable[Bill]) -> list[Bill]:
        """Return the bills with the notes of the billings that their kinds are named after.

        Takes a call per 3,000 bills.
        """
        notes: dict[tuple[int, str], dict[str, None]] = {}
        found = list(bills)
        read = gateway.pcrud.columns_by_values
        ids, fields = sorted(bill.id for bill in found), ("xact", "billing_type", "note")
        for transaction, billing_type, note in read("mb", fields, "xact", ids, where=IN_FORCE, all_visible=True):
            if text := one_line(note or ""):
                notes.setdefault((transaction, billing_type), {})[text] = None
        return [replace(bill, note="; ".join(notes.get((bill.id, bill.kind.billing_type), ()))) for bill in found]

    @staticmethod
    def verify(
        gateway: Gateway,
        own_fines: Mapping[int, Decimal],
        bills: Mapping[int, tuple[Bill, ...]] | None = None,
        hidden: Collection[int] = (),
    ) -> dict[int, tuple[Bill, ...] | None]:
        """Return each patron's bills by id, or None if the bills are hidden or don't add up to the own fines.

        ``own_fines`` has an amount for each patron, 0.00 included. ``bills`` are read if not given, and read again once
        if they don't add up, because the patron may just have paid. The bills of ``hidden`` patrons can't be seen.
        """
        if bills is None:
            asked = own_fines.keys() - set(hidden)
            bills = Bill.read(gateway, asked) if asked else {}
        # Patrons who owe something but show no bill are left out: their bills are hidden, so reading again is
        # pointless.
        doubtful = {id for id, theirs in bills.items() if id in own_fines and Bill.balance_of(theirs) != own_fines[id]}
        again = Bill.read(gateway, doubtful) if doubtful else {}
        found: dict[int, tuple[Bill, ...] | None] = {}
        for id, owed in own_fines.items():
            theirs = (again if id in doubtful else bills).get(id, ())
            found[id] = theirs if id not in hidden and Bill.balance_of(theirs) == owed else None
        return found

    @staticmethod
    def with_item_kinds(
        bills: Iterable[Bill], stop_fines: Mapping[int, str | None], visible_at: Collection[int]
    ) -> tuple[Bill, ...]:
        """Return the bills with kinds that say what happened to the items.

        ``stop_fines`` has the values of :data:`STOPPED` by circulation id. ``visible_at`` are the ids of the org units
        whose circulations the account sees; bills of other libraries keep their kind by billing type.
        """
        return tuple(
            replace(bill, kind=bill.kind.with_stop_fines(stop_fines.get(bill.id)))
            if bill.kind.transaction == "circulation" and bill.library in visible_at
            else bill
            for bill in bills
        )


def _read_billed(gateway: Gateway, transactions: Sequence[int]) -> dict[int, tuple[Billed, ...]]:
    """Return the billings of transactions by type, in order of the first billing.

    Overdue fines are left out, because there may be a billing for each day: their sum is the rest of the transaction's
    total. The account sees the billings of all bills it sees.
    """
    where = {**IN_FORCE, "btype": {"<>": _OVERDUE_FINES}}
    fields, read = ("xact", "billing_type", "amount"), gateway.pcrud.columns_by_values
    sums: dict[int, dict[str, Decimal]] = {}
    for transaction, billing_type, amount in read("mb", fields, "xact", transactions, where=where, all_visible=True):
        theirs = sums.setdefault(transaction, {})
        theirs[billing_type] = theirs.get(billing_type, ZERO) + amount
    return {id: tuple(map(Billed._make, theirs.items())) for id, theirs in sums.items()}


def _largest_type(transaction: str, types: Collection[Billed], balance: Decimal) -> str:
    """Return the billing type with the largest amount, the first if several are equal."""
    # The overdue fines are the rest of the balance, not of the total: payments go to the oldest billings first.
    largest = max(types, key=lambda billed: billed.amount)
    overdue = balance - sum((billed.amount for billed in types), ZERO)
    return _OVERDUE if transaction == "circulation" and overdue > largest.amount else largest.billing_type


def read_own_fines(gateway: Gateway, ids: Collection[int], *, debtors_only: bool = False) -> dict[int, Decimal]:
    """Return what patrons owe at all libraries (``mous``), by id. Leaves out patrons without an open transaction.

    The session's own user is also left out, unless they have VIEW_USER at their home library (``pcrud-056``).
    ``debtors_only`` leaves out balances of 0.00, too.
    """
    fields = ("usr", "balance_owed")
    owes = {"balance_owed": {"<>": 0}} if debtors_only else None
    return dict(gateway.pcrud.columns_by_values("mous", fields, "usr", sorted(ids), where=owes))


def read_fines_of(gateway: Gateway, id: int, *, primary: bool = False) -> Decimal | None:
    """Return what one patron owes at all libraries, or None if they have no open transaction.

    Raises PermissionDeniedError, but not for the session's own user (``patrons-070``).
    """
    # Without open transactions the payload is empty, because the result is null (patrons-056).
    method = f"open-ils.actor.user.fines.summary{'.authoritative' if primary else ''}"
    result = gateway.call("open-ils.actor", method, TOKEN, id, expect="optional")
    if result.value is None:
        return None
    with result.understood("a summary of fines"):
        summary = gateway.decode(result.value)
        owner, owed = summary.usr, summary.balance_owed
    if owner != id or not isinstance(owed, Decimal):
        raise result.unexpected("a summary of this user's fines")
    return owed


def read_fines_within(
    gateway: Gateway,
    scopes: Mapping[int, frozenset[int]],
    totals: Mapping[int, Decimal],
    *,
    leave_out_hidden: bool = False,
) -> dict[int, Decimal | None]:
    """Return what each patron owes within their scope, by id. None: no open transaction within the scope.

    ``totals`` has what patrons with open transactions owe at all libraries. Takes a call per 3,000 patrons (``mobts``).
    Hidden transactions, for lack of VIEW_USER_TRANSACTIONS, raise DataError unless ``leave_out_hidden``.
    """
    # None differs from 0.00: SQL's sum over no rows is null, which doesn't even reach a threshold of 0.00.
    found: dict[int, Decimal | None] = dict.fromkeys(scopes)
    visible = set[int]()
    fields = ("usr", "billing_location", "balance_owed")
    for id, org_unit, amount in gateway.pcrud.columns_by_values("mobts", fields, "usr", sorted(scopes)):
        visible.add(id)
        if org_unit in scopes[id]:
            found[id] = (found[id] or ZERO) + amount
    # pcrud silently omits hidden transactions (family-018). So a patron who has a total, even 0.00, but no transactions
    # has hidden ones, unless the last was closed between the two calls. Reading the totals again tells.
    suspects = {id for id in scopes if id in totals and id not in visible}
    hidden = set(read_own_fines(gateway, suspects)) if suspects else set()
    for id in suspects - hidden:
        # The last was closed, or it is the session's own user, whom the query leaves out without VIEW_USER.
        with suppress(PermissionDeniedError):
            if read_fines_of(gateway, id) is not None:
                hidden.add(id)
    if hidden and not leave_out_hidden:
        raise DataError(
            "the account can't see all transactions, so it isn't known which fines count toward the limit",
            advice="grant VIEW_USER_TRANSACTIONS",
            code="transactions-hidden",
        )
    return {id: owed for id, owed in found.items() if id not in hidden}
