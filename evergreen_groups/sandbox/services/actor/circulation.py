"""Methods about what a patron has out, and the summary that the public catalog shows."""

from __future__ import annotations

from typing import Any

from evergreen_groups.sandbox.services import (
    CallContext,
    Die,
    Editor,
    EventAnswer,
    as_compared,
    is_true,
    method,
    releases,
    text,
)
from evergreen_groups.sandbox.services.actor.fines import fines_summary
from evergreen_groups.sandbox.services.actor.groups import group_overdue_count
from evergreen_groups.sandbox.services.actor.loans import open_circulations

SERVICE = "open-ils.actor"
_NAMES = ("first_given_name", "second_given_name", "family_name", "alias", "usrname")


def _circulations(context: CallContext, token: Any, user_id: Any) -> dict[str, list[int]] | None:
    """What is out, by kind; None where the caller may not see it.

    The denial leaves no event: asking for a friend's leave afterwards wipes it out (``patrons-083``).
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
    """The ids of a patron's open circulations by kind, as text."""
    found = _circulations(context, token, user_id)
    return None if found is None else {kind: [str(row_id) for row_id in ids] for kind, ids in found.items()}


@method(SERVICE, "open-ils.actor.user.checked_out.count", authoritative=True)
def checked_out_count(context: CallContext, token: Any = None, user_id: Any = None) -> dict[str, int] | None:
    """How many of each kind; ``total`` only for a patron who has something out (``patrons-082``)."""
    found = _circulations(context, token, user_id)
    if found is None:
        return None
    counts = {kind: len(ids) for kind, ids in found.items()}
    if _has_items(context, text(user_id)):
        counts["total"] = sum(counts.values())
    return counts


def _has_items(context: CallContext, user_id: str) -> bool:
    return user_id.isdecimal() and bool(context.store.rows("circ", {"usr": user_id, "checkin_time": None}))


@method(SERVICE, "open-ils.actor.user.hold_requests.count", authoritative=True)
def hold_requests_count(
    context: CallContext, token: Any = None, user_id: Any = None, org_unit: Any = None
) -> dict[str, int]:
    """How many holds a patron has; the sandbox keeps none."""
    editor = Editor(context, token)
    if user_id is not None and text(user_id) != str(editor.user_id):
        try:
            user = editor.retrieve("au", user_id)
        except EventAnswer:
            raise Die('Can\'t call method "home_ou" on an undefined value at OpenILS/Application/Actor.pm.') from None
        editor.require("VIEW_HOLD", user["home_ou"])
    counts = {"total": 0, "ready": 0}
    return {**counts, "behind_desk": 0} if is_true(org_unit) else counts


def _fines(context: CallContext, token: Any, user_id: Any) -> dict[str, Any]:
    summary = fines_summary(context, token, user_id)
    flags = {"isnew": None, "ischanged": None, "isdeleted": None}
    if summary is None:
        return {"balance_owed": 0, "total_owed": 0, "total_paid": 0, "usr": user_id, **flags}
    names = ("balance_owed", "total_owed", "total_paid", "usr")
    return {**dict(zip(names, summary["__p"], strict=True)), **flags}


def _group_overdue(editor: Editor, group: int) -> Any:
    try:
        editor.require("VIEW_USER")
        return group_overdue_count(editor, group)
    except EventAnswer as denied:
        return denied.hash


@method(SERVICE, "open-ils.actor.user.opac.vital_stats", authoritative=True)
def vital_stats(context: CallContext, token: Any = None, user_id: Any = None) -> dict[str, Any]:
    """Name, fines, items out, holds and unread messages of a patron, or of the caller.

    The group's overdue count may be an event inside the answer: it needs VIEW_USER, which a patron hasn't
    (``patrons-074``).
    """
    editor = Editor(context, token)
    wanted = user_id if is_true(user_id) else editor.user_id
    fines = _fines(context, token, wanted)
    user = editor.retrieve("au", wanted)
    holds = hold_requests_count(context, token, wanted)
    out: dict[str, Any] = dict(checked_out_count(context, token, wanted) or {})
    out["total_out"] = out.get("out", 0) + out.get("overdue", 0)
    if releases.NO_OVERDUE_COUNT not in context.differences:
        out["group"] = {"overdue": _group_overdue(editor, user["usrgroup"])}
    unread = editor.store.rows("aum", {"usr": user["id"], "read_date": None, "deleted": "f", "pub": "t"})
    return {
        "user": {name: user[name] for name in _NAMES},
        "fines": fines,
        "checkouts": out,
        "holds": holds,
        "messages": {"unread": len(unread)},
    }
