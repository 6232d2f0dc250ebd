"""Rows that a real Evergreen's pcrud sent, read with the gateway's own methods."""

import json

import pytest
from support.recorded import gateway_of, idl_of, is_call, method, named_exchanges, params, payload, release_of

from evergreen_groups.gateway.call import dumps

SEARCH = "open-ils.pcrud.search."
SEARCHES = sorted(
    exchange_id
    for exchange_id in named_exchanges()
    if method(exchange_id).startswith(SEARCH)
    and method(exchange_id).endswith(".atomic")
    and is_call(exchange_id)
    and payload(exchange_id)
    and params(exchange_id)[2:]
    and method(exchange_id).split(".")[3] in idl_of(release_of(exchange_id))
    and exchange_id != "pcrud-011"  # asked with a boolean, which matches nothing: pcrud.search refuses it
)


def test_there_are_many():
    assert len(SEARCHES) > 60


@pytest.mark.parametrize("exchange_id", SEARCHES)
def test_a_search_gives_the_rows_that_came(exchange_id):
    """The condition and options are as recorded, and records write back the same values."""
    class_id = method(exchange_id).removeprefix(SEARCH).removesuffix(".atomic")
    _token, where, options = params(exchange_id)
    if options.get("select"):
        options["select"] = options["select"][class_id]
    [rows] = payload(exchange_id)
    with gateway_of(exchange_id, alike=False) as gateway:
        assert [json.loads(dumps(row.to_wire())) for row in gateway.pcrud.search(class_id, where, **options)] == rows


def ids_of(exchange_id, where, **options):
    with gateway_of(exchange_id) as gateway:
        return [row.id for row in gateway.pcrud.search("au", where, **options)]


def test_hidden_rows_leave_room_for_others():
    """The same account each time; ten rows requested."""
    _token, where, options = params("pcrud-034")
    options["select"] = options["select"]["au"] if options.get("select") else None
    assert len(ids_of("pcrud-034", where, **options)) == options["limit"] == 10


@pytest.mark.parametrize(("exchange_id", "found"), [("3.12/releases-044", 4), ("3.14/releases-044", 10)])
def test_hidden_rows_took_the_place_of_others_before_3_14(exchange_id, found):
    where = {"id": {">": 5000}, "deleted": "f"}
    assert len(ids_of(exchange_id, where, select=["id"], order_by="id", limit=10)) == found


@pytest.mark.parametrize(("exchange_id", "key"), [("pcrud-105", 4_999_999), ("pcrud-106", 5034)])
def test_no_row_and_a_hidden_row_are_the_same(exchange_id, key):
    with gateway_of(exchange_id) as gateway:
        assert gateway.pcrud.retrieve("au", key) is None


def test_hidden_rows_are_not_counted():
    with gateway_of("pcrud-097") as gateway:
        assert gateway.pcrud.count("au", {"usrgroup": 6010}) == 1


def test_ids():
    with gateway_of("audit-020", alike=False) as gateway:
        assert gateway.pcrud.id_list("au", {"deleted": "f"})[:3] == [5006, 5009, 5010]


def test_a_field_that_was_not_selected_is_nothing_even_fleshed():
    _token, where, options = params("pcrud-017")
    with gateway_of("pcrud-017", alike=False) as gateway:
        left_out = gateway.pcrud.search(
            "au", where, select=["id", "family_name"], flesh=1, flesh_fields={"au": ["card"]}
        )
    with gateway_of("pcrud-018", alike=False) as gateway:
        selected = gateway.pcrud.search(
            "au", where, select=["id", "card"], flesh=1, flesh_fields=options["flesh_fields"]
        )
    assert {row.card for row in left_out} == {None}
    assert [row.card and row.card.barcode for row in selected][:2] == [None, "20000000005025"]


def test_numbers_and_booleans_that_came_as_text():
    with gateway_of("settings-034", alike=False) as gateway:
        path = gateway.decode(gateway.call("open-ils.actor", method("settings-034"), 4).value)
    assert [unit.id for unit in path] == [1, 2, 4, 8]
    assert {unit.opac_visible for unit in path} == {True}
