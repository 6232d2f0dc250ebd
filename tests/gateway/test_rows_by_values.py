"""Rows by values: lists of limited length, in parallel."""

from itertools import count

import pytest
from support.pcrud_table import Table, patrons


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
    def test_rows_that_come_and_go_during_the_read(self, gateways):
        """Offsets would skip a row for each deleted one, so large answers are split by their values."""
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
        """Each group has three members, so a full page must be followed by another."""
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
