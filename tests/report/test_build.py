"""The nightly report on the sandbox: exact, complete or marked as incomplete, and cheap."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from support.debts import owe
from support.fault_proxy import Call, Fault, FaultProxy, fault_proxy
from support.gateways import gateway_of
from support.releases import LATEST, differences_of

from evergreen_groups.errors import (
    ConfigurationError,
    PermissionDeniedError,
    ServerError,
    TimedOutError,
    TransportError,
)
from evergreen_groups.gateway import TOKEN, Gateway, RetryPolicy
from evergreen_groups.groups import Group
from evergreen_groups.language import Language, name_key, use_language
from evergreen_groups.policy import Comparison, Limit
from evergreen_groups.report import Choice, Criteria, History, Report, build_report, libraries
from evergreen_groups.report.build import apply_criteria
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.state import State
from evergreen_groups.values import Total

DEFAULT_GROUPS = [1008, 1003, 1006, 1001, 1005, 1004, 1007, 1002]


def numbers(report: Report) -> list[int]:
    return [group.number for group in report.groups]


def one(report: Report, number: int) -> Group:
    return next(group for group in report.groups if group.number == number)


def balance_owed(gateway: Gateway, group: int) -> Decimal:
    answer = gateway.call("open-ils.actor", "open-ils.actor.usergroup.members.balance_owed", TOKEN, group).value
    return sum((Decimal(entry["balance_owed"]) for entry in answer), Decimal("0.00"))


def test_the_groups_over_the_threshold_highest_first(staff: Gateway) -> None:
    report = build_report(staff, Criteria())
    totals = [group.group_fines for group in report.groups]
    assert totals == sorted(totals, reverse=True)
    assert all(total >= Decimal("25.00") for total in totals)
    assert report.notes == ()
    assert report.totals.group_fines == sum(totals)


def test_every_total_is_what_the_ils_itself_says(staff: Gateway) -> None:
    report = build_report(staff, Criteria(min_total=Decimal("0.01"), min_members=1))
    assert len(report.groups) > 10
    for group in report.groups:
        assert group.group_fines == balance_owed(staff, group.number), group.number


def test_exactly_the_threshold_is_listed_and_a_cent_less_is_not(staff: Gateway) -> None:
    assert one(build_report(staff, Criteria()), 1002).group_fines == Criteria().min_total == Decimal("25.00")
    assert 1002 not in numbers(build_report(staff, Criteria(min_total=Decimal("25.01"))))


def test_a_credit_counts(staff: Gateway) -> None:
    group = one(build_report(staff, Criteria()), 1004)
    assert group.group_fines == Decimal("25.65")
    assert group.owing_count == Total(3)
    assert group.members[-1].own_fines == Decimal("-1.50")


def test_a_deleted_member_does_not_count(staff: Gateway) -> None:
    group = one(build_report(staff, Criteria()), 1007)
    assert [member.id for member in group.members] == [1029, 1030]
    assert group.group_fines == Decimal("25.60")


def test_a_group_of_one_is_listed_only_when_asked_for(staff: Gateway) -> None:
    assert set(numbers(build_report(staff, Criteria()))) == set(DEFAULT_GROUPS)
    assert 1010 in numbers(build_report(staff, Criteria(min_members=1)))
    assert numbers(build_report(staff, Criteria(min_members=6))) == [1001, 1005]


def test_who_is_over_the_limit_depends_on_own_fines_alone(staff: Gateway) -> None:
    report = build_report(staff, Criteria())
    for group in report.groups:
        for member in group.members:
            assert member.over_limit == (member.own_fines > Decimal("5.00"))
    assert one(report, 1002).over_limit_count == Total(0)
    reaching = Criteria(limit=Limit(Decimal("5.00"), Comparison.REACHES))
    assert one(build_report(staff, reaching), 1002).over_limit_count == Total(5)


def test_blocks_for_fines_of_the_members_listed(staff: Gateway, sandbox: Sandbox) -> None:
    store = sandbox._store
    with store.transaction() as connection:
        connection.execute("DELETE FROM ausp")
    name = "circ.custom_penalty_override.PATRON_EXCEEDS_FINES"
    store.insert("aous", {"name": name, "org_unit": 2, "value": "101"})
    store.insert("csp", {"id": 101, "name": "NORTH_OWES", "label": "North", "block_list": "CIRC"})
    for values in (
        {"usr": 1013, "standing_penalty": 1},  # over the limit
        {"usr": 1001, "standing_penalty": 101},  # not over it, and the library's own kind
        {"usr": 1012, "standing_penalty": 101},  # another library's kind
        {"usr": 1002, "standing_penalty": 25, "staff": 4},  # for something else
        {"usr": 1003, "standing_penalty": 1, "stop_date": "2026-01-01T00:00:00+0000"},
        {"usr": 1040, "standing_penalty": 1},  # in no group that is listed
    ):
        store.insert("ausp", {"org_unit": 1, **values})
    report = build_report(staff, Criteria())
    members = {member.id: member for group in report.groups for member in group.members}
    standings = {id: report.standing(member) for id, member in members.items()}
    blocked = {id: one.blocks_for_fines[0].kind.name for id, one in standings.items() if one and one.blocks_for_fines}
    assert blocked == {1013: "PATRON_EXCEEDS_FINES", 1001: "NORTH_OWES"}
    over = sum(member.over_limit for member in members.values())
    totals = report.block_totals
    assert totals is not None
    assert (totals.blocked, totals.not_yet_blocked, totals.now_within_limit) == (Total(2), Total(over - 1), Total(1))
    part = libraries.by_library(report)["HARBOR"]
    assert part.block_totals is not None
    assert (part.block_totals.blocked, part.block_totals.now_within_limit) == (Total(1), Total(1))
    listed = build_report(staff, Criteria(top=1)).blocks
    assert listed is not None
    assert not listed.penalties


def test_only_penalties_that_block_for_fines_are_read(proxy: FaultProxy) -> None:
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        build_report(gateway, Criteria())
    (asked,) = (call for call in proxy.calls if ".ausp." in call.method)
    assert {"standing_penalty": [1]} in asked.parameters[1]["-and"]


def test_where_no_kind_blocks_for_fines_nobody_is_looked_up(sandbox: Sandbox, proxy: FaultProxy) -> None:
    with sandbox._store.transaction() as connection:
        connection.execute("UPDATE csp SET block_list = NULL WHERE id = 1")
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        report = build_report(gateway, Criteria())
    assert "open-ils.pcrud.search.ausp.atomic" not in proxy.seen
    assert report.block_totals is not None
    assert report.block_totals.blocked == Total(0)


def test_the_groups_that_the_rule_is_about_and_who_stands_for_a_lead(staff: Gateway) -> None:
    report = build_report(staff, Criteria())
    assert report.totals.groups_without_member_over_limit == Total(3)  # 1001, 1002 and 1005
    assert (one(report, 1003).lead.id, one(report, 1003).lead.group_lead) == (1012, True)
    assert (one(report, 1007).lead.id, one(report, 1007).lead.group_lead) == (1029, False)
    assert one(report, 1006).lead.id == 1026


@pytest.mark.parametrize(
    ("orgs", "groups"),
    [
        (("HARBOR",), {1001, 1004}),
        (("harbor",), {1001, 1004}),
        (("NORTH",), {1001, 1002, 1004, 1006, 1008}),
        (("MILL",), {1003, 1005, 1006, 1007}),
        (("HARBOR", "MILL"), {1001, 1003, 1004, 1005, 1006, 1007}),
        (("LAKELAND",), set(DEFAULT_GROUPS)),
    ],
)
def test_org_units_choose_groups_and_totals_stay_whole(staff: Gateway, orgs: tuple[str, ...], groups: set[int]) -> None:
    report = build_report(staff, Criteria(orgs=orgs))
    assert set(numbers(report)) == groups
    for group in report.groups:
        assert group.group_fines == balance_owed(staff, group.number)


def test_an_unknown_org_unit_is_an_error_that_names_those_there_are(staff: Gateway) -> None:
    with pytest.raises(ConfigurationError, match='no org unit "NOWHERE"; similar short names: '):
        build_report(staff, Criteria(orgs=("NOWHERE",)))


def test_top_keeps_the_highest_whatever_the_order(staff: Gateway) -> None:
    worst = numbers(build_report(staff, Criteria(top=3)))
    by_name = build_report(staff, Criteria(top=3, sort="name"))
    assert set(numbers(by_name)) == set(worst)
    assert by_name.left_out_count == len(numbers(build_report(staff, Criteria()))) - 3
    names = [name_key(group.lead.name) for group in by_name.groups]
    assert names == sorted(names)
    assert [group.number for group in by_name.left_out] == numbers(build_report(staff, Criteria()))[3:]


@pytest.mark.parametrize(("tag", "names"), [("en", ["Ñandú", "Nunez", "Óa"]), ("es", ["Nunez", "Ñandú", "Óa"])])
def test_by_name_is_as_people_sort_names(sandbox: Sandbox, staff: Gateway, tag: str, names: list[str]) -> None:
    leads = [group.lead.id for group in build_report(staff, Criteria(top=3)).groups]
    for lead, name in zip(leads, names, strict=True):
        sandbox._store.update("au", lead, {"family_name": name, "pref_family_name": None})
    with use_language(Language(tag)):
        listed = build_report(staff, Criteria(top=3, sort="name")).groups
    assert [group.lead.patron.family_name for group in listed] == names


def test_hidden_members_make_a_group_incomplete_and_never_smaller(sandbox: Sandbox, admin: Gateway) -> None:
    with gateway_of(sandbox.url, "north_manager") as gateway:
        report = build_report(gateway, Criteria())
    group = one(report, 1006)
    assert not group.complete
    assert (group.hidden_member_count, group.hidden_fines) == (1, Decimal("22.00"))
    assert group.group_fines == Decimal("40.40") == balance_owed(admin, 1006)
    assert group.member_count == 3
    assert report.totals.incomplete_group_count == 1
    assert "The report's account lacks VIEW_USER at VALLEY, so it can't see patrons there." in report.notes[0]
    assert {1001, 1002, 1004, 1008} < set(numbers(report))
    assert all(other.complete for other in report.groups if other.number != 1006)


def test_an_account_that_sees_nobody_is_told_so(sandbox: Sandbox, admin: Gateway) -> None:
    login = {"barcode": "20000000001001", "password": "sandbox", "type": "opac"}
    patron = admin.call("open-ils.auth", "open-ils.auth.login", login).value["payload"]
    with (
        Gateway(sandbox.url, token=patron["authtoken"]) as gateway,
        pytest.raises(PermissionDeniedError, match="it lacks VIEW_USER; grant it at LAKELAND"),
    ):
        build_report(gateway, Criteria())


def test_nothing_is_asked_once_a_patron_or_once_a_group(proxy: FaultProxy) -> None:
    counts = []
    for criteria in (Criteria(), Criteria(min_total=Decimal("0.01"), min_members=1)):
        proxy.seen.clear()
        with gateway_of(proxy.url, "consortium_staff") as gateway:
            build_report(gateway, criteria)
        counts.append(len(proxy.seen))
    assert counts[0] == counts[1] <= 20


HARBOR = 11
QUICK = RetryPolicy(tries=4, first_delay=0.001, longest_delay=0.01)
COMBINED = "open-ils.pcrud.search.au.atomic"
SLOW = "Timeout Error : Request Timeout"
DIED = 500, "osrfMethodException : Severe query error -- see error log for more details"


def is_combined(call: Call) -> bool:
    """Whether a call lets the ILS do the sums of groups; what names patrons asks what is hidden from the account."""
    asked = str(call.parameters)
    return call.method == COMBINED and "-exists" in asked and "usrgroup" in asked and "id" not in call.parameters[1]


@pytest.mark.parametrize("account", ["consortium_staff", "north_manager"])
def test_a_query_that_fails_once_is_put_again(proxy: FaultProxy, account: str) -> None:
    """A failure that passes isn't a refusal: nothing else is asked in its place, and the report is the same."""
    with gateway_of(proxy.url, account) as gateway:
        whole = build_report(gateway, Criteria(min_total=Decimal("0.01"), min_members=1))
    failures = iter([DIED, DIED])
    proxy.refuse = lambda call: next(failures, None) if is_combined(call) else None
    with gateway_of(proxy.url, account, retries=QUICK) as gateway:
        report = build_report(gateway, Criteria(min_total=Decimal("0.01"), min_members=1))
    assert next(failures, None) is None
    assert (report.groups, report.notes) == (whole.groups, whole.notes)


@pytest.mark.parametrize(
    ("refused", "account", "tries", "error", "words"),
    [
        (DIED, "north_manager", 4, ServerError, "status 500, osrfMethodException"),
        ((408, SLOW), "consortium_staff", 1, TimedOutError, None),
    ],
    ids=["fails", "takes too long"],
)
def test_a_query_that_fails_again_and_again_is_an_error(
    proxy: FaultProxy, refused: tuple[int, str], account: str, tries: int, error: type[Exception], words: str | None
) -> None:
    proxy.refuse = lambda call: refused if is_combined(call) else None
    with (
        gateway_of(proxy.url, account, retries=replace(QUICK, tries=tries)) as gateway,
        pytest.raises(error, match=words),
    ):
        build_report(gateway, Criteria())
    assert not [method for method in proxy.seen if ".mous." in method]


def asks_about(call: Call, group: int) -> bool:
    """Whether the range of groups that a combined query asks about has this group."""
    conditions = [condition["usrgroup"] for condition in call.parameters[1]["-and"] if "usrgroup" in condition]
    above = all(group > condition[">"] for condition in conditions if ">" in condition)
    return above and all(group <= condition["<="] for condition in conditions if "<=" in condition)


READ_FIRST = 60_000
"""A group with high fines, and so high a number that its range is read first."""


def of_members(report: Report) -> tuple[object, object]:
    assert report.blocks is not None
    assert report.details is not None
    return report.blocks.penalties, report.details.members


def moved_while_read(sandbox: Sandbox, proxy: FaultProxy, patron: int, to: int, *, dated: bool) -> list[int]:
    """Move a patron after the range of ``READ_FIRST`` has been read; gives the groups in which the report has them.

    ``dated`` puts down when they were changed. The report is the same as one that is made when they have been moved.
    """
    store = sandbox._store
    moved: list[int] = []

    def move(call: Call) -> None:
        if is_combined(call) and asks_about(call, READ_FIRST) and not moved:
            (former,) = {row["usrgroup"] for row in store.rows("au", {"id": patron})} - {to}
            assert asks_about(call, former) is (former == READ_FIRST)
            moved.append(patron)
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S+0000")
            store.update("au", patron, {"usrgroup": to, **({"last_update_time": now} if dated else {})})

    proxy.before_answer = move
    with gateway_of(proxy.url, "consortium_staff", concurrency=1) as gateway:
        report = build_report(gateway, Criteria(min_members=1))
    proxy.before_answer = lambda call: None
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        afterwards = build_report(gateway, Criteria(min_members=1))
    assert report.groups == afterwards.groups
    assert of_members(report) == of_members(afterwards)
    assert moved
    return [group.number for group in report.groups for member in group.members if member.id == patron]


@pytest.fixture
def debtors(sandbox: Sandbox) -> None:
    sandbox._store.update("au", 1007, {"usrgroup": READ_FIRST})
    owe(sandbox, 1007, (HARBOR, "90.00"))
    owe(sandbox, 1002, (HARBOR, "30.00"))
    sandbox._store.insert("ausp", {"usr": 1002, "org_unit": 1, "standing_penalty": 1})


@pytest.mark.usefixtures("debtors")
@pytest.mark.parametrize(("home", "to", "dated"), [(READ_FIRST, 1001, False), (1001, READ_FIRST, True)])
def test_a_patron_who_is_moved_while_groups_are_read_counts_once(
    sandbox: Sandbox, proxy: FaultProxy, home: int, to: int, dated: bool
) -> None:
    """They are found in the range of both groups, which nothing but their ids shows, or in neither."""
    sandbox._store.update("au", 1002, {"usrgroup": home})
    assert moved_while_read(sandbox, proxy, 1002, to=to, dated=dated) == [to]


@pytest.mark.parametrize("fault", [Fault.DROP_REQUEST, Fault.DROP_ANSWER])
def test_a_bad_network_changes_nothing(proxy: FaultProxy, staff: Gateway, fault: Fault) -> None:
    """Every request fails once."""
    failed: set[tuple[str, str]] = set()

    def decide(call: Call) -> Fault:
        key = (call.method, str(call.parameters))
        if key in failed:
            return Fault.NONE
        failed.add(key)
        return fault

    proxy.decide = decide
    with gateway_of(proxy.url, "consortium_staff", retries=QUICK) as gateway:
        assert build_report(gateway, Criteria()).groups == build_report(staff, Criteria()).groups
    assert len(failed) >= 8


def test_a_session_that_ends_in_the_middle_is_renewed(proxy: FaultProxy, sandbox: Sandbox, staff: Gateway) -> None:
    whole = build_report(staff, Criteria())
    ended: list[str] = []

    def end_the_session(call: Call) -> Fault:
        if call.method == "open-ils.pcrud.search.mous.atomic" and not ended:
            ended.append(call.parameters[0])
            staff.call("open-ils.auth", "open-ils.auth.session.delete", call.parameters[0])
        return Fault.NONE

    proxy.decide = end_the_session
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        assert build_report(gateway, Criteria()).groups == whole.groups
    assert len(ended) == 1
    assert proxy.seen.count("open-ils.auth.login") == 2


def test_a_gateway_that_goes_away_is_an_error_and_no_smaller_report(proxy: FaultProxy) -> None:
    proxy.decide = lambda call: Fault.DROP_REQUEST if call.method == "open-ils.pcrud.search.ac.atomic" else Fault.NONE
    with gateway_of(proxy.url, "consortium_staff", retries=QUICK) as gateway, pytest.raises(TransportError):
        build_report(gateway, Criteria())


ALL = Criteria()


@pytest.fixture
def whole(staff: Gateway) -> Report:
    return build_report(staff, ALL)


@pytest.mark.parametrize(
    ("choice", "listed"),
    [
        (Choice(), {1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008}),
        (Choice(kinds=("LOST materials",)), {1003, 1008}),
        (Choice(kinds=("damage",)), set()),
        (Choice(kinds=("damage", "Lost materials")), {1003, 1008}),
        (Choice(with_items_out=True), {1004}),
        (Choice(over_limit=False), {1001, 1002, 1005}),
        (Choice(over_limit=True), {1003, 1004, 1006, 1007, 1008}),
        (Choice(over_limit=False, with_juvenile=True), {1001, 1002, 1005}),
        (Choice(profiles=("child",), kinds=("Lost materials",)), {1003, 1008}),
    ],
)
def test_chosen_from_a_reading(whole: Report, choice: Choice, listed: set[int]) -> None:
    narrowed = apply_criteria(whole, replace(ALL, choice=choice))
    assert set(numbers(narrowed)) == listed
    assert narrowed.totals.group_count == len(listed)
    assert narrowed.notes == ()


def test_a_choice_of_what_the_reading_lacks_is_refused(staff: Gateway) -> None:
    sums = build_report(staff, Criteria(details=False))
    with pytest.raises(ConfigurationError, match="need the report's details"):
        apply_criteria(sums, replace(ALL, choice=Choice(with_juvenile=True)))


def test_a_reading_of_its_own_lists_the_same(staff: Gateway, whole: Report) -> None:
    criteria = replace(ALL, choice=Choice(kinds=("Lost materials",)), sort="age", top=1)
    assert [group.number for group in build_report(staff, criteria).groups] == [
        group.number for group in apply_criteria(whole, criteria).groups
    ]


def test_a_kind_of_bill_that_does_not_exist(sandbox: Sandbox) -> None:
    criteria = replace(ALL, choice=Choice(kinds=("Misc", "lost material")))
    with gateway_of(sandbox.url, "consortium_staff") as gateway, pytest.raises(ConfigurationError) as caught:
        build_report(gateway, criteria)
    assert str(caught.value) == 'there is no kind of bill called "lost material"; did you mean lost materials?'
    # This account doesn't see the billing types of the whole consortium.
    unheard_of = replace(ALL, choice=Choice(kinds=("unheard of",)))
    with gateway_of(sandbox.url, "north_manager") as gateway:
        assert build_report(gateway, unheard_of).groups == ()
        with pytest.raises(ConfigurationError, match="did you mean"):
            build_report(gateway, criteria)


def test_owing_since(staff: Gateway, whole: Report) -> None:
    assert whole.details is not None
    since = {group.number: whole.details.of_group(group).owing_since for group in whole.groups}
    days = 200
    moment = whole.generated_at - timedelta(days)
    expected = {number for number, when in since.items() if when is not None and when <= moment}
    assert set(numbers(apply_criteria(whole, replace(ALL, choice=Choice(owing_since=days))))) == expected
    by_age = [since[group.number] for group in apply_criteria(whole, replace(ALL, sort="age")).groups]
    assert by_age == sorted(moment for moment in by_age if moment is not None)


def test_blocked_in_evergreen(staff: Gateway, sandbox: Sandbox) -> None:
    for row in sandbox._store.rows("ausp"):
        sandbox._store.delete("ausp", row["id"])
    sandbox._store.insert("ausp", {"org_unit": 1, "usr": 1013, "standing_penalty": 1})
    criteria = replace(ALL, choice=Choice(blocked=True))
    assert set(numbers(build_report(staff, criteria))) == {1003}


def test_a_profile_that_is_not_there(staff: Gateway) -> None:
    with pytest.raises(ConfigurationError, match="no profile"):
        build_report(staff, replace(ALL, choice=Choice(profiles=("Childe",))))


def test_where_it_is_not_known_a_note_says_so(sandbox: Sandbox) -> None:
    with sandbox._store.transaction() as connection:
        connection.execute("DELETE FROM grants WHERE usr = 2 AND permission = 'VIEW_USER_TRANSACTIONS'")
    with gateway_of(sandbox.url, "consortium_staff") as gateway:
        report = build_report(gateway, replace(ALL, choice=Choice(kinds=("lost materials",))))
    assert report.groups == ()
    assert any(note.startswith("Not listed: 8 more") for note in report.notes)


def test_a_narrower_run_clears_no_group(whole: Report, tmp_path: object) -> None:
    """Each choice has a separate history: runs with different choices aren't compared."""
    with State(tmp_path) as state:  # type: ignore[arg-type]
        history = History(state.database, "https://ils.example.org")
        history.record(whole)
        narrowed = apply_criteria(whole, replace(ALL, choice=Choice(kinds=("lost materials",))))
        assert history.compare(narrowed).since is None
        history.record(narrowed)
        changes = history.compare(whole)
        assert changes.cleared == ()
        assert changes.count(next(iter(changes.by_group.values())).kind) == len(whole.groups)
        again = apply_criteria(whole, replace(ALL, choice=Choice(kinds=("Lost Materials",)), sort="age"))
        assert history.compare(again).compared


def test_what_is_not_chosen_is_not_in_the_key_of_a_series() -> None:
    """Histories from before there were choices must continue."""
    assert Choice().document() == {}
    assert Choice(over_limit=False, kinds=("B", "a")).document() == {"over_limit": False, "kinds": ["a", "b"]}
    assert Choice(owing_since=60).needs_details
    assert not Choice(blocked=True, over_limit=True).needs_details


def asked(sandbox: Sandbox, account: str) -> tuple[Counter[str], Report]:
    """How often each method was called for a report with details, and the report."""
    sandbox.reset()
    with fault_proxy(sandbox.url) as proxy, gateway_of(proxy.url, account) as gateway:
        report = build_report(gateway, Criteria(min_total=Decimal("5.00"), details=True))
    return Counter(proxy.seen), report


@pytest.mark.older(latest=False)
def test_who_sees_everybody_makes_the_same_calls_as_on_the_latest(
    sandbox_on: Callable[[str], Sandbox], release: str
) -> None:
    """No look for hidden rows: that there are none is known."""
    calls, report = asked(sandbox_on(release), "admin")
    expected, latest = asked(sandbox_on(LATEST), "admin")
    assert calls == expected
    assert report.totals == latest.totals
    assert report.totals.group_count > 5


@pytest.mark.older(latest=False)
def test_circulations_that_the_account_may_not_see_are_looked_for(
    sandbox_on: Callable[[str], Sandbox], release: str
) -> None:
    calls, _report = asked(sandbox_on(release), "north_manager")
    expected, _report = asked(sandbox_on(LATEST), "north_manager")
    looks = calls - expected
    assert looks == Counter({"open-ils.pcrud.search.aou.atomic": 1} if "no-count" in differences_of(release) else {})
