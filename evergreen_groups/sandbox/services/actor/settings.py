"""Methods about library settings and penalty thresholds, after ``OpenILS/Application/Actor.pm``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from evergreen_groups.sandbox.services import (
    CallContext,
    Die,
    Editor,
    EventAnswer,
    ancestor_setting,
    is_true,
    items,
    method,
    number,
    text,
)
from evergreen_groups.sandbox.services.actor.penalty_rules import OVERRIDE

SERVICE = "open-ils.actor"
# The only settings that take a permission to see are those about card payments (950.data.seed-values.sql).
_GUARDED, _GUARD = "credit.processor", "VIEW_CREDIT_CARD_PROCESSING"


def _place(org_id: Any) -> int | None:
    """The org unit's id, None for null.

    Raises:
        ValueError: it is no number; true isn't one.
    """
    return None if org_id is None else int("true" if isinstance(org_id, bool) else text(org_id))


def _visible(context: CallContext, name: str, org_id: Any, token: Any) -> bool:
    if not name.startswith(_GUARDED):
        return True
    try:
        return Editor(context, token).allowed(_GUARD, org_id)
    except EventAnswer:
        return False


def _setting(context: CallContext, org_id: Any, name: Any, token: Any) -> dict[str, Any] | None:
    if not _visible(context, text(name), org_id, token):
        return None
    return ancestor_setting(context.store, text(name), _place(org_id))


@method(SERVICE, "open-ils.actor.ou_setting.ancestor_default")
def setting(context: CallContext, org_id: Any = None, name: Any = None, token: Any = None) -> dict[str, Any] | None:
    """The nearest value of a setting and where it is set; None where it isn't, or the caller may not see it."""
    if not isinstance(name, list) and not context.store.rows("aous", {"name": text(name)}):
        return None
    if isinstance(name, list) and not name:
        return None
    try:
        return _setting(context, "" if isinstance(name, list) else org_id, name, token)
    except ValueError:
        raise Die("Can't use an undefined value as an ARRAY reference at OpenILS/Application/AppUtils.pm.") from None


@method(SERVICE, "open-ils.actor.ou_setting.ancestor_default.batch")
def settings(context: CallContext, org_id: Any = None, names: Any = None, token: Any = None) -> dict[str, Any]:
    """The same for a list of settings, null for those that aren't set."""
    found: dict[str, Any] = {}
    for name in items(names):
        try:
            found[text(name)] = _setting(context, org_id, name, token)
        except ValueError:
            found[text(name)] = None
    return found


@method(SERVICE, "open-ils.actor.grp_penalty_threshold.ranged.retrieve", streaming=True)
def thresholds(context: CallContext, token: Any = None, org_id: Any = None) -> Iterator[dict[str, Any]]:
    """The penalty thresholds set at an org unit and its ancestors, by id."""
    editor = Editor(context, token)
    editor.require("VIEW_GROUP_PENALTY_THRESHOLD", org_id)
    orgs = editor.store.orgs
    given = org_id if isinstance(org_id, list) else [org_id] if is_true(org_id) and not isinstance(org_id, bool) else []
    places = {place for one in given for place in orgs.ancestors(int(number(one)))}
    for row in editor.store.rows("pgpt", {"org_unit": sorted(places)}, order_by="id"):
        yield context.classes.wire_object("pgpt", row)


@method(SERVICE, "open-ils.actor.settings.value_for_all_orgs", streaming=True)
def value_for_all_orgs(context: CallContext, token: Any = None, name: Any = None) -> Iterator[dict[str, Any]]:
    """The value of a setting as seen from each org unit, null where it isn't set.

    The real one knows the types of all settings (``explanation-008``); here a setting is one of org units where it is
    set somewhere, and so are those that name a penalty of a library's own.
    """
    requestor = Editor(context, token) if is_true(token) else None
    known = text(name).startswith(OVERRIDE) or bool(context.store.rows("aous", {"name": text(name)}))
    for org_id in context.store.orgs.ids:
        found = _setting(context, org_id, name, token)
        summary = {
            "name": text(name),
            "value": found["value"] if found else None,
            "has_org_setting": "t" if known else "f",
            "has_user_setting": "f" if requestor else None,
            "has_workstation_setting": None,
        }
        yield {"org_unit": org_id, "summary": summary}
