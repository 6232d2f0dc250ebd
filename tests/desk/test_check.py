"""``check``: own fines decide, the total is only shown, and Evergreen's penalties are compared with the rule."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest
from support.circulators import change_rows, take_away
from support.command import Command
from support.debts import owe
from support.gateways import gateway_of

from evergreen_groups import exit_status
from evergreen_groups.desk import Checker, GroupCheck
from evergreen_groups.errors import DataError, NotFoundError
from evergreen_groups.gateway import Gateway
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import PolicySettings

OKONKWO = range(1001, 1007)
FIVE, ILS = PolicySettings(), PolicySettings(limit="ils")
HARBOR, PINE, MILL = 11, 12, 21


def differences(check: GroupCheck) -> dict[int, list[str]]:
    return {member.id: list(check.differences(member)) for member in check.checked}


def test_a_family_that_owes_a_lot_while_nobody_is_blocked(admin: Gateway) -> None:
    check = Checker(admin, FIVE).of_user(1001, all_members=True)
    assert (len(check.checked), check.over_limit, check.complete) == (6, False, True)
    assert check.group.group_fines == Decimal("28.10")
    assert not any(differences(check).values())


def test_a_penalty_of_the_librarys_own_counts_as_one_for_fines(sandbox: Sandbox, admin: Gateway) -> None:
    name = "circ.custom_penalty_override.PATRON_EXCEEDS_FINES"
    sandbox._store.insert("aous", {"name": name, "org_unit": 2, "value": "101"})
    sandbox._store.insert("csp", {"id": 101, "name": "NORTH_OWES", "label": "North", "block_list": "CIRC"})
    for user in (1001, 1013):
        sandbox._store.insert("ausp", {"usr": user, "org_unit": 2, "standing_penalty": 101})
    checker = Checker(admin, FIVE)
    assert differences(checker.of_user(1001)) == {
        1001: [
            "Blocked in Evergreen, but own fines are within the limit: NORTH_OWES at NORTH.",
            "Evergreen has no threshold for this profile and library.",
        ]
    }
    assert differences(checker.of_user(1013)) == {1013: ["Blocked in Evergreen: NORTH_OWES at NORTH."]}


def test_what_the_ils_has_recorded_is_told_where_it_differs(sandbox: Sandbox, admin: Gateway) -> None:
    store = sandbox._store
    owe(sandbox, 1001, (HARBOR, "6.00"))
    store.insert("ausp", {"usr": 1002, "org_unit": 1, "standing_penalty": 1})
    store.insert("ausp", {"usr": 1003, "org_unit": HARBOR, "standing_penalty": 25, "staff": 4})
    store.insert("ausp", {"usr": 1004, "org_unit": HARBOR, "standing_penalty": 20, "staff": 4})
    gone = {"usr": 1005, "org_unit": 1, "standing_penalty": 1, "stop_date": "2026-01-01T00:00:00+0000"}
    store.insert("ausp", gone)
    check = Checker(admin, FIVE).of_user(1001, all_members=True)
    found = differences(check)
    assert found[1001] == ["Own fines exceed the limit, but Evergreen hasn't blocked the patron yet."]
    assert found[1002] == [
        "Blocked in Evergreen, but own fines are within the limit: PATRON_EXCEEDS_FINES at LAKELAND."
    ]
    assert differences(Checker(admin, ILS).of_user(1002)) == {1002: found[1002]}
    assert found[1003] == ["Blocked in Evergreen: STAFF_CHR at HARBOR, set by staff."]
    assert found[1004] == []  # a note doesn't block
    assert [penalty.kind.name for penalty in check.penalties[1004]] == ["ALERT_NOTE"]
    assert check.penalties[1005] == ()


def test_an_account_that_sees_no_transactions_is_told_so(sandbox: Sandbox) -> None:
    sandbox._store.insert("pgpt", {"org_unit": 2, "grp": 1, "penalty": 1, "threshold": "5.00"})
    take_away(sandbox, "VIEW_USER_TRANSACTIONS")
    with (
        gateway_of(sandbox.url, "consortium_staff") as gateway,
        pytest.raises(DataError, match="VIEW_USER_TRANSACTIONS"),
    ):
        Checker(gateway, ILS).of_user(1001)


@pytest.mark.apache(reason="it counts calls")
@pytest.mark.differs("no-count", reason="whether there are more rows than came is asked as well")
def test_a_large_group_takes_no_more_calls_than_a_small_one(sandbox: Sandbox, admin: Gateway) -> None:
    change_rows(sandbox, "UPDATE au SET usrgroup = 1001 WHERE id > 1000 AND deleted = 0")
    checker = Checker(admin, ILS)
    checker.of_user(1001)  # logs in, and caches the classes and org units
    calls = []
    for all_members in (False, True):
        before = admin.statistics.calls
        check = checker.of_user(1001, all_members=all_members)
        calls.append(admin.statistics.calls - before)
    assert len(check.checked) > 40
    assert calls == [12, 12]


def test_a_hidden_patron(sandbox: Sandbox) -> None:
    sandbox._store.update("au", 1002, {"home_ou": MILL})
    with gateway_of(sandbox.url, "harbor_desk") as gateway:
        checker = Checker(gateway, FIVE)
        check = checker.of_user(1001, all_members=True)
        assert (check.group.hidden_member_count, check.complete, check.group.group_fines) == (
            1,
            False,
            Decimal("28.10"),
        )
        assert checker.of_user(1001).complete
        with pytest.raises(NotFoundError, match="no visible patron has this id"):
            checker.of_user(1002)


def test_a_hidden_patron_where_plain_reads_come_from_a_replica() -> None:
    with Sandbox(differences=["replica"], replica_delay=0.0) as sandbox:
        sandbox._store.update("au", 1002, {"home_ou": MILL})
        with (
            gateway_of(sandbox.url, "harbor_desk") as gateway,
            pytest.raises(NotFoundError, match="no visible patron has this id"),
        ):
            Checker(gateway, FIVE).of_user(1002)


@pytest.mark.long
def test_exit_statuses(run: Command, sandbox: Sandbox) -> None:
    free = run("check", "20000000001001")
    assert (free.returncode, free.stderr) == (exit_status.DONE, "")
    assert "Not over the limit: own fines of $4.90 do not exceed the limit of $5.00." in free.stdout
    assert "Fines of group 1001, for information only: $28.10" in free.stdout
    assert run("check", "--user", "1013").returncode == exit_status.BLOCKED
    assert run("check", "--user", "1012").returncode == exit_status.DONE
    everybody = run("check", "--user", "1012", "--all-members")
    assert everybody.returncode == exit_status.BLOCKED
    assert "Over the limit: own fines of $31.50 exceed the limit of $5.00." in everybody.stdout
    run.environ["EVERGREEN_GROUPS_GATEWAY_USERNAME"] = "harbor_desk"
    sandbox._store.update("au", 1002, {"home_ou": MILL})
    assert run("check", "--user", "1001", "--all-members").returncode == exit_status.INCOMPLETE


@pytest.mark.parametrize("words", [(), ("20000000001001", "--user", "1001"), ("--user", "0")])
def test_usage(run: Command, words: tuple[str, ...]) -> None:
    assert run("check", *words).returncode == exit_status.USAGE


def test_json(run: Command) -> None:
    run.environ["EVERGREEN_GROUPS_POLICY_LIMIT"] = "ils"
    done = run("check", "--user", "1013", "--format", "json")
    assert done.returncode == exit_status.BLOCKED
    document = json.loads(done.stdout)
    (patron,) = document["patrons"]
    assert document["schema"] == "evergreen-groups/check/1"
    assert (document["group_fines"], document["group_fines_are"]) == ("33.50", "for information only")
    assert patron["limit"] == {
        "amount": "5.01",
        "comparison": "reaches",
        "origin": "Evergreen: threshold of Users at LAKELAND",
    }
    assert (patron["own_fines"], patron["counted_fines"], patron["over_by"]) == ("31.50", "31.50", "26.49")
    assert [penalty["penalty"] for penalty in patron["recorded"]] == ["PATRON_EXCEEDS_FINES"]
    assert patron["differences"] == []


def test_a_hidden_threshold_probably_explains_a_block(run: Command, sandbox: Sandbox) -> None:
    sandbox._store.insert("ausp", {"usr": 1002, "org_unit": 1, "standing_penalty": 1})
    take_away(sandbox, "VIEW_GROUP_PENALTY_THRESHOLD")
    for command in ("show", "check"):
        words = " ".join(run(command, "--user", "1002").stdout.split())
        assert "locked in Evergreen: PATRON_EXCEEDS_FINES at LAKELAND" in words
        assert "Evergreen's threshold is hidden from your login." in words
        assert "within the limit" not in words
        found = run(command, "--user", "1002", "--format", "json").stdout
        assert '"recalculation": "threshold-hidden"' in found


def test_show_tells_over_the_limit_from_blocked(run: Command, sandbox: Sandbox) -> None:
    store = sandbox._store
    owe(sandbox, 1001, (HARBOR, "6.00"))
    since = {"set_date": "2026-10-01T10:00:00+0000"}
    store.insert("ausp", {"usr": 1002, "org_unit": 1, "standing_penalty": 1, **since})
    store.insert("ausp", {"usr": 1003, "org_unit": HARBOR, "standing_penalty": 25, "staff": 4})
    shown = run("show", "--user", "1001").stdout
    assert all(len(line) <= 80 for line in shown.splitlines())
    words = " ".join(shown.split())
    assert "Adaeze: Over the limit, not yet blocked in Evergreen." in words
    assert (
        "Blocked in Evergreen, own fines within the limit: PATRON_EXCEEDS_FINES at LAKELAND, since 1 Oct 2026." in words
    )
    assert "Blocked in Evergreen for something else: STAFF_CHR at HARBOR, by staff." in words
    document = json.loads(run("show", "--user", "1001", "--format", "json").stdout)
    members = {member["id"]: member for member in document["members"]}
    assert document["schema"] == "evergreen-groups/group/1"
    assert (members[1001]["over_limit"], members[1001]["difference"]) == (True, "not-yet-blocked")
    assert (members[1001]["recalculation"], members[1001]["evergreen_threshold"]) == ("may-help", "5.01")
    assert not any("blocked" in member for member in members.values())
    (penalty,) = members[1002]["blocked_in_evergreen"]
    assert penalty == {
        "name": "PATRON_EXCEEDS_FINES",
        "org_unit": "LAKELAND",
        "since": "2026-10-01T10:00:00+00:00",
        "by_staff": False,
    }
    assert [penalty["by_staff"] for penalty in members[1003]["other_blocks"]] == [True]
    check = json.loads(run("check", "--user", "1001", "--format", "json").stdout)
    assert check["over_limit"] is True
    assert check["patrons"][0].items() >= {"over_limit": True, "blocked_in_evergreen": []}.items()
    assert "blocked" not in {*check, *check["patrons"][0]}


def test_show_marks_each_by_their_own_limit(run: Command, tmp_path: Path) -> None:
    configuration = tmp_path / "config.toml"
    configuration.write_text('[policy]\nlimit = "ils"\n[[policy.limits]]\nprofile = "Child"\nlimit = 4.50\n')
    shown = run("--config", str(configuration), "show", "--user", "1001", "--format", "json")
    document = json.loads(shown.stdout)
    assert document["limit"] is None
    limits = {member["id"]: (member["limit"]["amount"], member["over_limit"]) for member in document["members"]}
    assert (limits[1001], limits[1003], limits[1006]) == (("5.01", False), ("4.50", True), ("4.50", False))
    table = run("--config", str(configuration), "show", "--user", "1001").stdout
    assert "the limit, which depends on profile and home library" in " ".join(table.split())
