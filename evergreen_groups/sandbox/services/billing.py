"""Methods for bills: ``open-ils.circ.money.*``, after ``OpenILS/Application/Circ/Money.pm``.

Evergreen's database triggers update a transaction's summary (``mbts``); here Python code does.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from evergreen_groups.sandbox.database import Store, timestamp_text
from evergreen_groups.sandbox.services.actor import recalculate
from evergreen_groups.sandbox.services.editor import Editor, argument_of, not_found
from evergreen_groups.sandbox.services.editor import transaction_id as new_transaction_id
from evergreen_groups.sandbox.services.permissions import allowed
from evergreen_groups.sandbox.services.registry import (
    CallContext,
    Die,
    EventAnswer,
    method,
    perl_event,
    permission_failure,
    text,
)

SERVICE = "open-ils.circ"


def transaction_org(store: Store, transaction_id: int) -> int | None:
    """Return the circulating library or the billing location of a transaction."""
    loan = store.row("circ", transaction_id)
    if loan is not None:
        return int(loan["circ_lib"])
    grocery = store.row("mg", transaction_id)
    return int(grocery["billing_location"]) if grocery else None


def set_finish(store: Store, transaction_id: int, finish: str | None) -> None:
    """Close a transaction, or reopen it if ``finish`` is None."""
    class_id = "circ" if store.row("circ", transaction_id) else "mg"
    for kind in (class_id, "mbts"):
        store.update(kind, transaction_id, {"xact_finish": finish})


def close_if_paid(context: CallContext, transaction_id: int) -> None:
    """Close a transaction with a zero balance, unless the item is still out; reopen one with a balance.

    Source: ``AppUtils::check_open_xact``.
    """
    store = context.store
    summary = store.row("mbts", transaction_id)
    if summary is None:
        return
    loan = store.row("circ", transaction_id)
    owed = Decimal(summary["balance_owed"])
    if owed == 0 and summary["xact_finish"] is None and (loan is None or loan["stop_fines"]):
        set_finish(store, transaction_id, timestamp_text(context.clock()))
    elif owed != 0 and summary["xact_finish"] is not None:
        set_finish(store, transaction_id, None)


def add_to_summary(
    store: Store, transaction_id: int, changes: Mapping[str, Any], *, owed: Decimal, paid: Decimal
) -> None:
    """Add amounts to a transaction's summary; ``changes`` has the fields about the last billing or payment."""
    summary = store.row("mbts", transaction_id) or {}
    amounts = {
        "total_owed": Decimal(summary["total_owed"] or 0) + owed,
        "total_paid": Decimal(summary["total_paid"] or 0) + paid,
        "balance_owed": Decimal(summary["balance_owed"]) + owed - paid,
    }
    store.update("mbts", transaction_id, {**{name: str(value) for name, value in amounts.items()}, **changes})


@method(SERVICE, "open-ils.circ.money.grocery.create")
def create_grocery(context: CallContext, token: Any = None, sent: Any = None) -> int:
    """Create a transaction without a loan; it is closed until it gets a billing."""
    session = context.sessions.find(token)
    if session is None:
        raise EventAnswer(perl_event("NO_SESSION"))
    values = argument_of(context.classes, "mg", sent)
    location = values["billing_location"]
    if location is not None and _integer(location) is None:
        raise Die("Can't use an undefined value as an ARRAY reference at OpenILS/Application/AppUtils.pm.")
    if not allowed(context.store, session.user_id, "CREATE_TRANSACTION", _integer(location)):
        raise permission_failure("CREATE_TRANSACTION", location)
    with context.store.transaction():
        editor = Editor(context, token)
        try:
            transaction_id = editor.create("mg", {**values, "id": None})
        except EventAnswer:
            # The real service continues with 0 as the new row's id.
            raise not_found(editor.classes, "mbt", "0") from None
        grocery = editor.retrieve("mg", transaction_id)
        summary = {name: grocery[name] for name in ("id", "usr", "xact_start", "xact_finish")}
        summary |= dict.fromkeys(("total_owed", "total_paid", "balance_owed"), "0.00")
        editor.store.insert("mbts", {**summary, "xact_type": "grocery"})
        close_if_paid(context, transaction_id)
        return transaction_id


def _integer(value: Any) -> int | None:
    try:
        return int(text(value))
    except ValueError:
        return None


@method(SERVICE, "open-ils.circ.money.billing.create")
def create_billing(context: CallContext, token: Any = None, sent: Any = None) -> int:
    """Add a billing to a transaction, and recalculate the patron's penalties at the transaction's library."""
    with context.store.transaction():
        editor = Editor(context, token)
        editor.require("CREATE_BILL")
        values = argument_of(context.classes, "mb", sent)
        transaction = editor.retrieve("mbt", values["xact"])
        transaction_id = int(transaction["id"])
        if transaction["xact_finish"] is not None:
            set_finish(editor.store, transaction_id, None)
        values["amount"] = text(values["amount"]).replace("$", "") if values["amount"] is not None else None
        billing_id = editor.create("mb", values)
        billing = editor.retrieve("mb", billing_id)
        if billing["voided"] != "t":
            last = {
                "last_billing_ts": billing["billing_ts"],
                "last_billing_note": billing["note"],
                "last_billing_type": billing["billing_type"],
            }
            add_to_summary(editor.store, transaction_id, last, owed=Decimal(billing["amount"]), paid=Decimal(0))
        recalculate(editor.store, transaction["usr"], transaction_org(editor.store, transaction_id))
        close_if_paid(context, transaction_id)
        return billing_id


@method(SERVICE, "open-ils.circ.money.grocery.retrieve")
def grocery(context: CallContext, token: Any = None, transaction_id: Any = None) -> dict[str, Any]:
    """Return one grocery transaction."""
    editor = Editor(context, token)
    editor.require("VIEW_TRANSACTION")
    return context.classes.wire_object("mg", editor.retrieve("mg", transaction_id))


@method(SERVICE, "open-ils.circ.money.payment")
def make_payments(context: CallContext, token: Any = None, sent: Any = None, last: Any = None) -> dict[str, Any]:
    """Book a payment on a patron's transactions, and recalculate the penalties at the transactions' libraries.

    ``sent`` has ``userid``, ``payment_type`` and ``payments``, pairs of a transaction and an amount; ``last`` is
    the patron's ``last_xact_id``. More than is owed
    isn't accepted here; the real service can give change, or credit.
    """
    with context.store.transaction():
        editor = Editor(context, token)
        patron = editor.retrieve("au", sent["userid"])
        editor.require("CREATE_PAYMENT", _integer(patron["home_ou"]))
        if text(last) != text(patron["last_xact_id"]):
            raise EventAnswer(perl_event("INVALID_USER_XACT_ID"))
        at, kind, made = timestamp_text(context.clock()), text(sent["payment_type"]), []
        for transaction_id, amount in ((int(one), Decimal(text(amount))) for one, amount in sent["payments"]):
            summary = editor.retrieve("mbts", transaction_id)
            if summary["usr"] != patron["id"] or not 0 < amount <= Decimal(summary["balance_owed"]):
                raise EventAnswer(perl_event("BAD_PARAMS"))
            payment = {"xact": transaction_id, "amount": str(amount), "payment_ts": at, "payment_type": kind}
            made.append(context.store.insert("mp", {**payment, "voided": "f", "refundable": "t"}))
            changes = {"last_payment_ts": at, "last_payment_type": kind}
            add_to_summary(context.store, transaction_id, changes, owed=Decimal(0), paid=amount)
            close_if_paid(context, transaction_id)
            recalculate(context.store, patron["id"], transaction_org(context.store, transaction_id))
        new = new_transaction_id(context)
        context.store.update("au", patron["id"], {"last_xact_id": new})
        return {"last_xact_id": new, "payments": made}
