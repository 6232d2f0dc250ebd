"""The audit on the sandbox: exactly the expected findings of every kind, and few calls for many patrons."""

from __future__ import annotations

import sqlite3
import sys
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal

import pytest
from support.debts import owe
from support.gateways import gateway_of
from support.thresholds import AT_THRESHOLD, CHILD_AT_THRESHOLD, put_at_thresholds

from evergreen_groups.audit import Audit, AuditCriteria, FindingKind, Reason, build_audit
from evergreen_groups.errors import ConfigurationError, PermissionDeniedError
from evergreen_groups.gateway import TOKEN, Gateway
from evergreen_groups.ils import read_own_fines
from evergreen_groups.policy import Comparison, Decision, Limit, LimitRule, decide
from evergreen_groups.render.audit import describe_reason, explanation
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.sandbox.services.actor import recalculate
from evergreen_groups.settings import PolicySettings

pytestmark = pytest.mark.long

STAFF_BLOCK, NOTE, EXCEEDS_FINES = 25, 20, 1
PATRONS = 20_000
STRANGER = " shares no surname, address, phone, e-mail or home library with another adult."


def who(audit: Audit, kind: FindingKind) -> list[int]:
    return [finding.member.id for finding in audit.of_kind(kind)]


def people(audit: Audit) -> dict[FindingKind, list[int]]:
    return {kind: who(audit, kind) for kind in FindingKind if who(audit, kind)}


def reasons(audit: Audit) -> dict[int, tuple[str, ...]]:
    return {finding.group.number: tuple(map(describe_reason, finding.reasons)) for finding in audit.groups}


def block_by_staff(gateway: Gateway, patron: int, penalty: int = STAFF_BLOCK) -> None:
    row = {"usr": patron, "standing_penalty": penalty, "org_unit": 11}
    known = gateway.idl("ausp")["ausp"]
    values: list[object] = [None] * (max(known.positions.values()) + 1)
    for name, value in row.items():
        values[known.positions[name]] = value
    gateway.call("open-ils.actor", "open-ils.actor.user.penalty.apply", TOKEN, {"__c": "ausp", "__p": values}, {})


def test_the_families_as_they_come(staff: Gateway) -> None:
    audit = build_audit(staff, AuditCriteria())
    assert people(audit) == {
        FindingKind.NOT_BLOCKED: [1030, 1036, 1034],
        FindingKind.NOT_OVER: [1042],
        FindingKind.BORROWED_ADDRESS: [1044],
    }
    assert reasons(audit) == {
        1006: ("It has 2 leads.",),
        1007: ("It has no lead.",),
        1016: (f"Petrov, Omar{STRANGER}",),
    }
    assert audit.complete
    assert audit.notes == ()
    (stale,) = audit.of_kind(FindingKind.NOT_OVER)
    assert [(block.kind.name, block.by_staff) for block in stale.blocks] == [("PATRON_EXCEEDS_FINES", False)]
    assert "stale" in explanation(stale)


def test_blocked_by_staff_for_the_family_and_for_another_reason(staff: Gateway, admin: Gateway) -> None:
    block_by_staff(admin, 1035)  # owes nothing, but the family owes a lot
    block_by_staff(admin, 1043)  # has a credit, and so does the family
    block_by_staff(admin, 1040, NOTE)  # a note doesn't block
    block_by_staff(admin, 1034)  # over the limit: rightly blocked
    audit = build_audit(staff, AuditCriteria())
    (family,) = audit.of_kind(FindingKind.FOR_FAMILY)
    assert family.member.id == 1035
    assert family.member.own_fines <= Decimal("5.00") < (family.group_fines or Decimal(0))
    assert [(block.kind.name, block.by_staff) for block in family.blocks] == [("STAFF_CHR", True)]
    assert who(audit, FindingKind.BY_STAFF) == [1043]


def test_the_policy_never_sees_what_a_group_owes_together(
    staff: Gateway, admin: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    block_by_staff(admin, 1035)  # owes nothing, but the family owes a lot
    own = {Decimal("0.00"), *read_own_fines(staff, range(1001, 1054)).values()}
    decided = set()

    def watched(own_balance: Decimal, limit: Limit) -> Decision:
        decided.add(own_balance)
        return decide(own_balance, limit)

    # Wherever it was imported to. A profiler would miss the gateway's threads, which outlive a test.
    for name, module in list(sys.modules.items()):
        if name.startswith("evergreen_groups") and vars(module).get("decide") is decide:
            monkeypatch.setattr(module, "decide", watched)
    audit = build_audit(staff, AuditCriteria())
    assert who(audit, FindingKind.FOR_FAMILY) == [1035]
    assert len(decided) > 1
    assert decided <= own


@pytest.mark.parametrize(
    ("limit", "kind"),
    [
        (Limit(Decimal("84.35"), Comparison.REACHES), FindingKind.FOR_FAMILY),  # the family's combined fines
        (Limit(Decimal("84.35")), FindingKind.BY_STAFF),
        (Limit(Decimal("84.34")), FindingKind.FOR_FAMILY),
        (Limit(None), FindingKind.BY_STAFF),
    ],
)
def test_blocked_for_the_family_is_who_owes_little_in_a_group_that_owes_more_than_one_may(
    staff: Gateway, admin: Gateway, limit: Limit, kind: FindingKind
) -> None:
    block_by_staff(admin, 1035)
    audit = build_audit(staff, AuditCriteria(limit=limit))
    (finding,) = (one for one in audit.patrons if one.member.id == 1035)
    assert finding.kind is kind
    assert finding.member.limit == limit


def test_the_ils_own_penalty_set_by_staff_is_a_block_by_staff(staff: Gateway, admin: Gateway) -> None:
    block_by_staff(admin, 1043, EXCEEDS_FINES)
    audit = build_audit(staff, AuditCriteria())
    assert who(audit, FindingKind.BY_STAFF) == [1043]
    assert who(audit, FindingKind.NOT_OVER) == [1042]


@pytest.mark.parametrize(
    ("stop_date", "holds"), [("2026-01-01T00:00:00+0000", False), ("2999-01-01T00:00:00+0000", True)]
)
def test_an_archived_penalty_blocks_nobody(sandbox: Sandbox, staff: Gateway, stop_date: str, holds: bool) -> None:
    (row,) = sandbox._store.rows("ausp", {"usr": 1042})
    with sandbox._store.transaction():
        sandbox._store.update("ausp", row["id"], {"stop_date": stop_date})
    assert who(build_audit(staff, AuditCriteria()), FindingKind.NOT_OVER) == ([1042] if holds else [])


def test_exactly_at_the_limit_the_comparison_decides(sandbox: Sandbox, staff: Gateway) -> None:
    with sandbox._store.transaction():
        sandbox._store.insert("ausp", {"usr": 1007, "standing_penalty": EXCEEDS_FINES, "org_unit": 1})
    exceeds = build_audit(staff, AuditCriteria())
    own_fines = {finding.member.id: finding.member.own_fines for finding in exceeds.patrons}
    assert own_fines[1007] == Decimal("5.00")
    assert 1007 in who(exceeds, FindingKind.NOT_OVER)
    assert explanation(next(f for f in exceeds.patrons if f.member.id == 1007)).startswith("Own fines are exactly at")
    reaches = build_audit(staff, AuditCriteria(limit=Limit(Decimal("5.00"), Comparison.REACHES)))
    assert 1007 not in who(reaches, FindingKind.NOT_OVER)
    # Five more owe exactly 5.00, which reaches the limit but not Evergreen's threshold of 5.01.
    (higher,) = reaches.thresholds
    assert (higher.kind, higher.threshold, higher.patron_count) == (FindingKind.THRESHOLD_HIGHER, Decimal("5.01"), 5)
    assert exceeds.thresholds == ()
    assert who(reaches, FindingKind.NOT_BLOCKED) == who(exceeds, FindingKind.NOT_BLOCKED)


def test_at_a_threshold_of_the_limit_a_recalculation_blocks_who_reaches_it(sandbox: Sandbox, staff: Gateway) -> None:
    (everybody,) = sandbox._store.rows("pgpt", {"penalty": EXCEEDS_FINES})
    sandbox._store.update("pgpt", everybody["id"], {"threshold": "5.00"})
    reaches = build_audit(staff, AuditCriteria(limit=Limit(Decimal("5.00"), Comparison.REACHES)))
    assert {1007, 1008, 1009, 1010, 1011} <= set(who(reaches, FindingKind.NOT_BLOCKED))
    assert reaches.thresholds == ()


def test_without_a_limit_evergreens_threshold_explains_every_block_but_a_stale_one(
    sandbox: Sandbox, staff: Gateway
) -> None:
    audit = build_audit(staff, AuditCriteria(limit=Limit(None)))
    assert who(audit, FindingKind.NOT_BLOCKED) == []
    blocked = {row["usr"] for row in sandbox._store.rows("ausp", {"standing_penalty": EXCEEDS_FINES})}
    assert who(audit, FindingKind.NOT_OVER) == [1042]
    (lower,) = audit.thresholds
    assert (lower.kind, lower.threshold) == (FindingKind.THRESHOLD_LOWER, Decimal("5.01"))
    assert lower.patron_count == len(blocked - {1042})


def test_one_library_and_what_is_below(staff: Gateway) -> None:
    audit = build_audit(staff, AuditCriteria(orgs=("MILL",)))
    assert people(audit) == {FindingKind.NOT_BLOCKED: [1030], FindingKind.BORROWED_ADDRESS: [1044]}
    assert set(reasons(audit)) == {1006, 1007, 1016}
    with pytest.raises(ConfigurationError, match='no org unit "NOWHERE"'):
        build_audit(staff, AuditCriteria(orgs=("NOWHERE",)))


def test_an_account_of_one_library_says_what_it_cannot_see(sandbox: Sandbox) -> None:
    with gateway_of(sandbox.url, "north_manager") as gateway:
        audit = build_audit(gateway, AuditCriteria())
    assert not audit.complete
    assert "VIEW_USER" in audit.notes[0]
    everyone = {1030, 1036, 1034, 1042}
    assert {finding.member.id for finding in audit.patrons} < everyone
    assert all(finding.group.complete or Reason("no-lead") not in finding.reasons for finding in audit.groups)


def test_libraries_that_the_account_cannot_see_are_refused_rather_than_found_clean(sandbox: Sandbox) -> None:
    with gateway_of(sandbox.url, "north_manager") as gateway:
        (incomplete,) = build_audit(gateway, AuditCriteria()).notes
        hidden = incomplete.partition(" at ")[2].partition(",")[0]
        with pytest.raises(PermissionDeniedError, match=f"sees no patrons at {hidden}"):
            build_audit(gateway, AuditCriteria(orgs=(hidden,)))


@pytest.mark.parametrize(
    ("changes", "strangers"),
    [
        ({}, []),
        ({"home_ou": 21}, []),  # same surname
        ({"family_name": "Quux"}, []),  # same library
        ({"home_ou": 21, "family_name": "Quux"}, ["Okonkwo", "Quux"]),
        ({"home_ou": 21, "family_name": "Quux", "juvenile": "t"}, []),  # a child
        ({"home_ou": 21, "family_name": "OKONKWO"}, []),
    ],
)
def test_strangers_in_a_group(
    sandbox: Sandbox, staff: Gateway, changes: dict[str, object], strangers: list[str]
) -> None:
    store = sandbox._store
    with store.transaction():
        for row in store.rows("aua", {"usr": [1001, 1002]}):
            store.update("aua", row["id"], {"street1": f"{row['usr']} Lane"})
        store.update("au", 1002, {"mailing_address": None, "billing_address": None, **changes})
    found = reasons(build_audit(staff, AuditCriteria())).get(1001, ())
    assert [reason.partition(",")[0] for reason in found] == strangers
    assert all(reason.endswith(STRANGER) for reason in found)


@pytest.mark.parametrize("blank", ["", " ", "\u00a0\t"])
def test_adults_without_a_family_name_are_strangers(sandbox: Sandbox, staff: Gateway, blank: str) -> None:
    store = sandbox._store
    with store.transaction():
        for patron in (1001, 1002):
            store.update("au", patron, {"family_name": blank, "mailing_address": None, "billing_address": None})
        for row in store.rows("aua", {"usr": [1001, 1002]}):
            store.update("aua", row["id"], {"street1": f"{row['usr']} Lane"})
        store.update("au", 1002, {"home_ou": 21})
    found = reasons(build_audit(staff, AuditCriteria()))[1001]
    assert len([reason for reason in found if "shares no surname" in reason]) == 2


def test_an_address_in_common_makes_no_stranger(sandbox: Sandbox, staff: Gateway) -> None:
    store = sandbox._store
    with store.transaction():
        own = {"mailing_address": None, "billing_address": None}
        store.update("au", 1002, {"home_ou": 21, "family_name": "Quux", **own})
        for patron, street in ((1001, "12 Mill  Lane"), (1002, "12 mill lane")):
            store.insert("aua", {"usr": patron, "street1": street, "post_code": "4711"})
    assert 1001 not in reasons(build_audit(staff, AuditCriteria()))


def test_leads_deleted_or_long_expired(sandbox: Sandbox, staff: Gateway) -> None:
    store = sandbox._store
    with store.transaction():
        store.update("au", 1001, {"expire_date": "2015-03-01T00:00:00+0000"})
        store.update("au", 1007, {"deleted": "t"})
    found = reasons(build_audit(staff, AuditCriteria()))
    assert len(found[1001]) == 1
    assert found[1001][0].endswith("expired on 2015-03-01.")
    assert found[1002] == ("Its lead is deleted.",)


class Oracle:
    """Finds the same by checking every row."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        read = connection.execute
        self.owed: dict[int, int] = defaultdict(int)
        for usr, cents in read("SELECT usr, balance_owed FROM mbts WHERE xact_finish IS NULL"):
            self.owed[usr] += cents
        rows = read("SELECT id, usrgroup, home_ou, lower(family_name), master_account, juvenile, deleted FROM au")
        self.everybody = rows.fetchall()
        self.living = {row[0]: row for row in self.everybody if not row[6]}
        self.for_fines = {
            usr
            for (usr,) in read(
                "SELECT usr FROM ausp WHERE standing_penalty = 1 AND staff IS NULL AND stop_date IS NULL"
            )
        }
        self.by_staff = {usr for (usr,) in read("SELECT usr FROM ausp WHERE standing_penalty = 25")}
        self.expired = {id for (id,) in read("SELECT id FROM au WHERE expire_date < '2020'")}
        self.groups: dict[int, list[tuple[int, ...]]] = defaultdict(list)
        for row in self.living.values():
            self.groups[row[1]].append(row)

    def people(self) -> dict[FindingKind, set[int]]:
        over = {id for id in self.living if self.owed[id] > 500}
        within = (self.by_staff & set(self.living)) - over
        family = {id for id in within if sum(self.owed[member[0]] for member in self.groups[self.living[id][1]]) > 500}
        return {
            FindingKind.NOT_BLOCKED: over - self.for_fines,
            FindingKind.NOT_OVER: (self.for_fines & set(self.living)) - over,
            FindingKind.FOR_FAMILY: family,
            FindingKind.BY_STAFF: within - family,
        }

    def accidental(self) -> set[int]:
        found = set()
        for number, members in self.groups.items():
            leads = [member for member in members if member[4]]
            adults = [member for member in members if not member[5]]
            strangers = [
                one
                for one in adults
                if all(one is other or (one[2] != other[2] and one[3] != other[3]) for other in adults)
            ]
            odd_lead = len(leads) != 1 or leads[0][0] in self.expired
            if len(members) > 1 and (odd_lead or len(members) >= 10 or (len(adults) > 1 and strangers)):
                found.add(number)
        return found


@pytest.fixture(scope="module")
def large() -> Iterator[Sandbox]:
    with Sandbox(patrons=PATRONS) as running:
        with running._store.transaction() as connection:
            # The oracle compares only surnames and libraries.
            connection.execute(
                "UPDATE au SET day_phone = NULL, email = NULL, mailing_address = NULL, billing_address = NULL"
            )
        yield running


def plant(sandbox: Sandbox) -> None:
    """Add staff blocks, a lead whose account expired long ago, and a large group."""
    store = sandbox._store
    oracle = Oracle(store.read())
    families = sorted(number for number, members in oracle.groups.items() if number > 100_000 and len(members) > 2)
    owing = [n for n in families if any(oracle.owed[member[0]] > 500 for member in oracle.groups[n])][:20]
    quiet = [n for n in families if all(oracle.owed[member[0]] == 0 for member in oracle.groups[n])][:20]
    with store.transaction():
        for number in (*owing, *quiet):
            poorest = min(oracle.groups[number], key=lambda member: oracle.owed[member[0]])
            store.insert("ausp", {"usr": poorest[0], "standing_penalty": STAFF_BLOCK, "org_unit": 1, "staff": 1})
        for number in families[100:105]:
            for member in oracle.groups[number]:
                store.update("au", member[0], {"expire_date": "2015-01-01T00:00:00+0000"})
        for number in families[200:206]:
            for member in oracle.groups[number]:
                relative = {"usrgroup": families[200], "master_account": "f", "family_name": "Planted"}
                store.update("au", member[0], relative)
        store.update("au", oracle.groups[families[200]][0][0], {"master_account": "t"})


def test_exactly_what_looking_at_every_row_finds_and_in_few_calls(large: Sandbox) -> None:
    plant(large)
    with gateway_of(large.url, "consortium_staff") as gateway:
        audit = build_audit(gateway, AuditCriteria())
        assert gateway.statistics.calls <= 60
    oracle = Oracle(large._store.read())
    assert len(audit.patrons) > 100
    assert {kind: set(who(audit, kind)) for kind in oracle.people()} == oracle.people()
    assert len(who(audit, FindingKind.FOR_FAMILY)) >= 20
    assert len(who(audit, FindingKind.BY_STAFF)) >= 20
    assert set(reasons(audit)) == oracle.accidental()
    assert any(len(found) == 1 and "unusually large" in found[0] for found in reasons(audit).values())
    said = [reason for found in reasons(audit).values() for reason in found]
    parts = ("no lead", "lead is deleted", "leads.", "expired on 2015-01-01", "unusually large", "shares no surname")
    assert [words for words in parts if not any(words in reason for reason in said)] == []


def test_a_threshold_that_differs_is_one_finding_for_all_whom_it_concerns(sandbox: Sandbox, staff: Gateway) -> None:
    store = sandbox._store
    put_at_thresholds(sandbox)
    (everybody,) = store.rows("pgpt", {"penalty": 1, "grp": 1})
    store.update("pgpt", everybody["id"], {"threshold": "10.00"})
    store.update("au", AT_THRESHOLD, {"profile": 12})
    store.insert("ausp", {"usr": 1045, "standing_penalty": 1, "org_unit": 11})
    audit = build_audit(staff, AuditCriteria())
    assert [(one.kind, one.reason.code, one.threshold, one.profile, one.patron_count) for one in audit.thresholds] == [
        (FindingKind.THRESHOLD_HIGHER, "threshold-higher", Decimal("10.00"), "Everyone", 1),
        (FindingKind.THRESHOLD_LOWER, "threshold-at-limit", Decimal("3.00"), "Child", 1),
        (FindingKind.THRESHOLD_LOWER, "threshold-lower", Decimal("3.00"), "Child", 1),
    ]
    assert who(audit, FindingKind.NOT_BLOCKED) == [1030, 1034]  # the latter is a child
    assert who(audit, FindingKind.NOT_OVER) == [1042]
    assert who(audit, FindingKind.LEFT_ALONE) == [1045]
    assert audit.count(FindingKind.THRESHOLD_LOWER) == audit.first(1).count(FindingKind.THRESHOLD_LOWER) == 2


def test_without_the_thresholds_all_may_be_recalculated_and_a_note_says_so(sandbox: Sandbox, staff: Gateway) -> None:
    put_at_thresholds(sandbox)
    with sandbox._store.transaction() as connection:
        connection.execute("DELETE FROM grants WHERE permission = 'VIEW_GROUP_PENALTY_THRESHOLD'")
    audit = build_audit(staff, AuditCriteria())
    assert audit.thresholds == ()
    assert {AT_THRESHOLD, CHILD_AT_THRESHOLD} <= set(who(audit, FindingKind.NOT_OVER))
    (note,) = audit.notes
    assert "Evergreen's thresholds aren't visible to the account for patrons of HARBOR" in note
    assert audit.complete


def test_a_note_in_place_of_the_penalty_and_no_threshold(sandbox: Sandbox, staff: Gateway) -> None:
    sandbox._store.insert(
        "aous", {"name": "circ.custom_penalty_override.PATRON_EXCEEDS_FINES", "org_unit": 21, "value": "20"}
    )
    with sandbox._store.transaction() as connection:
        connection.execute("DELETE FROM pgpt WHERE penalty = 1")
    audit = build_audit(staff, AuditCriteria())
    assert {(one.reason.code, one.penalty, one.threshold, one.patron_count) for one in audit.thresholds} == {
        ("penalty-blocks-nothing", "ALERT_NOTE", None, 1),
        ("no-threshold", "PATRON_EXCEEDS_FINES", None, 2),
    }
    assert who(audit, FindingKind.NOT_BLOCKED) == who(audit, FindingKind.NOT_OVER) == []
    assert [one.reason.code for one in audit.of_kind(FindingKind.LEFT_ALONE)] == ["block-without-threshold"]


def policy_of(*rules: LimitRule, limit: object = Decimal("5.00")) -> PolicySettings:
    return PolicySettings(limit=limit, limits=rules)  # type: ignore[arg-type]  # an amount or "ils"


def test_limits_by_profile_and_library(staff: Gateway) -> None:
    mill = LimitRule(profile=None, library="MILL", amount=Decimal("50.00"), comparison=Comparison.EXCEEDS)
    audit = build_audit(staff, AuditCriteria(limit=None), policy=policy_of(mill))
    assert who(audit, FindingKind.NOT_BLOCKED) == [1036, 1034]
    assert who(audit, FindingKind.NOT_OVER) == [1042]
    (lower,) = audit.thresholds
    assert (lower.kind, lower.patron_count) == (FindingKind.THRESHOLD_LOWER, 3)
    assert (lower.limit.amount, lower.limit.origin) == (Decimal("50.00"), "configuration: at MILL")
    only_one = build_audit(staff, AuditCriteria(), policy=policy_of(mill))
    assert who(only_one, FindingKind.NOT_BLOCKED) == [1030, 1036, 1034]


@pytest.mark.parametrize(
    ("owed", "is_over"),
    [
        ([(11, "0.00")], True),
        ([(11, "0.00"), (21, "-3.00")], True),
        ([(11, "3.00"), (11, "-3.00"), (21, "-3.00")], True),
        ([(11, "-3.00"), (21, "9.00")], False),
        ([(21, "9.00")], False),
    ],
    ids=["zero", "credit elsewhere", "net zero here", "credit here", "nothing here"],
)
def test_a_limit_of_nought_at_some_libraries(
    sandbox: Sandbox, staff: Gateway, owed: list[tuple[int, str]], is_over: bool
) -> None:
    """Count only what is owed at those libraries, regardless of credits and debts elsewhere."""
    store = sandbox._store
    with store.transaction():
        store.insert("pgpt", {"grp": 1, "penalty": EXCEEDS_FINES, "threshold": "0.00", "org_unit": 11})
        store.update("au", 1035, {"home_ou": 11})
    owe(sandbox, 1035, *owed)
    audit = build_audit(staff, AuditCriteria(limit=None), policy=policy_of(limit="ils"))
    assert (1035 in who(audit, FindingKind.NOT_BLOCKED)) is is_over


def test_who_has_a_credit_reaches_no_limit_of_nought(sandbox: Sandbox, staff: Gateway) -> None:
    for patron, fines in ((1035, "-3.00"), (1042, "0.00")):  # 1042 has the penalty in the sample data
        owe(sandbox, patron, (11, fines))
    with sandbox._store.transaction():
        sandbox._store.insert("ausp", {"usr": 1035, "standing_penalty": EXCEEDS_FINES, "org_unit": 1})
    audit = build_audit(staff, AuditCriteria(limit=Limit(Decimal("0.00"), Comparison.REACHES)))
    assert who(audit, FindingKind.NOT_OVER) == [1035]


def test_with_the_ils_own_limits_a_recalculation_leaves_nothing_to_find(sandbox: Sandbox, staff: Gateway) -> None:
    """Thresholds by profile and library, with fines and credits elsewhere that are out of scope."""
    store = sandbox._store
    with store.transaction():
        for org_unit, profile, amount in ((11, 1, "4.00"), (12, 12, "2.00"), (21, 1, "12.00"), (2, 11, "20.00")):
            store.insert("pgpt", {"grp": profile, "penalty": 1, "threshold": amount, "org_unit": org_unit})
        for number, row in enumerate(store.rows("mg", {"xact_finish": None})):
            store.update("mg", row["id"], {"billing_location": (11, 12, 21, 22)[number % 4]})
    policy = policy_of(limit="ils")
    criteria = AuditCriteria(limit=None)
    before = {row["usr"] for row in store.rows("ausp", {"standing_penalty": 1})}
    audit = build_audit(staff, criteria, policy=policy)
    with store.transaction():
        for row in store.rows("au", {"deleted": False}):
            recalculate(store, row["id"], row["home_ou"])
    stays = {
        row["usr"] for row in store.rows("ausp", {"standing_penalty": 1}) if row["set_date"].startswith("2026-10-05")
    }
    after = {row["usr"] for row in store.rows("ausp", {"standing_penalty": 1})}
    assert len(after - before) > 2
    assert set(who(audit, FindingKind.NOT_BLOCKED)) == after - before
    again = build_audit(staff, criteria, policy=policy)
    assert who(again, FindingKind.NOT_BLOCKED) == []
    assert (
        set(who(again, FindingKind.NOT_OVER)) <= stays
    )  # rows of another threshold's place, which no recalculation removes
    assert before - after <= set(who(audit, FindingKind.NOT_OVER))
