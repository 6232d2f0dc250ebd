"""What patrons have paid since a time, and what they still owe of what they owed then.

Payments are rows of ``mp`` (``money.payment_view``), each of one transaction. Those that are forgiven or done as work
are no money, and account adjustments are no payments at all: Evergreen writes them where it voids a billing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
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
        paid = sorted(id for id, _usr, _balance, at, _billed in rows if at is not None and at >= since)
        billed = sorted(id for id, _usr, balance, _paid, at in rows if balance > 0 and at is not None and at >= since)
        if paid:
            where = {"voided": "f", "payment_ts": later}
            fields = ("xact", "payment_ts", "amount", "payment_type")
            for id, at, amount, kind in read("mp", fields, "xact", paid, where=where, all_visible=True):
                if kind != _ADJUSTED:
                    (ledgers[id].forgiven if kind in _FORGIVEN else ledgers[id].paid).append(Booking(at, amount))
        if billed:
            where = {**IN_FORCE, "billing_ts": later}
            fields = ("xact", "billing_ts", "amount")
            for id, at, amount in read("mb", fields, "xact", billed, where=where, all_visible=True):
                ledgers[id].billed.append(Booking(at, amount))
        return dict(found)


def booked(bookings: Collection[Booking], since: datetime) -> Decimal:
    """Add up what was booked since a time."""
    return sum((one.amount for one in bookings if one.at >= since), ZERO)
