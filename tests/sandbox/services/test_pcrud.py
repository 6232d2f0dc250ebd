"""open-ils.pcrud of the sandbox: visibility, fleshing, forms of methods; and flattened searches."""

from __future__ import annotations

from typing import Any

import pytest
from support.sandbox_caller import Caller, opened

from evergreen_groups.sandbox.database import idl_classes

FAMILY = {"usrgroup": 1006}  # home libraries PINE and MILL


def rows(caller: Caller, account: str, class_id: str, where: Any, options: Any = None) -> list[dict[str, Any]]:
    answer = caller.pcrud(account, f"search.{class_id}.atomic", where, options)
    assert answer["status"] == 200, answer
    return [opened(item) for item in answer["payload"][0]]


def test_hidden_rows_are_never_returned(caller: Caller) -> None:
    everyone = caller.ids("admin", "au", FAMILY)
    assert len(everyone) == 3
    seen = [row["id"] for row in rows(caller, "north_manager", "au", FAMILY) if row["home_ou"] == 12]
    assert caller.ids("north_manager", "au", FAMILY) == seen
    assert 0 < len(seen) < len(everyone)
    assert caller.pcrud("north_manager", "count.au", FAMILY)["payload"] == [len(seen)]
    assert caller.ids("north_manager", "au", FAMILY, {"order_by": {"au": "id"}, "limit": 2}) == seen[:2]
    (hidden,) = set(everyone) - set(seen)
    assert caller.pcrud("north_manager", "retrieve.au", hidden)["payload"] == []
    assert caller.ids("harbor_desk", "au", FAMILY) == []


def test_patrons_see_themselves_and_their_cards_but_not_their_summary(caller: Caller) -> None:
    assert caller.ids("20000000001001", "au", {"usrgroup": 1001}) == [1001]
    assert caller.ids("20000000001001", "ac", {"usr": [1001, 1002]}) == [1001]
    assert rows(caller, "20000000001001", "mous", {"usr": 1001}) == []


def test_subqueries_are_not_filtered(caller: Caller) -> None:
    debtors = {"select": {"mous": ["usr"]}, "from": "mous", "where": {"balance_owed": {">": 20}}}
    sisters = {"select": {"au": ["usrgroup"]}, "from": "au", "where": {"id": {"in": debtors}}}
    where = {"-and": [FAMILY, {"usrgroup": {"in": sisters}}]}
    assert caller.ids("north_manager", "au", where) == caller.ids("north_manager", "au", FAMILY)


@pytest.mark.parametrize("token", ["badtoken", "", None, 5, {"a": 1}])
def test_a_bad_token_is_rejected_before_the_query_is_parsed(caller: Caller, token: Any) -> None:
    for method in ("search.au.atomic", "id_list.au", "count.aou", "retrieve.au"):
        assert caller.body("open-ils.pcrud", f"open-ils.pcrud.{method}", token, {"nosuch": 1})["status"] == 401


def test_anyone_may_read_org_units(caller: Caller) -> None:
    def count(class_id: str) -> Any:
        return caller.body("open-ils.pcrud", f"open-ils.pcrud.count.{class_id}", "ANONYMOUS", {"id": 1})["payload"]

    assert (count("aou"), count("au"), count("pgt")) == ([1], [0], [0])


def test_forms_of_methods(caller: Caller) -> None:
    assert caller.pcrud("admin", "search.ac", {"id": [1, 2]})["payload"] == [
        {"__c": "ac", "__p": ["t", "90000000000001", 1, 1]},
        {"__c": "ac", "__p": ["t", "90000000000002", 2, 2]},
    ]
    assert caller.pcrud("admin", "id_list.ac", {"id": [1, 2]})["payload"] == [1, 2]
    assert caller.pcrud("admin", "search.ac", {"id": -1})["payload"] == []
    assert caller.pcrud("admin", "search.ac.atomic", {"id": -1})["payload"] == [[]]
    assert len(caller.pcrud("admin", "retrieve.ac", [1, 2])["payload"]) == 2
    assert caller.pcrud("admin", "retrieve.ac", "x")["status"] == 500
    for method in ("retrieve.ac.atomic", "count.ac.atomic", "search.aous", "search.zzz", "update.ac"):
        assert caller.pcrud("admin", method, 1)["status"] == 404
    for method in ("search.ac", "count.ac", "id_list.ac.atomic"):
        assert caller.pcrud("admin", method)["status"] == 404


def test_rows_end_with_the_last_selected_column(caller: Caller) -> None:
    (answer,) = caller.pcrud("admin", "search.ac.atomic", {"id": 1}, {"select": {"ac": ["barcode", "nosuch"]}})[
        "payload"
    ]
    assert answer == [{"__c": "ac", "__p": [None, "90000000000001"]}]


def test_fleshing(caller: Caller) -> None:
    options = {
        "flesh": 2,
        "flesh_fields": {"au": ["card", "standing_penalties", "home_ou", "nosuch"], "ausp": ["standing_penalty"]},
        "select": {"au": ["id", "card", "home_ou"], "csp": ["name"]},
        "order_by": {"au": "id"},
    }
    first, _, third = rows(caller, "admin", "au", {"usrgroup": 1003}, options)[:3]
    assert opened(first["card"])["usr"] == first["id"]
    assert opened(first["home_ou"])["shortname"] == "MILL"
    assert third["standing_penalties"] == []
    second = rows(caller, "admin", "au", {"id": first["id"] + 1}, options)[0]
    (penalty,) = second["standing_penalties"]
    assert opened(opened(penalty)["standing_penalty"])["name"] == "PATRON_EXCEEDS_FINES"


def test_permissions_apply_to_fleshed_rows(caller: Caller) -> None:
    def users(account: str, org_unit: int) -> int:
        options = {"flesh": 1, "flesh_fields": {"aou": ["users", "settings"]}}
        (answer,) = caller.pcrud(account, "retrieve.aou", org_unit, options)["payload"]
        library = opened(answer)
        assert library["settings"] == []  # pcrud doesn't offer their class
        return len(library["users"])

    assert users("harbor_desk", 11) == users("admin", 11) > 5
    assert (users("harbor_desk", 12), users("20000000001001", 11)) == (0, 1)


def test_a_flattened_search_follows_links_in_filter_and_result(caller: Caller) -> None:
    def flat(mapping: Any, where: Any, span: Any = None) -> dict[str, Any]:
        token = caller.token("admin")
        method = "open-ils.fielder.flattened_search.atomic"
        return caller.body("open-ils.fielder", method, token, "au", mapping, where, span)

    mapping = {"id": "id", "library": "home_ou.shortname", "barcode": "card.barcode", "cards": "cards.barcode"}
    answer = flat(mapping, {"library": "BUS"}, {"sort": [{"barcode": "desc"}], "limit": 1})
    ((only,),) = answer["payload"]
    assert (only["library"], only["cards"]) == ("BUS", [only["barcode"]])
    assert flat({"id": "id", "x": "nosuch"}, {"id": 1})["status"] == 500
    assert flat({"id": "nosuch.id"}, {"id": 1})["status"] == 500
    assert flat(mapping, {"id": []})["status"] == 500


def test_objects_round_trip() -> None:
    row = {item.name: None for item in idl_classes()["ac"].fields} | {"barcode": "0815", "id": 3}
    parsed = idl_classes().parse_object(idl_classes().wire_object("ac", row))
    assert parsed == ("ac", {**row, "isnew": None, "ischanged": None, "isdeleted": None})
    assert idl_classes().parse_object({"__c": "zzz", "__p": []}) is None
    assert idl_classes().parse_object(5) is None
