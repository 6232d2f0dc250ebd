"""Groups made of rows, decisions about members, and the rule for adults."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from support.debts import owe
from support.fault_proxy import Call, FaultProxy
from support.gateways import gateway_of

from evergreen_groups.gateway import Gateway
from evergreen_groups.groups import AdultRule, GroupReader, PatronAccount, family_reader
from evergreen_groups.groups.search import ChangedPatrons
from evergreen_groups.ils import Access, Limits, OrgUnits
from evergreen_groups.policy import Comparison, Limit, LimitRule
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import PolicySettings
from evergreen_groups.values import age_of

FINES = "open-ils.pcrud.search.mous.atomic"
MEMBERS = "open-ils.actor.usergroup.members.retrieve"
DESROSIERS, HARBOR = 1015, 11
NOUGHT = Limit(Decimal("0.00"), Comparison.REACHES)


@pytest.fixture
def staff(proxy: FaultProxy) -> Iterator[Gateway]:
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        yield gateway


def reader_of(gateway: Gateway, limits: Limits | None = None) -> GroupReader:
    org_units = OrgUnits.read(gateway)
    return GroupReader(gateway, org_units, Access.read(gateway, org_units), limits)


def over(reader: GroupReader) -> dict[int, bool | None]:
    group = reader.read_groups([DESROSIERS])[DESROSIERS]
    return {it.id: None if it.decision is None else it.decision.over_limit for it in group.members}


@pytest.fixture
def owing(sandbox: Sandbox) -> None:
    """One owes, one owes 0.00 on two that are open, one has nothing open."""
    owe(sandbox, 1051, (HARBOR, "6.00"))
    owe(sandbox, 1052, (HARBOR, "2.00"), (HARBOR, "-2.00"))
    owe(sandbox, 1053)


def test_who_is_a_juvenile_is_unknown_where_it_is_not_read(sandbox: Sandbox, staff: Gateway) -> None:
    sandbox._store.update("au", 1052, {"juvenile": "t"})
    accounts = family_reader(staff).by_ids([1051, 1052])
    assert {id: member.juvenile for id, member in accounts.members.items()} == {1051: False, 1052: True}
    assert {member.juvenile for member in reader_of(staff).read_groups([DESROSIERS])[DESROSIERS].members} == {None}


@pytest.mark.usefixtures("owing")
class TestDecisions:
    def test_without_limits_nobody_is_decided_about(self, staff: Gateway, proxy: FaultProxy) -> None:
        asked: list[object] = []
        proxy.before_answer = lambda call: asked.append(call.parameters[1]) if call.method == FINES else None
        reader = reader_of(staff)
        assert over(reader) == {1051: None, 1052: None, 1053: None}
        assert "<>" in str(asked), "only debtors are asked for"
        assert over(reader.with_limits(Limits.of(Limit()))) == {1051: True, 1052: False, 1053: False}

    @pytest.mark.parametrize(("limit", "all_of_them"), [(Limit(), False), (NOUGHT, True)])
    def test_who_owes_nothing_is_asked_for_where_it_matters(
        self, staff: Gateway, proxy: FaultProxy, limit: Limit, all_of_them: bool
    ) -> None:
        asked: list[object] = []
        proxy.before_answer = lambda call: asked.append(call.parameters[1]) if call.method == FINES else None
        found = over(reader_of(staff, Limits.of(limit)))
        assert found == {1051: True, 1052: all_of_them, 1053: False}
        assert ("<>" not in str(asked)) is all_of_them

    def test_each_by_their_own_limit(self, staff: Gateway, sandbox: Sandbox) -> None:
        sandbox._store.update("au", 1053, {"profile": 12})
        owe(sandbox, 1053, (HARBOR, "1.50"))
        settings = PolicySettings(limits=(LimitRule("Child", None, Decimal("1.00")),))
        limits = Limits.read(staff, settings, OrgUnits.read(staff))
        sandbox._store.update("au", 1051, {"profile": 11})
        sandbox._store.update("au", 1052, {"profile": 11})
        assert over(reader_of(staff, limits)) == {1051: True, 1052: False, 1053: True}


def test_whoever_sees_everybody_compares_with_nobody(staff: Gateway, proxy: FaultProxy) -> None:
    reader_of(staff).read_groups([DESROSIERS])
    assert MEMBERS not in proxy.seen
    with gateway_of(proxy.url, "harbor_desk") as gateway:
        reader_of(gateway).read_groups([1001])
    assert proxy.seen.count(MEMBERS) == 1


def test_deleted_members_are_none(staff: Gateway, sandbox: Sandbox) -> None:
    sandbox._store.update("au", 1053, {"deleted": "t"})
    reader = reader_of(staff)
    assert sorted(over(reader)) == [1051, 1052]
    assert sorted(reader.read_groups([DESROSIERS, DESROSIERS, 1001])) == [1001, DESROSIERS]


def test_changes_are_looked_for_thirty_minutes_back(staff: Gateway, proxy: FaultProxy, sandbox: Sandbox) -> None:
    """The clocks may differ. Who was told is told again only where they have moved on."""
    asked: list[str] = []

    def watch(call: Call) -> None:
        asked.extend(re.findall(r"'last_update_time': {'>=': '([^']+)'}", str(call.parameters)))

    proxy.before_answer = watch
    began = datetime.now(UTC)
    changed = ChangedPatrons(staff, {"deleted": "f"})
    took = datetime.now(UTC) - began
    now = began.strftime("%Y-%m-%dT%H:%M:%S+0000")
    assert changed.groups() == {}
    sandbox._store.update("au", 1052, {"last_update_time": now})
    assert changed.groups() == {1052: DESROSIERS}
    assert changed.groups() == {}
    sandbox._store.update("au", 1052, {"usrgroup": 1001, "last_update_time": now})
    assert changed.groups() == {1052: 1001}
    since = datetime.strptime(asked[0], "%Y-%m-%dT%H:%M:%S%z")
    assert timedelta(seconds=-2) <= since - (began - timedelta(minutes=30)) <= took + timedelta(seconds=2)


def account(born: date | None, *, juvenile: bool) -> PatronAccount:
    return PatronAccount(True, False, juvenile, False, None, born)


@pytest.mark.parametrize(
    ("born", "juvenile", "is_adult"),
    [
        (None, False, True),
        (None, True, False),
        (date(2008, 11, 26), True, True),  # the mark isn't taken off by itself
        (date(2008, 11, 27), False, False),
        (date(1970, 1, 1), False, True),
    ],
)
def test_a_birth_date_decides_and_without_one_the_mark(born: date | None, juvenile: bool, is_adult: bool) -> None:
    assert AdultRule(18, 1).is_adult(account(born, juvenile=juvenile), date(2026, 11, 26)) is is_adult


def test_who_was_born_on_a_leap_day_is_older_on_the_first_of_march() -> None:
    born = date(2008, 2, 29)
    assert [age_of(born, day) for day in (date(2026, 2, 28), date(2026, 3, 1))] == [17, 18]


def test_any_number_will_do_unless_somebody_has_said_otherwise() -> None:
    assert not AdultRule().applies
    assert AdultRule(most=1).applies
