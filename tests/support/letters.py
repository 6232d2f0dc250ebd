"""The family of the sandbox that tests write to, and changes to its records."""

from __future__ import annotations

from typing import Any

from evergreen_groups.sandbox import Sandbox

FAMILY, LEAD, OTHER_ADULT = 1001, 1001, 1002
CHILDREN = (1003, 1004, 1005, 1006)
HARBOR, CONSORTIUM = 11, 1
INVALID_ADDRESS, IN_COLLECTIONS = 29, 30


def change(sandbox: Sandbox, patron: int, **fields: Any) -> None:
    sandbox._store.update("au", patron, fields)


def penalize(sandbox: Sandbox, patron: int, kind: int) -> None:
    row = {"usr": patron, "standing_penalty": kind, "org_unit": CONSORTIUM, "staff": 4}
    sandbox._store.insert("ausp", {"set_date": "2026-09-03T10:00:00+0000", **row})


def library_address(sandbox: Sandbox, field: str = "mailing_address", **fields: Any) -> None:
    row = {"org_unit": HARBOR, "address_type": "MAILING", "street1": "1 Harbor Street", "city": "Lakeland"}
    place = {"state": "MN", "post_code": "55550", "country": "USA", "valid": "t"}
    id = sandbox._store.insert("aoa", {**row, **place, **fields})
    sandbox._store.update("aou", HARBOR, {field: id, "phone": "555-0111"})
