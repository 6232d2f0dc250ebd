"""Methods that check permissions, after ``OpenILS/Application/Actor.pm``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evergreen_groups.sandbox.services import (
    CallContext,
    Die,
    Editor,
    EventAnswer,
    SandboxSession,
    is_true,
    items,
    method,
    perl_event,
    permission_failure,
    permissions,
    text,
)

if TYPE_CHECKING:
    from evergreen_groups.sandbox.database import Row

SERVICE = "open-ils.actor"


def _session(context: CallContext, token: Any) -> SandboxSession:
    """Return the caller's session; without one, these methods raise a Perl event instead of the C service's."""
    session = context.sessions.find(token)
    if session is None:
        raise EventAnswer(perl_event("NO_SESSION"))
    return session


def _lacks(context: CallContext, user_id: Any, org_unit: Any, permission: Any) -> bool:
    """Return whether a user lacks a permission at an org unit; an empty permission is never lacking.

    Raises:
        Die: the id of user or org unit isn't a number, so the real service's query fails.
    """
    if not is_true(permission):
        return False
    try:
        user = 0 if user_id is None else int(text(user_id))
        org_id = None if org_unit is None else int(text(org_unit))
    except ValueError:
        raise Die("Can't use an undefined value as an ARRAY reference at OpenILS/Application/AppUtils.pm.") from None
    return not permissions.allowed(context.store, user, text(permission), org_id)


def _require_view(context: CallContext, session: SandboxSession, org_unit: Any) -> None:
    if _lacks(context, session.user_id, org_unit, "VIEW_PERMISSION"):
        raise permission_failure("VIEW_PERMISSION", org_unit)


def _target(context: CallContext, session: SandboxSession, user_id: Any) -> Row:
    """Return the user in question, and check VIEW_PERMISSION at the home library unless it is the caller."""
    if user_id is None or text(user_id) == str(session.user_id):
        return context.requestor(session)
    user = context.store.row("au", user_id)
    if user is None:
        raise EventAnswer(perl_event("ACTOR_USER_NOT_FOUND"))
    _require_view(context, session, user["home_ou"])
    return user


@method(SERVICE, "open-ils.actor.permissions.retrieve")
def all_permissions(context: CallContext) -> list[dict[str, Any]]:
    """Return all permissions. It checks neither session nor permission (``retrieve_perms``, rel_3_12 to rel_3_17)."""
    return [context.classes.wire_object("ppl", row) for row in context.store.rows("ppl")]


@method(SERVICE, "open-ils.actor.user.perm.check")
def missing(
    context: CallContext, token: Any = None, user_id: Any = None, org_unit: Any = None, names: Any = None
) -> list[Any]:
    """Return the permissions that a user does *not* have at an org unit (``auth-053``, ``auth-057``, ``auth-059``)."""
    session = _session(context, token)
    if text(user_id) != str(session.user_id):
        _require_view(context, session, org_unit)
    return [name for name in items(names) if _lacks(context, user_id, org_unit, name)]


@method(SERVICE, "open-ils.actor.user.perm.check.multi_org")
def missing_at(
    context: CallContext, token: Any = None, user_id: Any = None, org_units: Any = None, names: Any = None
) -> list[list[Any]]:
    """Return pairs of org unit and permission that a user does *not* have."""
    session = _session(context, token)
    _target(context, session, user_id)
    return [
        [org_unit, name]
        for org_unit in items(org_units)
        for name in items(names)
        if _lacks(context, user_id, org_unit, name)
    ]


def _highest(context: CallContext, user_id: Any, start: int, permission: Any) -> int:
    """Return the last org unit on the way up from ``start`` before the permission is lacking; -1 without any."""
    highest = -1
    for org_unit in context.store.orgs.upwards(start):
        if _lacks(context, user_id, org_unit, permission):
            break
        highest = org_unit
    return highest


@method(SERVICE, "open-ils.actor.user.perm.highest_org")
def highest_org(context: CallContext, token: Any = None, user_id: Any = None, permission: Any = None) -> int:
    """Return the topmost org unit where a permission holds, going up from the user's home library.

    For the caller, the search starts at the work org unit.
    """
    editor = Editor(context, token)
    if text(user_id) == str(editor.user_id):
        return _highest(context, user_id, editor.session.work_org, permission)
    user = editor.retrieve("au", user_id)
    editor.require("VIEW_PERMISSION", user["home_ou"])
    return _highest(context, user_id, user["home_ou"], permission)


@method(SERVICE, "open-ils.actor.user.perm.highest_org.batch")
def highest_orgs(context: CallContext, token: Any = None, user_id: Any = None, names: Any = None) -> list[int]:
    """Return the topmost org unit for each of several permissions, going up from the user's home library."""
    session = _session(context, token)
    target = _target(context, session, user_id)
    if not isinstance(names, list | dict):
        return []
    return [_highest(context, user_id, target["home_ou"], name) for name in items(names)]


def _checked(context: CallContext, token: Any, user_id: Any) -> Editor:
    editor = Editor(context, token)
    if user_id is not None:
        user = editor.retrieve("au", user_id)
        editor.require("VIEW_PERMISSION", user["home_ou"])
    return editor


@method(SERVICE, "open-ils.actor.user.has_work_perm_at", authoritative=True)
def work_orgs(context: CallContext, token: Any = None, permission: Any = None, user_id: Any = None) -> list[int]:
    """Return the topmost org units where work org units give a permission; the home library is ignored."""
    editor = _checked(context, token, user_id)
    if isinstance(permission, list | dict):
        return []
    target = editor.user_id if user_id is None else int(text(user_id))
    return permissions.highest_orgs(editor.store, target, text(permission))


@method(SERVICE, "open-ils.actor.user.has_work_perm_at.batch", authoritative=True)
def work_orgs_of_all(
    context: CallContext, token: Any = None, names: Any = None, user_id: Any = None
) -> dict[str, list[int]]:
    """Return the topmost org units by permission, always for the caller: Evergreen ignores the user's id."""
    editor = _checked(context, token, user_id)
    return {text(name): permissions.highest_orgs(editor.store, editor.user_id, text(name)) for name in items(names)}
