"""Methods that recalculate, set and remove penalties, after ``OpenILS/Application/Actor.pm``."""

from __future__ import annotations

from typing import Any

from evergreen_groups.sandbox.services import CallContext, Die, Editor, argument_of, is_true, method, text
from evergreen_groups.sandbox.services.actor.penalty_rules import recalculate

SERVICE = "open-ils.actor"


def _update(context: CallContext, token: Any, user_id: Any, only: tuple[Any, ...], *, at_home: bool) -> int:
    with context.store.transaction():
        editor = Editor(context, token)
        user = editor.retrieve("au", user_id)
        editor.require("UPDATE_USER", user["home_ou"])
        recalculate(editor.store, user["id"], user["home_ou"] if at_home else editor.session.work_org, only)
        return 1


@method(SERVICE, "open-ils.actor.user.penalties.update")
def update(context: CallContext, token: Any = None, user_id: Any = None, *only: Any) -> int:
    """Recalculate a user's penalties as seen from the caller's work org unit."""
    return _update(context, token, user_id, only, at_home=False)


@method(SERVICE, "open-ils.actor.user.penalties.update_at_home")
def update_at_home(context: CallContext, token: Any = None, user_id: Any = None, *only: Any) -> int:
    """Recalculate a user's penalties as seen from the user's home library."""
    return _update(context, token, user_id, only, at_home=True)


def _message(editor: Editor, user_id: Any, message: dict[str, Any]) -> int | None:
    """The id of the note that goes with a penalty; None for one without title and text."""
    if not any(is_true(message.get(name)) for name in ("title", "message")):
        return None
    values = {name: message.get(name) for name in ("title", "message", "pub")}
    sent = {"create_date": "now", "usr": user_id, "sending_lib": str(editor.session.work_org)}
    return editor.create("aum", {**values, **sent})


@method(SERVICE, "open-ils.actor.user.penalty.apply")
@method(SERVICE, "open-ils.actor.user.note.apply")
def apply(context: CallContext, token: Any = None, sent: Any = None, message: Any = None) -> int:
    """Set a penalty as staff do, with a note where there is one, and return the row's id; twice makes two rows."""
    with context.store.transaction():
        editor = Editor(context, token)
        penalty = argument_of(editor.classes, "ausp", sent)
        user = editor.retrieve("au", penalty["usr"])
        editor.require("UPDATE_USER", user["home_ou"])
        editor.retrieve("csp", penalty["standing_penalty"])
        note = message if is_true(message) else {}
        if not isinstance(note, dict):
            raise Die("Not a HASH reference at OpenILS/Application/Actor.pm.")
        note_id = _message(editor, penalty["usr"], note)
        if note_id is not None:
            penalty["usr_message"] = note_id
        penalty["staff"] = editor.user_id
        return editor.create("ausp", penalty)


@method(SERVICE, "open-ils.actor.user.penalty.remove")
@method(SERVICE, "open-ils.actor.user.note.remove")
def remove(context: CallContext, token: Any = None, sent: Any = None) -> int:
    """Delete the row of a penalty; the permission is checked for the user that the object names."""
    with context.store.transaction():
        editor = Editor(context, token)
        penalty = argument_of(editor.classes, "ausp", sent)
        user = editor.retrieve("au", penalty["usr"])
        editor.require("UPDATE_USER", user["home_ou"])
        editor.delete("ausp", penalty)
        return 1


@method(SERVICE, "open-ils.actor.user.penalty.modify")
@method(SERVICE, "open-ils.actor.user.note.modify")
def modify(context: CallContext, token: Any = None, sent: Any = None, message: Any = None) -> int:
    """Change a penalty and its note, or add them where they are marked as new."""
    with context.store.transaction():
        editor = Editor(context, token)
        penalty = argument_of(editor.classes, "ausp", sent)
        user = editor.retrieve("au", penalty["usr"])
        editor.require("UPDATE_USER", user["home_ou"])
        note = {**argument_of(editor.classes, "aum", message), "editor": editor.user_id, "edit_date": "now"}
        if is_true(note["isnew"]):
            penalty["usr_message"] = editor.create("aum", note)
        else:
            editor.update("aum", note)
        if is_true(penalty["isnew"]):
            editor.create("ausp", penalty)
        else:
            editor.update("ausp", penalty)
        return 1


@method(SERVICE, "open-ils.actor.user.note.note.update")
@method(SERVICE, "open-ils.actor.user.penalty.note.update")
def update_note(context: CallContext, token: Any = None, penalty_ids: Any = None, note: Any = None) -> int:
    """Put another text into the notes of these penalties."""
    if not isinstance(penalty_ids, list):
        raise Die("Can't use that value as an ARRAY reference.")
    with context.store.transaction():
        editor = Editor(context, token)
        for penalty_id in penalty_ids:
            sent = [{"id": penalty_id}, {"flesh": 1, "flesh_fields": {"aum": ["usr_message"]}}]
            penalty = editor.retrieve("ausp", penalty_id, sent=sent)
            user = editor.retrieve("au", penalty["usr"])
            editor.require("UPDATE_USER", user["home_ou"])
            if penalty["usr_message"] is not None:
                editor.store.update("aum", penalty["usr_message"], {"message": text(note)})
                continue
            values = {"title": "", "message": note, "pub": 0, "usr": penalty["usr"]}
            note_id = editor.create("aum", {**values, "sending_lib": editor.session.work_org})
            editor.store.update("ausp", penalty["id"], {"usr_message": note_id})
        return 1
