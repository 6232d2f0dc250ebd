"""Methods for org units, profiles and library settings, after ``OpenILS/Application/Actor.pm``.

Most need no session. Methods that use ``open-ils.storage`` return numbers as text and true as 1 (``settings-034``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from evergreen_groups.sandbox.services import (
    CallContext,
    Die,
    Editor,
    EventAnswer,
    ancestor_setting,
    is_true,
    items,
    method,
    not_found,
    number,
    retrieve,
    search,
    text,
)
from evergreen_groups.sandbox.services.actor.penalties import OVERRIDE

if TYPE_CHECKING:
    from evergreen_groups.sandbox.database import Row, Store, Tree

SERVICE = "open-ils.actor"
# The classes of open-ils.storage are older than the IDL, and don't have this field.
_UNKNOWN_TO_STORAGE = "staff_catalog_visible"


def _tree(store: Store, class_id: str, tree: Tree) -> dict[str, Any]:
    """Return a whole tree of wire objects, with children ordered by name; a leaf has an empty list."""
    rows = {row["id"]: row for row in store.rows(class_id)}

    def branch(node: int) -> dict[str, Any]:
        below = sorted(tree.children(node), key=lambda child: str(rows[child]["name"]))
        return store.classes.wire_object(class_id, rows[node], {"children": [branch(child) for child in below]})

    return branch(tree.root)


@method(SERVICE, "open-ils.actor.org_tree.retrieve")
def org_tree(context: CallContext) -> dict[str, Any]:
    """Return all org units as a tree."""
    return _tree(context.store, "aou", context.store.orgs)


@method(SERVICE, "open-ils.actor.groups.tree.retrieve")
def profile_tree(context: CallContext) -> dict[str, Any]:
    """Return all profiles as a tree."""
    return _tree(context.store, "pgt", context.store.profiles)


@method(SERVICE, "open-ils.actor.groups.retrieve")
def profiles(context: CallContext) -> list[dict[str, Any]]:
    """Return all profiles as a list."""
    return [context.classes.wire_object("pgt", row) for row in context.store.rows("pgt")]


@method(SERVICE, "open-ils.actor.org_types.retrieve")
def org_types(context: CallContext) -> list[dict[str, Any]]:
    """Return all org unit types."""
    return [context.classes.wire_object("aout", row) for row in context.store.rows("aout")]


@method(SERVICE, "open-ils.actor.org_unit.retrieve")
def org_unit(context: CallContext, token: Any = None, org_id: Any = None) -> dict[str, Any]:
    """Return one org unit; without an id, the session's work org unit."""
    key = org_id if is_true(org_id) else Editor(context, token).session.work_org
    return context.classes.wire_object("aou", retrieve(context.store, "aou", key))


@method(SERVICE, "open-ils.actor.org_unit.retrieve_by_shortname")
def org_unit_by_shortname(context: CallContext, shortname: Any = None) -> dict[str, Any]:
    """Return the org unit with a short name, ignoring case."""
    wanted = text(shortname).upper()
    found = context.store.rows("aou", {"shortname": wanted})
    if not found:
        raise not_found(context.classes, "aou", {"shortname": wanted})
    return context.classes.wire_object("aou", found[0])


@method(SERVICE, "open-ils.actor.org_unit_list.search")
def search_org_units(context: CallContext, field: Any = None, value: Any = None) -> list[dict[str, Any]]:
    """Return the org units whose field has a value."""
    known = context.classes["aou"].by_name.get(text(field))
    found = None if known is None or known.virtual else search(context.store, "aou", {known.name: value})
    if found is None:
        raise Die("Call to open-ils.cstore failed with exception.")
    return [context.classes.wire_object("aou", row) for row in found]


def _storage_object(store: Store, row: Row, children: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """Return an org unit as ``open-ils.storage`` writes it."""
    values: dict[str, Any] = {}
    for item in store.classes["aou"].columns:
        value = row[item.name]
        if value is not None and item.name != _UNKNOWN_TO_STORAGE:
            values[item.name] = str(int(value == "t")) if item.kind == "bool" else str(value)
    return store.classes.wire_object("aou", values, {"children": children or None})


def _storage_rows(store: Store, org_units: Iterable[int]) -> list[Row]:
    rows = {row["id"]: row for row in store.rows("aou")}
    return [rows[org_id] for org_id in org_units]


def _build_tree(store: Store, rows: Sequence[Row]) -> dict[str, Any] | None:
    """Build a tree of org units ordered by type and name, and return its root (``AppUtils::build_org_tree``)."""
    ordered = sorted(rows, key=lambda row: (row["ou_type"], row["name"]))
    if not ordered:
        return None

    def branch(row: Row) -> dict[str, Any]:
        return _storage_object(store, row, [branch(other) for other in ordered if other["parent_ou"] == row["id"]])

    return branch(ordered[0])


def _org_id(value: Any) -> int | None:
    """Convert an org unit's id like the database; None for null, 0 and ``""``.

    Raises:
        Die: the id isn't a number.
    """
    if not is_true(value):
        return None
    try:
        return int(text(value))
    except ValueError:
        raise Die("Call to open-ils.storage failed with exception.") from None


def _descendants(store: Store, org_id: Any, depth: Any) -> dict[str, Any] | None:
    top = _org_id(org_id)
    if depth is None:
        return _build_tree(store, _storage_rows(store, store.orgs.descendants(top)))
    level = int(_org_id(depth) or 0)
    return _build_tree(store, _storage_rows(store, store.orgs.descendants_of_depth(top, level)))


@method(SERVICE, "open-ils.actor.org_tree.descendants.retrieve")
def descendants(context: CallContext, org_id: Any = None, depth: Any = None) -> Any:
    """Return an org unit, or its ancestor at a depth, as a tree; for a list of ids, a list of trees."""
    if isinstance(org_id, list):
        depths = items(depth if is_true(depth) else None)
        return [_descendants(context.store, top, level) for top, level in zip_longest(org_id, depths[: len(org_id)])]
    return _descendants(context.store, org_id, depth)


@method(SERVICE, "open-ils.actor.org_tree.ancestors.retrieve")
def ancestors(context: CallContext, org_id: Any = None, depth: Any = None) -> dict[str, Any] | None:  # noqa: ARG001 - ignored by Evergreen too
    """Return the path from the root down to an org unit, as a tree."""
    return _build_tree(context.store, _storage_rows(context.store, context.store.orgs.ancestors(_org_id(org_id))))


@method(SERVICE, "open-ils.actor.org_unit.full_path.retrieve")
def full_path(context: CallContext, token: Any = None, org_id: Any = None) -> list[dict[str, Any]]:
    """Return an org unit with its ancestors and descendants, ordered by depth."""
    editor = Editor(context, token)
    orgs = editor.store.orgs
    path = orgs.full_path(editor.session.work_org if org_id is None else _org_id(org_id))
    return [
        _storage_object(editor.store, row)
        for row in _storage_rows(editor.store, sorted(path, key=lambda org: orgs.depth(org) or 0))
    ]


@method(SERVICE, "open-ils.actor.org_unit.ancestor_at_depth.retrieve")
def ancestor_at_depth(context: CallContext, token: Any = None, org_id: Any = None, depth: Any = None) -> int | None:
    """Return the id of the ancestor at a depth."""
    editor = Editor(context, token)
    if isinstance(org_id, bool):
        raise Die("Can't use an undefined value as an ARRAY reference at OpenILS/Application/AppUtils.pm.")
    org = editor.session.work_org if org_id is None else _org_id(org_id)
    return None if depth is None else editor.store.orgs.ancestor_at_depth(org, int(_org_id(depth) or 0))


@method(SERVICE, "open-ils.actor.session.home_lib")
def home_library(context: CallContext, token: Any = None) -> str | None:
    """Return the short name of the caller's home library; None without a session."""
    session = context.sessions.find(token)
    if session is None:
        return None
    row = context.store.row("aou", context.requestor(session)["home_ou"])
    return str(row["shortname"]) if row else None


# Only settings for card payments require a permission (950.data.seed-values.sql).
_GUARDED, _GUARD = "credit.processor", "VIEW_CREDIT_CARD_PROCESSING"


def _setting(context: CallContext, org_id: Any, name: Any, token: Any) -> dict[str, Any] | None:
    """Return a setting's nearest value and where it is set; None if it isn't set or visible.

    Raises:
        ValueError: the org unit's id isn't a number; true isn't one.
    """
    if text(name).startswith(_GUARDED):
        try:
            if not Editor(context, token).allowed(_GUARD, org_id):
                return None
        except EventAnswer:
            return None
    org_unit = None if org_id is None else int("true" if isinstance(org_id, bool) else text(org_id))
    return ancestor_setting(context.store, text(name), org_unit)


@method(SERVICE, "open-ils.actor.ou_setting.ancestor_default")
def setting(context: CallContext, org_id: Any = None, name: Any = None, token: Any = None) -> dict[str, Any] | None:
    """Return a setting's nearest value and where it is set; None if it isn't set or visible."""
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
    """Return the nearest values of several settings, null for those not set."""
    found: dict[str, Any] = {}
    for name in items(names):
        try:
            found[text(name)] = _setting(context, org_id, name, token)
        except ValueError:
            found[text(name)] = None
    return found


@method(SERVICE, "open-ils.actor.grp_penalty_threshold.ranged.retrieve", streaming=True)
def thresholds(context: CallContext, token: Any = None, org_id: Any = None) -> Iterator[dict[str, Any]]:
    """Yield the penalty thresholds set at an org unit and its ancestors, in order of id."""
    editor = Editor(context, token)
    editor.require("VIEW_GROUP_PENALTY_THRESHOLD", org_id)
    orgs = editor.store.orgs
    given = org_id if isinstance(org_id, list) else [org_id] if is_true(org_id) and not isinstance(org_id, bool) else []
    org_units = {org_unit for value in given for org_unit in orgs.ancestors(int(number(value)))}
    for row in editor.store.rows("pgpt", {"org_unit": sorted(org_units)}, order_by="id"):
        yield context.classes.wire_object("pgpt", row)


@method(SERVICE, "open-ils.actor.settings.value_for_all_orgs", streaming=True)
def value_for_all_orgs(context: CallContext, token: Any = None, name: Any = None) -> Iterator[dict[str, Any]]:
    """Yield a setting's nearest value for each org unit, null if it isn't set.

    Evergreen knows the types of all settings (``explanation-008``). The sandbox treats a setting as a library setting
    if it is set anywhere, or names a custom penalty.
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
