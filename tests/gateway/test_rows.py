"""Rows: key ranges, page sizes, batches, and checks of every answer, also of recorded ones."""

import json
import threading
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.pcrud_table import Table, one_answer, patrons
from support.recorded import gateway_of, idl_of, is_call, method, named_exchanges, params, payload, release_of

from evergreen_groups.batches import batched_by_size
from evergreen_groups.errors import DataError
from evergreen_groups.gateway.call import dumps
from evergreen_groups.gateway.pcrud import NEVER_NULL, checked_values, encoded_length

IDL = idl_of()


def row(class_id: str, **values: Any) -> dict[str, Any]:
    """Build a complete row; fields that are never null are 1 unless given."""
    known = IDL[class_id]
    filled = [values.get(field.name, 1 if field.name in NEVER_NULL[class_id] else None) for field in known.fields]
    last = max(field.position for field in known.fields if not field.virtual)
    return {"__c": class_id, "__p": filled[: last + 1]}


def code_of(class_id: str, rows: list[Any], where: dict[str, Any], **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        checked_values(IDL[class_id], rows, where, **options)
    return str(caught.value.code)


def test_rows_that_fit() -> None:
    where = {"deleted": "f", "-and": [{"usrgroup": {">": 3}}, {"usrgroup": {"<=": 5}}, {"id": [7, "8"]}], "-or": [{}]}
    rows = [row("au", id=7, usrgroup=4, deleted="f"), row("au", id=8, usrgroup=5, deleted="f")]
    assert checked_values(IDL["au"], rows, where, limit=2) == [one["__p"] for one in rows]


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
    assert checked_values(IDL["au"], cut, {}, select=["id"])


@pytest.mark.parametrize("key", [True, {}, [7], 7.5])
def test_a_key_that_is_none(key: object) -> None:
    assert code_of("au", [row("au", id=key)], {}) == "row-without-key"


def test_the_same_row_twice() -> None:
    assert code_of("au", [row("au", id=7), row("au", id=8), row("au", id=7)], {}) == "row-twice"
    assert len(checked_values(IDL["au"], [row("au", id=7)] * 2, {}, joined=True)) == 2


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
    assert checked_values(IDL["au"], [row("au", id=7)], where)
    assert checked_values(IDL["mous"], [row("mous", balance_owed="0.00")], {"balance_owed": {"<>": 0}})
    assert IDL["csp"].field("label").translated
    assert checked_values(IDL["csp"], [row("csp", label="Amendes")], {"label": "Fines"})


@given(st.lists(st.integers() | st.text(max_size=30)), st.integers(1, 500), st.integers(1, 9))
def test_portions_keep_order_and_size(values, room, largest):
    cut = list(batched_by_size(iter(values), room, lambda value: encoded_length(value) + 1, lambda _count: largest))
    assert [value for batch in cut for value in batch] == values
    for batch in cut:
        assert 1 <= len(batch) <= largest
        assert len(batch) == 1 or sum(encoded_length(value) + 1 for value in batch) <= room


class TestPages:
    @pytest.mark.parametrize("concurrency", [1, 3])
    @pytest.mark.parametrize("number", [0, 1, 99, 100, 101, 1000])
    def test_every_row_once(self, gateways, number, concurrency):
        table = patrons(range(5000, 5000 + number * 7, 7))
        pages = list(gateways(table).pcrud.pages("au", page_size=100, concurrency=concurrency))
        assert all(pages)
        ids = [row.id for page in pages for row in page]
        assert (ids if concurrency == 1 else sorted(ids)) == [row["id"] for row in table.rows]

    def test_in_key_order_within_each_of_several(self, gateways):
        found = gateways(patrons(range(3000))).pcrud.pages("au", page_size=100, concurrency=3)
        pages = [[row.id for row in page] for page in found]
        for part in range(3):
            ids = [i for page in pages for i in page if i // 1000 == part]
            assert ids == sorted(ids)
        assert all(page == sorted(page) for page in pages)

    def test_bounds_and_condition(self, gateways):
        table = patrons(range(100))
        gateway = gateways(table)
        for concurrency in (1, 3):
            pages = gateway.pcrud.pages("au", {"usrgroup": [5, 6, 7]}, low=16, high=22, concurrency=concurrency)
            assert sorted(row.id for page in pages for row in page) == list(range(16, 23))
        for bounds, wanted in (({"low": 90}, range(90, 100)), ({"high": 9}, range(10)), ({"low": 200}, [])):
            pages = gateway.pcrud.pages("au", **bounds)
            assert sorted(row.id for page in pages for row in page) == list(wanted)

    def test_bounds_given_are_not_looked_up(self, gateways):
        table = patrons(range(100))
        gateway = gateways(table)
        list(gateway.pcrud.pages("au", low=0, high=99, concurrency=3))
        assert len(table.searches) == 3
        table.searches.clear()
        list(gateway.pcrud.pages("au", concurrency=3))
        assert sorted(options["limit"] for _, options in table.searches) == [1, 1, 1000, 1000, 1000]

    def test_fleshed_rows_begin_with_few(self, gateways):
        table = patrons(range(10))
        list(gateways(table).pcrud.pages("au", low=0, high=9, flesh=1, flesh_fields={"au": ["card"]}, concurrency=1))
        assert table.searches[0][1]["limit"] == 100
        assert table.searches[0][1]["flesh_fields"] == {"au": ["card"]}

    def test_stretches_are_under_way_side_by_side(self, gateways):
        arrived = threading.Barrier(3)
        table = patrons(range(300))

        def answer(line, request):
            if ".search." in request.osrf_method:
                arrived.wait(60)  # passes only if three requests arrive together
            table(line, request)

        assert sum(len(page) for page in gateways(answer).pcrud.pages("au", low=0, high=299, concurrency=3)) == 300

    def test_keys_that_are_no_numbers(self, gateways):
        gateway = gateways(one_answer([{"__c": "ac", "__p": ["t", "2000000000502b", 1, 1]}]))
        with pytest.raises(DataError, match="not an integer"):
            list(gateway.pcrud.pages("ac", key="barcode"))

    def test_unknown_key(self, gateways):
        with pytest.raises(AttributeError, match="nonesuch"):
            list(gateways(patrons([])).pcrud.pages("au", key="nonesuch", low=1, high=2))


class TestByValues:
    def test_all_rows(self, gateways):
        table = Table("mous", "usr", [{"usr": usr} for usr in range(5001, 12_000)])
        lists = list(gateways(table).pcrud.by_values("mous", "usr", range(5001, 13_000), select=["usr"]))
        assert [row.usr for rows in lists for row in rows] == list(range(5001, 12_000))
        assert len(table.searches) == 3
        assert all(len(where["usr"]) <= 3000 for where, _ in table.searches)

    def test_condition_selection_and_order(self, gateways):
        table = patrons(range(100))
        by_values = gateways(table).pcrud.by_values
        rows = list(by_values("au", "id", [3, 4, 50], where={"usrgroup": [1]}, select=["id"], order_by=["id"]))
        assert [row.id for row in rows[0]] == [3, 4]
        where, options = table.searches[0]
        assert where == {"-and": [{"usrgroup": [1]}, {"id": [3, 4, 50]}]}
        assert options["select"] == {"au": ["id"]}
        assert options["order_by"] == {"au": ["id"]}

    def test_no_values_no_request(self, gateways):
        table = patrons(range(100))
        assert list(gateways(table).pcrud.by_values("au", "id", [])) == []
        assert table.searches == []

    def test_long_values_make_short_lists(self, gateways):
        table = Table("mous", "usr", [])
        gateway = gateways(table)
        assert list(gateway.pcrud.by_values("mous", "usr", ("é%" * 20 + str(n) for n in range(1000)))) == []
        lengths = [len(request.body) for request in gateway.server.requests if request.method == "POST"]
        assert len(lengths) > 5
        assert max(lengths) < 32_000
        assert sorted(lengths)[1] > 30_000

    @pytest.mark.long
    def test_rows_that_come_and_go_during_the_read(self, gateways):
        """Offsets would skip a row for each deleted one, so large answers are split by their values."""
        table = patrons(range(30_000))
        table.rows = [{**row, "usrgroup": row["id"] // 30} for row in table.rows]
        gateway = gateways(table)
        calls = count()

        def answer(line, request):
            if request.method == "POST" and next(calls):
                table.rows = [row for row in table.rows if row["id"] not in range(3)]
            table(line, request)

        gateway.server.otherwise = answer
        lists = list(gateway.pcrud.by_values("au", "usrgroup", range(1000), select=["id", "usrgroup"]))
        found = [row.id for rows in lists for row in rows]
        assert set(found) >= set(range(3, 30_000))
        assert len(set(found)) == len(found)
        assert max(table.sizes) < 4_500_000

    @pytest.mark.long
    def test_one_value_with_more_rows_than_an_answer_takes(self, gateways):
        table = patrons(range(30_000))
        table.rows = [{**row, "usrgroup": 7} for row in table.rows]
        lists = list(gateways(table).pcrud.by_values("au", "usrgroup", [6, 7], select=["usrgroup"]))
        assert [row.id for rows in lists for row in rows] == list(range(30_000))

    def test_more_rows_than_values(self, gateways):
        """Each group has three members, so a full page must be followed by another."""
        table = patrons(range(9000))
        lists = list(gateways(table).pcrud.by_values("au", "usrgroup", range(3000), select=["id", "usrgroup"]))
        assert [row.id for rows in lists for row in rows] == list(range(9000))
        assert max(table.sizes) < 2_400_000

    def test_large_rows(self, gateways):
        table = patrons(range(2000), padding=900)
        lists = list(gateways(table).pcrud.by_values("au", "id", range(2000)))
        assert [row.id for rows in lists for row in rows] == list(range(2000))
        assert max(table.sizes) < 2_000_000

    def test_values_are_taken_as_they_are_needed(self, gateways):
        taken = count()
        values = (next(taken) for _ in range(100_000))
        table = Table("mous", "usr", [{"usr": usr} for usr in range(1000)])
        lists = gateways(table).pcrud.by_values("mous", "usr", values)
        next(lists)
        assert next(taken) <= 5 * 3000 + 5
        lists.close()


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


@pytest.mark.parametrize(("exchange_id", "found"), [("3.12/releases-044", 4), ("3.14/releases-044", 10)])
def test_hidden_rows_took_the_place_of_others_before_3_14(exchange_id, found):
    where = {"id": {">": 5000}, "deleted": "f"}
    assert len(ids_of(exchange_id, where, select=["id"], order_by="id", limit=10)) == found


@pytest.mark.parametrize(
    ("exchange_id", "ask", "found"),
    [
        ("pcrud-105", lambda pcrud: pcrud.retrieve("au", 4_999_999), None),
        ("pcrud-106", lambda pcrud: pcrud.retrieve("au", 5034), None),  # a hidden row
        ("pcrud-097", lambda pcrud: pcrud.count("au", {"usrgroup": 6010}), 1),  # without the hidden ones
        ("audit-020", lambda pcrud: pcrud.id_list("au", {"deleted": "f"})[:3], [5006, 5009, 5010]),
    ],
)
def test_other_reads(exchange_id, ask, found):
    with gateway_of(exchange_id, alike=exchange_id != "audit-020") as gateway:
        assert ask(gateway.pcrud) == found


def test_a_field_that_was_not_selected_is_nothing_even_fleshed():
    _token, where, options = params("pcrud-017")
    with gateway_of("pcrud-017", alike=False) as gateway:
        names = gateway.pcrud.search("au", where, select=["id", "family_name"], flesh=1, flesh_fields={"au": ["card"]})
    with gateway_of("pcrud-018", alike=False) as gateway:
        cards = gateway.pcrud.search("au", where, select=["id", "card"], flesh=1, flesh_fields=options["flesh_fields"])
    assert {row.card for row in names} == {None}
    assert [row.card and row.card.barcode for row in cards][:2] == [None, "20000000005025"]


def test_numbers_and_booleans_that_came_as_text():
    with gateway_of("settings-034", alike=False) as gateway:
        path = gateway.decode(gateway.call("open-ils.actor", method("settings-034"), 4).value)
    assert [unit.id for unit in path] == [1, 2, 4, 8]
    assert {unit.opac_visible for unit in path} == {True}
