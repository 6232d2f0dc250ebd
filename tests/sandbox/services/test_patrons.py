"""Patrons and groups in the sandbox: what recorded exchanges don't show of reading, finding and writing them."""

from typing import Any

import pytest
from support.sandbox_caller import Caller, actor, closed, opened


def fetched(caller: Caller, user_id: int) -> dict[str, Any]:
    return opened(actor(caller, "admin", "user.fleshed.retrieve", user_id))


def updated(caller: Caller, user_id: int, account: str = "admin", **changes: Any) -> Any:
    """Return the result of patron.update for a patron sent back with changes, marked as changed."""
    sent = closed("au", {**fetched(caller, user_id), "ischanged": 1, **changes})
    return actor(caller, account, "patron.update", sent)


def test_penalties_are_those_around_the_callers_library(caller: Caller) -> None:
    assert len(fetched(caller, 1042)["standing_penalties"]) == 1
    actor(caller, "admin", "user.penalty.apply", closed("ausp", {"usr": 1042, "standing_penalty": 25, "org_unit": 21}))
    seen = opened(actor(caller, "harbor_desk", "user.fleshed.retrieve", 1042, ["standing_penalties"]))
    assert len(seen["standing_penalties"]) == 1
    assert len(fetched(caller, 1042)["standing_penalties"]) == 2


@pytest.mark.parametrize(
    ("name", "parameter", "permission"),
    [
        ("user.fleshed.retrieve_by_barcode", "20000000001036", "VIEW_USER"),
        ("user.retrieve", 1036, "VIEW_USER"),
        ("user.retrieve_id_by_barcode_or_username", "20000000001036", "VIEW_USER"),
        ("user.fines.summary", 1036, "VIEW_USER_FINES_SUMMARY"),
        ("user.transactions.have_balance", 1036, "VIEW_USER_TRANSACTIONS"),
        ("user.hold_requests.count", 1036, "VIEW_HOLD"),
    ],
)
def test_permissions_checked_at_the_patrons_library(caller: Caller, name: str, parameter: Any, permission: str) -> None:
    denied = actor(caller, "harbor_desk", name, parameter)
    assert (denied["textcode"], denied["ilsperm"], denied["ilspermloc"]) == ("PERM_FAILURE", permission, "22")


def test_methods_that_no_exchange_has(caller: Caller) -> None:
    assert actor(caller, "admin", "user.transactions.have_balance.total", 1003) == 4.85
    assert actor(caller, "admin", "user.transactions.have_balance.count", 1003) == "2"
    assert actor(caller, "north_manager", "user.perm.highest_org", 3, "VIEW_USER") == "2"
    assert actor(caller, "north_manager", "session.home_lib") == "NORTH"
    (hidden,) = actor(caller, "harbor_desk", "get_barcodes", 11, "actor", "20000000001036")
    assert hidden["ilsperm"] == "VIEW_USER"


def family(name: str) -> dict[str, Any]:
    return {"family_name": {"value": name, "group": 0}}


@pytest.mark.parametrize(
    ("search", "ids"),
    [
        (family("kowal"), ["1029", "1030"]),
        (family("O'SULL"), ["1026", "1027", "1028"]),
        ({"card": {"value": "2000000000104", "group": 3}, **family("joh")}, ["1045", "1046"]),
        ({"profile": {"value": 13, "group": 5}, **family("")}, ["1045", "1046"]),
        ({"street1": {"value": "14 harbor", "group": 1}}, ["1001", "1002"]),
        (family("nosuch"), []),
        (family("  "), []),
        ({}, []),
        ("kowal", []),
        ({"nosuch": {"value": "x", "group": 0}}, None),
    ],
)
def test_the_patron_search(caller: Caller, search: Any, ids: list[str] | None) -> None:
    found = actor(caller, "admin", "patron.search.advanced", search, 50, ["id"], None, 1)
    assert found == ids


def test_the_patron_search_by_library_order_and_state(caller: Caller) -> None:
    def found(account: str, *rest: Any) -> Any:
        return actor(caller, account, "patron.search.advanced", family("o"), *rest)

    assert found("admin", 3, ["first_given_name DESC"]) == ["1026", "1006", "1005"]
    assert found("admin", 2, ["first_given_name"], None, 1, None, 1) == ["1028", "1002"]
    assert found("harbor_desk", 50, ["id"]) == ["1001", "1002", "1003", "1004", "1005", "1006"]
    updated(caller, 1006, active="f")
    assert "1006" not in found("admin", 50)
    assert "1006" in found("admin", 50, None, 1)


def test_accents_matter_unless_a_setting_says_no(caller: Caller) -> None:
    assert actor(caller, "admin", "patron.search.advanced", family("nguyen"), 50, ["id"], None, 1) == []
    assert len(actor(caller, "admin", "patron.search.advanced", family("nguyễn"), 50, ["id"], None, 1)) == 4


def stored(caller: Caller, user_id: int) -> dict[str, Any]:
    (row,) = caller.pcrud("admin", "search.au.atomic", {"id": user_id})["payload"][0]
    return opened(row)


def test_without_the_changed_flag_nothing_is_written(caller: Caller) -> None:
    for mark in (None, 0, "", "0", False):
        assert opened(updated(caller, 1008, usrgroup=1003, ischanged=mark))["usrgroup"] == 1002


def test_a_main_address_marks_the_patron_as_changed(caller: Caller) -> None:
    address = closed(
        "aua", {"id": -1, "street1": "1 New Lane", "city": "X", "post_code": "1", "country": "USA", "isnew": 1}
    )
    updated(caller, 1008, ischanged=0, addresses=[address], billing_address=-1)
    (row,) = caller.pcrud("admin", "search.aua.atomic", {"usr": 1008, "street1": "1 New Lane"})["payload"][0]
    assert stored(caller, 1008)["billing_address"] == opened(row)["id"] > 0


@pytest.mark.parametrize(
    ("sent", "kept"), [("1003", 1003), ("abc", 0), (" 1004x", 1004), (-5, -5), (6.9, 6), (None, None), (2**31, None)]
)
def test_odd_groups_are_parsed_like_in_c(caller: Caller, sent: Any, kept: int | None) -> None:
    answer = updated(caller, 1008, usrgroup=sent)
    if kept is None:
        assert answer["textcode"] == "DATABASE_UPDATE_FAILED"
        assert opened(answer["payload"])["usrgroup"] == sent
    assert stored(caller, 1008)["usrgroup"] == (1002 if kept is None else kept)


def test_an_unknown_home_library_fails_at_the_commit(caller: Caller) -> None:
    sent = closed("au", {**fetched(caller, 1008), "ischanged": 1, "home_ou": 999})
    answer = caller.body("open-ils.actor", "open-ils.actor.patron.update", caller.token("admin"), sent)
    assert answer["status"] == 500
    assert stored(caller, 1008)["home_ou"] == 12


@pytest.mark.parametrize(
    ("account", "user_id", "changes", "permission"),
    [
        ("harbor_desk", 1001, {"usrgroup": 1002}, "group_application.user.patron"),
        ("north_manager", 1036, {"usrgroup": 1002}, "group_application.user.patron"),
        ("consortium_staff", 1001, {"barred": "t"}, "BAR_PATRON"),
        ("consortium_staff", 1001, {"profile": 3}, "group_application.user.staff"),
        ("north_manager", 1001, {"home_ou": 22}, "group_application.user.patron"),
        ("20000000001001", 1001, {"usrgroup": 1002}, "UPDATE_USER"),
    ],
)
def test_missing_permissions_to_write(
    caller: Caller, account: str, user_id: int, changes: dict[str, Any], permission: str
) -> None:
    before = stored(caller, user_id)
    denied = updated(caller, user_id, account, **changes)
    assert (denied["textcode"], denied["ilsperm"]) == ("PERM_FAILURE", permission)
    assert stored(caller, user_id) == before


def test_a_password_in_the_record_is_set(caller: Caller) -> None:
    updated(caller, 1008, passwd="another")
    login = {"barcode": "20000000001008", "password": "another", "type": "opac"}
    assert caller.body("open-ils.auth", "open-ils.auth.login", login)["payload"][0]["textcode"] == "SUCCESS"


def cards_of(caller: Caller, user_id: int) -> dict[str, dict[str, Any]]:
    return {opened(card)["barcode"]: opened(card) for card in fetched(caller, user_id)["cards"]}


def test_cards_are_created_changed_and_deleted_by_their_flags(caller: Caller) -> None:
    (old,) = cards_of(caller, 1008).values()
    new = {"id": -1, "barcode": "NEW-1008", "isnew": 1}
    updated(caller, 1008, cards=[closed("ac", {**old, "active": "f", "ischanged": 1}), closed("ac", new)], card=-1)
    cards = cards_of(caller, 1008)
    assert stored(caller, 1008)["card"] == cards["NEW-1008"]["id"]
    assert (cards["20000000001008"]["active"], cards["NEW-1008"]["active"]) == ("f", "t")
    main = closed("ac", {**cards["NEW-1008"], "isdeleted": 1})
    assert updated(caller, 1008, cards=[main])["textcode"] == "CANNOT_DELETE_PRIMARY_CARD"
    updated(caller, 1008, cards=[closed("ac", {**cards["20000000001008"], "isdeleted": 1})])
    assert list(cards_of(caller, 1008)) == ["NEW-1008"]


def test_a_barcode_is_unique(caller: Caller) -> None:
    taken = closed("ac", {"id": -1, "barcode": "20000000001001", "isnew": 1})
    refused = updated(caller, 1008, cards=[taken], usrgroup=1003)
    assert refused["textcode"] == "DATABASE_UPDATE_FAILED"
    assert stored(caller, 1008)["usrgroup"] == 1002


@pytest.mark.parametrize(
    ("leader", "lead"), [(False, "f"), (0, "f"), ("0", "f"), ("", "f"), (None, "f"), ("f", "t"), ([], "t"), (1, "t")]
)
def test_any_true_leader_makes_a_lead(caller: Caller, leader: Any, lead: str) -> None:
    actor(caller, "admin", "usergroup.new", 1005, leader)
    assert stored(caller, 1005)["master_account"] == lead


def test_permissions_apply_to_fleshed_rows(caller: Caller) -> None:
    def users(account: str, org_unit: int) -> int:
        options = {"flesh": 1, "flesh_fields": {"aou": ["users", "settings"]}}
        (answer,) = caller.pcrud(account, "retrieve.aou", org_unit, options)["payload"]
        library = opened(answer)
        assert library["settings"] == []  # pcrud doesn't offer their class
        return len(library["users"])

    assert users("harbor_desk", 11) == users("admin", 11) > 5
    assert (users("harbor_desk", 12), users("20000000001001", 11)) == (0, 1)
