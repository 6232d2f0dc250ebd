"""Search range by range: in pages, in smaller parts if a range takes too long, and again after a move."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from decimal import Decimal

import pytest
from support.fault_proxy import Call, Fault, FaultProxy, HttpAnswer
from support.gateway_time import GatewayTime
from support.gateways import gateway_of

from evergreen_groups.errors import DataError, TimedOutError
from evergreen_groups.gateway import Gateway, RetryPolicy
from evergreen_groups.groups import GroupRange, GroupSearch, HighFines, PatronRow, search
from evergreen_groups.groups.search import ChangedPatrons, GroupList
from evergreen_groups.sandbox import Sandbox

SLOW = 408, "Timeout Error : Request Timeout"
ONCE = RetryPolicy(tries=1)
QUERY = HighFines(Decimal("5.00"))


@pytest.fixture
def staff(proxy: FaultProxy) -> Iterator[Gateway]:
    with gateway_of(proxy.url, "consortium_staff", retries=ONCE) as gateway:
        yield gateway


def is_combined(call: Call) -> bool:
    return call.method == "open-ils.pcrud.search.au.atomic" and "-exists" in str(call.parameters)


def whole(gateway: Gateway) -> list[PatronRow]:
    """Return the result of a single answer."""
    return sorted(GroupSearch(gateway, QUERY).run(list))


@pytest.mark.parametrize("page", [1, 2, 5, 7])
def test_members_come_once_whatever_the_page(staff: Gateway, page: int) -> None:
    """Groups have up to six members: some span two pages, some end with a page."""
    expected = whole(staff)
    assert len(expected) > 20
    assert sorted(GroupSearch(staff, QUERY, page=page).run(list)) == expected


def test_what_is_made_of_them_gets_whole_groups(staff: Gateway) -> None:
    seen: list[int] = []

    def complete(rows: list[PatronRow]) -> list[int]:
        groups = list(dict.fromkeys(row.group for row in rows))
        seen.extend(groups)
        return groups

    found = GroupSearch(staff, QUERY, page=3).run(complete)  # type: ignore[arg-type]  # a list is a sequence
    assert found == seen
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("slow", [1, 3])
def test_parts_have_less_time_than_ranges(
    staff: Gateway,
    proxy: FaultProxy,
    slow: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
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
        assert sorted(GroupSearch(staff, QUERY).run(list)) == expected
    ranges = times.count(30.0)
    assert times == [30.0] * ranges + [15.0] * (len(times) - ranges) or slow == 3
    assert set(times) == {30.0, 15.0}
    assert "in 8 parts" in caplog.text


def test_each_part_that_takes_too_long_is_cut_again(staff: Gateway, proxy: FaultProxy) -> None:
    """Search the parts from the lowest up, so that members come in order of groups."""
    expected = whole(staff)
    proxy.refuse = lambda call: SLOW if is_combined(call) and _holds(call, 1003) and _width(call) > 1 else None
    found = GroupSearch(staff, QUERY).run(list)
    assert sorted(found) == expected
    groups = [row.group for row in found if row.group < 2_000]
    assert groups == sorted(groups)


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
    assert all(first.holds(part.high) for part in parts if part.high is not None)


def _edges(call: Call) -> GroupRange:
    conditions = [condition["usrgroup"] for condition in call.parameters[1]["-and"] if "usrgroup" in condition]
    lows = [condition[">"] for condition in conditions if ">" in condition]
    highs = [condition["<="] for condition in conditions if "<=" in condition]
    return GroupRange(lows[0] if lows else None, highs[0] if highs else None)


def _holds(call: Call, group: int) -> bool:
    return _edges(call).holds(group)


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
            GroupSearch(staff, QUERY).run(list)
        return
    found = GroupSearch(staff, QUERY).run(list)
    assert sorted(found) == expected
    giant = [row for row in found if row.group == 1001]
    assert giant == sorted(giant)
    assert len(giant) == 6


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
        GroupSearch(staff, QUERY).run(list)


def test_how_far_it_is_is_told(staff: Gateway) -> None:
    told: list[tuple[str, int, int]] = []
    finder = GroupSearch(staff, QUERY, lambda doing, done, of: told.append((doing, done, of)))
    highest = finder.highest_group()
    finder.run(list)
    assert {(doing, of) for doing, _done, of in told} == {("looking through group numbers", highest)}
    assert sorted(done for _doing, done, _of in told)[-1] == highest


@pytest.mark.parametrize(("orgs", "highest"), [((), 5_000), ((3,), 0), ((11,), 1_001)])
def test_the_highest_group(sandbox: Sandbox, staff: Gateway, orgs: tuple[int, ...], highest: int) -> None:
    with sandbox._store.transaction() as connection:
        connection.execute("UPDATE au SET usrgroup = 1001")
    sandbox._store.update("au", 1012, {"usrgroup": 5_000, "home_ou": 21})
    sandbox._store.update("au", 1013, {"usrgroup": 6_000, "home_ou": 21, "deleted": True})
    finder = GroupSearch(staff, HighFines(Decimal("5.00"), visible_orgs=orgs))
    assert finder.highest_group() == highest


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
            found = GroupSearch(staff, QUERY).run(complete)  # type: ignore[arg-type]  # a list is a sequence
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
        assert sorted(GroupSearch(staff, QUERY).run(list)) == expected
        assert sorted(asked) == [[1001, 1002], [1003, 1004], [1008]]

    def test_they_are_looked_for_among_those_the_account_sees(self, sandbox: Sandbox, proxy: FaultProxy) -> None:
        """Before 3.16, hidden patrons in between would end the answer too early."""
        asked: list[object] = []

        def watch(call: Call) -> None:
            if "last_update_time" in str(call.parameters):
                asked.extend(value for part in call.parameters[1]["-and"] for value in [part.get("home_ou")] if value)

        proxy.before_answer = watch
        with gateway_of(proxy.url, "harbor_desk") as gateway:
            GroupSearch(gateway, HighFines(Decimal("0.00"), visible_orgs={11})).run(list)
        assert asked == [[11]]

    def test_a_busy_day_is_no_error(self, staff: Gateway, changes: list[dict[int, int]]) -> None:
        expected = whole(staff)
        changes[:] = [{1012: 1008}] * 9
        assert sorted(GroupSearch(staff, QUERY).run(list)) == expected
        assert len(changes) == 5, "it is read again three times, and looked at once more"

    def test_somebody_in_two_groups_all_the_while_is_one(
        self, staff: Gateway, changes: list[dict[int, int]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(search, "groups_of_duplicates", lambda batches: {1001})
        with pytest.raises(DataError, match="moved from group") as told:
            GroupSearch(staff, QUERY).run(list)
        assert (told.value.code, told.value.advice) == ("groups-unsteady", "try again later")

    def test_parts_of_lists(self, staff: Gateway, proxy: FaultProxy, changes: list[dict[int, int]]) -> None:
        expected = whole(staff)
        changes[:] = [{1012: 1008, 2000: 1001}]
        proxy.refuse = lambda call: (
            SLOW if is_combined(call) and call.parameters[1]["-and"][0] == {"usrgroup": [1001, 1003, 1008]} else None
        )
        assert sorted(GroupSearch(staff, QUERY).run(list)) == expected
        assert GroupList((1001,)).holds(1001)
