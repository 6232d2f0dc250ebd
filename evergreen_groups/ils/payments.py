"""What patrons have paid since a time, and what they still owe of what they owed then.

Payments are rows of ``mp`` (``money.payment_view``), each of one transaction. Those that are forgiven or done as work
are no money, and account adjustments are no payments at all: Evergreen writes them where it voids a billing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from evergreen_groups.ils.bills import IN_FORCE
from evergreen_groups.values import ZERO

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway

_FORGIVEN = ("forgive_payment", "work_payment")
_ADJUSTED = "account_adjustment"


class Booking(NamedTuple):
    """A payment or a billing."""

    at: datetime
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Ledger:
    """A transaction that is owed or was paid: its ``balance``, and what was booked since a time, without voided rows.

    ``forgiven`` includes work. ``billed`` is known only if something is owed.
    """

    balance: Decimal
    paid: list[Booking] = field(default_factory=list)
    forgiven: list[Booking] = field(default_factory=list)
    billed: list[Booking] = field(default_factory=list)

    def left(self, since: datetime) -> Decimal:
        """Return what is still owed of what was owed then, negative for a credit.

        Payments go to the oldest billings first.
        """
        return max(min(self.balance, ZERO), self.balance - booked(self.billed, since))

    @staticmethod
    def read(gateway: Gateway, patrons: Collection[int], since: datetime) -> dict[int, list[Ledger]]:
        """Return the transactions of patrons that are owed, or were paid ``since`` (aware), by patron id.

        Takes a call per 3,000 patrons, another per 3,000 of their transactions paid since, and another per 3,000 billed
        since. pcrud silently omits what belongs to patrons at whose home library the account lacks
        VIEW_USER_TRANSACTIONS: leave those out.
        """
        later = {">=": since.isoformat(timespec="seconds")}
        read = gateway.pcrud.columns_by_values
        fields: tuple[str, ...] = ("id", "usr", "balance_owed", "last_payment_ts", "last_billing_ts")
        # A patron's credit lowers what they owe.
        owed_or_paid = {"-or": [{"balance_owed": {"<>": 0}}, {"last_payment_ts": later}]}
        rows = list(read("mbts", fields, "usr", sorted(patrons), where=owed_or_paid, all_visible=True))
        ledgers = {id: Ledger(balance) for id, _usr, balance, *_times in rows}
        found = defaultdict[int, list[Ledger]](list)
        for id, usr, *_rest in rows:
            found[usr].append(ledgers[id])
        paid = [id for id, _usr, _balance, at, _billed in rows if at is not None and at >= since]
        billed = sorted(id for id, _usr, balance, _paid, at in rows if balance > 0 and at is not None and at >= since)
        for id, booking, is_money in _read_payments(gateway, paid, since):
            (ledgers[id].paid if is_money else ledgers[id].forgiven).append(booking)
        if billed:
            where = {**IN_FORCE, "billing_ts": later}
            fields = ("xact", "billing_ts", "amount")
            for id, at, amount in read("mb", fields, "xact", billed, where=where, all_visible=True):
                ledgers[id].billed.append(Booking(at, amount))
        return dict(found)


def booked(bookings: Collection[Booking], since: datetime) -> Decimal:
    """Add up what was booked since a time."""
    return sum((one.amount for one in bookings if one.at >= since), ZERO)


def read_paid(gateway: Gateway, patrons: Collection[int], since: datetime) -> dict[int, list[Booking]]:
    """Return what patrons have paid ``since`` (aware), by patron id, without what was forgiven, worked off or voided.

    Takes a call per 3,000 patrons, and another per 3,000 of their transactions paid since. As with :meth:`Ledger.read`,
    leave out patrons whose transactions the account doesn't see.
    """
    paid_since = {"last_payment_ts": {">=": since.isoformat(timespec="seconds")}}
    rows = gateway.pcrud.columns_by_values(
        "mbts", ("id", "usr"), "usr", sorted(patrons), where=paid_since, all_visible=True
    )
    patron_of: dict[int, int] = dict(rows)
    found = defaultdict[int, list[Booking]](list)
    for id, booking, is_money in _read_payments(gateway, patron_of, since):
        if is_money:
            found[patron_of[id]].append(booking)
    return dict(found)


def _read_payments(
    gateway: Gateway, transactions: Collection[int], since: datetime
) -> Iterator[tuple[int, Booking, bool]]:
    """Yield the payments of transactions (ids) since a time, and whether each is money."""
    if not transactions:
        return
    where = {"voided": "f", "payment_ts": {">=": since.isoformat(timespec="seconds")}}
    fields = ("xact", "payment_ts", "amount", "payment_type")
    read = gateway.pcrud.columns_by_values("mp", fields, "xact", sorted(transactions), where=where, all_visible=True)
    for id, at, amount, kind in read:
        if kind != _ADJUSTED:
            yield id, Booking(at, amount), kind not in _FORGIVEN
