"""The audit's questions as they were measured at a real Evergreen, by the id of each exchange."""

import json
from decimal import Decimal

import pytest
from support.recorded import params

from evergreen_groups.audit.queries import BlockQuery
from evergreen_groups.policy import Comparison, Limit


@pytest.mark.parametrize(
    ("exchange_id", "limit"),
    [("audit-005", Limit(Decimal(5))), ("audit-008", Limit(Decimal(10), Comparison.REACHES))],
)
def test_debtors_over_a_limit_are_found_by_the_query_that_was_measured(exchange_id, limit):
    _token, measured, _options = params(exchange_id)
    over = measured["-and"][2]
    del over["-or"][0]["id"]["in"]["where"]["+d"]["-and"]  # the range of ids of the invented patrons
    asked = BlockQuery(limit, limit, [1, 101], [1, 101]).not_blocked()
    assert json.dumps(asked["-and"][0]) == json.dumps(over)


@pytest.mark.parametrize(
    ("exchange_id", "place", "query"),
    [
        ("audit-012", 3, BlockQuery.not_blocked),
        ("audit-014", 2, BlockQuery.not_over),
        ("audit-015", 2, BlockQuery.by_staff),
    ],
)
def test_penalties_are_looked_up_in_a_list_that_is_a_filter(exchange_id, place, query):
    """The recorded ones leave out what has a stop date at all; otherwise they are the same."""
    _token, measured, _options = params(exchange_id)
    [listed, never] = measured["-and"][place]["-or"]
    asked = query(BlockQuery(Limit(Decimal(5)), Limit(Decimal(5)), [1, 101], [1, 101]))["-and"]
    [ours] = [one["-or"] for one in asked if "ausp" in json.dumps(one)]
    assert ours[1] == never == {"id": {"<": 0}}
    assert list(ours[0]["id"]) == list(listed["id"])
    [subquery], [recorded] = ours[0]["id"].values(), listed["id"].values()
    assert (subquery["select"], subquery["from"]) == (recorded["select"], recorded["from"])
