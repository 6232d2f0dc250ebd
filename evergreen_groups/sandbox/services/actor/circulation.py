"""Methods for a patron's transactions and checkouts, and for the public catalog's summary."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from evergreen_groups.sandbox.database import Row, amount_text, flesh
from evergreen_groups.sandbox.services import (
    CallContext,
    Die,
    Editor,
    EventAnswer,
    as_compared,
    is_true,
    method,
    number,
    releases,
    text,
)
from evergreen_groups.sandbox.services.actor.patrons import group_overdue_count
from evergreen_groups.sandbox.services.actor.penalties import open_circulations

SERVICE = "open-ils.actor"


@method(SERVICE, "open-ils.actor.user.fines.summary", authoritative=True)
def fines_summary(context: CallContext, token: Any = None, user_id: Any = None) -> dict[str, Any] | None:
    """Return a patron's ``mous``; None, and so an empty payload, without open transactions."""
    editor = Editor(context, token)
    key = as_compared(user_id)
    if text(user_id) != str(editor.user_id):
        user = editor.retrieve("au", key)
        editor.require("VIEW_USER_FINES_SUMMARY", user["home_ou"])
    found = editor.search("mous", {"usr": key})
    return context.classes.wire_object("mous", found[0]) if found else None


def _transactions(context: CallContext, token: Any, user_id: Any, xact_type: Any, *, balance: bool) -> list[Row]:
    """Return a patron's open transactions: those with a balance, or all with charges."""
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
    """Return the total balance of a patron's open transactions, as a float."""
    rows = _page(_transactions(context, token, user_id, xact_type, balance=True), options)
    return float(sum((Decimal(row["balance_owed"]) for row in rows), Decimal(0)))


@method(SERVICE, "open-ils.actor.user.transaction.retrieve", authoritative=True)
def transaction(context: CallContext, token: Any = None, transaction_id: Any = None) -> dict[str, Any]:
    """Return the summary (``mbts``) of one transaction."""
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
    """Yield patrons whose open transactions have a negative total, in order of id."""
    editor = Editor(context, token)
    editor.require("VIEW_USER", org_unit)
    wanted = options if isinstance(options, dict) else {}
    limit = int(number(wanted.get("limit"))) or 1000
    offset = int(number(wanted.get("offset")))
    below, orgs = is_true(wanted.get("org_descendants")), editor.store.orgs
    given = org_unit if isinstance(org_unit, list) else [org_unit] if is_true(org_unit) else []
    homes = {int(number(value)) for value in given}
    if below:
        homes = {org for top in homes for org in orgs.descendants(top)}
    everywhere = not below and not is_true(org_unit)
    statement = """
        SELECT mous.usr, mous.balance_owed, au.home_ou FROM mous JOIN au ON au.id = mous.usr
         WHERE mous.balance_owed < 0 AND (? OR au.deleted = 0) ORDER BY mous.usr"""
    deleted_too = releases.DELETED_IN_CREDIT in context.differences
    debtors = editor.store.read().execute(statement, [deleted_too])
    found = [(usr, owed) for usr, owed, home in debtors if everywhere or home in homes]
    for usr, owed in found[offset : offset + limit]:
        user = editor.retrieve("au", usr)
        yield {
            "usr": context.classes.wire_object("au", user, flesh(editor.store, "au", user, ["card"])),
            "balance_owed": amount_text(owed),
            "last_billing_activity": _last_activity(editor.store.rows("mbts", {"usr": user["id"]})),
        }


def _last_activity(rows: list[Row]) -> str | None:
    """Return the time of the last billing, or of the last payment if that was in a later year.

    Perl compares the two timestamps as numbers, which stop at the first hyphen.
    """
    billed = max((row["last_billing_ts"] for row in rows if row["last_billing_ts"]), default=None)
    paid = max((row["last_payment_ts"] for row in rows if row["last_payment_ts"]), default=None)
    return paid if number(paid) > number(billed) else billed


_NAMES = ("first_given_name", "second_given_name", "family_name", "alias", "usrname")


def _circulations(context: CallContext, token: Any, user_id: Any) -> dict[str, list[int]] | None:
    """Return the ids of open circulations by kind; None without permission to see them.

    There is no event then: Evergreen checks afterwards whether the patron shares with the caller as a friend, and loses
    the event (``patrons-083``).
    """
    editor = Editor(context, token)
    if text(user_id) == str(editor.user_id):
        return open_circulations(editor.store, editor.user_id)
    user = editor.retrieve("au", as_compared(user_id))
    if not editor.allowed("VIEW_CIRCULATIONS", user["home_ou"]):
        return None
    return open_circulations(editor.store, user["id"])


@method(SERVICE, "open-ils.actor.user.checked_out", authoritative=True)
def checked_out(context: CallContext, token: Any = None, user_id: Any = None) -> dict[str, list[str]] | None:
    """Return the ids of a patron's open circulations by kind, as text."""
    found = _circulations(context, token, user_id)
    return None if found is None else {kind: [str(row_id) for row_id in ids] for kind, ids in found.items()}


@method(SERVICE, "open-ils.actor.user.checked_out.count", authoritative=True)
def checked_out_count(context: CallContext, token: Any = None, user_id: Any = None) -> dict[str, int] | None:
    """Return the number of open circulations by kind; ``total`` is missing without any (``patrons-082``)."""
    found = _circulations(context, token, user_id)
    if found is None:
        return None
    counts = {kind: len(ids) for kind, ids in found.items()}
    key = text(user_id)
    if key.isdecimal() and context.store.rows("circ", {"usr": key, "checkin_time": None}):
        counts["total"] = sum(counts.values())
    return counts


@method(SERVICE, "open-ils.actor.user.hold_requests.count", authoritative=True)
def hold_requests_count(
    context: CallContext, token: Any = None, user_id: Any = None, org_unit: Any = None
) -> dict[str, int]:
    """Return a patron's number of holds, always zero: the sandbox has none."""
    editor = Editor(context, token)
    if user_id is not None and text(user_id) != str(editor.user_id):
        try:
            user = editor.retrieve("au", user_id)
        except EventAnswer:
            raise Die('Can\'t call method "home_ou" on an undefined value at OpenILS/Application/Actor.pm.') from None
        editor.require("VIEW_HOLD", user["home_ou"])
    counts = {"total": 0, "ready": 0}
    return {**counts, "behind_desk": 0} if is_true(org_unit) else counts


@method(SERVICE, "open-ils.actor.user.opac.vital_stats", authoritative=True)
def vital_stats(context: CallContext, token: Any = None, user_id: Any = None) -> dict[str, Any]:
    """Return name, fines, checkouts, holds and unread messages of a patron, by default of the caller.

    The group's overdue count is an event if the caller lacks VIEW_USER, as patrons do (``patrons-074``).
    """
    editor = Editor(context, token)
    wanted = user_id if is_true(user_id) else editor.user_id
    summary = fines_summary(context, token, wanted)
    sums = [0, 0, 0, wanted] if summary is None else summary["__p"]
    names = ("balance_owed", "total_owed", "total_paid", "usr")
    fines = {**dict(zip(names, sums, strict=True)), "isnew": None, "ischanged": None, "isdeleted": None}
    user = editor.retrieve("au", wanted)
    holds = hold_requests_count(context, token, wanted)
    out: dict[str, Any] = dict(checked_out_count(context, token, wanted) or {})
    out["total_out"] = out.get("out", 0) + out.get("overdue", 0)
    if releases.NO_OVERDUE_COUNT not in context.differences:
        try:
            editor.require("VIEW_USER")
            out["group"] = {"overdue": group_overdue_count(editor, user["usrgroup"])}
        except EventAnswer as denied:
            out["group"] = {"overdue": denied.hash}
    unread = editor.store.rows("aum", {"usr": user["id"], "read_date": None, "deleted": "f", "pub": "t"})
    return {
        "user": {name: user[name] for name in _NAMES},
        "fines": fines,
        "checkouts": out,
        "holds": holds,
        "messages": {"unread": len(unread)},
    }
