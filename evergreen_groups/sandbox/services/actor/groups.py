"""Methods about groups, after Evergreen's ``OpenILS/Application/Actor/UserGroups.pm``.

They check the caller's permission at the caller's own work org unit only, and then answer for every member, wherever
at home (``groups-047``).
"""

from __future__ import annotations

from typing import Any

from evergreen_groups.sandbox.database import Row, timestamp_text
from evergreen_groups.sandbox.services import CallContext, Editor, is_true, method, transaction_id
from evergreen_groups.sandbox.services.actor.loans import open_circulations

SERVICE = "open-ils.actor"
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
