"""The parts of a patron that are written with it: addresses, cards, and penalties for unreachable contacts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from evergreen_groups.sandbox.editor import Editor, argument_of
from evergreen_groups.sandbox.events import Event, perl_event
from evergreen_groups.sandbox.penalties import active_penalties
from evergreen_groups.sandbox.perl import is_true, items, number, text
from evergreen_groups.sandbox.store import Row
from evergreen_groups.sandbox.values import timestamp_text

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
    """Add, change and delete the addresses that are marked so.

    A billing or mailing address among them marks the patron as changed, whatever the patron's own mark says.
    """
    for sent in items(patron["addresses"]):
        if not isinstance(sent, dict | list):
            continue
        address = argument_of("aua", sent)
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
        raise Event(perl_event("PERM_FAILURE"))
    if stored["active"] == "t":
        raise Event(perl_event("CANNOT_DELETE_ACTIVE_CARD"))
    editor.delete("ac", stored)


def update_cards(editor: Editor, patron: dict[str, Any]) -> None:
    """Add, change and delete the cards that are marked so; a new main card marks the patron as changed."""
    for sent in items(patron["cards"]):
        card = {**argument_of("ac", sent), "usr": patron["id"]}
        if is_true(card["isnew"]):
            new_id = editor.create("ac", {**card, "id": None})
            if number(patron["card"]) == number(card["id"]):
                patron["card"], patron["ischanged"] = new_id, 1
        elif is_true(card["isdeleted"]):
            if number(card["id"]) == number(patron["card"]):
                raise Event(perl_event("CANNOT_DELETE_PRIMARY_CARD"))
            _delete_card(editor, card)
        elif is_true(card["ischanged"]):
            editor.update("ac", card)


def end_bad_contact_penalties(editor: Editor, stored: Row, patron: Mapping[str, Any]) -> None:
    """Archive the penalties for an e-mail address or telephone number that has been changed."""
    changed = [name for field, name in _CONTACTS.items() if text(stored[field]) != text(patron[field])]
    if not changed:
        return
    kinds = {row["id"] for row in editor.store.rows("csp", {"name": changed})}
    for row in active_penalties(editor.store, stored["id"]):
        if row["standing_penalty"] in kinds and row["stop_date"] is None:
            editor.store.update("ausp", row["id"], {"stop_date": timestamp_text(editor.context.clock())})
