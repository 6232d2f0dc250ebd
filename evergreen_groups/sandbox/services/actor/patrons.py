"""Methods for patrons and their groups, after ``OpenILS/Application/Actor.pm``."""

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
_FLESHED_SEPARATELY = ("standing_penalties", "notes", "usr_activity")


def _addresses(classes: IdlClasses, fleshed: dict[str, Any]) -> list[Any]:
    """Return a patron's addresses, plus billing and mailing addresses that belong to other patrons."""

    def id_of(address: dict[str, Any]) -> int:
        return int(address["__p"][classes["aua"].positions["id"]])

    found = [address for address in fleshed["addresses"] if id_of(address) >= 0]
    for name in ("billing_address", "mailing_address"):
        address = fleshed.get(name)
        if address is not None and id_of(address) not in [id_of(other) for other in found]:
            found.append(address)
    return found


def fleshed_user(editor: Editor, user_id: Any, fields: list[Any]) -> dict[str, Any]:
    """Return a user with linked objects (``new_flesh_user``).

    Raises:
        EventAnswer: ACTOR_USER_NOT_FOUND.
    """
    plain = [name for name in fields if name not in _FLESHED_SEPARATELY]
    sent = [user_id, {"flesh": 1, "flesh_fields": {"au": plain}}]
    if None in plain:
        raise not_found(editor.classes, "au", sent)
    user = editor.retrieve("au", user_id, sent=sent)
    fleshed = flesh(editor.store, "au", user, plain)
    if "addresses" in fleshed:
        fleshed["addresses"] = _addresses(editor.classes, fleshed)
    if "standing_penalties" in fields:
        # Only those that apply at, above or below the caller's work org unit.
        nearby = set(editor.store.orgs.full_path(editor.session.work_org))
        rows = [row for row in in_force(editor.search("ausp", {"usr": user_id}) or []) if row["org_unit"] in nearby]
        links = ("standing_penalty", "usr_message")
        fleshed["standing_penalties"] = [
            editor.classes.wire_object("ausp", row, flesh(editor.store, "ausp", row, links)) for row in rows
        ]
    for name in ("notes", "usr_activity"):
        if name in fields:
            fleshed[name] = []
    fleshed["passwd"] = None  # also in releases that read the column (3.12/patrons-034)
    return editor.classes.wire_object("au", user, fleshed)


@method(SERVICE, "open-ils.actor.user.retrieve", authoritative=True)
def retrieve(context: CallContext, token: Any = None, user_id: Any = None) -> dict[str, Any]:
    """Return a user without linked objects."""
    editor = Editor(context, token)
    user = editor.retrieve("au", user_id)
    editor.require("VIEW_USER", user["home_ou"])
    return context.classes.wire_object("au", user)


@method(SERVICE, "open-ils.actor.user.fleshed.retrieve", authoritative=True)
def retrieve_fleshed(
    context: CallContext, token: Any = None, user_id: Any = None, fields: Any = None
) -> dict[str, Any]:
    """Return a user with some fields fleshed, or with the usual ones.

    The permission is checked at the caller's work org unit, and not at all for the caller's own record
    (``patrons-045``).
    """
    editor = Editor(context, token)
    if number(user_id) != editor.user_id:
        editor.require("VIEW_USER")
    return fleshed_user(editor, user_id, items(fields) if is_true(fields) else list(BY_ID))


@method(SERVICE, "open-ils.actor.user.fleshed.retrieve_by_barcode", authoritative=True)
def retrieve_by_barcode(
    context: CallContext, token: Any = None, barcode: Any = None, flesh_home_library: Any = None
) -> dict[str, Any]:
    """Return the fleshed user of a barcode (matched exactly), even if card or user are inactive or deleted.

    VIEW_USER is required at the patron's home library, even for the caller's own record (``patrons-029``).
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
    """Return the id of the user with a barcode, a user name, or both, even if deleted (``patrons-052``)."""
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
    """Return the ids of a group's members who aren't deleted.

    An empty group gives an empty list (``groups-041``), an invalid group number gives None (``groups-044``).
    """
    found = editor.search("au", {"usrgroup": group, "deleted": "f"})
    return None if found is None else [row["id"] for row in found]


@method(SERVICE, "open-ils.actor.usergroup.members.retrieve", authoritative=True)
def members(context: CallContext, token: Any = None, group: Any = None) -> list[int] | None:
    """Return the ids of the members of a group, or of a list of groups."""
    editor = Editor(context, token)
    editor.require("VIEW_USER")
    return _members(editor, group)


@method(SERVICE, "open-ils.actor.usergroup.members.balance_owed", authoritative=True)
def balances_owed(context: CallContext, token: Any = None, group: Any = None) -> list[Row]:
    """Return each member's balance of open transactions; members without any are missing (``groups-002``)."""
    editor = Editor(context, token)
    editor.require("VIEW_USER")
    return [
        {"usr": row["usr"], "balance_owed": row["balance_owed"]}
        for member in _members(editor, group) or []
        for row in editor.store.rows("mous", {"usr": member})
    ]


@method(SERVICE, "open-ils.actor.usergroup.members.overdue_count", authoritative=True)
def overdue_count(context: CallContext, token: Any = None, group: Any = None) -> int:
    """Return the total number of the members' overdue items."""
    editor = Editor(context, token)
    editor.require("VIEW_USER")
    return group_overdue_count(editor, group)


def group_overdue_count(editor: Editor, group: Any) -> int:
    """Return the total number of the members' overdue items, without checking permissions."""
    loans = (open_circulations(editor.store, member) for member in _members(editor, group) or [])
    return sum(len(found["overdue"]) for found in loans)


@method(SERVICE, "open-ils.actor.usergroup.new")
def new_group(context: CallContext, token: Any = None, user_id: Any = None, leader: Any = None) -> int:
    """Move a user to a new group and return its number; a true ``leader`` makes the user the lead.

    Source: ``reset_group`` in ``UserGroups.pm`` (``usergroup-new-001``).
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
    """Return the ids of the patrons who use an address, including the owner."""
    editor = Editor(context, token)
    editor.require("VIEW_USER")
    address = editor.retrieve("aua", address_id)
    mailing = editor.store.rows("au", {"mailing_address": address["id"], "deleted": "f"})
    billing = editor.store.rows("au", {"billing_address": address["id"], "deleted": "f"})
    users = [*(row["id"] for row in (*mailing, *billing)), address["usr"]]
    return [str(user) for user in dict.fromkeys(users)]
