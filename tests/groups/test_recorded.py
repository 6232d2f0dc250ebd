"""Members and balances from a real Evergreen, by the id of each recorded exchange."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace

import pytest
from support.recorded import gateway_of, params

from evergreen_groups.groups import GroupSearch, GroupViewer, PatronState, families, family_reader
from evergreen_groups.groups.hidden import (
    assign_to_groups,
    membership_conditions,
    read_member_ids,
    read_visible_balances,
)
from evergreen_groups.groups.panel import FamilyQuery
from evergreen_groups.groups.search import HighFines, IdRange
from evergreen_groups.ils import CirculationReader
from evergreen_groups.ils.circulations import CirculationTally, late_circulations


@pytest.mark.parametrize(
    ("exchange_id", "group", "owed"),
    [
        ("groups-002", 6001, {5001: "4.50", 5002: "4.90", 5003: "3.00"}),  # 5004 has no open transaction
        ("groups-008", 6004, {5012: "-3.25", 5013: "12.00", 5014: "0.00"}),  # a credit, and one who has paid up
        ("groups-026", 6013, {5040: "2.00", 5041: "23.50", 5042: "0.00"}),  # 5042 came as 0.0
    ],
)
def test_balances(exchange_id, group, owed):
    with gateway_of(exchange_id) as gateway:
        balances = read_visible_balances(gateway, [group])
    assert {patron: str(amount) for patron, amount in balances.items()} == owed
    assert all(type(amount) is Decimal for amount in balances.values())


def test_members_of_several_groups_in_one_list():
    with gateway_of("groups-075") as gateway:
        assert read_member_ids(gateway, [6001, 6002]) == frozenset(range(5001, 5009))


def test_balances_of_several_groups_in_one_list():
    """Hidden members are included: patron 14 in one group, patron 21 in the other."""
    with gateway_of("desk-007") as gateway:
        balances = read_visible_balances(gateway, [244, 245])
    assert balances.keys() == {14, 21, *range(244, 252)}
    assert sum(balances.values()) == Decimal("29.75")


@pytest.mark.parametrize(("exchange_id", "class_id", "rows"), [("desk-008", "au", 244), ("desk-009", "aou", 1)])
def test_rows_say_in_which_group_each_hidden_member_is(exchange_id, class_id, rows):
    """Six rows for three members of two groups."""
    asked = (class_id, list(range(rows, rows + 6)))
    with gateway_of(exchange_id) as gateway:
        found = assign_to_groups(
            gateway, [244, 245], frozenset({2, 14, 21}), 11, owing_nothing=frozenset({2}), rows=asked
        )
    assert found == {244: {21}, 245: {2, 14}}


def test_a_barcode_is_found_in_its_own_letters_alone():
    with gateway_of("pcrud-068", alike=False) as gateway:
        assert families.find_card(gateway, "2000000000502B") is None


@pytest.mark.parametrize(
    ("exchange_id", "group", "members", "complete"), [("desk-001", 244, 6, False), ("desk-002", 245, 2, True)]
)
def test_a_witness_says_that_nobody_is_hidden(exchange_id, group, members, complete):
    """In 244 a hidden member has a penalty that a visible colleague has set, who is not among the rows."""
    viewer = GroupViewer(264, frozenset({4, 6, 8, 9}), everywhere=False, with_staff=True)
    with gateway_of("releases-056", exchange_id) as gateway:
        found = family_reader(gateway).of_group(group, viewer)
    assert (len(found.ids), found.complete) == (members, complete)
    assert {row.staff for row in found.penalties} - {1, 230, 231, None} == set()
    assert json.dumps(params(exchange_id)[1]) == json.dumps(FamilyQuery.of_number(group, viewer).where)


@pytest.mark.parametrize(("exchange_id", "total"), [("desk-004", 4), ("desk-005", 3)])
def test_what_members_have_out_with_a_row_that_says_who_is_hidden(exchange_id, total):
    """In group 17, member 14 and one of 17's own circulations are hidden."""
    org_units = SimpleNamespace(ids=frozenset(range(1, 12)))
    homes = {4: 5, 17: 4, 20: 4}
    (condition,) = membership_conditions(17, {14}, total)
    with gateway_of(exchange_id) as gateway:
        reader = CirculationReader(gateway, org_units, CirculationTally(), {2, 4, 5, 8}, 122)
        counted = reader.count_if(condition, homes)
        asked = reader._conditional_query(condition, list(homes))
    assert json.dumps(asked) == json.dumps(params(exchange_id)[1])
    if exchange_id == "desk-004":
        assert {id: (counts.out, counts.lost, counts.complete) for id, counts in counted.items()} == {
            4: (0, 6, False),
            17: (5, 0, False),
            20: (6, 0, False),
        }
    else:
        assert counted is None


def test_members_with_the_state_of_their_accounts():
    """One query returns the members of groups that owe enough: juvenile, barred and expired ones too."""
    states: dict[int, PatronState] = {}

    def take(patron, values):
        states[patron] = PatronState.of(values, datetime.now(UTC))

    with gateway_of("members-001") as gateway:
        search = GroupSearch(gateway, HighFines(Decimal("25.00")), extra_fields=PatronState.FIELDS, take=take)
        rows = search._search(IdRange(6100, 6150), 60)
    assert [row.id for row in rows] == [6103, 47191, 6126, 6127, 6128, 6130, 177900, 6142, 182006, 6147, 134122]
    assert sorted({row.group for row in rows}) == [6103, 6126, 6130, 6142, 6147]
    assert states[6103] == PatronState(juvenile=True, barred=False, expired=False)
    assert [id for id in sorted(states) if states[id].expired] == [6130, 47191, 182006]
    assert set(states) == {row.id for row in rows}


def test_the_families_of_two_who_are_to_be_moved():
    """One answer has both families and their cards; one patron is named by barcode."""
    of_people = ("desk-010", "desk-011", "desk-012", "desk-013", "desk-014", "contacts-021", "contacts-022")
    with gateway_of("releases-056", *of_people) as gateway:
        found = family_reader(gateway).named([246, "29990000000007"], [246], with_contacts=True)
    members = {number: [member.id for member in group.members] for number, group in found.groups.items()}
    assert members == {244: [244, 245, 246, 247, 248, 249], 245: [250, 251], 246: [252]}
    assert {reference: card.member.id for reference, card in found.cards.items()} == {246: 246, "29990000000007": 250}
    assert [member.barcode for member in found.members.values()] == [f"299900000000{n:02}" for n in range(1, 10)]
    assert str(found.own_fines[250]) == "12.50"
    assert found.contacts[250].addresses == found.contacts[251].addresses != found.contacts[246].addresses


@pytest.mark.parametrize(
    ("exchange_id", "query", "within"),
    [
        ("members-001", HighFines(Decimal(25)), IdRange(6100, 6150)),
        (
            "members-002",
            HighFines(Decimal(5), more_than_one=True, homes=(4, 5), visible_orgs=(4,)),
            IdRange(6100, 6160),
        ),
    ],
)
def test_the_question_is_the_one_whose_cost_was_measured(exchange_id, query, within):
    """Compare the exact text, because the order of the conditions makes the query fast."""
    _token, measured, _options = params(exchange_id)
    assert json.dumps(query.members(within)) == json.dumps(measured)


@pytest.mark.parametrize(
    ("exchange_id", "second", "patron", "members", "complete", "none_late"),
    [("late-001", 1, 263, {262, 263}, False, False), ("late-002", 25, 268, {268, 269, 270, 271}, True, True)],
)
def test_a_row_of_the_account_says_that_nothing_is_overdue_or_lost(
    exchange_id, second, patron, members, complete, none_late
):
    """The family of 263 has a hidden member, and that of 268 has none; one query says both."""
    moment = datetime(2026, 12, 4, 4, 25, second, tzinfo=UTC)
    seen_at = frozenset({2, 4, 5, 8})
    viewer = GroupViewer(
        253, seen_at, everywhere=False, circulations=late_circulations(moment), circulations_of=seen_at, group=253
    )
    with gateway_of("releases-056", exchange_id) as gateway:
        found = family_reader(gateway).of_patron(patron, viewer)
    assert (found.ids, found.complete, found.no_circulation) == (members, complete, none_late)
    assert json.dumps(params(exchange_id)[1]) == json.dumps(FamilyQuery.of_patron(patron, viewer).where)
