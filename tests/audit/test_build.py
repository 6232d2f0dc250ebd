"""The audit on the sandbox's families, and what the second reckoning, which compares all findings, doesn't see."""

from __future__ import annotations

import sys
from decimal import Decimal

import pytest
from support.debts import AT_THRESHOLD, CHILD_AT_THRESHOLD, put_at_thresholds
from support.gateways import gateway_of

from evergreen_groups.audit import Audit, AuditCriteria, FindingKind, Reason, build_audit
from evergreen_groups.errors import ConfigurationError, PermissionDeniedError
from evergreen_groups.gateway import Gateway
from evergreen_groups.ils import read_own_fines
from evergreen_groups.policy import Comparison, Decision, Limit, LimitRule, decide
from evergreen_groups.render.audit import describe_reason, explanation
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.sandbox.services.actor import recalculate
from evergreen_groups.settings import PolicySettings

pytestmark = pytest.mark.long

STAFF_BLOCK, EXCEEDS_FINES = 25, 1
STRANGER = " shares no surname, address, phone, e-mail or home library with another adult"


def who(audit: Audit, kind: FindingKind) -> list[int]:
    return [finding.member.id for finding in audit.of_kind(kind)]


def people(audit: Audit) -> dict[FindingKind, list[int]]:
    return {kind: who(audit, kind) for kind in FindingKind if who(audit, kind)}


def reasons(audit: Audit) -> dict[int, tuple[str, ...]]:
    return {finding.group.number: tuple(map(describe_reason, finding.reasons)) for finding in audit.groups}


def block_by_staff(sandbox: Sandbox, patron: int, penalty: int = EXCEEDS_FINES) -> None:
    sandbox._store.insert("ausp", {"usr": patron, "standing_penalty": penalty, "org_unit": 11, "staff": 4})


def test_the_families_as_they_come(staff: Gateway) -> None:
    audit = build_audit(staff, AuditCriteria())
    assert people(audit) == {
        FindingKind.NOT_BLOCKED: [1030, 1036, 1034],
        FindingKind.NOT_OVER: [1042],
        FindingKind.BORROWED_ADDRESS: [1044],
    }
    assert reasons(audit) == {1006: ("2 leads",), 1007: ("no lead",), 1016: (f"Petrov, Omar{STRANGER}",)}
    assert audit.complete
    assert audit.notes == ()
    (stale,) = audit.of_kind(FindingKind.NOT_OVER)
    assert [(block.kind.name, block.by_staff) for block in stale.blocks] == [("PATRON_EXCEEDS_FINES", False)]
    assert explanation(stale) == "not over the limit"


def test_the_policy_never_sees_what_a_group_owes_together(
    staff: Gateway, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    block_by_staff(sandbox, 1035)  # owes nothing, but the family owes a lot
    own = {Decimal("0.00"), *read_own_fines(staff, range(1001, 1054)).values()}
    decided = set()

    def watched(counted_fines: Decimal, limit: Limit) -> Decision:
        decided.add(counted_fines)
        return decide(counted_fines, limit)

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
    staff: Gateway, sandbox: Sandbox, limit: Limit, kind: FindingKind
) -> None:
    block_by_staff(sandbox, 1035)
    audit = build_audit(staff, AuditCriteria(limit=limit))
    (finding,) = (one for one in audit.patrons if one.member.id == 1035)
    assert finding.kind is kind
    assert finding.member.limit == limit


def test_a_block_by_staff_for_another_reason_is_not_for_the_family(staff: Gateway, sandbox: Sandbox) -> None:
    block_by_staff(sandbox, 1035, STAFF_BLOCK)
    audit = build_audit(staff, AuditCriteria())
    assert who(audit, FindingKind.FOR_FAMILY) == []
    (finding,) = audit.of_kind(FindingKind.BY_STAFF)
    assert (finding.member.id, finding.group_fines) == (1035, None)
    assert explanation(finding) == "own fines are within the limit; staff set a block that isn't for fines"
    block_by_staff(sandbox, 1035)
    (finding,) = build_audit(staff, AuditCriteria()).of_kind(FindingKind.FOR_FAMILY)
    assert [block.kind.id for block in finding.blocks] == [EXCEEDS_FINES]


def test_exactly_at_the_limit_the_comparison_decides(sandbox: Sandbox, staff: Gateway) -> None:
    with sandbox._store.transaction():
        sandbox._store.insert("ausp", {"usr": 1007, "standing_penalty": EXCEEDS_FINES, "org_unit": 1})
    exceeds = build_audit(staff, AuditCriteria())
    own_fines = {finding.member.id: finding.member.own_fines for finding in exceeds.patrons}
    assert own_fines[1007] == Decimal("5.00")
    assert 1007 in who(exceeds, FindingKind.NOT_OVER)
    assert explanation(next(f for f in exceeds.patrons if f.member.id == 1007)).startswith("exactly at the limit")
    reaches = build_audit(staff, AuditCriteria(limit=Limit(Decimal("5.00"), Comparison.REACHES)))
    assert 1007 not in who(reaches, FindingKind.NOT_OVER)
    # Five more owe exactly 5.00, which reaches the limit but not Evergreen's threshold of 5.01.
    (higher,) = reaches.thresholds
    assert (higher.kind, higher.threshold, higher.patron_count) == (FindingKind.THRESHOLD_HIGHER, Decimal("5.01"), 5)
    assert exceeds.thresholds == ()
    assert who(reaches, FindingKind.NOT_BLOCKED) == who(exceeds, FindingKind.NOT_BLOCKED)


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
        with pytest.raises(PermissionDeniedError, match=f"can't see any patrons at {hidden}"):
            build_audit(gateway, AuditCriteria(orgs=(hidden,)))


def test_without_the_thresholds_all_may_be_recalculated_and_a_note_says_so(sandbox: Sandbox, staff: Gateway) -> None:
    put_at_thresholds(sandbox)
    with sandbox._store.transaction() as connection:
        connection.execute("DELETE FROM grants WHERE permission = 'VIEW_GROUP_PENALTY_THRESHOLD'")
    audit = build_audit(staff, AuditCriteria())
    assert audit.thresholds == ()
    assert {AT_THRESHOLD, CHILD_AT_THRESHOLD} <= set(who(audit, FindingKind.NOT_OVER))
    (note,) = audit.notes
    assert "thresholds for HARBOR, PINE, MILL, ELM can't be read. Grant VIEW_GROUP_PENALTY_THRESHOLD" in note
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
