"""Patrons added to the sandbox by the dozen."""

from __future__ import annotations

from collections.abc import Mapping

from evergreen_groups.sandbox import Sandbox

_FLAGS = {"active": "t", **dict.fromkeys(("deleted", "barred", "juvenile", "master_account"), "f")}


def insert_patrons(sandbox: Sandbox, groups: Mapping[int, int], home: int) -> None:
    """Add patrons without debts, given their ids with their groups, at one home library."""
    store = sandbox._store
    with store.transaction():
        for id, group in groups.items():
            names = {"usrname": f"patron{id}", "family_name": "L", "first_given_name": str(id)}
            store.insert("au", {"id": id, "usrgroup": group, "home_ou": home, "profile": 2, **names, **_FLAGS})
