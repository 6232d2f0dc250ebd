"""Read named patrons with their families at once: the same result as reading cards, patrons and groups in turn."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support.fault_proxy import Call, FaultProxy, HttpAnswer
from support.gateways import gateway_of
from support.patron_records import read_contact_records

from evergreen_groups.errors import DataError, PlanError
from evergreen_groups.gateway import Gateway
from evergreen_groups.groups import (
    Card,
    Families,
    FamilyReader,
    Group,
    PatronReference,
    find_hidden,
    find_owner,
)
from evergreen_groups.groups.contacts import read_contacts
from evergreen_groups.sandbox import Sandbox

pytestmark = pytest.mark.long  # too slow together for a plain pytest run

PATRONS = range(1001, 1054)
DELETED, INACTIVE_CARD = 1031, 1041
REFERENCES = st.one_of(
    st.sampled_from(PATRONS),
    st.sampled_from(PATRONS).map(lambda patron: f"2000000000{patron}"),
    st.sampled_from(["", "0", "20000000009999", "1052", "a\0b", 999_999, 0]),
)


@pytest.fixture(params=["consortium_staff", "north_manager"])
def gateway(request: pytest.FixtureRequest, sandbox: Sandbox) -> Iterator[Gateway]:
    """Connect as an account that sees every patron, and as one from which many members are hidden."""
    sandbox._store.update("ac", sandbox._store.rows("ac", {"usr": INACTIVE_CARD})[0]["id"], {"active": False})
    sandbox._store.update("au", 1040, {"deleted": True})
    with gateway_of(sandbox.url, request.param) as gateway:
        yield gateway


def one_after_the_other(
    gateway: Gateway, reader: FamilyReader, references: list[PatronReference], groups: set[int]
) -> Families:
    """Return the same by reading cards, patrons and groups separately."""
    owners = {named: find_owner(gateway, named) for named in references if isinstance(named, str)}
    ids = [named for named in references if isinstance(named, int)]
    by_id = reader.by_ids({*ids, *(owner[0] for owner in owners.values() if owner)})
    numbers = sorted(groups | {member.patron.group for member in by_id.members.values()})
    rows = gateway.pcrud.columns_by_values("au", ("id", "usrgroup"), "usrgroup", numbers, where={"deleted": "f"})
    group_of = dict(rows)
    visible = {number: {id for id, group in group_of.items() if group == number} for number in numbers}
    hidden = find_hidden(gateway, visible, lambda: [unit.id for unit in reader.org_units])
    everybody = reader.by_ids(by_id.members.keys() | group_of.keys())
    made = {
        number: Group.by_name(number, [everybody.members[id] for id in members], hidden.get(number))
        for number, members in visible.items()
    }
    cards: dict[PatronReference, Card] = {
        named: everybody.card(owner[0], named, active=owner[1])
        for named, owner in owners.items()
        if owner and owner[0] in everybody.members
    }
    cards |= {id: everybody.card(id) for id in ids if id in everybody.members}
    contacts = read_contacts(gateway, read_contact_records(gateway, sorted(everybody.members)))
    return replace(everybody, groups=made, cards=cards, contacts=contacts)


@hypothesis_settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    references=st.lists(REFERENCES, max_size=5),
    groups=st.sets(st.sampled_from([1001, 1006, 1011, 1015, 4711]), max_size=2),
)
def test_it_is_the_same(gateway: Gateway, references: list[PatronReference], groups: set[int]) -> None:
    reader = FamilyReader(gateway)
    found = reader.named(references, groups, with_contacts=True)
    expected = one_after_the_other(gateway, reader, references, groups)
    assert found == expected


def test_contacts_only_where_they_are_asked_for(gateway: Gateway) -> None:
    reader = FamilyReader(gateway)
    assert reader.named([1052]).contacts == {}
    assert 1051 in reader.named([1052], with_contacts=True).contacts


def test_the_deleted_are_named_and_no_members(gateway: Gateway) -> None:
    found = FamilyReader(gateway).named([1040, 1041])
    assert set(found.cards) == {1040, 1041}
    assert found.cards[1040].member.patron.deleted
    assert [member.id for member in found.groups[1011].members] == [1041, 1042]


@pytest.mark.parametrize(
    ("references", "refused"),
    [
        (["20000000001041"], True),
        (["20000000001052", "4711"], True),
        (["20000000001052", "a\0b"], True),
        (["20000000001052", 1041, 999_999], False),
    ],
)
def test_active_cards_alone(gateway: Gateway, references: list[PatronReference], refused: bool) -> None:
    reader = FamilyReader(gateway)
    if not refused:
        assert set(reader.named(references, active_cards=True).cards) == {*references} - {999_999}
        return
    with pytest.raises(PlanError) as raised:
        reader.named(references, active_cards=True)
    assert raised.value.code == "no-active-card"


def test_cards_that_are_not_active_name_their_patrons_too(gateway: Gateway) -> None:
    found = FamilyReader(gateway).named(["20000000001041"])
    assert [card.member.patron.id for card in found.cards.values()] == [1041]


@pytest.mark.parametrize("cards", [None, "", [], [1052], [1051, 1052]])
def test_cards_of_nobody_or_of_another(proxy: FaultProxy, cards: list[int] | str | None) -> None:
    """A card fleshed into the wrong record would name the wrong patron."""

    def altered(call: Call, answer: HttpAnswer) -> HttpAnswer | None:
        if call.method != "open-ils.pcrud.search.au.atomic":
            return None
        body = json.loads(answer.body)
        for row in body["payload"][0]:
            place = next(place for place, value in enumerate(row["__p"]) if isinstance(value, list))
            theirs = row["__p"][place]
            row["__p"][place] = [{**theirs[0], "__p": with_owner(theirs[0], id)} for id in cards] if cards else cards
        return HttpAnswer.of(body)

    def with_owner(card: dict[str, list[object]], id: int) -> list[object]:
        values = list(card["__p"])
        values[-1] = id
        return values

    proxy.alter = altered
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        if cards == []:
            found = FamilyReader(gateway).named(["20000000001052", 1051])
            assert [card.barcode for card in found.cards.values()] == [""]
        else:
            with pytest.raises(DataError):
                FamilyReader(gateway).named([1051])


def test_groups_alone(gateway: Gateway) -> None:
    """The last batch of a long list may have only groups."""
    found = FamilyReader(gateway).named([], [1001, 1015])
    assert found.cards == {}
    assert [len(found.groups[number].members) for number in (1001, 1015)] == [6, 3]


def test_the_longest_barcodes_are_asked_for_in_several_questions(gateway: Gateway) -> None:
    """A thousand unknown barcodes: no query is too long for the gateway."""
    barcodes = [f"{number:04}{'é' * 96}" for number in range(1_000)]
    assert FamilyReader(gateway).named(barcodes).cards == {}
