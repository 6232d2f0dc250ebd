"""Limits by rules, by the ILS's thresholds, and for patrons who owe nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.circulators import change_rows, take_away
from support.gateways import gateway_of

from evergreen_groups.errors import ConfigurationError, PermissionDeniedError
from evergreen_groups.gateway import Gateway
from evergreen_groups.ils import Limits, OrgUnit, OrgUnits, Profiles, ResolvedLimit
from evergreen_groups.ils.limits import Threshold, Thresholds
from evergreen_groups.policy import Comparison, Limit, LimitRule
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.sandbox.database import Store
from evergreen_groups.sandbox.services.actor.penalties import calculate
from evergreen_groups.settings import PolicySettings
from evergreen_groups.values import ZERO

OVERRIDE = "circ.custom_penalty_override.PATRON_EXCEEDS_FINES"
ILS = PolicySettings(limit="ils")
ORGS = (1, 2, 3, 11, 12, 21, 22, 23)
PROFILES = (1, 2, 3, 11, 12, 13)
PATRON = 1001
STOCK, OWN = 1, 101
HARBOR, MILL, ELM = 11, 21, 22
ADULT, CHILD = 11, 12


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with Sandbox() as running:
        yield running._store


def trees(ids: tuple[int, ...]) -> st.SearchStrategy[dict[int, int | None]]:
    """Any tree of these ids: each hangs on one before it."""
    above = st.tuples(*(st.integers(0, number) for number in range(len(ids) - 1)))
    return above.map(lambda chosen: {ids[0]: None, **{ids[n + 1]: ids[parent] for n, parent in enumerate(chosen)}})


def set_up(
    store: Store,
    org_parents: dict[int, int | None],
    profile_parents: dict[int, int | None],
    rows: list[Threshold],
    penalties_set_at: dict[int, int],
    fines: list[tuple[int, int]],
) -> None:
    """Put all this into the sandbox's tables, with PATRON owing the fines (library, cents)."""
    with store.transaction() as connection:
        for table in ("pgpt", "ausp", "mg", "circ", "mbts"):
            connection.execute(f"DELETE FROM {table}")
        connection.execute("DELETE FROM aous WHERE name = ?", [OVERRIDE])
        connection.executemany("UPDATE aou SET parent_ou = ? WHERE id = ?", [(p, i) for i, p in org_parents.items()])
        connection.executemany("UPDATE pgt SET parent = ? WHERE id = ?", [(p, i) for i, p in profile_parents.items()])
        for row in rows:
            values = {"org_unit": row.org_unit, "grp": row.profile, "penalty": row.penalty}
            store.insert("pgpt", {**values, "threshold": str(row.amount)})
        for org_unit, penalty in penalties_set_at.items():
            store.insert("aous", {"name": OVERRIDE, "org_unit": org_unit, "value": str(penalty)})
        for place, cents in fines:
            started = {"usr": PATRON, "xact_start": "2026-10-01T10:00:00+0000"}
            new_id = store.insert("mg", {**started, "billing_location": place})
            amount = str(Decimal(cents) / 100)
            store.insert("mbts", {"id": new_id, "balance_owed": amount, "xact_type": "grocery", **started})
    store.__dict__.pop("orgs", None)
    store.__dict__.pop("profiles", None)


def resolver(
    org_parents: dict[int, int | None],
    profile_parents: dict[int, int | None],
    rows: list[Threshold],
    penalties_set_at: dict[int, int],
) -> Limits:
    org_units = OrgUnits(OrgUnit(id, f"ORG{id}", "", parent) for id, parent in org_parents.items())
    profiles = Profiles((id, f"Profile {id}", parent) for id, parent in profile_parents.items())
    penalties = {
        org: next((penalties_set_at[above] for above in org_units.upwards(org) if above in penalties_set_at), STOCK)
        for org in org_parents
    }
    return Limits(ILS, org_units, profiles, Thresholds(rows, penalties, org_units, profiles))


thresholds = st.builds(
    Threshold,
    org_unit=st.sampled_from(ORGS),
    profile=st.sampled_from(PROFILES),
    penalty=st.sampled_from((STOCK, STOCK, OWN)),
    amount=st.integers(0, 600).map(lambda cents: Decimal(cents) / 100),
)


@pytest.mark.long
@settings(
    max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    org_parents=trees(ORGS),
    profile_parents=trees(PROFILES),
    rows=st.lists(thresholds, max_size=8, unique_by=lambda row: (row.org_unit, row.profile, row.penalty)),
    penalties_set_at=st.dictionaries(st.sampled_from(ORGS), st.sampled_from((STOCK, OWN)), max_size=2),
    fines=st.lists(st.tuples(st.sampled_from(ORGS), st.integers(-200, 400)), max_size=5),
    profile=st.sampled_from(PROFILES),
)
def test_the_ils_blocks_exactly_whom_its_own_limit_blocks(
    store: Store,
    org_parents: dict[int, int | None],
    profile_parents: dict[int, int | None],
    rows: list[Threshold],
    penalties_set_at: dict[int, int],
    fines: list[tuple[int, int]],
    profile: int,
) -> None:
    """Held against the sandbox's own recalculation, at every home library of a random tree."""
    set_up(store, org_parents, profile_parents, rows, penalties_set_at, fines)
    store.update("au", PATRON, {"profile": profile})
    limits = resolver(org_parents, profile_parents, rows, penalties_set_at)
    transactions = [(place, Decimal(cents) / 100) for place, cents in fines]
    for home in ORGS:
        found = limits.limit_for(profile, home)
        wanted = [penalty for _org_unit, penalty in calculate(store, PATRON, home)[1]]
        counted = [owed for place, owed in transactions if found.scope is None or place in found.scope]
        assert found.decide(sum(counted, ZERO) if counted else None).over_limit == bool(wanted), home


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
    assert (adult.limit.origin, adult.scope) == ("Evergreen: threshold of Everyone at LAKELAND", None)


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
    rule("Readers", "HARBOR", "3.00"),
    rule("child", "Valley", None),
)


@pytest.mark.parametrize(
    ("profile", "library", "amount", "origin"),
    [
        (CHILD, ELM, None, "configuration: child, Valley"),
        (CHILD, 1, "1.00", "configuration: Child"),
        (CHILD, 12, "2.00", "configuration: north"),  # the library counts for more than the profile
        (CHILD, HARBOR, "3.00", "configuration: Readers, HARBOR"),
        (3, HARBOR, "2.00", "configuration: north"),
        (ADULT, ELM, "5.00", "configuration"),
    ],
)
def test_the_nearest_rule_counts(admin: Gateway, profile: int, library: int, amount: str | None, origin: str) -> None:
    found = read_limits(admin, PolicySettings(limits=RULES)).limit_for(profile, library)
    assert (found.limit.amount, found.limit.origin) == (None if amount is None else Decimal(amount), origin)
    assert found.limit.comparison is (Comparison.REACHES if "north" in origin else Comparison.EXCEEDS)
    assert found.scope is None


def test_rules_come_before_the_thresholds(admin: Gateway) -> None:
    limits = read_limits(admin, PolicySettings(limit="ils", limits=RULES))
    assert limits.limit_for(CHILD, HARBOR).limit.amount == Decimal("3.00")
    assert limits.limit_for(ADULT, ELM).limit.origin == "Evergreen: threshold of Everyone at LAKELAND"


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
    assert (decision.over_limit, decision.own_balance, decision.limit) == (False, Decimal("0.00"), found.limit)
    assert found.decide(Decimal("0.00")).over_limit


@pytest.mark.parametrize(("given", "told"), [("", "configuration"), ("a command line's", "a command line's")])
def test_where_the_one_limit_comes_from(given: str, told: str) -> None:
    limits = Limits.of(Limit(Decimal("2.00"), REACHES, given))
    assert limits.limit_for(11, 21).limit.origin == told
    assert limits.limit_for(11, 21) == ResolvedLimit(Limit(Decimal("2.00"), REACHES))
