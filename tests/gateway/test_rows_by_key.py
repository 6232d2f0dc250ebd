"""Rows by key: pages of limited size, ranges in parallel."""

import threading
from itertools import pairwise

import pytest
from support.gateway_server import says
from support.pcrud_table import Table, one_answer, patrons

from evergreen_groups.errors import DataError, ServerError


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
        """Rows of 20 kB: the first page is as requested, all others are near 1 MB."""
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
                arrived.wait(60)  # passes only if three requests arrive together
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
