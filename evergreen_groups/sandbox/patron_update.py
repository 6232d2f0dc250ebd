"""``open-ils.actor.patron.update``: writing a whole patron, after ``update_patron`` in ``Actor.pm``.

Only a user marked as changed is written, and only if nobody else has written it since it was read. Cards and
addresses that hang on it are added, changed or deleted by their own marks; penalties, notes and settings are not
looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evergreen_groups.sandbox.actor_patrons import BY_BARCODE, fleshed_user
from evergreen_groups.sandbox.classes import classes
from evergreen_groups.sandbox.editor import Editor, object_argument
from evergreen_groups.sandbox.events import Event, perl_event
from evergreen_groups.sandbox.methods import Context, Die, method
from evergreen_groups.sandbox.patron_parts import end_bad_contact_penalties, update_addresses, update_cards
from evergreen_groups.sandbox.penalties import active_penalties
from evergreen_groups.sandbox.perl import is_true, is_true_flag, number, text
from evergreen_groups.sandbox.settings import setting_value
from evergreen_groups.sandbox.store import Row

INVALID_ADDRESS = 29


def _stored(editor: Editor, user_id: Any, accessor: str) -> Row:
    """The row of a user who must exist; Perl dies at the ``accessor`` it calls on nothing."""
    try:
        return editor.retrieve("au", user_id)
    except Event:
        raise Die(f'Can\'t call method "{accessor}" on an undefined value at OpenILS/Application/Actor.pm.') from None


def _require_profile(editor: Editor, profile: Any, home: Any) -> None:
    """Insist on the application permission of a profile, or that of the nearest profile above that has one."""
    key, permission = profile, None
    while permission is None:
        try:
            group = editor.retrieve("pgt", key)
        except Event:
            raise Die('Can\'t call method "application_perm" on an undefined value.') from None
        permission, key = group["application_perm"], group["parent"]
        if key is None:
            break
    editor.require(permission or "", home)


def _require_group(editor: Editor, class_id: str, patron: Mapping[str, Any]) -> None:
    """Insist that the caller may edit users of the profile that is stored, and of the one that is sent."""
    if not is_true(patron["isnew"]):
        stored = _stored(editor, patron.get("id"), "id")
        is_self = stored["id"] == editor.user_id
        if is_self and class_id == "au" and number(patron["profile"]) == stored["profile"]:
            return
        if not is_self:
            _require_profile(editor, stored["profile"], stored["home_ou"])
    if class_id != "au":
        raise Die(f"No field by the name profile in Fieldmapper::{classes()[class_id].fieldmapper}!")
    _require_profile(editor, patron["profile"], patron["home_ou"])


def _unflesh(patron: dict[str, Any]) -> None:
    for name in ("card", "billing_address", "mailing_address"):
        if isinstance(patron[name], dict | list):
            linked, values = object_argument(patron[name])
            patron[name] = values[classes()[linked].primary]


def _require_for_changes(editor: Editor, patron: dict[str, Any], stored: Row) -> None:
    """The permissions for barring and for another picture; a password sent along is set here."""
    if is_true_flag(stored["barred"]) != is_true_flag(patron["barred"]):
        editor.require("UNBAR_PATRON" if is_true_flag(stored["barred"]) else "BAR_PATRON", patron["home_ou"])
    if text(stored["photo_url"]) != text(patron["photo_url"]):
        editor.require("UPDATE_USER_PHOTO_URL", patron["home_ou"])
    if is_true(patron["passwd"]):
        editor.store.set_password(stored["id"], text(patron["passwd"]))
        patron["passwd"] = ""


def write_user(editor: Editor, patron: dict[str, Any]) -> None:
    """Write the user's own row, if nobody has since it was read, and go on with what the database then has.

    Raises:
        Event: PERM_FAILURE, XACT_COLLISION or DATABASE_UPDATE_FAILED.
    """
    editor.require("UPDATE_USER", patron["home_ou"])
    if not is_true(patron["ident_type"]):
        patron["ident_type"] = patron["ident_value"] = None
    last = _stored(editor, patron["id"], "last_xact_id")["last_xact_id"]
    if is_true(last) and last != text(patron["last_xact_id"]):
        raise Event(perl_event("XACT_COLLISION"))
    editor.update("au", patron)
    patron.update(_stored(editor, patron["id"], "id"), ischanged=None, passwd=None)


def _settle_address_penalty(editor: Editor, patron: Mapping[str, Any]) -> None:
    """Set or remove the penalty for invalid addresses."""
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
        place = home if depth is None else editor.store.orgs.ancestor_at_depth(home, depth)
        values = {"usr": patron["id"], "org_unit": home if place is None else place}
        editor.create("ausp", {**values, "standing_penalty": INVALID_ADDRESS})


@method("open-ils.actor", "open-ils.actor.patron.update")
def update_patron(context: Context, token: Any = None, sent: Any = None) -> dict[str, Any]:
    """Write a patron and send it back, fleshed, as it is then (``move-fleshed-002``)."""
    with context.store.transaction():
        editor = Editor(context, token)
        class_id, patron = object_argument(sent)
        _require_group(editor, class_id, patron)
        if is_true(patron["isnew"]):
            raise Die("The sandbox doesn't register new patrons.")
        _unflesh(patron)
        stored = _stored(editor, patron["id"], "expire_date")
        _require_for_changes(editor, patron, stored)
        update_addresses(editor, patron, write_user)
        update_cards(editor, patron)
        if is_true(patron["ischanged"]):
            write_user(editor, patron)
        end_bad_contact_penalties(editor, stored, patron)
        _settle_address_penalty(editor, patron)
        return fleshed_user(editor, stored["id"], list(BY_BARCODE))
