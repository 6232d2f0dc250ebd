"""Group Member Details: each member's fines and items, counted as the library counts them, and the number of calls."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support.circulators import ACCOUNT, USER, make_stock_circulator, take_away
from support.debts import owe
from support.fault_proxy import Call, FaultProxy, HttpAnswer, alter_payloads
from support.gateways import client_of, gateway_of
from support.gateways import logged_in as desk

from evergreen_groups.client import Client
from evergreen_groups.desk import GroupDetails
from evergreen_groups.errors import DataError, NotFoundError, PermissionDeniedError, UnexpectedAnswerError
from evergreen_groups.gateway import TOKEN
from evergreen_groups.groups import StandingDifference
from evergreen_groups.ils import CirculationCounts
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import PolicySettings
from evergreen_groups.values import Total

COUNT = "open-ils.actor.user.checked_out.count"
RANGED = "open-ils.actor.grp_penalty_threshold.ranged.retrieve.atomic"
HARBOR, PINE, MILL = 11, 12, 21
ID = 28
"""Position of the patron's id in a row of the class au."""


def lend(sandbox: Sandbox, patron: int, library: int, **values: Any) -> int:
    """Check something out to a patron, and return the circulation's id."""
    due = (datetime.now(UTC) + timedelta(days=9)).strftime("%Y-%m-%dT%H:%M:%S+0000")
    return sandbox._store.insert(
        "circ", {"usr": patron, "circ_lib": library, "fine_interval": "1 day", "due_date": due, **values}
    )


def test_every_member_with_fines_and_items(client: Client) -> None:
    details = client.details.of_barcode("20000000001017")
    assert details.group.number == 1004
    found = {
        member.id: (member.own_fines, member.over_limit, details.circulations[member.id])
        for member in details.group.members
    }
    assert found == {
        1015: (Decimal("14.75"), True, CirculationCounts(out=2, overdue=0, lost=0)),
        1016: (Decimal("9.30"), True, CirculationCounts(out=2, overdue=1, lost=1)),
        1017: (Decimal("3.10"), False, CirculationCounts(out=1, overdue=1, lost=0)),
        1018: (Decimal("-1.50"), False, CirculationCounts(out=0, overdue=0, lost=0)),
    }
    assert details.group.group_fines == Decimal("25.65")
    assert details.all_circulations == CirculationCounts(out=5, overdue=2, lost=1)


@pytest.mark.parametrize(
    ("settings", "out"),
    [
        ({}, {1015: 2, 1016: 2}),
        ({"circ.do_not_tally_claims_returned": True}, {1015: 1, 1016: 2}),
        ({"circ.tally_lost": True}, {1015: 2, 1016: 3}),
    ],
)
def test_the_librarys_settings_decide_what_counts_as_out(
    proxy: FaultProxy, tmp_path: Path, settings: dict[str, bool], out: dict[int, int]
) -> None:
    names = ("circ.do_not_tally_claims_returned", "circ.tally_lost")
    answer = {name: {"org": 1, "value": settings[name]} if name in settings else None for name in names}

    def answer_settings(call: Call) -> object | None:
        return answer if call.method == "open-ils.actor.ou_setting.ancestor_default.batch" else None

    proxy.answer = answer_settings
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        details = client_of(gateway, tmp_path).details.of_group(1004)
    assert {id: counts.out for id, counts in details.circulations.items() if counts and id in out} == out


def test_a_group_of_one_and_one_that_nobody_is_in(client: Client) -> None:
    assert [member.id for member in client.details.of_user(1039).group.members] == [1039]
    with pytest.raises(NotFoundError, match="group 424242 has no visible member"):
        client.details.of_group(424242)


def test_items_that_the_account_may_not_see_are_unknown_and_not_none_out(sandbox: Sandbox, proxy: FaultProxy) -> None:
    take_away(sandbox, "VIEW_CIRCULATIONS")
    with desk(proxy.url, ACCOUNT) as client:
        details = client.details.of_group(1001)
    assert set(details.circulations.values()) == {None}
    assert details.all_circulations.totals == (Total(0, exact=False),) * 3
    assert not details.complete
    assert COUNT not in proxy.seen, "it is known that nothing would be said"


def test_what_pcrud_hides_is_asked_for_patron_by_patron(sandbox: Sandbox, proxy: FaultProxy) -> None:
    lend(sandbox, 1001, HARBOR)
    lend(sandbox, 1001, MILL)
    lend(sandbox, 1002, HARBOR)
    lend(sandbox, 1003, MILL, checkin_time="2026-11-01T10:00:00+0000")
    with desk(proxy.url, make_stock_circulator(sandbox)) as client:
        details = client.details.of_group(1001)
    assert [details.circulations[id] for id in (1001, 1002, 1003)] == [
        CirculationCounts(out=number, overdue=0, lost=0) for number in (2, 1, 0)
    ]
    assert proxy.seen.count(COUNT) == 1


@pytest.mark.parametrize("who", ["a member", "has set a penalty"])
def test_what_is_hidden_is_found_when_the_clerk_is_among_the_rows(
    sandbox: Sandbox, proxy: FaultProxy, who: str
) -> None:
    """The clerk's own row proves that no circulation is hidden, unless it was returned for another reason."""
    if who == "a member":
        sandbox._store.update("au", USER, {"usrgroup": 1001})
    else:
        sandbox._store.insert("ausp", {"usr": 1002, "org_unit": HARBOR, "standing_penalty": 25, "staff": USER})
    account = make_stock_circulator(sandbox)
    with desk(proxy.url, account) as client:
        assert client.details.of_group(1001).circulations[1001] == CirculationCounts(0, 0, 0)
        assert COUNT not in proxy.seen
        lend(sandbox, 1001, MILL)
        details = client.details.of_user(1001, names_of=[1052, 1001, USER])
        assert client.details.of_group(1001).circulations == details.circulations
    assert details.circulations[1001] == CirculationCounts(1, 0, 0)
    assert (USER in details.names) is (who != "a member")
    assert details.names[1052] == "Desrosiers, Mireille"
    assert 1001 not in details.names, "a member is among the members"


@pytest.mark.parametrize("stop_date", [None, "2026-01-01T00:00:00+0000"])
@pytest.mark.parametrize("member", [1026, 1027])
def test_the_staff_of_a_penalty_is_no_proof_that_no_member_is_hidden(
    sandbox: Sandbox, member: int, stop_date: str | None
) -> None:
    """An archived penalty, a hidden member's penalty, or an extra patron who is named doesn't count as proof."""
    sandbox._store.insert(
        "ausp", {"usr": member, "org_unit": 12, "standing_penalty": 25, "staff": 1001, "stop_date": stop_date}
    )
    with desk(sandbox.url, "north_manager") as client:
        details = client.details.of_user(1026, names_of=[1029])
        assert details.group.hidden_member_count == 1
        assert client.details.of_group(1006).group.hidden_member_count == 1
        assert client.details.of_user(1032, names_of=[1029, 1026]).group.hidden_member_count == 0
    assert details.names.keys() <= {1001, 1029}


def test_an_account_that_sees_no_patrons_is_told_which_permission_it_lacks(sandbox: Sandbox) -> None:
    take_away(sandbox, "VIEW_USER")
    with desk(sandbox.url, "north_manager") as client, pytest.raises(PermissionDeniedError) as refused:
        client.details.of_group(1001)
    assert refused.value.permission == "VIEW_USER"


def test_of_many_whose_items_are_hidden_the_first_are_asked_for(sandbox: Sandbox, proxy: FaultProxy) -> None:
    for patron in range(1001, 1007):
        lend(sandbox, patron, MILL)
    sandbox._store.update("au", 1052, {"usrgroup": 1001})
    lend(sandbox, 1052, MILL)
    with desk(proxy.url, make_stock_circulator(sandbox)) as client:
        details = client.details.of_group(1001)
    assert proxy.seen.count(COUNT) == 6
    assert [id for id, counts in details.circulations.items() if counts is None] == [1052]
    assert not details.complete


def test_what_is_out_of_a_patron_of_another_library_is_what_the_ils_says_of_it(
    sandbox: Sandbox, proxy: FaultProxy
) -> None:
    lend(sandbox, 1001, MILL)
    proxy.nothing = lambda call: call.method == COUNT
    with desk(proxy.url, make_stock_circulator(sandbox)) as client:
        details = client.details.of_group(1001)
    assert details.circulations[1001] is None
    assert details.circulations[1002] == CirculationCounts(0, 0, 0)


@pytest.mark.parametrize("count", [None, "", {}, [], False, True, -1, "x", "\u0663", "1.0"])
def test_a_count_that_is_none_is_not_nought(sandbox: Sandbox, proxy: FaultProxy, count: object) -> None:
    lend(sandbox, 1001, MILL)
    counts = {"out": 0, "claims_returned": 0, "overdue": count, "lost": 0, "long_overdue": 0}
    proxy.answer = lambda call: counts if call.method == COUNT else None
    with (
        desk(proxy.url, make_stock_circulator(sandbox)) as client,
        pytest.raises(UnexpectedAnswerError, match="counts of circulations"),
    ):
        client.details.of_group(1001)


def is_part_of(some: CirculationCounts | None, counts: CirculationCounts | None) -> bool:
    """Check that these counts are incomplete and don't exceed the true ones."""
    assert some is not None
    assert counts is not None
    return not some.complete and (
        some.out <= counts.out and some.overdue <= counts.overdue and some.lost <= counts.lost
    )


def counted_one_by_one(client: Client, patrons: list[int]) -> dict[int, CirculationCounts | None]:
    """Return the counts of ``checked_out.count`` for each patron, added up as in the staff client."""
    found: dict[int, CirculationCounts | None] = {}
    for patron in patrons:
        payload = client.gateway.call("open-ils.actor", COUNT, TOKEN, patron, expect="optional").value
        if payload is None:
            found[patron] = None
            continue
        overdue = payload["overdue"] + payload["long_overdue"]
        out = payload["out"] + overdue + payload["claims_returned"]
        found[patron] = CirculationCounts(out, overdue, payload["lost"])
    return found


@pytest.mark.parametrize("account", ["consortium_staff", "north_manager", ACCOUNT])
def test_all_sample_groups_are_counted_as_each_patron_is(sandbox: Sandbox, account: str) -> None:
    with desk(sandbox.url, account) as client:
        groups = {row.usrgroup for row in client.gateway.pcrud.search("au", {"id": {">": 1000}, "deleted": "f"})}
        for group in groups:
            found = client.details.of_group(group).circulations
            assert found == counted_one_by_one(client, list(found))
            visible = client.details.of_group(group, exact=False).circulations
            assert all(counts == found[id] or is_part_of(counts, found[id]) for id, counts in visible.items())


def test_penalties_with_who_set_them_and_profiles(client: Client, sandbox: Sandbox) -> None:
    sandbox._store.insert("ausp", {"usr": 1002, "org_unit": HARBOR, "standing_penalty": 25, "staff": USER})
    sandbox._store.insert("ausp", {"usr": 1002, "org_unit": HARBOR, "standing_penalty": 20, "staff": USER})
    archived = {"usr": 1003, "org_unit": 1, "standing_penalty": 1, "stop_date": "2026-01-01T00:00:00+0000"}
    sandbox._store.insert("ausp", archived)
    owe(sandbox, 1001, (HARBOR, "6.00"))
    sandbox._store.insert("ausp", {"usr": 1004, "org_unit": 1, "standing_penalty": 1})
    details = client.details.of_user(1001)
    assert [(one.kind.name, one.staff) for one in details.penalties[1002]] == [("STAFF_CHR", 4), ("ALERT_NOTE", 4)]
    assert details.penalties[1003] == ()
    standings = {member.id: details.standing(member) for member in details.group.members}
    assert {id: one.difference for id, one in standings.items() if one.difference} == {
        1001: StandingDifference.NOT_YET_BLOCKED,
        1004: StandingDifference.NOW_WITHIN_LIMIT,
    }
    assert [one.kind.name for one in standings[1002].other_blocks] == ["STAFF_CHR"]
    assert details.profiles[1001] == "Adult"
    assert details.accounts[1003].juvenile


def test_limits_that_the_account_may_not_see_are_unknown_and_the_rest_is_there(
    sandbox: Sandbox, proxy: FaultProxy
) -> None:
    for patron in (1002, 1003):
        sandbox._store.update("au", patron, {"home_ou": PINE})
    account = make_stock_circulator(sandbox)
    with desk(proxy.url, account, policy=PolicySettings(limit="ils")) as client:
        details = client.details.of_user(1001)
        assert proxy.seen.count(RANGED) == 2, "once for each library"
        client.details.of_user(1001)
        assert proxy.seen.count(RANGED) == 2
    known = {member.id: member.over_limit_if_known for member in details.group.members}
    assert known == {1001: False, 1002: None, 1003: None, 1004: False, 1005: False, 1006: False}
    assert details.group.group_fines == Decimal("28.10")
    assert not details.complete


def test_what_was_added_just_now_is_known() -> None:
    with Sandbox() as sandbox, desk(sandbox.url, "consortium_staff") as client:  # not shared: org units are cached
        client.details.of_user(1001)
        store = sandbox._store
        store.insert("aou", {"id": 77, "shortname": "NEW", "name": "New", "parent_ou": 2, "ou_type": 3})
        store.insert("csp", {"id": 177, "name": "NEW_KIND", "label": "New", "block_list": "CIRC"})
        store.insert("pgt", {"id": 277, "name": "New", "parent": 2})
        for name in ("orgs", "profiles"):
            vars(store).pop(name, None)
            getattr(store, name)
        store.insert("ausp", {"usr": 1002, "org_unit": 77, "standing_penalty": 177})
        store.update("au", 1003, {"profile": 277, "home_ou": 77})
        details = client.details.of_user(1001)
    assert [one.kind.name for one in details.penalties[1002]] == ["NEW_KIND"]
    assert details.profiles[1003] == "New"


def test_a_deleted_patron_is_not_found(client: Client, sandbox: Sandbox) -> None:
    sandbox._store.update("au", 1002, {"deleted": "t"})
    with pytest.raises(NotFoundError, match="no visible patron has this id"):
        client.details.of_user(1002)
    for unknown in ("20000000001002", "20009999999999", "20000000001002\0"):
        with pytest.raises(NotFoundError, match="no visible patron has this barcode"):
            client.details.of_barcode(unknown)


def test_penalties_that_did_not_come_are_not_none(client: Client, proxy: FaultProxy) -> None:
    with desk(proxy.url, "consortium_staff") as counted:
        position = counted.gateway.idl("au")["au"].positions["standing_penalties"]
        client.gateway.login()
        answer = client.gateway.call(
            "open-ils.pcrud", "open-ils.pcrud.search.au.atomic", TOKEN, {"usrgroup": 1001, "deleted": "f"}, {"limit": 9}
        ).value
        assert all(row["__p"][position] is None for row in answer)
        proxy.answer = lambda call: answer if call.method == "open-ils.pcrud.search.au.atomic" else None
        with pytest.raises(DataError, match="a patron's penalties aren't a list"):
            counted.details.of_user(1001)


@pytest.mark.parametrize("wrong", [1034, 99_999])
def test_the_accounts_row_under_another_id_is_no_proof_that_no_member_is_hidden(
    sandbox: Sandbox, proxy: FaultProxy, wrong: int
) -> None:
    """The account's row proves that no circulation is hidden. Only a different row proves that no member is."""
    with desk(sandbox.url, "north_manager") as client:
        right = client.details.of_user(1026)
    assert right.group.hidden_member_count == 1
    altered: list[Call] = []

    def alter(call: Call, answer: HttpAnswer) -> HttpAnswer | None:
        if call.method != "open-ils.pcrud.search.au.atomic" or "union" not in str(call.parameters):
            return None
        envelope = json.loads(answer.body)
        (own,) = [row for row in envelope["payload"][0] if row["__p"][ID] == right.user]
        own["__p"][ID] = wrong
        altered.append(call)
        return HttpAnswer.of(envelope)

    proxy.alter = alter
    with desk(proxy.url, "north_manager") as client:
        found = client.details.of_user(1026)
    assert altered
    assert (found.group.group_fines, found.group.hidden_member_count) == (right.group.group_fines, 1)


# --- With hidden members ---
#
# The check for them is part of the call for items out: a row of an outside patron's circulation serves as the control,
# and all other rows must belong to members.


OKONKWO, HIDDEN, STRANGER = 1001, 1012, 1015
ITEMS, CHECK = "open-ils.pcrud.search.circ.atomic", "open-ils.pcrud.search.aou.atomic"
MEMBERS = "open-ils.actor.usergroup.members.retrieve"
USR = 22
"""Position of the patron in a row of the class circ."""
Rows = list[dict[str, Any]]


@pytest.fixture
def clerk(sandbox: Sandbox, proxy: FaultProxy) -> Iterator[Client]:
    """The client of a circulator who sees five of six Okonkwos, all with items out. Reference data is cached."""
    account = make_stock_circulator(sandbox)
    sandbox._store.update("au", HIDDEN, {"usrgroup": OKONKWO})
    owe(sandbox, HIDDEN, (MILL, "9.00"))
    for patron in (OKONKWO, 1002):
        lend(sandbox, patron, HARBOR)
    with gateway_of(proxy.url, account) as gateway:
        gateway.login()
        client = Client(gateway, account=account)
        client.details.of_user(OKONKWO)
        proxy.seen.clear()
        yield client


def is_strangers(row: dict[str, Any]) -> bool:
    return not 1001 <= row["__p"][USR] <= 1006


def figures(details: GroupDetails) -> tuple[int, Decimal | None, Decimal, CirculationCounts | None]:
    group = details.group
    return group.hidden_member_count, group.hidden_fines, group.group_fines, details.all_circulations


def test_an_outside_patrons_row_is_the_control(clerk: Client, proxy: FaultProxy) -> None:
    true = alter_payloads(proxy, ITEMS, lambda rows: rows)
    details = clerk.details.of_user(OKONKWO, exact=False)
    assert (details.group.hidden_member_count, details.group.hidden_fines) == (1, Decimal("9.00"))
    assert (proxy.seen.count(ITEMS), proxy.seen.count(CHECK)) == (1, 0)
    assert [is_strangers(row) for row in true[0]].count(True) == 1
    assert details.circulations[1002] == CirculationCounts(1, 0, 0)


def under_another_id(rows: Rows) -> Rows:
    for row in filter(is_strangers, rows):
        row["__p"][USR] = OKONKWO
    return rows


@pytest.mark.differs("no-count", reason="whether there are more rows than came is asked as well")
@pytest.mark.parametrize(
    "change", [under_another_id, lambda rows: [row for row in rows if not is_strangers(row)], lambda _rows: []]
)
def test_without_the_control_row_separate_calls_are_made(
    clerk: Client, proxy: FaultProxy, change: Callable[[Rows], Rows]
) -> None:
    """The control row may have been mistaken for a member's, so discard the whole answer."""
    right = figures(clerk.details.of_user(OKONKWO, exact=False))
    proxy.seen.clear()
    alter_payloads(proxy, ITEMS, change, times=1)
    assert figures(clerk.details.of_user(OKONKWO, exact=False)) == right
    assert (proxy.seen.count(ITEMS), proxy.seen.count(CHECK)) == (2, 1)


def a_members_for_a_strangers(rows: Rows) -> Rows:
    next(row for row in rows if not is_strangers(row))["__p"][USR] = STRANGER
    return rows


@pytest.mark.parametrize("change", [a_members_for_a_strangers, lambda rows: rows + rows[-1:], lambda rows: rows * 2])
def test_other_rows_are_refused(clerk: Client, proxy: FaultProxy, change: Callable[[Rows], Rows]) -> None:
    alter_payloads(proxy, ITEMS, change)
    with pytest.raises(DataError):
        clerk.details.of_user(OKONKWO, exact=False)


@pytest.mark.parametrize(
    "wrong", [lambda ids: [*ids, 99_999], lambda ids: [99_999 if id == HIDDEN else id for id in ids]]
)
@pytest.mark.parametrize(
    "times",
    [1, pytest.param(99, marks=pytest.mark.differs("copies-unsaid", reason="they are asked for by another method"))],
)
def test_members_that_are_not_the_groups_are_told_by_it(
    clerk: Client, sandbox: Sandbox, proxy: FaultProxy, wrong: Callable[[list[int]], list[int]], times: int
) -> None:
    owe(sandbox, HIDDEN)  # owes nothing, so balances don't reveal the member
    alter_payloads(proxy, MEMBERS, wrong, times=times)
    if times == 1:
        group = clerk.details.of_user(OKONKWO, exact=False).group
        assert (group.hidden_ids, group.hidden_fines) == (frozenset({HIDDEN}), Decimal("0.00"))
    else:
        with pytest.raises(DataError, match="not the members of the requested groups"):
            clerk.details.of_user(OKONKWO, exact=False)


@pytest.mark.differs("no-count", reason="whether there are more rows than came is asked as well")
def test_more_circulations_than_fit_are_asked_for_apart(
    clerk: Client, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = figures(clerk.details.of_user(OKONKWO, exact=False))
    monkeypatch.setattr("evergreen_groups.ils.circulations._MOST_ROWS_UNDER_CONDITION", 3)
    proxy.seen.clear()
    assert figures(clerk.details.of_user(OKONKWO, exact=False)) == right
    assert (proxy.seen.count(ITEMS), proxy.seen.count(CHECK)) == (2, 1)


def test_without_permission_nothing_is_asked_about_items(clerk: Client, proxy: FaultProxy, sandbox: Sandbox) -> None:
    take_away(sandbox, "VIEW_CIRCULATIONS")
    clerk.gateway.logout()
    clerk.gateway.login()
    details = clerk.details.of_user(OKONKWO, exact=False)
    assert not details.all_circulations.complete
    assert details.group.hidden_fines == Decimal("9.00")
    assert ITEMS not in proxy.seen


@pytest.mark.long
def test_a_question_that_is_too_large_for_a_request_is_asked_apart(
    clerk: Client, proxy: FaultProxy, sandbox: Sandbox
) -> None:
    """The filter also contains the hidden members' ids, which are longer in a large consortium."""
    with sandbox._store.transaction() as connection:
        cursor = connection.execute("SELECT * FROM au WHERE id = 1002")
        known = dict(zip([column[0] for column in cursor.description], cursor.fetchone(), strict=True))
        for id in range(2_000_000_000, 2_000_000_985):
            home = HARBOR if id < 2_000_000_450 else MILL
            row = {**known, "id": id, "usrname": f"large{id}", "home_ou": home}
            marks = ", ".join("?" * len(row))
            connection.execute(f"INSERT INTO au ({', '.join(row)}) VALUES ({marks})", list(row.values()))
    group = clerk.details.of_user(OKONKWO, exact=False).group
    assert (len(group.members), group.hidden_member_count) == (6 + 450, 1 + 535)
    assert proxy.seen.count(CHECK) == 1
