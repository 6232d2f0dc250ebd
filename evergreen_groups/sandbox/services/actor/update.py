"""``open-ils.actor.patron.update``: update a whole patron, after ``update_patron`` in ``Actor.pm``.

A user is only written if it is marked as changed and hasn't been written since it was read. Linked cards and addresses
are created, updated or deleted according to their own flags. Linked penalties, notes and settings are ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from evergreen_groups.sandbox.database import Row, timestamp_text
from evergreen_groups.sandbox.services import (
    CallContext,
    Die,
    Editor,
    EventAnswer,
    argument_of,
    is_true,
    is_true_flag,
    items,
    method,
    number,
    object_argument,
    perl_event,
    releases,
    setting_value,
    text,
)
from evergreen_groups.sandbox.services.actor.patrons import BY_BARCODE, fleshed_user
from evergreen_groups.sandbox.services.actor.penalties import active_penalties

INVALID_ADDRESS = 29


def _stored(editor: Editor, user_id: Any, accessor: str) -> Row:
    """Return a user's row; if there is none, Perl dies calling the ``accessor`` on an undefined value."""
    try:
        return editor.retrieve("au", user_id)
    except EventAnswer:
        raise Die(f'Can\'t call method "{accessor}" on an undefined value at OpenILS/Application/Actor.pm.') from None


def _require_profile(editor: Editor, profile: Any, home: Any) -> None:
    """Require the application permission of a profile, inherited from the nearest ancestor that has one."""
    key, permission = profile, None
    while permission is None:
        try:
            group = editor.retrieve("pgt", key)
        except EventAnswer:
            raise Die('Can\'t call method "application_perm" on an undefined value.') from None
        permission, key = group["application_perm"], group["parent"]
        if key is None:
            break
    editor.require(permission or "", home)


def _require_group(editor: Editor, class_id: str, patron: Mapping[str, Any]) -> None:
    """Require permission to edit users with the stored profile, and with the new one."""
    if not is_true(patron["isnew"]):
        stored = _stored(editor, patron.get("id"), "id")
        is_self = stored["id"] == editor.user_id
        if is_self and class_id == "au" and number(patron["profile"]) == stored["profile"]:
            return
        if not is_self:
            _require_profile(editor, stored["profile"], stored["home_ou"])
    if class_id != "au":
        raise Die(f"No field by the name profile in Fieldmapper::{editor.classes[class_id].fieldmapper}!")
    _require_profile(editor, patron["profile"], patron["home_ou"])


def _require_for_changes(editor: Editor, patron: dict[str, Any], stored: Row) -> None:
    """Require the permissions for barring and for changing the photo; also change the password if one was sent."""
    if is_true_flag(stored["barred"]) != is_true_flag(patron["barred"]):
        editor.require("UNBAR_PATRON" if is_true_flag(stored["barred"]) else "BAR_PATRON", patron["home_ou"])
    if text(stored["photo_url"]) != text(patron["photo_url"]):
        editor.require("UPDATE_USER_PHOTO_URL", patron["home_ou"])
    # Any value becomes the new password, so records are always sent to clients without one.
    if is_true(patron["passwd"]):
        editor.store.set_password(stored["id"], text(patron["passwd"]))
        patron["passwd"] = ""


def write_user(editor: Editor, patron: dict[str, Any]) -> None:
    """Write the user's row unless it was written since it was read, and reload ``patron`` from the database.

    Raises:
        EventAnswer: PERM_FAILURE, XACT_COLLISION or DATABASE_UPDATE_FAILED.
    """
    editor.require("UPDATE_USER", patron["home_ou"])
    if not is_true(patron["ident_type"]):
        patron["ident_type"] = patron["ident_value"] = None
    last = _stored(editor, patron["id"], "last_xact_id")["last_xact_id"]
    # Null is a collision too if the row has a last_xact_id (xact-collision-004).
    if is_true(last) and last != text(patron["last_xact_id"]):
        raise EventAnswer(perl_event("XACT_COLLISION"))
    editor.update("au", patron)
    patron.update(_stored(editor, patron["id"], "id"), ischanged=None, passwd=None)


def _update_address_penalty(editor: Editor, patron: Mapping[str, Any]) -> None:
    """Add or remove the penalty for invalid addresses."""
    if isinstance(patron["home_ou"], dict | list):
        raise Die("Can't use an undefined value as an ARRAY reference at OpenILS/Application/AppUtils.pm.")
    nearby = editor.store.orgs.full_path(int(number(patron["home_ou"])))
    held = [
        row
        for row in active_penalties(editor.store, int(number(patron["id"])))
        if row["org_unit"] in nearby and row["standing_penalty"] == INVALID_ADDRESS
    ]
    invalid = [row for row in editor.store.rows("aua", {"usr": patron["id"], "valid": "f"}) if row["id"] > 0]
    if held and not invalid:
        editor.store.delete("ausp", held[0]["id"])
    home = int(number(patron["home_ou"]))
    if invalid and not held and setting_value(editor.store, "circ.patron_invalid_address_apply_penalty", home):
        kind = editor.retrieve("csp", INVALID_ADDRESS)
        depth = kind["org_depth"]
        org_unit = home if depth is None else editor.store.orgs.ancestor_at_depth(home, depth)
        values = {"usr": patron["id"], "org_unit": home if org_unit is None else org_unit}
        editor.create("ausp", {**values, "standing_penalty": INVALID_ADDRESS})


@method("open-ils.actor", "open-ils.actor.patron.update")
def update_patron(context: CallContext, token: Any = None, sent: Any = None) -> dict[str, Any]:
    """Update a patron and return the fleshed result (``move-fleshed-002``)."""
    with context.store.transaction():
        editor = Editor(context, token)
        class_id, patron = object_argument(editor.classes, sent)
        # First the profile's permission (move-no-permission-002), then UPDATE_USER, both at the home library
        # (move-no-permission-004).
        _require_group(editor, class_id, patron)
        if is_true(patron["isnew"]):
            raise Die("The sandbox doesn't register new patrons.")
        for name in ("card", *_MAIN_ADDRESSES):  # clients may send linked objects instead of ids
            if isinstance(patron[name], dict | list):
                linked, values = object_argument(editor.classes, patron[name])
                patron[name] = values[editor.classes[linked].primary]
        stored = _stored(editor, patron["id"], "expire_date")
        _require_for_changes(editor, patron, stored)
        update_addresses(editor, patron, write_user)
        update_cards(editor, patron)
        # Without the flag, nothing is written and the response looks the same (patron-update-odd-014). Deleted patrons
        # can be updated (deleted-user-002), and isdeleted is ignored (patron-update-odd-024).
        if is_true(patron["ischanged"]):
            write_user(editor, patron)
        end_bad_contact_penalties(editor, stored, patron)
        _update_address_penalty(editor, patron)
        return fleshed_user(editor, stored["id"], list(BY_BARCODE))


_CONTACTS = {
    "email": "INVALID_PATRON_EMAIL_ADDRESS",
    "day_phone": "INVALID_PATRON_DAY_PHONE",
    "evening_phone": "INVALID_PATRON_EVENING_PHONE",
    "other_phone": "INVALID_PATRON_OTHER_PHONE",
}
_MAIN_ADDRESSES = ("billing_address", "mailing_address")


def update_addresses(
    editor: Editor, patron: dict[str, Any], write_user: Callable[[Editor, dict[str, Any]], None]
) -> None:
    """Create, update and delete addresses according to their flags.

    If one of them is the billing or mailing address, the patron gets marked as changed.
    """
    for sent in items(patron["addresses"]):
        if not isinstance(sent, dict | list):
            continue
        address = argument_of(editor.classes, "aua", sent)
        used_for = [
            name for name in _MAIN_ADDRESSES if is_true(patron[name]) and number(patron[name]) == number(address["id"])
        ]
        if used_for:
            patron["ischanged"] = 1
        if is_true(address["isnew"]):
            new_id = editor.create("aua", {**address, "id": None, "usr": patron["id"]})
            for name in used_for:
                patron[name] = new_id
        elif is_true(address["ischanged"]):
            editor.update("aua", address)
        elif is_true(address["isdeleted"]):
            for name in ("mailing_address", "billing_address"):
                if is_true(patron[name]) and number(patron[name]) == number(address["id"]):
                    patron[name] = None
                    write_user(editor, patron)
            editor.delete("aua", address)


def _delete_card(editor: Editor, card: Mapping[str, Any]) -> None:
    stored = editor.retrieve("ac", card["id"])
    patron = editor.retrieve("au", stored["usr"])
    needed = ("UPDATE_PATRON_ACTIVE_CARD", "UPDATE_PATRON_PRIMARY_CARD")
    if not all(editor.allowed(permission, patron["home_ou"]) for permission in needed):
        raise EventAnswer(perl_event("PERM_FAILURE"))
    if stored["active"] == "t":
        raise EventAnswer(perl_event("CANNOT_DELETE_ACTIVE_CARD"))
    editor.delete("ac", stored)


def update_cards(editor: Editor, patron: dict[str, Any]) -> None:
    """Create, update and delete cards according to their flags; a new primary card marks the patron as changed."""
    for sent in items(patron["cards"]):
        card = {**argument_of(editor.classes, "ac", sent), "usr": patron["id"]}
        if is_true(card["isnew"]):
            new_id = editor.create("ac", {**card, "id": None})
            if number(patron["card"]) == number(card["id"]):
                patron["card"], patron["ischanged"] = new_id, 1
        elif is_true(card["isdeleted"]) and releases.CARDS_STAY not in editor.context.differences:
            if number(card["id"]) == number(patron["card"]):
                raise EventAnswer(perl_event("CANNOT_DELETE_PRIMARY_CARD"))
            _delete_card(editor, card)
        elif is_true(card["ischanged"]):
            editor.update("ac", card)


def end_bad_contact_penalties(editor: Editor, stored: Row, patron: Mapping[str, Any]) -> None:
    """Archive the penalties for invalid contact data that has been changed."""
    changed = [name for field, name in _CONTACTS.items() if text(stored[field]) != text(patron[field])]
    if not changed:
        return
    kinds = {row["id"] for row in editor.store.rows("csp", {"name": changed})}
    for row in active_penalties(editor.store, stored["id"]):
        if row["standing_penalty"] in kinds and row["stop_date"] is None:
            editor.store.update("ausp", row["id"], {"stop_date": timestamp_text(editor.context.clock())})
