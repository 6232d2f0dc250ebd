"""Groups in the sandbox: members, their debts, new groups, and permission checks."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from support.sandbox_caller import Caller, actor

MEMBERS = "usergroup.members.retrieve"
BALANCES = "usergroup.members.balance_owed"


def test_members_and_balances(caller: Caller) -> None:
    assert actor(caller, "admin", MEMBERS, 1003) == [1012, 1013, 1014]
    owed = {row["usr"]: row["balance_owed"] for row in actor(caller, "admin", BALANCES, 1003)}
    assert owed == {1012: "2.00", 1013: "31.50"}


def test_credits_count_and_paid_up_members_are_listed(caller: Caller) -> None:
    assert {"usr": 1018, "balance_owed": "-1.50"} in actor(caller, "admin", BALANCES, 1004)
    assert {"usr": 1040, "balance_owed": "0.00"} in actor(caller, "admin", BALANCES, 1011)


def test_balances_agree_with_pcruds_summaries(caller: Caller) -> None:
    for group in range(1001, 1016):
        members = actor(caller, "admin", MEMBERS, group)
        rows = caller.pcrud("admin", "search.mous.atomic", {"usr": members})["payload"][0]
        expected = sum(Decimal(row["__p"][0]) for row in rows)
        assert sum(Decimal(row["balance_owed"]) for row in actor(caller, "admin", BALANCES, group)) == expected


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


def test_the_permission_is_checked_at_the_callers_library_only(caller: Caller) -> None:
    assert actor(caller, "harbor_desk", MEMBERS, 1009) == [1036, 1037, 1038]
    denied = actor(caller, "20000000001001", MEMBERS, 1001)
    assert (denied["ilsevent"], denied["ilsperm"], denied["ilspermloc"]) == ("5000", "VIEW_USER", "11")


def test_numbers_are_text_except_in_the_authoritative_form(caller: Caller) -> None:
    assert actor(caller, "admin", "usergroup.members.overdue_count", 1001) == "0"
    assert actor(caller, "admin", "usergroup.members.overdue_count.authoritative", 1001) == 0
    assert actor(caller, "admin", "usergroup.new", 1002) == "1100"


def patron(caller: Caller, user_id: int) -> tuple[int, str, str]:
    (values,) = (row["__p"] for row in caller.pcrud("admin", "search.au.atomic", {"id": user_id})["payload"][0])
    return values[46], values[35], values[33]


def test_a_new_group_has_only_its_user(caller: Caller) -> None:
    before = patron(caller, 1002)
    number = int(actor(caller, "admin", "usergroup.new", 1002, True))
    assert actor(caller, "admin", MEMBERS, number) == [1002]
    assert 1002 not in actor(caller, "admin", MEMBERS, 1001)
    group, lead, transaction = patron(caller, 1002)
    assert (group, lead) == (number, "t")
    assert transaction != before[2]


@pytest.mark.parametrize(
    ("leader", "lead"), [(False, "f"), (0, "f"), ("0", "f"), ("", "f"), (None, "f"), ("f", "t"), ([], "t"), (1, "t")]
)
def test_any_true_leader_makes_a_lead(caller: Caller, leader: Any, lead: str) -> None:
    actor(caller, "admin", "usergroup.new", 1005, leader)
    assert patron(caller, 1005)[1] == lead


def test_a_lead_stays_lead_and_moved_members_come_last(caller: Caller) -> None:
    actor(caller, "admin", "usergroup.new", 1001, False)
    assert patron(caller, 1001)[1] == "t"
    number = int(actor(caller, "admin", "usergroup.new", 1007))
    assert (number, actor(caller, "admin", MEMBERS, 1002)) == (1101, [1008, 1009, 1010, 1011])


def test_new_groups_need_update_user_where_the_caller_works(caller: Caller) -> None:
    assert actor(caller, "north_manager", "usergroup.new", 1036) == "1100"
    assert actor(caller, "harbor_desk", "usergroup.new", 1001)["ilsperm"] == "UPDATE_USER"
    missing = actor(caller, "admin", "usergroup.new", 4_999_999)
    assert (missing["textcode"], missing["payload"]) == ("ACTOR_USER_NOT_FOUND", 4_999_999)
    assert actor(caller, "admin", "usergroup.new", 1001) == "1101"
