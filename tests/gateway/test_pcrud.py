"""pcrud: what it is asked, and answers that don't fit."""

from dataclasses import replace

import pytest
from support.gateway_server import TOKEN, results
from support.pcrud_table import Table, one_answer, patrons

from evergreen_groups.errors import DataError

TABLE = patrons([5001, 5002])


class TestSearch:
    def test_what_is_asked(self, gateways):
        gateway = gateways(one_answer([]))
        gateway.pcrud.search("au", {"usrgroup": 6001, "deleted": "f"})
        assert gateway.server.requests[0].osrf_method == "open-ils.pcrud.search.au.atomic"
        assert gateway.server.requests[0].params == [TOKEN, {"usrgroup": 6001, "deleted": "f"}, {"limit": 1000}]

    def test_every_option(self, gateways):
        gateway = gateways(one_answer([]))
        flesh = {"flesh": 1, "flesh_fields": {"au": ["card"]}, "join": {"ac": {}}}
        gateway.pcrud.search("au", {"id": 1}, select=("id", "card"), order_by="id", limit=5, offset=10, **flesh)
        assert gateway.server.requests[-1].params[2] == {
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
        gateway = gateways(one_answer([]))
        gateway.pcrud.search("au", {"id": 1}, order_by=given_order)
        assert gateway.server.requests[0].params[2]["order_by"] == sent

    @pytest.mark.parametrize("answer", ["x", {"a": 1}, [1], [{"__c": "ac", "__p": []}], [None]])
    def test_something_else_than_records(self, gateways, answer):
        with pytest.raises(DataError):
            gateways(one_answer(answer)).pcrud.search("au", {"id": 1})

    def test_more_rows_than_were_asked_for(self, gateways):
        gateway = gateways(one_answer([TABLE.wire(row, {}) for row in TABLE.rows]))
        assert len(gateway.pcrud.search("au", {"id": [5001, 5002]}, limit=2)) == 2
        with pytest.raises(DataError):
            gateway.pcrud.search("au", {"id": [5001, 5002]}, limit=1)

    def test_id_list(self, gateways):
        gateway = gateways(one_answer([5001, "5002"]))
        assert gateway.pcrud.id_list("au", {"usrgroup": 6001}, order_by="id", limit=10) == [5001, 5002]
        assert gateway.server.posts == ["open-ils.pcrud.id_list.au.atomic"]
        assert gateway.server.requests[0].params[2] == {"order_by": {"au": "id"}, "limit": 10}

    @pytest.mark.parametrize("answer", [21, "21"])
    def test_count(self, gateways, answer):
        gateway = gateways(one_answer(answer))
        assert gateway.pcrud.count("au", {"deleted": "f"}) == 21
        assert gateway.server.posts == ["open-ils.pcrud.count.au"]

    def test_answers_that_are_no_numbers(self, gateways):
        gateway = gateways(one_answer(["x"]))
        with pytest.raises(DataError):
            gateway.pcrud.id_list("au", {"id": 1})
        with pytest.raises(DataError):
            gateway.pcrud.count("au", {"id": 1})

    def test_the_key_is_always_selected(self, gateways):
        """Releases before 3.16 fetch each row again by its primary key (3.12/releases-019)."""
        nothing = one_answer([])

        def answer(line, request):
            (results("1") if ".count." in request.osrf_method else nothing)(line, request)

        gateway = gateways(answer)
        gateway.pcrud.search("au", {"id": 1}, select=["usrgroup"])
        gateway.pcrud.search_columns("pgpt", ["threshold"], {"id": 1})
        list(gateway.pcrud.columns_by_values("ac", ["usr"], "usr", [1]))
        list(gateway.pcrud.pages("au", select=["usrgroup"], key="usrname", concurrency=1))
        searches = [request for request in gateway.server.requests if "search" in request.osrf_method]
        selected = [request.params[2].get("select") for request in searches]
        assert [sorted(*select.values()) for select in selected] == [
            ["id", "usrgroup"],
            ["id", "threshold"],
            ["id", "usr"],
            ["id", "usrgroup", "usrname"],
        ]


class TestAnswersToOtherQuestions:
    """An answer to another question, or a repeated one, must not pass for the right one."""

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
        gateway = gateways(self.another(table))
        with pytest.raises(DataError, match="rows that don't match the search"):
            list(gateway.pcrud.by_values("au", field, [5001]))
        with pytest.raises(DataError, match="rows that don't match the search"):
            list(gateway.pcrud.columns_by_values("au", ("id", "usrgroup"), field, [5001]))

    def test_rows_beyond_the_range(self, gateways):
        with pytest.raises(DataError, match="rows that don't match the search"):
            list(gateways(self.another(patrons([1, 8000]))).pcrud.pages("au", low=0, high=7000, concurrency=1))

    def test_the_same_page_again(self, gateways):
        table, first = patrons(range(100)), []

        def answer(line, request):
            if request.method == "POST":
                first.append(request)
                request = first[0]
            table(line, request)

        with pytest.raises(DataError, match="rows that don't match the search"):
            list(gateways(answer).pcrud.pages("au", page_size=50, concurrency=1))

    def test_another_record_than_the_one_retrieved(self, gateways):
        with pytest.raises(DataError, match="rows that don't match the search"):
            gateways(one_answer({"__c": "ac", "__p": ["t", "2999", 7, 5001]})).pcrud.retrieve("ac", 8)
