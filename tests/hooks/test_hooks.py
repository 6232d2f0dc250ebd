"""The hooks that an ILS calls: summaries, decisions, their JSON, and how many calls they make."""

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.circulators import change_rows, take_away
from support.debts import AT_THRESHOLD, owe, put_at_thresholds
from support.documents import document
from support.fault_proxy import Call, FaultProxy, alter_payloads
from support.gateways import client_of, gateway_of
from support.gateways import logged_in as desk
from support.releases import LATEST
from support.web_caller import Clock

from evergreen_groups import hooks
from evergreen_groups.client import Client
from evergreen_groups.desk import Checker
from evergreen_groups.errors import DataError, EvergreenGroupsError, NotFoundError, PermissionDeniedError
from evergreen_groups.gateway import TOKEN, Gateway
from evergreen_groups.ils import ReferenceData
from evergreen_groups.ils.reference_data import SECONDS
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import PolicySettings

OKONKWO = range(1001, 1007)
PATRONS = range(1001, 1054)
HARBOR, PINE, MILL = 11, 12, 21
HARBOR_DESK, NORTH_MANAGER = 4, 3
BALANCES = "open-ils.actor.usergroup.members.balance_owed"
MEMBERS = "open-ils.actor.usergroup.members.retrieve"
PERMISSION_DENIED = {"ilsevent": "5000", "textcode": "PERM_FAILURE", "ilsperm": "VIEW_USER", "ilspermloc": 11}
BY_ILS = PolicySettings(limit="ils")


def calls(client: Client) -> int:
    return client.gateway.statistics.calls


def join(sandbox: Sandbox, patron: int, group: int) -> None:
    sandbox._store.update("au", patron, {"usrgroup": group})


def not_visible(client: Client, patron: int) -> str:
    with pytest.raises(NotFoundError) as refused:
        hooks.patron_summary(client, patron)
    return str(refused.value)


def test_a_family(client: Client) -> None:
    summary = document(hooks.patron_summary(client, 1003))
    members = summary.pop("members")
    counts = ("over_limit_count", "blocked_in_evergreen_count", "blocked_count")
    standing = {
        **dict.fromkeys(("difference", "recalculation", "evergreen_threshold")),
        **{"limit": "5.00", "over_limit": False, "blocked_in_evergreen": [], "other_blocks": []},
    }
    not_counted = {"late_items": None, "late_items_at_least": None}
    assert summary == {
        **{"version": 2, "kind": "patron-summary", "patron": 1003, "barcode": "20000000001003", "own_fines": "4.85"},
        **standing,
        **{"group": 1001, "show": True, "for_information_only": True, "group_fines": "28.10", "lead": 1001},
        "note": "Group fines are for information only: nobody is blocked for what others owe.",
        "hidden_members": {"count": 0, "fines": "0.00"},
        **{f"{name}{bound}": 0 for name in counts for bound in ("", "_at_least")},
        **not_counted,
    }
    assert members[0] == {
        **{"id": 1001, "name": "Okonkwo, Adaeze", "barcode": "20000000001001", "library": "HARBOR"},
        **{"own_fines": "4.90", "group_lead": True, "juvenile": False},
        **standing,
        **not_counted,
    }
    assert {member["id"]: member["juvenile"] for member in members} == {id: id >= 1003 for id in OKONKWO}


def test_a_group_by_its_number_is_what_its_members_see(client: Client) -> None:
    summary = hooks.patron_summary(client, 1015)
    assert hooks.group_summary(client, summary.group.number) == summary.group
    group = document(summary.group)
    assert any(member["over_limit"] for member in group["members"])
    assert not {"patron", "barcode", "own_fines", "over_limit", "limit", "show"} & set(group)


def test_over_the_limit_is_one_thing_and_blocked_in_evergreen_another(client: Client, sandbox: Sandbox) -> None:
    owe(sandbox, 1001, (HARBOR, "7.50"))
    set_at = {"set_date": "2026-10-01T10:00:00+0000"}
    sandbox._store.insert("ausp", {"usr": 1002, "org_unit": 1, "standing_penalty": 1, **set_at})
    sandbox._store.insert("ausp", {"usr": 1002, "org_unit": HARBOR, "standing_penalty": 25, "staff": 4, **set_at})
    sandbox._store.insert("ausp", {"usr": 1002, "org_unit": HARBOR, "standing_penalty": 20, "staff": 4, **set_at})
    summary = document(hooks.patron_summary(client, 1002))
    members = {member["id"]: member for member in summary["members"]}
    fines = {"name": "PATRON_EXCEEDS_FINES", "label": "Patron exceeds fine threshold", "org_unit": "LAKELAND"}
    other = {"name": "STAFF_CHR", "label": "Alerting block on Circ, Hold and Renew", "org_unit": "HARBOR"}
    since = {"since": "2026-10-01T10:00:00+00:00"}
    found = {
        "over_limit": False,
        "blocked_in_evergreen": [{**fines, **since, "by_staff": False}],
        "other_blocks": [{**other, **since, "by_staff": True}],
        "difference": "now-within-limit",
        "recalculation": "may-help",
        "evergreen_threshold": "5.01",
    }
    assert {name: members[1002][name] for name in found} == found
    assert {name: summary[name] for name in found} == found
    assert (members[1001]["over_limit"], members[1001]["blocked_in_evergreen"]) == (True, [])


def test_where_no_penalties_were_read_there_are_none_to_tell_of(client: Client) -> None:
    group = client.details.of_group(1001).group  # without standings
    members = document(group)["members"]
    assert all(member["blocked_in_evergreen"] is member["other_blocks"] is None for member in members)


def test_nothing_to_show_for_a_group_of_one(client: Client, sandbox: Sandbox) -> None:
    join(sandbox, 1001, 777_000)
    summary = document(hooks.patron_summary(client, 1001))
    assert (summary["show"], len(summary["members"])) == (False, 1)


def test_a_block_by_id_and_by_barcode(client: Client, sandbox: Sandbox) -> None:
    owe(sandbox, 1001, (HARBOR, "7.50"))
    decision = hooks.block_decision(client, 1001)
    assert hooks.block_decision_by_barcode(client, "20000000001001") == decision
    assert document(decision) == {
        "version": 2,
        "kind": "block",
        "patron": 1001,
        "over_limit": True,
        "blocked_in_evergreen": False,
        "other_blocks": [],
        "own_fines": "7.50",
        "limit": "5.00",
        "comparison": "exceeds",
        "explanation": "Over the limit: own fines of 7.50 exceed the limit of 5.00.",
    }


@pytest.mark.differs("no-count", reason="whether there are more rows than came is asked as well")
@pytest.mark.apache(reason="it counts calls")
def test_a_block_in_evergreen_of_somebody_within_the_limit(client: Client, sandbox: Sandbox) -> None:
    put_at_thresholds(sandbox)
    note = {"usr": AT_THRESHOLD, "org_unit": HARBOR, "standing_penalty": 25, "staff": 4}
    sandbox._store.insert("ausp", note)
    hooks.block_decision(client, 1002)
    before = client.gateway.statistics.calls
    decision = hooks.block_decision(client, AT_THRESHOLD)
    assert client.gateway.statistics.calls - before == 3  # the patron, the balance and the penalties
    block = document(decision)
    assert (block["over_limit"], block["blocked_in_evergreen"]) == (False, True)
    assert [one["name"] for one in block["other_blocks"]] == ["STAFF_CHR"]
    summary = document(hooks.patron_summary(client, AT_THRESHOLD))
    assert (summary["recalculation"], summary["evergreen_threshold"]) == ("reaches-threshold", "5.00")


@pytest.mark.differs("oneself-hidden", reason="without VIEW_USER they don't see their own record either")
def test_penalties_that_are_not_visible_are_null(sandbox: Sandbox) -> None:
    """Users see their own record without VIEW_USER, but not their penalties."""
    take_away(sandbox, "VIEW_USER")
    with desk(sandbox.url, "harbor_desk") as client:
        block = document(hooks.block_decision(client, 4))
    assert (block["over_limit"], block["blocked_in_evergreen"], block["other_blocks"]) == (False, None, None)


def test_no_limit_and_no_barcode(sandbox: Sandbox) -> None:
    sandbox._store.update("au", 1001, {"card": None})
    with desk(sandbox.url, "admin", policy=PolicySettings(limit=None)) as client:
        summary = document(hooks.patron_summary(client, 1001))
        assert document(hooks.block_decision(client, 1001))["limit"] is None
    assert (summary["barcode"], summary["limit"], summary["members"][0]["barcode"]) == (None, None, None)


def test_a_hidden_patron_gives_the_same_error_as_one_who_is_not_there(sandbox: Sandbox) -> None:
    sandbox._store.update("au", 1002, {"deleted": "t"})
    with desk(sandbox.url, "harbor_desk") as client:
        assert len({not_visible(client, patron) for patron in (999_999, 1002, 1012)}) == 1
        for barcode in ("20000000001002", "20000000001012", "nobody's", "200\0"):
            with pytest.raises(NotFoundError, match="no visible patron has this barcode"):
                hooks.block_decision_by_barcode(client, barcode)
        for group in (424_242, 1003):
            with pytest.raises(NotFoundError, match="visible"):
                hooks.group_summary(client, group)


def calls_for_release(release: str) -> int:
    """Return how many calls ask for the release: one more for a build from git, like the latest."""
    return 2 if release == LATEST else 1


@pytest.mark.parametrize("account", ["admin", "consortium_staff", "harbor_desk"])
@pytest.mark.apache(reason="it counts calls")
@pytest.mark.differs("copies-unsaid", reason="plain reads are taken to come from copies")
def test_few_calls_when_everything_is_cold_and_two_from_then_on(sandbox: Sandbox, account: str, release: str) -> None:
    with desk(sandbox.url, account) as client:
        cold = calls(client)
        hooks.patron_summary(client, 1001)
        warm = calls(client)
        for patron in (*OKONKWO, 1015):
            hooks.patron_summary(client, patron)
        after = calls(client)
        hooks.group_summary(client, 1001)
    # The logout counts too.
    assert (warm - cold, after - warm, calls(client) - after - 1) == (12 + calls_for_release(release), 7 * 2, 2)


@pytest.mark.differs("copies-unsaid", reason="plain reads are taken to come from copies")
@pytest.mark.apache(reason="it counts calls")
def test_a_large_group_costs_no_more(sandbox: Sandbox) -> None:
    for patron in PATRONS:
        join(sandbox, patron, 1001)
    with desk(sandbox.url, "consortium_staff") as client:
        hooks.patron_summary(client, 1001)
        before = calls(client)
        assert hooks.patron_summary(client, 1040).group.member_count > 50
        assert calls(client) - before == 2


@pytest.mark.parametrize("times", [1, 99])
@pytest.mark.differs("copies-unsaid", reason="plain reads are taken to come from copies", strict=False)
def test_balances_that_lack_a_visible_member(sandbox: Sandbox, proxy: FaultProxy, times: int) -> None:
    owe(sandbox, 1012, (MILL, "9.00"))
    join(sandbox, 1012, 1001)
    alter_payloads(proxy, BALANCES, lambda owed: [one for one in owed if int(one["usr"]) != 1001], times=times)
    with desk(proxy.url, "harbor_desk") as client:
        if times == 1:
            assert hooks.patron_summary(client, 1001).group.group_fines == Decimal("37.10")
        else:
            with pytest.raises(DataError):
                hooks.patron_summary(client, 1001)


@pytest.mark.differs("copies-unsaid", reason="plain reads are taken to come from copies")
def test_two_calls_more_when_somebody_is_hidden(sandbox: Sandbox, proxy: FaultProxy, release: str) -> None:
    join(sandbox, 1012, 1001)
    with desk(proxy.url, "harbor_desk") as client:
        proxy.seen.clear()
        hooks.patron_summary(client, 1001)
        named = [method for method in proxy.seen if method]  # "" is the IDL
        assert (len(named), proxy.seen.count("")) == (13 + calls_for_release(release), 1)
        proxy.seen.clear()
        hooks.patron_summary(client, 1001)
        members, *beside, check = proxy.seen
        assert (members, check) == ("open-ils.pcrud.search.au.atomic", "open-ils.pcrud.search.aou.atomic")
        assert sorted(beside) == [BALANCES, MEMBERS]


def test_sight_through_the_home_library_alone_is_not_trusted_with_what_is_missing(sandbox: Sandbox) -> None:
    change_rows(sandbox, "DELETE FROM work_orgs WHERE usr = ?", HARBOR_DESK)
    owe(sandbox, 1012)
    join(sandbox, 1012, 1001)
    with desk(sandbox.url, "harbor_desk") as client:
        group = hooks.patron_summary(client, 1001).group
    assert (len(group.members), group.hidden_member_count) == (6, 1)


@pytest.mark.differs("copies-unsaid", reason="plain reads are taken to come from copies")
def test_what_the_ils_refuses_to_tell_about_hidden_members_is_no_smaller_total(
    sandbox: Sandbox, proxy: FaultProxy
) -> None:
    join(sandbox, 1012, 1001)
    for refused in (BALANCES, MEMBERS):
        proxy.answer = lambda call, refused=refused: PERMISSION_DENIED if call.method == refused else None
        with desk(proxy.url, "harbor_desk") as client, pytest.raises(PermissionDeniedError):
            hooks.patron_summary(client, 1001)


@pytest.mark.differs("copies-unsaid", reason="plain reads are taken to come from copies")
def test_hidden_members_who_leave_between_two_calls_are_in_no_total(sandbox: Sandbox, proxy: FaultProxy) -> None:
    owe(sandbox, 1012, (MILL, "9.00"))
    owe(sandbox, 1013)
    join(sandbox, 1013, 1001)

    join(sandbox, 1012, 1001)

    def leaves(call: Call) -> None:
        if call.method == BALANCES:
            join(sandbox, 1012, 777_000)

    proxy.before_answer = leaves  # before the answer that has the balance goes on
    with desk(proxy.url, "harbor_desk") as client:
        group = hooks.patron_summary(client, 1001).group
    assert (group.group_fines, group.member_count, group.hidden_fines) == (Decimal("28.10"), 7, Decimal("0.00"))


@pytest.mark.differs("oneself-hidden", reason="nobody shows them who they are")
def test_staff_see_their_own_fines_even_where_they_see_nobody_elses(sandbox: Sandbox) -> None:
    take_away(sandbox, "VIEW_USER", user=HARBOR_DESK)
    owe(sandbox, HARBOR_DESK, (HARBOR, "8.00"))
    with desk(sandbox.url, "harbor_desk") as client:
        assert client.gateway.pcrud.search("mous", {"usr": HARBOR_DESK}) == []
        assert hooks.block_decision(client, HARBOR_DESK).over_limit


@pytest.mark.long
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    others=st.lists(st.tuples(st.sampled_from(OKONKWO[1:]), st.integers(-900, 90_000)), max_size=4),
    leaving=st.sets(st.sampled_from(OKONKWO[1:])),
    joining=st.sets(st.sampled_from((1013, 1032, 1039))),
    own=st.sampled_from(("4.99", "5.00", "5.01", "12.00")),
    policy=st.sampled_from((PolicySettings(), BY_ILS)),
)
def test_what_others_owe_never_changes_a_decision(
    sandbox: Sandbox,
    others: list[tuple[int, int]],
    leaving: set[int],
    joining: set[int],
    own: str,
    policy: PolicySettings,
) -> None:
    sandbox.reset()
    owe(sandbox, 1001, (HARBOR, own))
    with desk(sandbox.url, "consortium_staff", policy=policy) as client:
        checker = Checker(client.gateway, policy)
        before, checked = hooks.block_decision(client, 1001), checker.of_user(1001)
        for user, cents in others:
            owe(sandbox, user, (HARBOR, str(Decimal(cents) / 100)))
        for user in leaving:
            join(sandbox, user, 777_000 + user)
        for user in joining:
            join(sandbox, user, 1001)
        assert hooks.block_decision(client, 1001) == before
        alone, together = checker.of_user(1001), checker.of_user(1001, all_members=True)
        summary = hooks.patron_summary(client, 1001)
    assert (alone.checked, alone.penalties) == (checked.checked, checked.penalties)
    assert checked.checked[0] in together.checked
    assert summary.member.decided.explanation == before.explanation
    assert summary.group.member_count == len(OKONKWO) - len(leaving) + len(joining)


def test_what_was_read_in_one_request_serves_the_next(sandbox: Sandbox) -> None:
    """The first request's gateway is closed when the second still has to read another library's thresholds."""
    with sandbox._store.transaction() as connection:
        for permission in ("VIEW_GROUP_PENALTY_THRESHOLD", "VIEW_USER_TRANSACTIONS"):
            connection.execute("INSERT OR IGNORE INTO grants VALUES (?, ?, 1)", [NORTH_MANAGER, permission])
    reference = ReferenceData(BY_ILS)
    with gateway_of(sandbox.url, "north_manager") as gateway:
        decisions = []
        for patron in (1001, 1007):  # with different home libraries
            with gateway.acting_as(gateway.token).within(60) as view:
                client = Client(view, account="north_manager", policy=BY_ILS, reference=reference)
                decisions.append(hooks.block_decision(client, patron).limit.amount)
    assert decisions == [Decimal("5.01"), Decimal("5.01")]


@pytest.mark.apache(reason="it counts calls")
@pytest.mark.differs("copies-unsaid", reason="plain reads are taken to come from copies")
def test_reference_data_is_kept_for_a_session_and_for_a_while(sandbox: Sandbox) -> None:
    clock = Clock()
    reference = ReferenceData(PolicySettings(), clock=clock)
    with desk(sandbox.url, "harbor_desk", reference=reference) as client, desk(sandbox.url, "admin") as other:
        hooks.patron_summary(client, 1001)
        shared = Client(other.gateway, account="admin", reference=reference)
        assert hooks.patron_summary(shared, 1012).member.id == 1012  # not with what the other session may see
        assert not_visible(client, 1012)
        before = calls(client)
        clock.now += SECONDS + 1
        hooks.patron_summary(client, 1001)
        assert calls(client) - before == 10


def test_a_session_that_has_ended_is_no_smaller_total(sandbox: Sandbox, tmp_path: Path) -> None:
    with gateway_of(sandbox.url, "harbor_desk") as gateway:
        view = gateway.acting_as(gateway.token)
        client = client_of(view, tmp_path)
        hooks.patron_summary(client, 1001)
        gateway.call("open-ils.auth", "open-ils.auth.session.delete", TOKEN)
        with pytest.raises(EvergreenGroupsError, match="session"):
            hooks.patron_summary(client, 1001)


def test_a_group_too_large_for_one_answer_is_refused(
    sandbox: Sandbox, admin: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evergreen_groups.groups.panel.MAX_MEMBERS", 5)
    client = Client(admin, account="admin")
    with pytest.raises(DataError, match="more than 5 members"):
        hooks.patron_summary(client, 1001)
    assert hooks.patron_summary(client, 1007).group.member_count == 5
