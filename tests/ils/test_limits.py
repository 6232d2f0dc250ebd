"""Limits by rules, by the ILS's thresholds, and for patrons who owe nothing."""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal

import pytest
from support.circulators import change_rows, take_away
from support.gateways import gateway_of

from evergreen_groups.errors import ConfigurationError, PermissionDeniedError
from evergreen_groups.gateway import Gateway
from evergreen_groups.ils import Limits, OrgUnit, OrgUnits, ResolvedLimit
from evergreen_groups.policy import Comparison, Limit, LimitRule
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import PolicySettings

OVERRIDE = "circ.custom_penalty_override.PATRON_EXCEEDS_FINES"
ILS = PolicySettings(limit="ils")
STOCK, OWN = 1, 101
HARBOR, MILL, ELM = 11, 21, 22
ADULT, CHILD = 11, 12


def read_limits(gateway: Gateway, policy: PolicySettings) -> Limits:
    return Limits.read(gateway, policy, OrgUnits.read(gateway))


def insert_threshold(sandbox: Sandbox, org_unit: int, profile: int, amount: str, penalty: int = STOCK) -> None:
    values = {"org_unit": org_unit, "grp": profile, "threshold": amount, "penalty": penalty}
    sandbox._store.insert("pgpt", values)


@pytest.mark.apache(reason="it counts calls")
def test_the_threshold_and_where_it_is_from(sandbox: Sandbox) -> None:
    insert_threshold(sandbox, 3, CHILD, "2.00")
    with gateway_of(sandbox.url, "consortium_staff") as gateway:
        gateway.idl("aou", "pgt", "pgpt")
        org_units = OrgUnits.read(gateway)
        before = gateway.statistics.calls
        limits = Limits.read(gateway, ILS, org_units)
        child, adult = limits.limit_for(CHILD, MILL), limits.limit_for(ADULT, MILL)
        assert gateway.statistics.calls - before == 6
    assert child.limit == Limit(Decimal("2.00"), Comparison.REACHES)
    assert child.limit.origin == "Evergreen: threshold of Child at VALLEY"
    assert child.scope == {1, 3, 21, 22, 23}
    assert adult.limit == Limit(Decimal("5.01"), Comparison.REACHES)
    assert (adult.limit.origin, adult.scope) == ("Evergreen: threshold of Users at LAKELAND", None)


def test_no_threshold_is_no_limit(sandbox: Sandbox, admin: Gateway) -> None:
    change_rows(sandbox, "DELETE FROM pgpt WHERE penalty = 1")
    found = read_limits(admin, ILS).limit_for(ADULT, HARBOR)
    assert (found.limit.amount, found.limit.origin) == (None, "Evergreen: no threshold")
    assert not found.decide(Decimal("900.00")).over_limit


def test_a_library_with_its_own_penalty(sandbox: Sandbox, admin: Gateway) -> None:
    sandbox._store.insert("aous", {"name": OVERRIDE, "org_unit": 2, "value": f'"{OWN}"'})
    assert read_limits(admin, ILS).limit_for(ADULT, HARBOR).limit.amount is None
    assert read_limits(admin, ILS).limit_for(ADULT, MILL).limit.amount == Decimal("5.01")
    insert_threshold(sandbox, 2, 1, "9.00", penalty=OWN)
    assert read_limits(admin, ILS).limit_for(ADULT, HARBOR).limit.amount == Decimal("9.00")


def test_branch_staff_get_the_thresholds_of_the_org_units_above(sandbox: Sandbox) -> None:
    with gateway_of(sandbox.url, "harbor_desk") as gateway:
        assert gateway.pcrud.search("pgpt", {"penalty": STOCK}) == []
        limits = read_limits(gateway, ILS)
        assert limits.limit_for(ADULT, HARBOR).limit.amount == Decimal("5.01")
        with pytest.raises(PermissionDeniedError):
            limits.limit_for(ADULT, ELM)


def rule(
    profile: str | None, library: str | None, amount: str | None, comparison: Comparison | None = None
) -> LimitRule:
    return LimitRule(profile, library, None if amount is None else Decimal(amount), comparison)


RULES = (
    rule("Child", None, "1.00"),
    rule(None, "north", "2.00", Comparison.REACHES),
    rule("Patrons", "HARBOR", "3.00"),
    rule("child", "Valley", None),
)


@pytest.mark.parametrize(
    ("profile", "library", "amount", "origin"),
    [
        (CHILD, ELM, None, "configuration: child, Valley"),
        (CHILD, 1, "1.00", "configuration: Child"),
        (CHILD, 12, "2.00", "configuration: north"),  # the library counts for more than the profile
        (CHILD, HARBOR, "3.00", "configuration: Patrons, HARBOR"),
        (3, HARBOR, "2.00", "configuration: north"),
        (ADULT, ELM, "5.00", "configuration"),
    ],
)
def test_the_nearest_rule_counts(admin: Gateway, profile: int, library: int, amount: str | None, origin: str) -> None:
    found = read_limits(admin, PolicySettings(limits=RULES)).limit_for(profile, library)
    assert (found.limit.amount, found.limit.origin) == (None if amount is None else Decimal(amount), origin)
    assert found.limit.comparison is (Comparison.REACHES if "north" in origin else Comparison.EXCEEDS)
    assert found.scope is None


def test_limits_by_thresholds_need_them() -> None:
    with pytest.raises(ValueError, match="need the thresholds"):
        Limits(ILS).limit_for(ADULT, HARBOR)


def test_rules_come_before_the_thresholds(admin: Gateway) -> None:
    limits = read_limits(admin, PolicySettings(limit="ils", limits=RULES))
    assert limits.limit_for(CHILD, HARBOR).limit.amount == Decimal("3.00")
    assert limits.limit_for(ADULT, ELM).limit.origin == "Evergreen: threshold of Users at LAKELAND"


@pytest.mark.parametrize(
    ("bad", "words"),
    [(rule("Nobody", None, "1"), 'no profile "Nobody"'), (rule(None, "MOON", "1"), 'no org unit "MOON"')],
)
def test_a_rule_for_nobody_is_an_error(admin: Gateway, bad: LimitRule, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        read_limits(admin, PolicySettings(limits=(bad,)))


def test_a_threshold_that_the_account_may_not_see_is_no_limit_and_a_rule_counts_all_the_same() -> None:
    rules = PolicySettings(limit="ils", limits=(LimitRule("Child", None, Decimal("7.00")),))
    with Sandbox() as sandbox, gateway_of(sandbox.url, "harbor_desk") as gateway:
        org_units = OrgUnits.read(gateway)
        assert Limits.read(gateway, ILS, org_units).visible_limit_for(ADULT, HARBOR) is not None
        take_away(sandbox, "VIEW_GROUP_PENALTY_THRESHOLD")
        hidden = Limits.read(gateway, rules, org_units)
        assert hidden.visible_limit_for(ADULT, HARBOR) is None
        child = hidden.visible_limit_for(CHILD, HARBOR)
        assert child is not None
        assert child.limit.amount == Decimal("7.00")


EXCEEDS, REACHES = Comparison.EXCEEDS, Comparison.REACHES
TOLD_APART = [
    ("0.00", REACHES, True),
    ("-1.00", REACHES, True),
    ("0.01", REACHES, False),
    ("1.00", REACHES, False),
    ("0.00", EXCEEDS, False),
    ("-1.00", EXCEEDS, False),
    (None, REACHES, False),
]


def money(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def limits_of(settings: PolicySettings) -> Limits:
    return Limits(settings, OrgUnits([OrgUnit(1, "LAKELAND", "", None)]))


@pytest.mark.parametrize(("amount", "comparison", "told_apart"), TOLD_APART)
def test_one_limit(amount: str | None, comparison: Comparison, told_apart: bool) -> None:
    assert Limits.of(Limit(money(amount), comparison)).need_transactions is told_apart
    settings = PolicySettings(limit=money(amount), comparison=comparison)
    assert limits_of(settings).need_transactions is told_apart


@pytest.mark.parametrize(("amount", "comparison", "told_apart"), TOLD_APART)
@pytest.mark.parametrize("as_configured", [True, False])
def test_a_rule(amount: str | None, comparison: Comparison, told_apart: bool, as_configured: bool) -> None:
    """A rule's own comparison overrides the configured one."""
    others = REACHES if comparison is EXCEEDS else EXCEEDS
    rules = (
        LimitRule(None, None, Decimal("3.00")),
        LimitRule(None, None, money(amount), None if as_configured else comparison),
    )
    settings = PolicySettings(comparison=comparison if as_configured else others, limits=rules)
    assert limits_of(settings).need_transactions is told_apart


def test_the_ilss_thresholds_always_do() -> None:
    """Only some libraries' transactions may count, and a patron who owes 0.00 may have none there."""
    assert limits_of(PolicySettings(limit="ils")).need_transactions


@pytest.mark.parametrize("scope", [None, {1}])
def test_without_an_open_transaction_no_patron_is_over(scope: Collection[int] | None) -> None:
    found = ResolvedLimit(Limit(Decimal("0.00"), REACHES), None if scope is None else frozenset(scope))
    decision = found.decide(None)
    assert (decision.over_limit, decision.counted_fines, decision.limit) == (False, Decimal("0.00"), found.limit)
    assert found.decide(Decimal("0.00")).over_limit


@pytest.mark.parametrize(("given", "told"), [("", "configuration"), ("a command line's", "a command line's")])
def test_where_the_one_limit_comes_from(given: str, told: str) -> None:
    limits = Limits.of(Limit(Decimal("2.00"), REACHES, given))
    assert limits.limit_for(11, 21).limit.origin == told
    assert limits.limit_for(11, 21) == ResolvedLimit(Limit(Decimal("2.00"), REACHES))
