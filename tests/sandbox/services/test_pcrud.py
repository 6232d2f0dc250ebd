"""open-ils.pcrud of the sandbox: visibility, fleshing, forms of methods; and flattened searches."""

from __future__ import annotations

from typing import Any

from support.sandbox_caller import Caller, opened


def rows(caller: Caller, account: str, class_id: str, where: Any, options: Any = None) -> list[dict[str, Any]]:
    answer = caller.pcrud(account, f"search.{class_id}.atomic", where, options)
    assert answer["status"] == 200, answer
    return [opened(item) for item in answer["payload"][0]]


def test_patrons_see_themselves_and_their_cards_but_not_their_summary(caller: Caller) -> None:
    assert caller.ids("20000000001001", "au", {"usrgroup": 1001}) == [1001]
    assert caller.ids("20000000001001", "ac", {"usr": [1001, 1002]}) == [1001]
    assert rows(caller, "20000000001001", "mous", {"usr": 1001}) == []


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
