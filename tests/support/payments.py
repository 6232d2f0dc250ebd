"""Payments in the sandbox, as Evergreen's database books them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from evergreen_groups.sandbox import Sandbox

CASH, FORGIVEN, WORK = "cash_payment", "forgive_payment", "work_payment"


def text(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S+0000")


def bills_of(sandbox: Sandbox, user: int) -> dict[int, Decimal]:
    """Return what a patron owes, by transaction."""
    rows = sandbox._store.rows("mbts", {"usr": user})
    return {row["id"]: Decimal(row["balance_owed"]) for row in rows if Decimal(row["balance_owed"]) > 0}


def pay(
    sandbox: Sandbox, user: int, amount: str, kind: str = CASH, *, at: datetime | None = None, voided: bool = False
) -> None:
    """Book a payment on a patron's bills, in order, as Evergreen's database and its triggers do."""
    store, left, when = sandbox._store, Decimal(amount), text(at or datetime.now(UTC))
    with store.transaction():
        for xact, owed in bills_of(sandbox, user).items():
            if part := min(left, owed):
                left -= part
                payment = {"xact": xact, "amount": str(part), "payment_ts": when, "payment_type": kind}
                store.insert("mp", {**payment, "voided": "t" if voided else "f", "refundable": "t"})
                if not voided:
                    row = store.row("mbts", xact)
                    assert row is not None
                    changes = {"balance_owed": str(owed - part), "total_paid": str(Decimal(row["total_paid"]) + part)}
                    store.update("mbts", xact, {**changes, "last_payment_ts": when, "last_payment_type": kind})
    assert left == 0, "more than is owed"


def bill(sandbox: Sandbox, user: int, amount: str, *, library: int = 11, at: datetime | None = None) -> int:
    """Bill a patron, in a new transaction."""
    store, when = sandbox._store, text(at or datetime.now(UTC))
    with store.transaction():
        started = {"usr": user, "xact_start": when}
        xact = store.insert("mg", {**started, "billing_location": library})
        summary = {"total_owed": amount, "total_paid": "0.00", "balance_owed": amount, "xact_type": "grocery"}
        store.insert("mbts", {"id": xact, **summary, **started, "last_billing_ts": when})
        store.insert(
            "mb",
            {
                "xact": xact,
                "amount": amount,
                "billing_type": "Misc",
                "btype": 101,
                "billing_ts": when,
                "create_date": when,
                "voided": "f",
            },
        )
    return xact


def void(sandbox: Sandbox, user: int) -> None:
    """Void what a patron owes, as when a lost item is returned."""
    store = sandbox._store
    with store.transaction():
        for xact in bills_of(sandbox, user):
            for row in store.rows("mb", {"xact": xact}):
                store.update("mb", row["id"], {"voided": "t"})
            store.update("mbts", xact, {"balance_owed": "0.00", "total_owed": "0.00"})
