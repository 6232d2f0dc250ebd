"""Methods that read patrons, after ``OpenILS/Application/Actor.pm``."""

from __future__ import annotations

from typing import Any

from evergreen_groups.sandbox.database import IdlClasses, Row, flesh, timestamp_text
from evergreen_groups.sandbox.services import (
    CallContext,
    Die,
    Editor,
    EventAnswer,
    is_true,
    items,
    method,
    not_found,
    number,
    perl_event,
    transaction_id,
)
from evergreen_groups.sandbox.services.actor.penalties import in_force, open_circulations

SERVICE = "open-ils.actor"
BY_BARCODE = (
    *("cards", "card", "standing_penalties", "settings", "addresses", "billing_address", "mailing_address"),
    *("stat_cat_entries", "waiver_entries", "usr_activity"),
)
BY_ID = (*BY_BARCODE, "groups")
_NOT_A_LIST = "Can't use an undefined value as an ARRAY reference at OpenILS/Application/Actor.pm."
_APART = ("standing_penalties", "notes", "usr_activity")


def _addresses(classes: IdlClasses, fleshed: dict[str, Any]) -> list[Any]:
    """The addresses of a patron, with billing and mailing addresses that belong to somebody else."""

    def id_of(address: dict[str, Any]) -> int:
        return int(address["__p"][classes["aua"].positions["id"]])

    found = [address for address in fleshed["addresses"] if id_of(address) >= 0]
    for name in ("billing_address", "mailing_address"):
        address = fleshed.get(name)
        if address is not None and id_of(address) not in [id_of(other) for other in found]:
            found.append(address)
    return found


def _penalties(editor: Editor, user_id: Any) -> list[dict[str, Any]]:
    """The penalties in force at the org units around the caller's work org unit."""
    nearby = set(editor.store.orgs.full_path(editor.session.work_org))
    rows = [row for row in in_force(editor.search("ausp", {"usr": user_id}) or []) if row["org_unit"] in nearby]
    fields = ("standing_penalty", "usr_message")
    return [editor.classes.wire_object("ausp", row, flesh(editor.store, "ausp", row, fields)) for row in rows]


def fleshed_user(editor: Editor, user_id: Any, fields: list[Any]) -> dict[str, Any]:
    """A user with linked objects in place (``new_flesh_user``).

    Raises:
        Event: ACTOR_USER_NOT_FOUND.
    """
    plain = [name for name in fields if name not in _APART]
    sent = [user_id, {"flesh": 1, "flesh_fields": {"au": plain}}]
    if None in plain:
        raise not_found(editor.classes, "au", sent)
    user = editor.retrieve("au", user_id, sent=sent)
    fleshed = flesh(editor.store, "au", user, plain)
    if "addresses" in fleshed:
        fleshed["addresses"] = _addresses(editor.classes, fleshed)
    if "standing_penalties" in fields:
        fleshed["standing_penalties"] = _penalties(editor, user_id)
    for name in ("notes", "usr_activity"):
        if name in fields:
            fleshed[name] = []
    fleshed["passwd"] = None  # whatever the release reads there (3.12/patrons-034)
    return editor.classes.wire_object("au", user, fleshed)


@method(SERVICE, "open-ils.actor.user.retrieve", authoritative=True)
def retrieve(context: CallContext, token: Any = None, user_id: Any = None) -> dict[str, Any]:
    """A user as the database has it."""
    editor = Editor(context, token)
    user = editor.retrieve("au", user_id)
    editor.require("VIEW_USER", user["home_ou"])
    return context.classes.wire_object("au", user)


@method(SERVICE, "open-ils.actor.user.fleshed.retrieve", authoritative=True)
def retrieve_fleshed(
    context: CallContext, token: Any = None, user_id: Any = None, fields: Any = None
) -> dict[str, Any]:
    """A user with the fields named fleshed, or the usual ones.

    The permission is checked at the caller's own work org unit, and not at all for oneself (``patrons-045``).
    """
    editor = Editor(context, token)
    if number(user_id) != editor.user_id:
        editor.require("VIEW_USER")
    return fleshed_user(editor, user_id, items(fields) if is_true(fields) else list(BY_ID))


@method(SERVICE, "open-ils.actor.user.fleshed.retrieve_by_barcode", authoritative=True)
def retrieve_by_barcode(
    context: CallContext, token: Any = None, barcode: Any = None, flesh_home_library: Any = None
) -> dict[str, Any]:
    """The fleshed user of a barcode, letter by letter, whatever the state of card and user.

    VIEW_USER is needed at the patron's home library, even for oneself (``patrons-029``).
    """
    editor = Editor(context, token)
    cards = editor.search("ac", {"barcode": barcode})
    if cards is None:
        raise Die(_NOT_A_LIST)
    if not cards:
        raise not_found(editor.classes, "ac", {"barcode": barcode})
    fields = [*BY_BARCODE, "home_ou"] if is_true(flesh_home_library) else list(BY_BARCODE)
    wire = fleshed_user(editor, cards[0]["usr"], fields)
    user = editor.retrieve("au", cards[0]["usr"])
    editor.require("VIEW_USER", user["home_ou"])
    return wire


@method(SERVICE, "open-ils.actor.user.retrieve_id_by_barcode_or_username")
def retrieve_id(context: CallContext, token: Any = None, barcode: Any = None, username: Any = None) -> int:
    """The id of the user with a barcode, a user name, or both; deleted ones as well (``patrons-052``)."""
    editor = Editor(context, token)
    by_barcode = _by_barcode(editor, barcode) if is_true(barcode) else None
    by_username: Row | None = None
    if is_true(username):
        found = editor.search("au", {"usrname": username})
        if found is None:
            raise Die(_NOT_A_LIST)
        if not found:
            raise EventAnswer(perl_event("ACTOR_USR_NOT_FOUND"))
        by_username = found[0]
    user = by_username or by_barcode
    if user is None or (by_username and by_barcode and by_username["id"] != by_barcode["id"]):
        raise EventAnswer(perl_event("ACTOR_USER_NOT_FOUND"))
    editor.require("VIEW_USER", user["home_ou"])
    return int(user["id"])


def _by_barcode(editor: Editor, barcode: Any) -> Row:
    cards = editor.search("ac", {"barcode": barcode})
    if cards is None:
        raise Die(_NOT_A_LIST)
    if not cards:
        raise EventAnswer(perl_event("ACTOR_USER_NOT_FOUND"))
    return editor.retrieve("au", cards[0]["usr"])


GROUP_SEQUENCE = "actor.usr_usrgroup_seq"


def _members(editor: Editor, group: Any) -> list[int] | None:
    """The ids of a group's members, deleted ones left out; None for what can't be a group's number."""
    # A group that nobody is in gives an empty list (groups-041), what is no number nothing at all (groups-044).
    found = editor.search("au", {"usrgroup": group, "deleted": "f"})
    return None if found is None else [row["id"] for row in found]


@method(SERVICE, "open-ils.actor.usergroup.members.retrieve", authoritative=True)
def members(context: CallContext, token: Any = None, group: Any = None) -> list[int] | None:
    """The ids of the members of a group, or of several given as a list."""
    editor = Editor(context, token)
    editor.require("VIEW_USER")
    return _members(editor, group)


@method(SERVICE, "open-ils.actor.usergroup.members.balance_owed", authoritative=True)
def balances_owed(context: CallContext, token: Any = None, group: Any = None) -> list[Row]:
    """What each member owes on open transactions; members without one are left out (``groups-002``)."""
    editor = Editor(context, token)
    editor.require("VIEW_USER")
    return [
        {"usr": row["usr"], "balance_owed": row["balance_owed"]}
        for member in _members(editor, group) or []
        for row in editor.store.rows("mous", {"usr": member})
    ]


@method(SERVICE, "open-ils.actor.usergroup.members.overdue_count", authoritative=True)
def overdue_count(context: CallContext, token: Any = None, group: Any = None) -> int:
    """How many overdue items the members have out together."""
    editor = Editor(context, token)
    editor.require("VIEW_USER")
    return group_overdue_count(editor, group)


def group_overdue_count(editor: Editor, group: Any) -> int:
    """The same for a caller whose permission has been checked."""
    loans = (open_circulations(editor.store, member) for member in _members(editor, group) or [])
    return sum(len(found["overdue"]) for found in loans)


@method(SERVICE, "open-ils.actor.usergroup.new")
def new_group(context: CallContext, token: Any = None, user_id: Any = None, leader: Any = None) -> int:
    """Move a user into a new group and return its number; any true ``leader`` makes the user its lead.

    The permission isn't checked at the user's home library (``usergroup-new-008``).
    """
    with context.store.transaction():
        editor = Editor(context, token)
        editor.require("UPDATE_USER")
        user = editor.retrieve("au", user_id)
        group = editor.store.next_value(GROUP_SEQUENCE)
        changes = {
            "usrgroup": group,
            "last_xact_id": transaction_id(context),
            "last_update_time": timestamp_text(context.clock()),
        }
        if is_true(leader):
            changes["master_account"] = "t"
        editor.store.update("au", user["id"], changes)
        return group


@method(SERVICE, "open-ils.actor.address.members")
def address_members(context: CallContext, token: Any = None, address_id: Any = None) -> list[str]:
    """The ids of those who use an address, with its owner."""
    editor = Editor(context, token)
    editor.require("VIEW_USER")
    address = editor.retrieve("aua", address_id)
    mailing = editor.store.rows("au", {"mailing_address": address["id"], "deleted": "f"})
    billing = editor.store.rows("au", {"billing_address": address["id"], "deleted": "f"})
    users = [*(row["id"] for row in (*mailing, *billing)), address["usr"]]
    return [str(user) for user in dict.fromkeys(users)]
