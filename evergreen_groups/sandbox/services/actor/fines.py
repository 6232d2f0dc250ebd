"""Methods about what a patron owes, after ``OpenILS/Application/Actor.pm``."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from evergreen_groups.sandbox.database import Row, amount_text, flesh
from evergreen_groups.sandbox.services import CallContext, Editor, as_compared, is_true, method, number, releases, text

SERVICE = "open-ils.actor"


@method(SERVICE, "open-ils.actor.user.fines.summary", authoritative=True)
def fines_summary(context: CallContext, token: Any = None, user_id: Any = None) -> dict[str, Any] | None:
    """The ``mous`` of a patron; None for one without an open transaction, and so nothing in the payload."""
    editor = Editor(context, token)
    key = as_compared(user_id)
    if text(user_id) != str(editor.user_id):
        user = editor.retrieve("au", key)
        editor.require("VIEW_USER_FINES_SUMMARY", user["home_ou"])
    found = editor.search("mous", {"usr": key})
    return context.classes.wire_object("mous", found[0]) if found else None


def _transactions(context: CallContext, token: Any, user_id: Any, xact_type: Any, *, balance: bool) -> list[Row]:
    """A patron's open transactions, newest first: those with a balance, or all that were charged for."""
    editor = Editor(context, token)
    user = editor.retrieve("au", user_id)
    if number(user_id) != editor.user_id:
        editor.require("VIEW_USER_TRANSACTIONS", user["home_ou"])
    if text(user_id) != str(editor.user_id):
        editor.require("VIEW_USER_TRANSACTIONS")
    where = {"usr": user_id, "xact_finish": None}
    if xact_type is not None:
        where["xact_type"] = xact_type
    rows = editor.search("mbts", where) or []
    amount = "balance_owed" if balance else "total_owed"
    return [row for row in rows if (Decimal(row[amount]) != 0 if balance else Decimal(row[amount]) > 0)]


def _page(rows: list[Row], options: Any) -> list[Row]:
    wanted = options if isinstance(options, dict) else {}
    ascending = text(wanted.get("sort")).upper() == "ASC"
    ordered = sorted(rows, key=lambda row: str(row["xact_start"]), reverse=not ascending)
    begin = int(number(wanted.get("offset")))
    limit = wanted.get("limit")
    return ordered[begin : begin + int(number(limit)) if is_true(limit) else None]


def _register(kind: str, *, balance: bool) -> None:
    base = f"open-ils.actor.user.transactions{kind}"

    @method(SERVICE, base, authoritative=True)
    def listed(
        context: CallContext, token: Any = None, user_id: Any = None, xact_type: Any = None, options: Any = None
    ) -> list[dict[str, Any]]:
        rows = _transactions(context, token, user_id, xact_type, balance=balance)
        return [context.classes.wire_object("mbts", row) for row in _page(rows, options)]

    @method(SERVICE, f"{base}.count", authoritative=balance)
    def counted(
        context: CallContext, token: Any = None, user_id: Any = None, xact_type: Any = None, options: Any = None
    ) -> int:
        return len(_page(_transactions(context, token, user_id, xact_type, balance=balance), options))


_register("", balance=False)
_register(".have_charge", balance=False)
_register(".have_balance", balance=True)


@method(SERVICE, "open-ils.actor.user.transactions.have_balance.total", authoritative=True)
def balance_total(
    context: CallContext, token: Any = None, user_id: Any = None, xact_type: Any = None, options: Any = None
) -> float:
    """What a patron owes on open transactions, as a floating-point number."""
    rows = _page(_transactions(context, token, user_id, xact_type, balance=True), options)
    return float(sum((Decimal(row["balance_owed"]) for row in rows), Decimal(0)))


@method(SERVICE, "open-ils.actor.user.transaction.retrieve", authoritative=True)
def transaction(context: CallContext, token: Any = None, transaction_id: Any = None) -> dict[str, Any]:
    """The summary (``mbts``) of one transaction."""
    editor = Editor(context, token)
    row = editor.retrieve(
        "mbts", transaction_id, sent=[transaction_id, {"flesh": 1, "flesh_fields": {"mbts": ["usr"]}}]
    )
    user = editor.retrieve("au", row["usr"])
    editor.require("VIEW_USER_TRANSACTIONS", user["home_ou"])
    return context.classes.wire_object("mbts", row)


@method(SERVICE, "open-ils.actor.users.negative_balance", streaming=True)
def negative_balance(
    context: CallContext, token: Any = None, org_unit: Any = None, options: Any = None
) -> Iterator[dict[str, Any]]:
    """Patrons of these home libraries whose open transactions sum to less than nothing, by id."""
    editor = Editor(context, token)
    editor.require("VIEW_USER", org_unit)
    wanted = options if isinstance(options, dict) else {}
    limit = int(number(wanted.get("limit"))) or 1000
    offset = int(number(wanted.get("offset")))
    homes = _homes(editor, org_unit, below=is_true(wanted.get("org_descendants")))
    found = [row for row in _debtors_below_zero(editor) if homes is None or row["home_ou"] in homes]
    for row in found[offset : offset + limit]:
        user = editor.retrieve("au", row["usr"])
        yield {
            "usr": context.classes.wire_object("au", user, flesh(editor.store, "au", user, ["card"])),
            "balance_owed": row["balance_owed"],
            "last_billing_activity": _last_activity(editor.store.rows("mbts", {"usr": user["id"]})),
        }


def _homes(editor: Editor, org_unit: Any, *, below: bool) -> set[int] | None:
    """The home libraries asked for, None for all of them."""
    if not below and not is_true(org_unit):
        return None
    given = org_unit if isinstance(org_unit, list) else [org_unit] if is_true(org_unit) else []
    tops = {int(number(one)) for one in given}
    return {org for top in tops for org in editor.store.orgs.descendants(top)} if below else tops


def _last_activity(rows: list[Row]) -> str | None:
    """The last billing's time, the last payment's if that was in a later year: Perl compares the numbers."""
    billed = max((row["last_billing_ts"] for row in rows if row["last_billing_ts"]), default=None)
    paid = max((row["last_payment_ts"] for row in rows if row["last_payment_ts"]), default=None)
    return paid if number(paid) > number(billed) else billed


def _debtors_below_zero(editor: Editor) -> list[Row]:
    statement = """
        SELECT mous.usr, mous.balance_owed, au.home_ou FROM mous JOIN au ON au.id = mous.usr
         WHERE mous.balance_owed < 0 AND (? OR au.deleted = 0) ORDER BY mous.usr"""
    deleted_too = releases.DELETED_IN_CREDIT in editor.context.differences
    found = editor.store.read().execute(statement, [deleted_too])
    return [{"usr": usr, "balance_owed": amount_text(owed), "home_ou": home} for usr, owed, home in found]
