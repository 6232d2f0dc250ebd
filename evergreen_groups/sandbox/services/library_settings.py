"""Library settings (``aous``): the nearest one upwards in the org tree counts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evergreen_groups.sandbox.database import Store


def ancestor_setting(store: Store, name: str, org_unit: int | None) -> dict[str, Any] | None:
    """The setting as seen from an org unit: ``{"org": where it is set, "value": ...}``, None where it isn't set.

    Source: the SQL function ``actor.org_unit_ancestor_setting`` (``020.schema.functions.sql``); values are JSON.
    """
    set_at = {row["org_unit"]: row["value"] for row in store.rows("aous", {"name": name})}
    for nearest in store.orgs.upwards(org_unit):
        if nearest in set_at:
            return {"org": nearest, "value": json.loads(set_at[nearest])}
    return None


def setting_value(store: Store, name: str, org_unit: int | None) -> Any:
    """The value alone of :func:`ancestor_setting`, None where it isn't set."""
    found = ancestor_setting(store, name, org_unit)
    return found["value"] if found else None
