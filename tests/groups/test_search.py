"""The search for groups and its ranges."""

from __future__ import annotations

import gc
import logging
from collections.abc import Collection, Iterator
from decimal import Decimal
from itertools import chain, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.circulators import change_rows
from support.fault_proxy import Call, Fault, FaultProxy, HttpAnswer, alter_payloads
from support.gateway_time import GatewayTime
from support.gateways import gateway_of

from evergreen_groups.errors import DataError, TimedOutError
from evergreen_groups.gateway import Gateway, RetryPolicy
from evergreen_groups.groups import GroupSearch, IdRange, PatronRow, search
from evergreen_groups.groups.models import PATRON_FIELDS
from evergreen_groups.groups.search import (
    MAX_BATCH,
    ChangedPatrons,
    GroupList,
    batch_by_group,
    equal_ranges,
    groups_of_moved,
    parts_of,
)
from evergreen_groups.sandbox import Sandbox

SLOW = 408, "Timeout Error : Request Timeout"
ONCE = RetryPolicy(tries=1)
QUERY = search.HighFines(Decimal("5.00"))


def without(rows: list[PatronRow], groups: Collection[int]) -> list[PatronRow]:
    return [row for row in rows if row.group not in groups]


def holds(within: IdRange, number: int) -> bool:
    return (within.low is None or number > within.low) and (within.high is None or number <= within.high)


def test_what_was_read_is_not_gone_through_again() -> None:
    """A collection of 50,000 new records takes a tenth of the time of a report."""
    gc.unfreeze()
    try:
        with search.gc_paused():
            records = [[number] for number in range(50_000)]
            assert gc.get_count()[0] >= len(records)
        assert gc.isenabled()
        assert any(one is records for one in gc.get_objects(generation=2))
    finally:
        gc.freeze()


@pytest.fixture
def staff(proxy: FaultProxy) -> Iterator[Gateway]:
    with gateway_of(proxy.url, "consortium_staff", retries=ONCE) as gateway:
        yield gateway


def is_combined(call: Call) -> bool:
    return call.method == "open-ils.pcrud.search.au.atomic" and "-exists" in str(call.parameters)


def whole(gateway: Gateway) -> list[PatronRow]:
    """Return the result of a single answer."""
    return sorted(GroupSearch(gateway, QUERY).run(list, without))


@pytest.mark.parametrize(("page", "orgs", "members"), [*((page, (), 49) for page in (1, 2, 5, 7)), (12, (11,), 14)])
def test_members_come_once_whatever_the_page(
    staff: Gateway, page: int, orgs: tuple[int, ...], members: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Groups have up to six members: some span two pages, some end with a page. None is read again.

    The page of 12 ends after a group with a single member at the library.
    """
    query = search.HighFines(Decimal("5.00"), visible_orgs=orgs)
    expected = sorted(GroupSearch(staff, query).run(list, without))
    assert len(expected) == members
    with caplog.at_level(logging.INFO, "evergreen_groups.groups"):
        assert sorted(GroupSearch(staff, query, page=page).run(list, without)) == expected
    assert "again" not in caplog.text


def test_a_page_in_another_order_is_refused(staff: Gateway, proxy: FaultProxy) -> None:
    """Groups between its first and its last row would be left out, because the next page begins after the last."""
    alter_payloads(proxy, "open-ils.pcrud.search.au.atomic", lambda rows: rows[::-1] if len(rows) == 7 else rows)
    with pytest.raises(DataError, match="not in the requested order") as raised:
        GroupSearch(staff, QUERY, page=7).run(list, without)
    assert raised.value.code == "groups-in-another-order"


def test_what_follows_a_full_page_is_put_back(staff: Gateway) -> None:
    """A range that is far denser than expected would fill up memory."""
    finder = GroupSearch(staff, QUERY, page=7)
    rows, rest = finder._read_range(IdRange(None, 5_000), 30.0)
    assert 0 < len(rows) <= 7
    assert rest == [IdRange(rows[-1].group, 5_000)]


def test_what_is_made_of_them_gets_whole_groups(staff: Gateway) -> None:
    seen: list[int] = []

    def complete(rows: list[PatronRow]) -> list[int]:
        groups = list(dict.fromkeys(row.group for row in rows))
        seen.extend(groups)
        return groups

    found = GroupSearch(staff, QUERY, page=3).run(complete, without)  # type: ignore[arg-type]  # a list is a sequence
    assert found == seen
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("slow", [1, 3])
def test_parts_have_less_time_than_ranges(
    staff: Gateway, proxy: FaultProxy, slow: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = whole(staff)
    times: list[float] = []
    within = Gateway.within

    def timed(gateway: Gateway, seconds: float) -> Gateway:
        times.append(seconds)
        return within(gateway, seconds)

    monkeypatch.setattr(Gateway, "within", timed)
    left = iter(range(slow))
    proxy.refuse = lambda call: SLOW if is_combined(call) and next(left, None) is not None else None
    with caplog.at_level(logging.INFO, "evergreen_groups.groups"):
        assert sorted(GroupSearch(staff, QUERY).run(list, without)) == expected
    ranges = times.count(30.0)
    assert times == [30.0] * ranges + [15.0] * (len(times) - ranges) or slow == 3
    assert set(times) == {30.0, 15.0}
    assert "in 8 parts" in caplog.text


@pytest.mark.parametrize("slow", [SLOW, (200, SLOW[1])], ids=["a time-out", "nothing, as older gateways answer one"])
def test_each_part_that_takes_too_long_is_cut_again(staff: Gateway, proxy: FaultProxy, slow: tuple[int, str]) -> None:
    expected = whole(staff)
    proxy.refuse = lambda call: slow if is_combined(call) and _holds(call, 1003) and _width(call) > 1 else None
    found = GroupSearch(staff, QUERY).run(list, without)
    assert sorted(found) == expected


@pytest.mark.long
def test_what_the_gateway_does_not_end_the_client_does(
    staff: Gateway, proxy: FaultProxy, gateway_time: GatewayTime
) -> None:
    """The gateway written in Rust ignores ``timeout``, but the client asks for smaller parts anyway."""
    expected = whole(staff)
    asked: list[Call] = []

    def decide(call: Call) -> Fault:
        asked.extend([call] if is_combined(call) else [])
        return Fault.LATE_ANSWER if len(asked) == 1 else Fault.NONE

    proxy.decide, proxy.too_late = decide, gateway_time.pass_over
    with gateway_of(proxy.url, "consortium_staff", concurrency=1, retries=ONCE) as gateway:
        assert whole(gateway) == expected
    first, *parts = map(_edges, asked)
    assert len(parts) > 1
    assert all(holds(first, part.high) for part in parts if part.high is not None)


def _edges(call: Call) -> IdRange:
    conditions = [condition["usrgroup"] for condition in call.parameters[1]["-and"] if "usrgroup" in condition]
    lows = [condition[">"] for condition in conditions if ">" in condition]
    highs = [condition["<="] for condition in conditions if "<=" in condition]
    return IdRange(lows[0] if lows else None, highs[0] if highs else None)


def _holds(call: Call, group: int) -> bool:
    return holds(_edges(call), group)


def _width(call: Call) -> int:
    low, high = _edges(call)
    return 10**6 if low is None or high is None else high - low


@pytest.mark.parametrize(("giants", "fails"), [(2, False), (1, True)])
def test_so_many_groups_may_take_too_long(
    staff: Gateway, proxy: FaultProxy, giants: int, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Members are read without sums, each once, in order of groups and ids."""
    expected = whole(staff)
    monkeypatch.setattr(search, "_MAX_GIANTS", giants)
    proxy.refuse = lambda call: SLOW if is_combined(call) and (_holds(call, 1001) or _holds(call, 1008)) else None
    if fails:
        with pytest.raises(TimedOutError):
            GroupSearch(staff, QUERY).run(list, without)
        return
    found = GroupSearch(staff, QUERY).run(list, without)
    assert sorted(found) == expected
    giant = [row for row in found if row.group == 1001]
    assert giant == sorted(giant)
    assert len(giant) == 6


def test_groups_that_take_too_long_belong_to_the_libraries_too(staff: Gateway, proxy: FaultProxy) -> None:
    """A giant group is read with its members at other libraries, and only if it has some at the libraries."""
    groups = {row.group: {one.home_library for one in whole(staff) if one.group == row.group} for row in whole(staff)}
    home = min(groups[1001] - groups[1008])
    proxy.refuse = lambda call: SLOW if is_combined(call) and (_holds(call, 1001) or _holds(call, 1008)) else None
    found = GroupSearch(staff, search.HighFines(Decimal("5.00"), homes=(home,))).run(list, without)
    assert {row.group for row in found} == {group for group, homes in groups.items() if home in homes}
    assert len([row for row in found if row.group == 1001]) == 6


def test_named_groups_are_read_whatever_they_owe(staff: Gateway) -> None:
    assert GroupSearch(staff, QUERY).read([], list) == []
    found = GroupSearch(staff, QUERY).read([1008, 1001, 1020], list)
    assert found == sorted(found, key=lambda row: (row.group, row.id))
    assert {row.group for row in found} == {1001, 1008}
    assert len([row for row in found if row.group == 1001]) == 6


def test_an_answer_to_another_range_is_an_error(staff: Gateway, proxy: FaultProxy) -> None:
    """Each part of the range gets the answer to the whole range."""
    answers: list[HttpAnswer] = []

    def first(call: Call, answer: HttpAnswer) -> HttpAnswer | None:
        answers.extend([answer] if is_combined(call) else [])
        return answers[0] if is_combined(call) else None

    proxy.alter = first
    assert whole(staff)
    left = iter(range(1))
    proxy.refuse = lambda call: SLOW if is_combined(call) and next(left, None) is not None else None
    with pytest.raises(DataError):
        GroupSearch(staff, QUERY).run(list, without)


def test_how_far_it_is_is_told(staff: Gateway) -> None:
    told: list[tuple[str, int, int]] = []
    finder = GroupSearch(staff, QUERY, lambda doing, done, of: told.append((doing, done, of)))
    highest = finder.highest_group()
    finder.run(list, without)
    assert {(doing, of) for doing, _done, of in told} == {("reading groups", highest)}
    assert sorted(done for _doing, done, _of in told)[-1] == highest


@pytest.mark.parametrize(("orgs", "highest"), [((), 5_000), ((3,), 0), ((11,), 1_001)])
def test_the_highest_group(
    sandbox: Sandbox, staff: Gateway, proxy: FaultProxy, orgs: tuple[int, ...], highest: int
) -> None:
    change_rows(sandbox, "UPDATE au SET usrgroup = 1001")
    sandbox._store.update("au", 1012, {"usrgroup": 5_000, "home_ou": 21})
    sandbox._store.update("au", 1013, {"usrgroup": 6_000, "home_ou": 21, "deleted": True})
    finder = GroupSearch(staff, search.HighFines(Decimal("5.00"), visible_orgs=orgs))
    asked: dict[str, list[Any]] = {}
    proxy.before_answer = lambda call: asked.update({call.method: call.parameters})
    assert finder.highest_group() == highest
    assert asked["open-ils.pcrud.search.au.atomic"][2]["limit"] == 1


def test_few_patrons_are_read_with_one_call(staff: Gateway, proxy: FaultProxy) -> None:
    """Reading in parallel, by ranges of ids, would take two more calls to find the ends of the ranges."""
    calls: list[Call] = []
    proxy.before_answer = lambda call: calls.extend([call] if "search.au" in call.method else [])
    GroupSearch(staff, QUERY).read([1001], list)
    assert len(calls) == 1
    ChangedPatrons(staff, {"home_ou": 11}).groups()
    assert len(calls) == 2
    selected = [call.parameters[2]["select"]["au"] for call in calls]
    assert selected == [list(PATRON_FIELDS), ["id", "usrgroup"]]


class TestMoved:
    """Patrons whose records were changed while groups were read."""

    @pytest.fixture
    def changes(self, monkeypatch: pytest.MonkeyPatch) -> list[dict[int, int]]:
        """The changes that each successive look finds; later looks find none."""
        looks: list[dict[int, int]] = []
        monkeypatch.setattr(ChangedPatrons, "groups", lambda changed: looks.pop(0) if looks else {})
        return looks

    def test_their_groups_are_read_again_and_no_others(
        self, staff: Gateway, proxy: FaultProxy, changes: list[dict[int, int]], caplog: pytest.LogCaptureFixture
    ) -> None:
        expected = whole(staff)
        changes[:] = [{1012: 1008}]
        made: list[set[int]] = []

        def complete(rows: list[PatronRow]) -> list[PatronRow]:
            made.append({row.group for row in rows})
            return rows

        asked: list[object] = []
        proxy.before_answer = lambda call: asked.append(call.parameters[1]["-and"][0]) if is_combined(call) else None
        with caplog.at_level(logging.INFO, "evergreen_groups.groups"):
            found = GroupSearch(staff, QUERY).run(complete, without)  # type: ignore[arg-type]  # a list is a sequence
        assert sorted(found) == expected
        assert asked[-1] == {"usrgroup": [1003, 1008]}
        assert made[-1] == {1003, 1008}
        assert len(made) == 2, "what was made of the others stays"
        assert "reading 2 groups again" in caplog.text

    def test_many_groups_are_read_again_in_lists(
        self, staff: Gateway, proxy: FaultProxy, changes: list[dict[int, int]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(search, "_GROUPS_AT_ONCE", 2)
        expected = whole(staff)
        changes[:] = [{1012: 1008, 2000: 1001, 2001: 1002, 2002: 1004}]
        asked: list[list[int]] = []

        def watch(call: Call) -> None:
            first = call.parameters[1]["-and"][0].get("usrgroup") if is_combined(call) else None
            asked.extend([first] if isinstance(first, list) else [])

        proxy.before_answer = watch
        assert sorted(GroupSearch(staff, QUERY).run(list, without)) == expected
        assert sorted(asked) == [[1001, 1002], [1003, 1004], [1008]]

    def test_they_are_looked_for_among_those_the_account_sees(self, sandbox: Sandbox, proxy: FaultProxy) -> None:
        """Before 3.16, hidden patrons in between would end the answer too early."""
        asked: list[object] = []

        def watch(call: Call) -> None:
            if "last_update_time" in str(call.parameters):
                asked.append("'home_ou': [11]" in str(call.parameters))

        proxy.before_answer = watch
        with gateway_of(proxy.url, "harbor_desk") as gateway:
            GroupSearch(gateway, search.HighFines(Decimal("0.00"), visible_orgs={11})).run(list, without)
        assert asked == [True]

    def test_a_busy_day_is_no_error(self, staff: Gateway, changes: list[dict[int, int]]) -> None:
        expected = whole(staff)
        changes[:] = [{1012: 1008}] * 9
        assert sorted(GroupSearch(staff, QUERY).run(list, without)) == expected
        assert len(changes) == 6, "it is read again three times"

    def test_somebody_in_two_groups_all_the_while_is_one(
        self, staff: Gateway, changes: list[dict[int, int]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(search, "batch_by_group", lambda answers: [*answers, [row(1001, 1), row(1001, 2)]])
        with pytest.raises(DataError, match="kept moving between groups") as told:
            GroupSearch(staff, QUERY).run(list, without)
        assert (told.value.code, told.value.advice) == ("groups-unsteady", "try again later")

    def test_a_list_that_takes_too_long_is_read_without_sums(
        self, staff: Gateway, proxy: FaultProxy, changes: list[dict[int, int]]
    ) -> None:
        expected = whole(staff)
        changes[:] = [{1012: 1008, 2000: 1001}]
        proxy.refuse = lambda call: (
            SLOW if is_combined(call) and call.parameters[1]["-and"][0] == {"usrgroup": [1001, 1003, 1008]} else None
        )
        assert sorted(GroupSearch(staff, QUERY).run(list, without)) == expected


@given(st.lists(st.integers(0, 300_000)), st.integers(1, 40))
def test_every_number_is_in_one_range(sample: list[int], count: int) -> None:
    found = equal_ranges(sample, count)
    assert (found[0].high, found[-1].low) == (None, None)
    assert all(above.low == below.high for above, below in pairwise(found))
    assert len(found) <= max(1, min(count, len(sample) // 5))


def test_ranges_have_equal_shares_of_the_sample() -> None:
    """Numbers assigned long ago are sparse."""
    sample = [*range(0, 900_000, 30_000), *range(900_000, 900_060)]
    assert len(sample) == 90
    found = equal_ranges(reversed(sample), 9)
    assert len(found) == 9
    assert {sum(holds(within, number) for number in sample) for within in found[1:-1]} == {10}


class TestParts:
    @pytest.mark.parametrize(
        ("highest", "within", "parts"),
        [
            (0, (None, None), []),
            (1, (None, None), [(None, 0), (0, None)]),
            (-5, (None, None), []),
            (15, (None, None), [(None, 1), (1, 3), (3, 5), (5, 7), (7, 9), (9, 11), (11, 13), (13, None)]),
            (100, (10, 11), []),
            (100, (10, 12), [(10, 11), (11, 12)]),
            (100, (0, 8), [(number, number + 1) for number in range(8)]),
            (100, (0, 16), [(number, number + 2) for number in range(0, 16, 2)]),
            (100, (99, None), []),
            (100, (98, None), [(98, 99), (99, None)]),
        ],
    )
    def test_of_a_range(
        self, highest: int, within: tuple[int | None, int | None], parts: list[tuple[int | None, int | None]]
    ) -> None:
        assert list(parts_of(IdRange(*within), highest)) == [IdRange(*edges) for edges in parts]


@pytest.mark.parametrize(
    ("within", "conditions"),
    [
        (IdRange(None, None), []),
        (IdRange(2, None), [{"usrgroup": {">": 2}}]),
        (IdRange(None, 4), [{"usrgroup": {"<=": 4}}]),
        (IdRange(2, 4), [{"usrgroup": {">": 2}}, {"usrgroup": {"<=": 4}}]),
        (GroupList((1, 3)), [{"usrgroup": [1, 3]}]),
    ],
)
def test_conditions_on_group_numbers(within: IdRange | GroupList, conditions: list[object]) -> None:
    assert within.conditions() == conditions


def rows(*groups: tuple[int, int]) -> list[PatronRow]:
    """So many members of each group, one after the other."""
    numbers = [group for group, count in groups for _ in range(count)]
    return [PatronRow(id, group, 11, 1, None, False, *[None] * 8) for id, group in enumerate(numbers)]


class TestPortions:
    @pytest.mark.parametrize(
        ("sizes", "cut"),
        [
            ([], []),
            ([5], [[5]]),
            ([MAX_BATCH - 1, 1, 1], [[MAX_BATCH - 1, 1], [1]]),
            ([MAX_BATCH - 1, 2], [[MAX_BATCH - 1], [2]]),
            ([MAX_BATCH + 9, 1], [[MAX_BATCH + 9], [1]]),
            ([1, MAX_BATCH + 9], [[1], [MAX_BATCH + 9]]),
            ([3, 4, 5], [[3, 4, 5]]),
        ],
    )
    @pytest.mark.parametrize("batches", [1, 2])
    def test_groups_stay_whole(self, sizes: list[int], cut: list[list[int]], batches: int) -> None:
        groups = [rows((number, size)) for number, size in enumerate(sizes)]
        given_as = [list(chain.from_iterable(groups))] if batches == 1 else groups
        batches = list(batch_by_group(given_as))
        found = [[len(list(members)) for members in by_group(batch)] for batch in batches]
        assert found == cut
        assert list(chain.from_iterable(batches)) == list(chain.from_iterable(groups))


def by_group(batch: list[PatronRow]) -> list[list[PatronRow]]:
    numbers = dict.fromkeys(patron.group for patron in batch)
    return [[patron for patron in batch if patron.group == number] for number in numbers]


def row(id: int, group: int) -> PatronRow:
    return rows((group, 1))[0]._replace(id=id)


@pytest.mark.parametrize(
    ("changed", "groups"),
    [
        ({}, set()),
        ({1: 10}, set()),
        ({1: 20}, {10, 20}),
        ({9: 30}, {30}),
        ({1: 10, 2: 30}, {10, 30}),
        ({1: 20, 3: 10}, {10, 20}),
    ],
)
def test_who_was_changed_iselsewhere(changed: dict[int, int], groups: set[int]) -> None:
    assert groups_of_moved({1: 10, 2: 10, 3: 20}, changed) == groups


def test_who_was_found_twice(staff: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """The groups in which a patron was found are read again."""
    expected = whole(staff)
    twice = iter([[row(9001, 1001), row(9001, 1003)]])
    by_group = search.batch_by_group
    monkeypatch.setattr(search, "batch_by_group", lambda answers: [*by_group(answers), *twice])
    assert sorted(GroupSearch(staff, QUERY).run(list, without)) == expected
