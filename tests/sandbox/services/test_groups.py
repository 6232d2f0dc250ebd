"""Odd parameters of calls about groups; recorded exchanges show the rest."""

from __future__ import annotations

from typing import Any

import pytest
from support.sandbox_caller import Caller, actor, opened

MEMBERS = "usergroup.members.retrieve"


@pytest.mark.parametrize(
    ("group", "members"),
    [
        ("1003", [1012, 1013, 1014]),
        ([1003, 1011], [1012, 1013, 1014, 1040, 1041, 1042]),
        ({"in": [1011]}, [1040, 1041, 1042]),
        (1011.5, []),
        (987_654, []),
        (None, []),
        ("abc", None),
        ([], None),
    ],
)
def test_odd_group_numbers(caller: Caller, group: Any, members: list[int] | None) -> None:
    assert actor(caller, "admin", MEMBERS, group) == members
    assert actor(caller, "admin", "usergroup.members.overdue_count", group) == "0"


@pytest.mark.parametrize(
    ("leader", "lead"), [(False, "f"), (0, "f"), ("0", "f"), ("", "f"), (None, "f"), ("f", "t"), ([], "t"), (1, "t")]
)
def test_any_true_leader_makes_a_lead(caller: Caller, leader: Any, lead: str) -> None:
    actor(caller, "admin", "usergroup.new", 1005, leader)
    (row,) = caller.pcrud("admin", "search.au.atomic", {"id": 1005})["payload"][0]
    assert opened(row)["master_account"] == lead
