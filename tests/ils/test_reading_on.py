"""What is read when: thresholds with the current session, decisions without extra calls, and cached data."""

from __future__ import annotations

from decimal import Decimal

import pytest
from support.circulators import make_stock_circulator, take_away
from support.debts import owe
from support.fault_proxy import FaultProxy
from support.gateways import gateway_of
from support.web_caller import Clock

from evergreen_groups.errors import PermissionDeniedError
from evergreen_groups.gateway import Gateway
from evergreen_groups.ils import RIGHTS_SECONDS, Limits, OrgUnits, ReferenceData, ResolvedLimit, decide_all
from evergreen_groups.ils.permissions import VIEW_THRESHOLDS
from evergreen_groups.ils.reference_data import SECONDS
from evergreen_groups.policy import Comparison, Limit, LimitRule
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import PolicySettings

HARBOR, ELM, ADULT = 11, 22, 11
RULES = PolicySettings(limits=(LimitRule("Child", None, Decimal("1.00")),))
ILS = PolicySettings(limit="ils")


@pytest.mark.apache(reason="it counts calls")
def test_thresholds_are_read_on_with_the_session_that_is_there(sandbox: Sandbox) -> None:
    with gateway_of(sandbox.url, "harbor_desk") as first, gateway_of(sandbox.url, "harbor_desk") as second:
        limits = Limits.read(first, ILS, OrgUnits.read(first))
        read_on = limits.with_gateway(second)
        calls = first.statistics.calls
        second.idl("pgpt")
        assert second.token
        before = second.statistics.calls
        assert read_on.limit_for(ADULT, HARBOR).limit.amount == Decimal("5.01")
        assert (first.statistics.calls, second.statistics.calls) == (calls, before + 1)
        assert limits.limit_for(ADULT, HARBOR).limit.amount == Decimal("5.01")
        assert first.statistics.calls == calls, "what one has read, the other knows"


def test_what_has_nothing_to_read_stays_as_it_is(admin: Gateway) -> None:
    limits = Limits.read(admin, RULES, OrgUnits.read(admin))
    assert limits.with_gateway(admin) is limits


def test_for_one_amount_nothing_is_read(admin: Gateway) -> None:
    org_units = OrgUnits.read(admin)
    before = admin.statistics.calls
    found = Limits.read(admin, PolicySettings(limit=Decimal("3.00")), org_units).limit_for(ADULT, HARBOR)
    assert (found.limit, found.limit.origin) == (Limit(Decimal("3.00")), "configuration")
    assert admin.statistics.calls == before


def test_thresholds_that_were_not_read_are_no_limit() -> None:
    with pytest.raises(ValueError, match="need the thresholds"):
        Limits(ILS).limit_for(ADULT, HARBOR)


@pytest.mark.parametrize("known", [True, False])
def test_penalties_that_are_known_are_not_asked_for(proxy: FaultProxy, known: bool) -> None:
    with gateway_of(proxy.url, "admin") as gateway:
        org_units = OrgUnits.read(gateway)
        penalties = {org_unit.id: 101 for org_unit in org_units} if known else None
        limits = Limits.read(gateway, ILS, org_units, penalties)
        assert limits.limit_for(ADULT, HARBOR).limit.amount == (None if known else Decimal("5.01"))
    assert any("value_for_all_orgs" in method for method in proxy.seen) is not known


def test_decisions_where_all_fines_count_need_no_call(admin: Gateway) -> None:
    limits = {1: ResolvedLimit(Limit(Decimal("0.00"), Comparison.REACHES)), 2: ResolvedLimit(Limit())}
    before = admin.statistics.calls
    found = decide_all(admin, limits, {2: Decimal("6.00")})
    assert admin.statistics.calls == before
    assert {id: decision.over_limit for id, decision in found.items()} == {1: False, 2: True}


def test_only_what_is_owed_within_the_scope_is_decided_about(sandbox: Sandbox, admin: Gateway) -> None:
    for patron in (1012, 1013):
        owe(sandbox, patron, (HARBOR, "6.00"), (ELM, "2.00"))
    limit = Limit(Decimal("5.00"))
    limits = {1012: ResolvedLimit(limit, frozenset({ELM})), 1013: ResolvedLimit(limit)}
    found = decide_all(admin, limits, {1012: Decimal("8.00"), 1013: Decimal("8.00")})
    assert {id: str(decision.counted_fines) for id, decision in found.items()} == {1012: "2.00", 1013: "8.00"}
    assert {id: decision.over_limit for id, decision in found.items()} == {1012: False, 1013: True}


class TestReferenceData:
    @pytest.mark.parametrize(("policy", "shared"), [(RULES, True), (ILS, False)])
    def test_rules_are_shared_and_thresholds_are_each_sessions(
        self, sandbox: Sandbox, clock: Clock, policy: PolicySettings, shared: bool
    ) -> None:
        data = ReferenceData(policy, clock=clock)
        with gateway_of(sandbox.url, "consortium_staff") as first, gateway_of(sandbox.url, "north_manager") as second:
            for gateway in (first, second):
                gateway.idl("aou", "pgt", "pgpt")
                assert gateway.token
            data.limits(first).limit_for(ADULT, ELM)
            calls = first.statistics.calls, second.statistics.calls
            data.limits(first).limit_for(ADULT, ELM)
            assert first.statistics.calls == calls[0], "it is remembered"
            data.limits(second)
            assert (second.statistics.calls == calls[1]) is shared
            clock.now += SECONDS + 1
            data.limits(first)
            assert first.statistics.calls > calls[0], "and read again in the end"

    def test_a_session_that_is_no_staffs_is_told_what_it_lacks(self, proxy: FaultProxy, clock: Clock) -> None:
        proxy.answer = lambda call: [] if call.method.removesuffix(".atomic").endswith(".pgt") else None
        with gateway_of(proxy.url, "harbor_desk") as gateway, pytest.raises(PermissionDeniedError) as refused:
            ReferenceData(ILS, clock=clock).profiles(gateway)
        assert str(refused.value) == (
            "the account can't see permission profiles; log in with a staff account, or grant STAFF_LOGIN"
        )

    def test_whose_session_it_is_and_where_it_sees_patrons(self, sandbox: Sandbox, clock: Clock) -> None:
        data = ReferenceData(ILS, clock=clock)
        with gateway_of(sandbox.url, "consortium_staff") as first, gateway_of(sandbox.url, "harbor_desk") as second:
            users = data.user(first), data.user(second)
            sees = data.rights(first).at("VIEW_USER"), data.rights(second).at("VIEW_USER")
            assert sees == ({unit.id for unit in data.org_units(first)}, {HARBOR})
            calls = first.statistics.calls, second.statistics.calls
            assert (data.user(first), data.user(second)) == users
            assert (data.rights(first).at("VIEW_USER"), data.rights(second).at("VIEW_USER")) == sees
            assert (first.statistics.calls, second.statistics.calls) == calls
        assert len(set(users)) == 2
        names = [sandbox._store.row("au", user)["usrname"] for user in users]
        assert names == ["consortium_staff", "harbor_desk"]

    def test_thresholds_follow_the_rights_of_the_session(self, sandbox: Sandbox, clock: Clock) -> None:
        data = ReferenceData(PolicySettings(), clock=clock)
        take_away(sandbox, VIEW_THRESHOLDS)
        with gateway_of(sandbox.url, "harbor_desk") as gateway:
            assert data.ils_limits(gateway).visible_limit_for(ADULT, HARBOR) is None
            make_stock_circulator(sandbox)
            clock.now += RIGHTS_SECONDS
            found = data.ils_limits(gateway).visible_limit_for(ADULT, HARBOR)
            assert found is not None
            assert found.limit.amount == Decimal("5.01")

    def test_what_is_cached_for_the_desk(self, sandbox: Sandbox) -> None:
        data = ReferenceData(ILS)
        with gateway_of(sandbox.url, "consortium_staff") as staff, gateway_of(sandbox.url, "harbor_desk") as desk:
            assert data.lacking(staff, HARBOR, None) is None
            assert data.lacking(desk, HARBOR, None) == "UPDATE_USER"
            assert data.lacking(staff, HARBOR, ADULT) is None
            take_away(sandbox, data.profiles(staff).permission(ADULT) or "")
            assert ReferenceData(ILS).lacking(staff, HARBOR, ADULT)
            assert ReferenceData(ILS).lacking(staff, HARBOR, None) is None
            assert not data.has_penalty_kinds(staff)
            data.penalty_kinds(staff)
            calls = staff.statistics.calls
            assert 1 in data.penalty_kinds(staff, [1])
            assert data.has_penalty_kinds(staff)
            assert staff.statistics.calls == calls

    def test_a_look_at_whose_session_it_is_does_not_prolong_it(self, proxy: FaultProxy) -> None:
        looks: list[list[object]] = []
        proxy.before_answer = lambda call: looks.append(call.parameters) if "session.retrieve" in call.method else None
        with gateway_of(proxy.url, "harbor_desk") as gateway:
            ReferenceData(ILS).user(gateway)
            assert looks == [[gateway.token, None, 1]]
