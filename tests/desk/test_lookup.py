"""Looking up patrons by card, partial barcode, or name, and suggestions for a barcode that no visible patron has."""

from __future__ import annotations

import pytest
from support.circulators import change_rows
from support.fault_proxy import FaultProxy
from support.gateways import gateway_of

from evergreen_groups.client import Client
from evergreen_groups.desk import LookupKind, NearCard, PatronLookup, explain_unknown
from evergreen_groups.desk.lookup import UnknownBarcode
from evergreen_groups.gateway import Gateway
from evergreen_groups.groups import Patron, barcodes
from evergreen_groups.ils.org_units import OBSCURED
from evergreen_groups.sandbox import Sandbox

ELM = 22


def test_a_card(client: Client) -> None:
    found = client.patrons.find("  20000000001036 ")
    assert (found.kind, found.patron, found.patrons) == (LookupKind.CARD, 1036, ())


def test_a_card_that_is_not_active(client: Client) -> None:
    found = client.patrons.find("20000000901049")
    assert found.kind is LookupKind.OLD_CARD
    assert found.patron is None
    (owner,) = found.patrons
    assert (owner.patron.name, owner.account.juvenile, owner.profile) == ("Haddad, Noor", True, "Child")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Whitfield", ["Whitfield, Grace", "Whitfield, Ruth", "Whitfield, Thomas"]),
        ("whitfield, gr", ["Whitfield, Grace"]),
        ("Ruth Whitfield", ["Whitfield, Ruth"]),
        ("Whitfield Ruth", ["Whitfield, Ruth"]),
        ("van der Meer Daan", ["van der Meer, Daan"]),
        ("Nguyễn Thị Hương", ["Nguyễn, Thị Hương"]),
        ("van der M", ["van der Meer, Daan", "van der Meer, Fenna", "van der Meer, Marijke", "van der Meer, Pieter"]),
        ("O'Sull", ["O'Sullivan-Byrne, Aoife", "O'Sullivan-Byrne, Declan", "O'Sullivan-Byrne, Siobhán"]),
    ],
)
def test_names(client: Client, text: str, names: list[str]) -> None:
    found = client.patrons.find(text)
    assert found.kind is LookupKind.NAMES
    assert sorted(one.patron.name for one in found.patrons) == sorted(names)


def test_names_are_sorted_as_people_do(client: Client, sandbox: Sandbox) -> None:
    given = {1037: "Élodie", 1038: "edgar", 1039: "Emma"}
    with sandbox._store.transaction():
        for patron, first in given.items():
            names = {"family_name": "Whitfield", "first_given_name": first, "second_given_name": None}
            sandbox._store.update("au", patron, {**names, **dict.fromkeys((f"pref_{name}" for name in names), None)})
    found = [one.patron.id for one in client.patrons.find("Whitfield").patrons]
    assert [patron for patron in found if patron in given] == [1038, 1037, 1039]


@pytest.mark.parametrize(
    "text", ["", " ", "Nobody", "999", "%", "_", "'; --", "(", "\\", "?", "$", "a\0b", ",", ", Grace, x"]
)
def test_nobody(client: Client, text: str) -> None:
    assert client.patrons.find(text).kind is LookupKind.NOBODY


@pytest.mark.parametrize("text", ["van der Meer, Jan", "Jan van der Meer", "van der Meer Jan"])
def test_others_of_the_family_name(client: Client, text: str) -> None:
    found = client.patrons.find(text)
    assert found.kind is LookupKind.NEAR
    assert len(found.patrons) == 4
    assert client.patrons.named(text).kind is LookupKind.NOBODY, "where a name decides, none is near"


class TestNamesakes:
    @pytest.fixture
    def patrons(self, client: Client, sandbox: Sandbox) -> list[Patron]:
        """Two Whitfields of one name, and one of another."""
        change_rows(sandbox, "UPDATE au SET dob = '1950-01-01' WHERE id IN (1036, 1037)")
        change_rows(sandbox, "UPDATE au SET first_given_name = 'GRACE' WHERE id = 1037")
        sandbox._store.insert("aua", {"id": 9000, "usr": 1036, "street1": "5 Elm Street"})
        change_rows(sandbox, "UPDATE au SET billing_address = 9000, mailing_address = NULL WHERE id = 1037")
        return [one.patron for one in client.patrons.find("Whitfield").patrons]

    def test_what_tells_them_apart(self, client: Client, patrons: list[Patron]) -> None:
        found = client.patrons.namesakes(patrons)
        assert found.keys() == {1036, 1037}
        assert found[1037].street == "5 Elm Street"
        assert found[1037].age == found[1036].age >= 76

    @pytest.mark.parametrize(("org_unit", "hides"), [(1, True), (ELM, True), (11, False)])
    def test_no_age_where_birth_dates_are_hidden(
        self, client: Client, sandbox: Sandbox, patrons: list[Patron], org_unit: int, *, hides: bool
    ) -> None:
        assert {patron.home_library.id for patron in patrons} == {ELM}
        for row in sandbox._store.rows("aous", {"name": OBSCURED, "org_unit": org_unit}):
            sandbox._store.delete("aous", row["id"])
        sandbox._store.insert("aous", {"name": OBSCURED, "org_unit": org_unit, "value": "true"})
        found = client.patrons.namesakes(patrons)
        assert (found[1036].age is None) is hides
        assert found[1037].street, "all the same"

    def test_no_call_where_all_names_differ(self, sandbox: Sandbox, proxy: FaultProxy) -> None:
        with gateway_of(proxy.url, "consortium_staff") as gateway:
            lookup = PatronLookup(gateway)
            patrons = [one.patron for one in lookup.find("Whitfield").patrons]
            before = len(proxy.calls)
            assert lookup.namesakes(patrons) == {}
            assert len(proxy.calls) == before


def test_only_who_is_visible(sandbox: Sandbox) -> None:
    with gateway_of(sandbox.url, "harbor_desk") as gateway:
        lookup = PatronLookup(gateway)
        for text in ("20000000001036", "20000000901049", "Whitfield"):
            assert lookup.find(text).kind is LookupKind.NOBODY, text
        assert lookup.names([1001, 1036]) == {1001: "Okonkwo, Adaeze"}


def test_no_more_than_it_takes(client: Client, sandbox: Sandbox) -> None:
    change_rows(sandbox, "UPDATE au SET family_name = 'Same' WHERE id BETWEEN 1001 AND 1030 AND deleted = 0")
    found = client.patrons.find("same")
    assert len(found.patrons) == 20
    assert found.more


def test_several_barcodes_that_are_completed_alike(proxy: FaultProxy) -> None:
    matches = [{"type": "actor", "id": id, "barcode": f"2000000000{id}"} for id in (1037, 1038)]
    proxy.answer = lambda call: matches if call.method == "open-ils.actor.get_barcodes" else None
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        lookup = PatronLookup(gateway)
        found = lookup.find("103")
        assert found.kind is LookupKind.SEVERAL
        assert [one.patron.id for one in found.patrons] == [1037, 1038]
        del matches[0]
        assert lookup.find("103").patron == 1038


# --- Unknown barcodes ---

CARD = "29999000001036"


def explained(gateway: Gateway, barcode: str) -> UnknownBarcode:
    unknown = explain_unknown(gateway, barcode)
    assert unknown is not None
    return unknown


def with_a_card_of_its_own(sandbox: Sandbox) -> None:
    """Give patron 1036 a barcode unlike all others."""
    change_rows(sandbox, "UPDATE ac SET barcode = ? WHERE usr = 1036 AND active = 1", CARD)


def test_a_card_that_is_near(sandbox: Sandbox, client: Client) -> None:
    with_a_card_of_its_own(sandbox)
    for mistyped in (
        "29999000001063",  # two digits swapped
        "29999000001037",  # a wrong digit
        "2999900000103",  # a missing digit
        "299990000010366",  # an extra digit
        "A29999000001036B",  # letters added by the scanner
        "2-9999-00000-1036",  # printed hyphens
    ):
        unknown = explained(client.gateway, mistyped)
        (card,) = unknown.near
        assert (card.barcode, card.active) == (CARD, True), mistyped
        assert unknown.length == (None if len(mistyped) == 14 else 14), mistyped
        assert not unknown.check_digit_fails


def test_the_likeliest_comes_first_and_there_are_few(client: Client) -> None:
    unknown = explained(client.gateway, "20000000001063")
    assert unknown.near[0].barcode == "20000000001036"
    assert len(unknown.near) == 5


def test_whose_record_is_deleted_and_whose_card_is_old(sandbox: Sandbox, client: Client) -> None:
    with_a_card_of_its_own(sandbox)
    change_rows(sandbox, "UPDATE au SET deleted = 1 WHERE id = 1036")
    unknown = explained(client.gateway, CARD)
    assert (unknown.deleted, unknown.near) == ("Whitfield, Grace", ())
    change_rows(sandbox, "UPDATE au SET deleted = 0 WHERE id = 1036")
    change_rows(sandbox, "UPDATE ac SET active = 0 WHERE barcode = ?", CARD)
    assert explained(client.gateway, "29999000001037").near == (NearCard((CARD[:-1], "6", ""), False),)
    assert explain_unknown(client.gateway, CARD) is None  # a visible patron has the card, although it's inactive


def test_a_check_digit(sandbox: Sandbox, client: Client) -> None:
    right = ["21234567890124", "21234567890132", "21234567890140", "21234567890157", "21234567890165"]
    change_rows(sandbox, "UPDATE ac SET active = 0")
    for id, barcode in zip(range(1001, 1006), right, strict=True):
        change_rows(sandbox, "UPDATE ac SET barcode = ?, active = 1 WHERE usr = ?", barcode, id)
    assert explained(client.gateway, "21234567890123").check_digit_fails
    assert not explained(client.gateway, "21234567890173").check_digit_fails


def test_hidden_patrons_are_not_suggested(sandbox: Sandbox) -> None:
    with_a_card_of_its_own(sandbox)
    with gateway_of(sandbox.url, "harbor_desk") as gateway:
        for barcode in (CARD, "29999000001037"):
            unknown = explained(gateway, barcode)
            assert (unknown.near, unknown.deleted) == ((), None)


def test_three_calls_however_long(proxy: FaultProxy) -> None:
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        explain_unknown(gateway, "20000000001063")
        proxy.seen.clear()
        explain_unknown(gateway, "200000000010636666666666")
        assert len(proxy.seen) == 3 - 1  # no suggestion, so no call for names
        proxy.seen.clear()
        explain_unknown(gateway, "20000000001063")
        assert len(proxy.seen) == 3
        assert barcodes.similar_barcodes("2" * 25) == []


def test_nothing_at_all(client: Client) -> None:
    assert explained(client.gateway, " \t").barcode == ""
