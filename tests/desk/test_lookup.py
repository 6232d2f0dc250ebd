"""Looking up patrons by card, partial barcode, or name."""

from __future__ import annotations

import pytest
from support.circulators import change_rows
from support.fault_proxy import FaultProxy
from support.gateways import gateway_of

from evergreen_groups.client import Client
from evergreen_groups.desk import LookupKind, PatronLookup
from evergreen_groups.sandbox import Sandbox


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


def test_several_barcodes_that_are_completed_alike(sandbox: Sandbox, proxy: FaultProxy) -> None:
    matches = [{"type": "actor", "id": id, "barcode": f"2000000000{id}"} for id in (1037, 1038)]
    proxy.answer = lambda call: matches if call.method == "open-ils.actor.get_barcodes" else None
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        lookup = PatronLookup(gateway)
        found = lookup.find("103")
        assert found.kind is LookupKind.SEVERAL
        assert [one.patron.id for one in found.patrons] == [1037, 1038]
        del matches[0]
        assert lookup.find("103").patron == 1038
