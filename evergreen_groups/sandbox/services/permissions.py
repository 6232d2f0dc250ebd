"""Evergreen's permissions, after the ``permission`` schema (``006.schema.permissions.sql``).

A permission is granted at a depth, to a user or to a profile and all profiles below. It covers the ancestor at that
depth of the user's home library and of each work org unit, and everything below that ancestor.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evergreen_groups.sandbox.database import Store

EVERYTHING = "EVERYTHING"


def _grants(store: Store, user_id: int, permission: str) -> list[int]:
    """Return the depths of the grants for a permission, EVERYTHING first (``permission.usr_perms``)."""
    row = store.read().execute("SELECT profile FROM au WHERE id = ?", [user_id]).fetchone()
    profiles = store.profiles.upwards(row[0]) if row else []
    marks = ", ".join("?" * len(profiles)) or "NULL"
    found = store.read().execute(
        "SELECT permission, min(depth) FROM ("
        "SELECT permission, depth FROM grants WHERE usr = ? AND permission IN (?, ?) UNION ALL "
        "SELECT permission, depth FROM profile_grants "
        f"WHERE profile IN ({marks}) AND permission IN (?, ?)) "
        "GROUP BY permission ORDER BY permission <> ?",
        [user_id, permission, EVERYTHING, *profiles, permission, EVERYTHING, EVERYTHING],
    )
    return [depth for _, depth in found]


def work_orgs(store: Store, user_id: int) -> list[int]:
    """Return a user's work org units (``permission.usr_work_ou_map``)."""
    found = store.read().execute("SELECT org_unit FROM work_orgs WHERE usr = ? ORDER BY org_unit", [user_id])
    return [org_unit for (org_unit,) in found]


def orgs_where(store: Store, user_id: int, permission: str) -> set[int]:
    """Return the org units where a user has a permission (``permission.usr_has_perm`` for each org unit)."""
    row = store.read().execute("SELECT active, super_user, home_ou FROM au WHERE id = ?", [user_id]).fetchone()
    if row is None or row[0] == 0:
        return set()
    _, super_user, home = row
    if super_user:
        return set(store.orgs.ids)
    depths = _grants(store, user_id, permission)
    at_home = set(store.orgs.descendants_of_depth(home, depths[0])) if depths else set()
    at_work = (
        store.orgs.descendants_of_depth(work_org, depth) for depth in depths for work_org in work_orgs(store, user_id)
    )
    return at_home.union(*at_work)


def allowed(store: Store, user_id: int, permission: str, org_unit: int | None) -> bool:
    """Return whether a user has a permission at an org unit (``permission.usr_has_perm``).

    A superuser has every permission, even at org units that don't exist.
    """
    row = store.read().execute("SELECT active, super_user FROM au WHERE id = ?", [user_id]).fetchone()
    if row is None or row[0] == 0:
        return False
    return bool(row[1]) or org_unit in orgs_where(store, user_id, permission)


def highest_orgs(store: Store, user_id: int, permission: str) -> list[int]:
    """Return the topmost org units where a user's work org units give a permission (``permission.usr_has_perm_at``).

    The home library is ignored; a superuser has the root.
    """
    row = store.read().execute("SELECT super_user FROM au WHERE id = ?", [user_id]).fetchone()
    if row is None:
        return []
    if row[0]:
        return [store.orgs.root]
    depths = _grants(store, user_id, permission)
    found: list[int] = []
    for work_org in work_orgs(store, user_id) if depths else ():
        if (store.orgs.depth(work_org) or 0) >= min(depths):
            top = store.orgs.ancestor_at_depth(work_org, min(depths))
            found.extend([] if top is None else [top])
        else:
            below = store.orgs.descendants(work_org)
            found.extend(org for org in below if store.orgs.depth(org) == min(depths))
    return list(dict.fromkeys(found))


def ancestor_setting(store: Store, name: str, org_unit: int | None) -> dict[str, Any] | None:
    """Return the nearest value of a library setting as ``{"org": where it is set, "value": ...}``, or None.

    Source: the SQL function ``actor.org_unit_ancestor_setting`` (``020.schema.functions.sql``).
    """
    set_at = {row["org_unit"]: row["value"] for row in store.rows("aous", {"name": name})}
    for nearest in store.orgs.upwards(org_unit):
        if nearest in set_at:
            return {"org": nearest, "value": json.loads(set_at[nearest])}
    return None


def setting_value(store: Store, name: str, org_unit: int | None) -> Any:
    """Return only the value of :func:`ancestor_setting`, or None."""
    found = ancestor_setting(store, name, org_unit)
    return found["value"] if found else None
