"""Rows are checked against the search: complete, no duplicates, and none that doesn't match."""

from __future__ import annotations

from typing import Any

import pytest
from support.recorded import exchanges, idl_of, is_call, method, params, payload, release_of

from evergreen_groups.errors import DataError
from evergreen_groups.gateway.rows import NEVER_NULL, RowCheck

IDL = idl_of()


def row(class_id: str, **values: Any) -> dict[str, Any]:
    """Build a complete row; fields that are never null are 1 unless given."""
    known = IDL[class_id]
    filled = [values.get(field.name, 1 if field.name in NEVER_NULL[class_id] else None) for field in known.fields]
    last = max(field.position for field in known.fields if not field.virtual)
    return {"__c": class_id, "__p": filled[: last + 1]}


def code_of(class_id: str, rows: list[Any], where: dict[str, Any], **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        RowCheck(IDL[class_id], where, **options).apply(rows)
    return str(caught.value.code)


def test_rows_that_fit() -> None:
    where = {"deleted": "f", "-and": [{"usrgroup": {">": 3}}, {"usrgroup": {"<=": 5}}, {"id": [7, "8"]}], "-or": [{}]}
    rows = [row("au", id=7, usrgroup=4, deleted="f"), row("au", id=8, usrgroup=5, deleted="f")]
    assert RowCheck(IDL["au"], where, limit=2, order_by={"au": "id"}).apply(rows) == [one["__p"] for one in rows]


@pytest.mark.parametrize("field", sorted(NEVER_NULL["mous"]))
def test_null_where_there_never_is_one(field: str) -> None:
    wrong = row("mous", usr=7, balance_owed="1.00")
    wrong["__p"][IDL["mous"].positions[field]] = None
    assert code_of("mous", [row("mous", usr=8), wrong], {}) == "field-missing"


def test_a_row_cut_short() -> None:
    whole = row("au", id=7)["__p"]
    assert code_of("au", [{"__c": "au", "__p": whole[:-1]}], {}) == "row-cut-short"
    end = IDL["au"].positions["usrgroup"]
    cut = [{"__c": "au", "__p": whole[:end]}]
    assert code_of("au", cut, {}, select=["id", "usrgroup"]) == "row-cut-short"
    assert RowCheck(IDL["au"], {}, select=["id"]).apply(cut)


@pytest.mark.parametrize("key", [True, {}, [7], 7.5])
def test_a_key_that_is_none(key: object) -> None:
    assert code_of("au", [row("au", id=key)], {}) == "row-without-key"


def test_the_same_row_twice() -> None:
    assert code_of("au", [row("au", id=7), row("au", id=8), row("au", id=7)], {}) == "row-twice"
    assert len(RowCheck(IDL["au"], {}, joined=True).apply([row("au", id=7)] * 2)) == 2


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ({"usrgroup": 7}, {"usrgroup": 8}),
        ({"id": [7, 8]}, {"id": 9}),
        ({"id": {"in": [7, 8]}}, {"id": 9}),
        ({"id": {">": 7}}, {"id": 7}),
        ({"id": {"<=": 7}}, {"id": 8}),
        ({"deleted": "f"}, {"deleted": "t"}),
        ({"-and": [{"deleted": "f"}, {"home_ou": [4]}]}, {"deleted": "f", "home_ou": 5}),
        ({"card": {"<>": None}}, {"card": None}),
        ({"card": None}, {"card": 7}),
    ],
)
def test_rows_that_were_not_asked_for(where: dict[str, Any], found: dict[str, Any]) -> None:
    assert code_of("au", [row("au", **found)], where) == "rows-not-asked-for"


def test_more_rows_than_were_asked_for() -> None:
    assert code_of("au", [row("au", id=7), row("au", id=8)], {}, limit=1) == "rows-not-asked-for"


def test_what_cannot_be_held_against_rows() -> None:
    """Conditions on other classes, OR clauses, subqueries, amounts, and translated text aren't checked."""
    where = {"+mbts": {"id": 1}, "-or": [{"id": 1}], "id": {"in": {"from": "au"}}, "usrgroup": {"=": {"+d": "id"}}}
    assert RowCheck(IDL["au"], where).apply([row("au", id=7)])
    assert RowCheck(IDL["mous"], {"balance_owed": {"<>": 0}}).apply([row("mous", balance_owed="0.00")])
    assert IDL["csp"].field("label").translated
    assert RowCheck(IDL["csp"], {"label": "Fines"}).apply([row("csp", label="Amendes")])


def test_another_order() -> None:
    rows = [row("au", id=8, usrgroup=1), row("au", id=7, usrgroup=2)]
    by_group = [{"class": "au", "field": "usrgroup"}, {"class": "au", "field": "id"}]
    assert RowCheck(IDL["au"], {}, order_by=by_group).apply(rows)
    assert RowCheck(IDL["au"], {}, order_by=[{"class": "au", "field": "id", "direction": "desc"}]).apply(rows)
    assert code_of("au", rows, {}, order_by="id") == "rows-in-another-order"
    assert code_of("au", rows[::-1], {}, order_by=by_group) == "rows-in-another-order"


def test_rows_of_a_real_server_are_as_long_as_was_asked_for() -> None:
    """Checked over everything recorded; trailing nulls are included."""
    counted = 0
    for exchange_id in exchanges():
        name = method(exchange_id)
        if not name.startswith("open-ils.pcrud.search.") or not name.endswith(".atomic") or not is_call(exchange_id):
            continue
        class_id, idl = name.split(".")[3], idl_of(release_of(exchange_id))
        result = payload(exchange_id)
        if class_id not in idl or not result or not isinstance(result[0], list):
            continue
        given = params(exchange_id)
        options = given[2] if len(given) > 2 and isinstance(given[2], dict) else {}
        select = options.get("select", {}).get(class_id)
        known = [field for field in idl[class_id].fields if not field.virtual and (not select or field.name in select)]
        for one in result[0]:
            assert len(one["__p"]) == max((field.position for field in known), default=-1) + 1
            counted += 1
    assert counted > 400
