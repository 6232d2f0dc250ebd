"""pcrud: what is asked, pages that stay small, lists that stay short, calls side by side."""

import json
import operator
import threading
from dataclasses import replace
from itertools import count, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.gateway_server import TOKEN, Server, connect, envelope, http, raw, results, says, session_server
from support.recorded import idl_bytes, idl_of

from evergreen_groups.errors import DataError, PermissionDeniedError, ServerError
from evergreen_groups.gateway import RetryPolicy
from evergreen_groups.gateway.paging import Page, PageSize, encoded_length, portions, stretches
from evergreen_groups.gateway.parallel import ordered_map
from evergreen_groups.gateway.rows import NEVER_NULL

IDL = idl_bytes()


class Table:
    """A class with rows, searched as pcrud does: conditions on one field each, order, limit, offset."""

    def __init__(self, class_id, key, rows, padding=0):
        self.class_id, self.key, self.rows, self.padding = class_id, key, rows, padding
        self.searches, self.sizes, self.lock = [], [], threading.Lock()
        self.position = {"au": {"id": 28, "usrgroup": 46}, "mous": {"usr": 3}}[class_id]

    def __call__(self, line, request):
        if request.method == "GET":
            raw(http(IDL))(line, request)
            return
        if request.osrf_method == "open-ils.pcrud.count.aou":  # is this a release that has it?
            results(1)(line, request)
            return
        assert request.osrf_method == f"open-ils.pcrud.search.{self.class_id}.atomic"
        assert len(request.body) < 32_000
        token, where, options = request.params
        assert token == TOKEN
        assert options["limit"] > 0
        found = self.rows
        for condition in where.get("-and", [where]):
            found = self.meeting(found, condition)
        found = sorted(found, key=lambda row: row[self.key])
        if "desc" in json.dumps(options["order_by"]):
            found = found[::-1]
        offset = options.get("offset", 0)
        body = envelope([self.wire(row, options) for row in found[offset : offset + options["limit"]]])
        with self.lock:
            self.searches.append((where, options))
            self.sizes.append(len(body))
        raw(http(body))(line, request)

    def meeting(self, rows, condition):
        [(field, test)] = condition.items()
        if isinstance(test, list):
            assert 0 < len(test) <= 3000
            wanted = set(test)
            return [row for row in rows if row[field] in wanted]
        [(sign, bound)] = test.items()
        compare = {">": operator.gt, ">=": operator.ge, "<=": operator.le, "<>": operator.ne}[sign]
        return [row for row in rows if compare(row[field], bound)]

    def wire(self, row, options):
        known = idl_of()[self.class_id]
        values = [1 if field.name in NEVER_NULL[self.class_id] else None for field in known.fields]
        values[known.field({"au": "suffix", "mous": "total_paid"}[self.class_id]).position] = "x" * self.padding
        for field, position in self.position.items():
            values[position] = row[field]
        selected = options.get("select", {}).get(self.class_id, known.positions)
        values = values[: max(known.positions[field] for field in selected) + 1]  # as real ones end (pcrud-001)
        return {"__c": self.class_id, "__p": values}


def patrons(ids, padding=0):
    return Table("au", "id", [{"id": patron, "usrgroup": patron // 3} for patron in ids], padding)


def one_answer(*payload):
    """Answer every call with these results, and the IDL."""
    return lambda line, request: (raw(http(IDL)) if request.method == "GET" else results(*payload))(line, request)


@pytest.fixture
def gateways():
    """Open gateways on servers; both are closed in the end."""
    opened = []

    def start(answers, **settings):
        server = Server(otherwise=answers)
        gateway = connect(server, token=TOKEN, **settings)
        opened.append((gateway, server))
        return gateway, server

    yield start
    for gateway, server in opened:
        gateway.close()
        server.__exit__()


class TestSearch:
    def test_what_is_asked(self, gateways):
        gateway, server = gateways(one_answer([]))
        gateway.pcrud.search("au", {"usrgroup": 6001, "deleted": "f"})
        assert server.requests[0].osrf_method == "open-ils.pcrud.search.au.atomic"
        assert server.requests[0].params == [TOKEN, {"usrgroup": 6001, "deleted": "f"}, {"limit": 1000}]

    def test_every_option(self, gateways):
        gateway, server = gateways(one_answer([]))
        flesh = {"flesh": 1, "flesh_fields": {"au": ["card"]}, "join": {"ac": {}}}
        gateway.pcrud.search("au", {"id": 1}, select=("id", "card"), order_by="id", limit=5, offset=10, **flesh)
        assert server.requests[-1].params[2] == {
            "select": {"au": ["id", "card"]}, "order_by": {"au": "id"}, "limit": 5, "offset": 10, **flesh,
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("given_order", "sent"),
        [
            ("id", {"au": "id"}),
            (["home_ou", "id"], {"au": ["home_ou", "id"]}),
            ({"au": {"id": {"direction": "desc"}}}, {"au": {"id": {"direction": "desc"}}}),
            ([{"class": "au", "field": "id"}], [{"class": "au", "field": "id"}]),
        ],
    )
    def test_orders(self, gateways, given_order, sent):
        gateway, server = gateways(one_answer([]))
        gateway.pcrud.search("au", {"id": 1}, order_by=given_order)
        assert server.requests[0].params[2]["order_by"] == sent

    def test_records(self, gateways):
        gateway, _ = gateways(one_answer([{"__c": "mous", "__p": ["4.50", "4.50", "0.0", 5001]}]))
        [row] = gateway.pcrud.search("mous", {"usr": 5001})
        assert (row.usr, str(row.balance_owed), str(row.total_paid)) == (5001, "4.50", "0.00")

    @pytest.mark.parametrize("answer", ["x", {"a": 1}, [1], [{"__c": "ac", "__p": []}], [None]])
    def test_something_else_than_records(self, gateways, answer):
        gateway, _ = gateways(one_answer(answer))
        with pytest.raises(DataError):
            gateway.pcrud.search("au", {"id": 1})

    def test_retrieve(self, gateways):
        gateway, server = gateways(one_answer({"__c": "ac", "__p": ["t", "2999", 7, 5001]}))
        assert gateway.pcrud.retrieve("ac", 7).barcode == "2999"
        assert server.posts == ["open-ils.pcrud.retrieve.ac"]
        assert server.requests[0].params == [TOKEN, 7]

    def test_retrieve_nothing(self, gateways):
        gateway, _ = gateways(one_answer())
        assert gateway.pcrud.retrieve("ac", 7) is None

    def test_id_list(self, gateways):
        gateway, server = gateways(one_answer([5001, "5002"]))
        assert gateway.pcrud.id_list("au", {"usrgroup": 6001}, order_by="id", limit=10) == [5001, 5002]
        assert server.posts == ["open-ils.pcrud.id_list.au.atomic"]
        assert server.requests[0].params[2] == {"order_by": {"au": "id"}, "limit": 10}

    @pytest.mark.parametrize("answer", [21, "21"])
    def test_count(self, gateways, answer):
        gateway, server = gateways(one_answer(answer))
        assert gateway.pcrud.count("au", {"deleted": "f"}) == 21
        assert server.posts == ["open-ils.pcrud.count.au"]

    def test_answers_that_are_no_numbers(self, gateways):
        gateway, _ = gateways(one_answer(["x"]))
        with pytest.raises(DataError):
            gateway.pcrud.id_list("au", {"id": 1})
        with pytest.raises(DataError):
            gateway.pcrud.count("au", {"id": 1})

    def test_a_refused_query(self, gateways):
        died = says(500, "osrfMethodException : Severe query error -- see error log")
        gateway, server = gateways(died, retries=RetryPolicy(tries=2, first_delay=0.001))
        with pytest.raises(ServerError, match="status 500, osrfMethodException"):
            gateway.pcrud.search("au", {"nonesuch": 1})
        assert len(server.requests) == 2  # it might have died of something that passes

    def test_the_key_is_always_selected(self, gateways):
        """Releases before 3.16 fetch each row again by it (3.12/releases-019)."""
        nothing = one_answer([])

        def answer(line, request):
            (results("1") if ".count." in request.osrf_method else nothing)(line, request)

        gateway, server = gateways(answer)
        gateway.pcrud.search("au", {"id": 1}, select=["usrgroup"])
        gateway.pcrud.search_columns("pgpt", ["threshold"], {"id": 1})
        list(gateway.pcrud.columns_by_values("ac", ["usr"], "usr", [1]))
        list(gateway.pcrud.pages("au", select=["usrgroup"], key="usrname", concurrency=1))
        selected = [request.params[2].get("select") for request in server.requests if "search" in request.osrf_method]
        assert [sorted(*select.values()) for select in selected] == [
            ["id", "usrgroup"],
            ["id", "threshold"],
            ["id", "usr"],
            ["id", "usrgroup", "usrname"],
        ]


class TestAnswersToOtherQuestions:
    """A proxy that mixes up answers, or an answer that came twice, must not pass for what was asked for."""

    @staticmethod
    def another(table):
        def answer(line, request):
            if request.method == "POST":
                request = replace(request, body=request.body.replace(b"5001", b"5002").replace(b"7000", b"9999"))
            table(line, request)

        return answer

    @pytest.mark.parametrize("field", ["id", "usrgroup"])
    def test_rows_of_other_values(self, gateways, field):
        table = Table("au", "id", [{"id": number, "usrgroup": number} for number in (5001, 5002)])
        gateway, _ = gateways(self.another(table))
        with pytest.raises(DataError, match="not asked for"):
            list(gateway.pcrud.by_values("au", field, [5001]))
        with pytest.raises(DataError, match="not asked for"):
            list(gateway.pcrud.columns_by_values("au", ("id", "usrgroup"), field, [5001]))

    def test_rows_beyond_the_range(self, gateways):
        gateway, _ = gateways(self.another(patrons([1, 8000])))
        with pytest.raises(DataError, match="not asked for"):
            list(gateway.pcrud.pages("au", low=0, high=7000, concurrency=1))

    def test_the_same_page_again(self, gateways):
        table, first = patrons(range(100)), []

        def answer(line, request):
            if request.method == "POST":
                first.append(request)
                request = first[0]
            table(line, request)

        gateway, _ = gateways(answer)
        with pytest.raises(DataError, match="not asked for"):
            list(gateway.pcrud.pages("au", page_size=50, concurrency=1))

    def test_another_record_than_the_one_retrieved(self, gateways):
        gateway, _ = gateways(one_answer({"__c": "ac", "__p": ["t", "2999", 7, 5001]}))
        with pytest.raises(DataError, match="not asked for"):
            gateway.pcrud.retrieve("ac", 8)


class TestPages:
    @pytest.mark.parametrize("concurrency", [1, 3])
    @pytest.mark.parametrize("number", [0, 1, 99, 100, 101, 1000])
    def test_every_row_once(self, gateways, number, concurrency):
        table = patrons(range(5000, 5000 + number * 7, 7))
        gateway, _ = gateways(table)
        pages = list(gateway.pcrud.pages("au", page_size=100, concurrency=concurrency))
        assert all(pages)
        assert sorted(row.id for page in pages for row in page) == [row["id"] for row in table.rows]

    def test_in_key_order_with_one_stretch(self, gateways):
        gateway, _ = gateways(patrons(range(1000)))
        ids = [row.id for page in gateway.pcrud.pages("au", page_size=100, concurrency=1) for row in page]
        assert ids == list(range(1000))

    def test_in_key_order_within_each_of_several(self, gateways):
        gateway, _ = gateways(patrons(range(3000)))
        pages = [[row.id for row in page] for page in gateway.pcrud.pages("au", page_size=100, concurrency=3)]
        for part in range(3):
            ids = [i for page in pages for i in page if i // 1000 == part]
            assert ids == sorted(ids)
        assert all(page == sorted(page) for page in pages)

    def test_bounds_and_condition(self, gateways):
        table = patrons(range(100))
        gateway, _ = gateways(table)
        for concurrency in (1, 3):
            pages = gateway.pcrud.pages("au", {"usrgroup": [5, 6, 7]}, low=16, high=22, concurrency=concurrency)
            assert sorted(row.id for page in pages for row in page) == list(range(16, 23))

    def test_one_bound(self, gateways):
        gateway, _ = gateways(patrons(range(100)))
        for bounds, wanted in (({"low": 90}, range(90, 100)), ({"high": 9}, range(10)), ({"low": 200}, [])):
            pages = gateway.pcrud.pages("au", **bounds)
            assert sorted(row.id for page in pages for row in page) == list(wanted)

    def test_bounds_given_are_not_looked_up(self, gateways):
        table = patrons(range(100))
        gateway, _ = gateways(table)
        list(gateway.pcrud.pages("au", low=0, high=99, concurrency=3))
        assert len(table.searches) == 3
        table.searches.clear()
        list(gateway.pcrud.pages("au", concurrency=3))
        assert sorted(options["limit"] for _, options in table.searches) == [1, 1, 1000, 1000, 1000]

    def test_the_key_is_always_selected(self, gateways):
        table = patrons(range(10))
        gateway, _ = gateways(table)
        list(gateway.pcrud.pages("au", select=["usrgroup"], concurrency=1))
        assert table.searches[0][1]["select"] == {"au": ["usrgroup", "id"]}

    def test_no_offset(self, gateways):
        table = patrons(range(1000))
        gateway, _ = gateways(table)
        list(gateway.pcrud.pages("au", page_size=50))
        assert not any("offset" in options for _, options in table.searches)

    def test_large_rows_make_small_pages(self, gateways):
        """Rows of 20 kB: the first page is as asked for, all others near 1 MB."""
        table = patrons(range(600), padding=20_000)
        gateway, _ = gateways(table)
        rows = sum(len(page) for page in gateway.pcrud.pages("au", page_size=90, concurrency=1))
        assert rows == 600
        assert max(table.sizes) < 2_000_000
        assert max(table.sizes[1:]) < 1_100_000

    @pytest.mark.long
    def test_small_rows_make_large_pages(self, gateways):
        table = Table("mous", "usr", [{"usr": usr} for usr in range(20_000)])
        gateway, _ = gateways(table)
        list(gateway.pcrud.pages("mous", key="usr", page_size=500, concurrency=1))
        limits = [options["limit"] for _, options in table.searches]
        assert limits[0] == 500
        assert max(limits) == 5000
        assert all(after <= 4 * before for before, after in pairwise(limits))
        assert len(limits) < 10

    def test_fleshed_rows_begin_with_few(self, gateways):
        table = patrons(range(10))
        gateway, _ = gateways(table)
        list(gateway.pcrud.pages("au", low=0, high=9, flesh=1, flesh_fields={"au": ["card"]}, concurrency=1))
        assert table.searches[0][1]["limit"] == 100
        assert table.searches[0][1]["flesh_fields"] == {"au": ["card"]}

    def test_stretches_are_under_way_side_by_side(self, gateways):
        arrived = threading.Barrier(3)
        table = patrons(range(300))

        def answer(line, request):
            if ".search." in request.osrf_method:
                arrived.wait(60)  # passes only when three requests are here at once
            table(line, request)

        gateway, _ = gateways(answer)
        assert sum(len(page) for page in gateway.pcrud.pages("au", low=0, high=299, concurrency=3)) == 300

    def test_a_failure_is_raised(self, gateways):
        table = patrons(range(1000))

        def answer(line, request):
            if request.method == "POST" and len(table.searches) >= 5:
                says(500)(line, request)
            else:
                table(line, request)

        gateway, _ = gateways(answer)
        with pytest.raises(ServerError):
            list(gateway.pcrud.pages("au", page_size=50))

    def test_keys_that_are_no_numbers(self, gateways):
        gateway, _ = gateways(one_answer([{"__c": "ac", "__p": ["t", "2000000000502b", 1, 1]}]))
        with pytest.raises(DataError, match="whole number"):
            list(gateway.pcrud.pages("ac", key="barcode"))

    def test_unknown_key(self, gateways):
        gateway, _ = gateways(patrons([]))
        with pytest.raises(AttributeError, match="nonesuch"):
            list(gateway.pcrud.pages("au", key="nonesuch", low=1, high=2))

    @given(st.integers(-1000, 1000), st.integers(0, 1000), st.integers(1, 9))
    def test_stretches_cover_all_keys_once(self, low, length, parts):
        cut = stretches(low, low + length, parts)
        assert 1 <= len(cut) <= parts
        keys = [key for part in cut for key in range(part.after + 1, part.high + 1)]
        assert keys == list(range(low, low + length + 1))
        sizes = [part.high - part.after for part in cut]
        assert max(sizes) - min(sizes) <= 1

    @given(st.lists(st.tuples(st.integers(0, 3000), st.integers(2, 10_000_000)), max_size=30), st.integers(1, 3000))
    def test_page_sizes_stay_in_bounds(self, answers, first):
        size = PageSize(first)
        for rows, length in answers:
            before = size.rows
            size.learn(Page([None] * rows, length))
            assert 10 <= size.rows <= max(first, 5000) or size.rows == first
            if rows:
                assert size.rows * length / rows <= 1024**2 or size.rows == 10
                assert size.rows <= max(before, 4 * rows, 10)


class TestByValues:
    def test_all_rows(self, gateways):
        table = Table("mous", "usr", [{"usr": usr} for usr in range(5001, 12_000)])
        gateway, _ = gateways(table)
        lists = list(gateway.pcrud.by_values("mous", "usr", range(5001, 13_000)))
        assert [row.usr for rows in lists for row in rows] == list(range(5001, 12_000))
        assert len(table.searches) == 3
        assert all(len(where["usr"]) <= 3000 for where, _ in table.searches)

    def test_condition_selection_and_order(self, gateways):
        table = patrons(range(100))
        gateway, _ = gateways(table)
        by_values = gateway.pcrud.by_values
        rows = list(by_values("au", "id", [3, 4, 50], where={"usrgroup": [1]}, select=["id"], order_by=["id"]))
        assert [row.id for row in rows[0]] == [3, 4]
        where, options = table.searches[0]
        assert where == {"-and": [{"usrgroup": [1]}, {"id": [3, 4, 50]}]}
        assert options["select"] == {"au": ["id"]}
        assert options["order_by"] == {"au": ["id"]}

    def test_no_values_no_request(self, gateways):
        table = patrons(range(100))
        gateway, _ = gateways(table)
        assert list(gateway.pcrud.by_values("au", "id", [])) == []
        assert table.searches == []

    def test_long_values_make_short_lists(self, gateways):
        table = Table("mous", "usr", [])
        gateway, server = gateways(table)
        assert list(gateway.pcrud.by_values("mous", "usr", ("é%" * 20 + str(n) for n in range(1000)))) == []
        lengths = [len(request.body) for request in server.requests if request.method == "POST"]
        assert len(lengths) > 5
        assert max(lengths) < 32_000
        assert sorted(lengths)[1] > 30_000

    @pytest.mark.long
    def test_rows_that_come_and_go_meanwhile(self, gateways):
        """Offsets would skip a row for each one before that goes; so large answers are cut by their values."""
        table = patrons(range(30_000))
        table.rows = [{**row, "usrgroup": row["id"] // 30} for row in table.rows]
        gateway, server = gateways(table)
        calls = count()

        def answer(line, request):
            if request.method == "POST" and next(calls):
                table.rows = [row for row in table.rows if row["id"] not in range(3)]
            table(line, request)

        server.otherwise = answer
        lists = list(gateway.pcrud.by_values("au", "usrgroup", range(1000), select=["id", "usrgroup"]))
        found = [row.id for rows in lists for row in rows]
        assert set(found) >= set(range(3, 30_000))
        assert len(set(found)) == len(found)
        assert not [options for _, options in table.searches if "offset" in options]
        assert max(table.sizes) < 4_500_000

    @pytest.mark.long
    def test_one_value_with_more_rows_than_an_answer_takes(self, gateways):
        table = patrons(range(30_000))
        table.rows = [{**row, "usrgroup": 7} for row in table.rows]
        gateway, _ = gateways(table)
        lists = list(gateway.pcrud.by_values("au", "usrgroup", [6, 7], select=["usrgroup"]))
        assert [row.id for rows in lists for row in rows] == list(range(30_000))
        assert not [options for _, options in table.searches if "offset" in options]

    def test_more_rows_than_values(self, gateways):
        """Each group has three members, so a full page has to be followed by another."""
        table = patrons(range(9000))
        gateway, _ = gateways(table)
        lists = list(gateway.pcrud.by_values("au", "usrgroup", range(3000), select=["id", "usrgroup"]))
        assert [row.id for rows in lists for row in rows] == list(range(9000))
        assert max(table.sizes) < 2_400_000

    def test_large_rows(self, gateways):
        table = patrons(range(2000), padding=900)
        gateway, _ = gateways(table)
        lists = list(gateway.pcrud.by_values("au", "id", range(2000)))
        assert [row.id for rows in lists for row in rows] == list(range(2000))
        assert max(table.sizes) < 2_000_000

    def test_values_are_taken_as_they_are_needed(self, gateways):
        gateway, _ = gateways(Table("mous", "usr", [{"usr": usr} for usr in range(1000)]))
        taken = count()
        values = (next(taken) for _ in range(100_000))
        lists = gateway.pcrud.by_values("mous", "usr", values)
        next(lists)
        assert next(taken) <= 5 * 3000 + 5
        lists.close()

    @given(st.lists(st.integers() | st.text(max_size=30)), st.integers(1, 500), st.integers(1, 9))
    def test_portions_keep_order_and_size(self, values, room, largest):
        cut = list(portions(iter(values), room, lambda _count: largest))
        assert [value for portion in cut for value in portion] == values
        for portion in cut:
            assert 1 <= len(portion) <= largest
            assert len(portion) == 1 or sum(encoded_length(value) + 1 for value in portion) <= room


class TestMap:
    @pytest.mark.parametrize("concurrency", [1, 3])
    @given(st.lists(st.integers(), max_size=30))
    @settings(max_examples=30, deadline=None)
    def test_values_in_order(self, concurrency, items):
        assert list(ordered_map(lambda item: item * 2, items, concurrency)) == [item * 2 for item in items]

    def test_side_by_side(self):
        barrier = threading.Barrier(3)
        assert list(ordered_map(lambda item: barrier.wait(60) >= 0, range(6), 3)) == [True] * 6

    def test_items_are_taken_as_they_are_needed(self):
        taken = []
        source = (taken.append(item) or item for item in count())
        values = ordered_map(lambda item: item, source, 3)
        assert [next(values) for _ in range(5)] == [0, 1, 2, 3, 4]
        assert len(taken) <= 8
        values.close()

    @pytest.mark.parametrize("concurrency", [1, 3])
    def test_the_first_exception_ends_it(self, concurrency):
        begun = []

        def work(item):
            begun.append(item)
            if item == 5:
                raise PermissionDeniedError("no", textcode="PERM_FAILURE")
            return item

        values = ordered_map(work, count(), concurrency)
        got = [next(values) for _ in range(5)]
        with pytest.raises(PermissionDeniedError):
            next(values)
        assert got == [0, 1, 2, 3, 4]
        assert max(begun) <= 5 + concurrency
        with pytest.raises(StopIteration):
            next(values)

    def test_an_exception_of_the_items_ends_it(self):
        def items():
            yield 1
            raise ZeroDivisionError

        values = ordered_map(lambda item: item, items(), 3)
        with pytest.raises(ZeroDivisionError):
            list(values)

    def test_calls_of_a_gateway(self, gateways):
        gateway, server = gateways(
            session_server(lambda line, request: results(request.params[0] * 2)(line, request)), concurrency=4
        )
        values = gateway.map(lambda number: gateway.call("a", "a.double", number).value, range(50))
        assert list(values) == [number * 2 for number in range(50)]
        assert len(set(server.connections)) <= 4
