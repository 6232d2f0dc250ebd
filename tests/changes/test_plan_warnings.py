"""Warnings about strangers, borrowed addresses, and groups with several adults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.gateways import gateway_of
from support.states import state_in

from evergreen_groups.changes import Draft
from evergreen_groups.client import Client
from evergreen_groups.gateway import Gateway
from evergreen_groups.groups import AdultRule
from evergreen_groups.render.plans import describe_warning
from evergreen_groups.sandbox import Sandbox

OKONKWO_ADDRESS = 1001
BORROWED, OF_ANOTHER, LENT = "borrowed-address", "borrowed-address-of-another", "lent-address"


@pytest.fixture
def gateway(sandbox: Sandbox) -> Iterator[Gateway]:
    with gateway_of(sandbox.url, "consortium_staff") as gateway:
        yield gateway


@pytest.fixture
def mover(gateway: Gateway, tmp_path: Path) -> Client:
    return Client(gateway, account="desk", state=state_in(tmp_path), adults=AdultRule(most=2))


def barcode(patron: int) -> str:
    return f"2000000000{patron}"


def update(sandbox: Sandbox, patron: int, **values: object) -> None:
    sandbox._store.update("au", patron, values)


def codes(draft: Draft) -> set[str]:
    return {warning.code for warning in draft.warnings}


def move(mover: Client, *patrons: int, to: int) -> Draft:
    return mover.move([barcode(patron) for patron in patrons], to=barcode(to)).draft


def remove(mover: Client, *patrons: int) -> Draft:
    return mover.remove([barcode(patron) for patron in patrons]).draft


@pytest.mark.parametrize(
    "shared", [{"day_phone": "555-0107"}, {"email": "a@example.org"}, {"family_name": "林"}, {"mailing_address": 1019}]
)
def test_one_thing_in_common_makes_no_stranger(sandbox: Sandbox, mover: Client, shared: dict[str, object]) -> None:
    """Move Halloran, of Harbor, to the 林 family of Elmwood and Mill."""
    assert "stranger-to-group" in codes(move(mover, 1039, to=1019))
    update(sandbox, 1020, evening_phone="(555) 0107", email="A@example.org ")
    update(sandbox, 1039, **shared)
    assert "stranger-to-group" not in codes(move(mover, 1039, to=1019))


def test_the_library_alone_makes_no_relatives(sandbox: Sandbox, mover: Client) -> None:
    """Everybody here is of Harbor. Who brings a relative along isn't one of the family for that."""
    strangers = [
        one.values["names"] for one in move(mover, 1052, 1053, to=1001).warnings if one.code == "stranger-to-group"
    ]
    assert strangers == [("Desrosiers, Mireille", "Desrosiers, Théo")], "one warning for both"
    update(sandbox, 1053, family_name="Okonkwo")
    assert "stranger-to-group" in codes(move(mover, 1052, to=1001))
    assert "stranger-to-group" not in codes(move(mover, 1053, to=1001))
    update(sandbox, 1052, day_phone="555-0199")
    update(sandbox, 1053, day_phone="555-0199")
    assert "stranger-to-group" not in codes(move(mover, 1052, 1053, to=1001)), "a relative comes along"
    assert "stranger-to-group" in codes(mover.merge(barcode(1036), to=barcode(1001)).draft)


def test_who_leaves_with_a_borrowed_address_and_who_leaves_it_behind(sandbox: Sandbox, mover: Client) -> None:
    update(sandbox, 1004, mailing_address=OKONKWO_ADDRESS)
    for draft in (remove(mover, 1004), move(mover, 1004, to=1052), move(mover, 1003, 1004, to=1052)):
        (warning,) = (one for one in draft.warnings if one.code == BORROWED)
        assert dict(warning.values) == {"name": "Okonkwo, Emeka", "owner": "Okonkwo, Adaeze"}
        assert describe_warning(warning) == (
            "Okonkwo, Emeka and Okonkwo, Adaeze share an address record, so a change to one address changes the other: "
            "enter a separate address for Okonkwo, Emeka"
        )
    lent = [dict(one.values) for one in remove(mover, 1001).warnings if one.code == LENT]
    # In the sample data, a second member borrows the address too.
    assert lent == [{"name": "Okonkwo, Adaeze", "borrower": who} for who in ("Okonkwo, Chidi", "Okonkwo, Emeka")]
    assert BORROWED in codes(remove(mover, 1001, 1004))  # each gets a group of their own


def test_borrower_and_owner_may_go_the_same_way(sandbox: Sandbox, mover: Client) -> None:
    update(sandbox, 1004, billing_address=OKONKWO_ADDRESS)
    for draft in (
        move(mover, 1001, 1002, 1004, to=1052),
        mover.merge(barcode(1003), to=barcode(1052)).draft,
        remove(mover, 1003),
        mover.set_lead(barcode(1004)).draft,
    ):
        assert not codes(draft) & {BORROWED, OF_ANOTHER, LENT}


def test_the_owner_is_in_the_group_that_the_borrower_comes_to(sandbox: Sandbox, mover: Client) -> None:
    update(sandbox, 1052, mailing_address=OKONKWO_ADDRESS)
    assert not codes(move(mover, 1052, to=1003)) & {BORROWED, OF_ANOTHER}
    assert OF_ANOTHER in codes(remove(mover, 1052))


def test_a_hidden_owner(sandbox: Sandbox, tmp_path: Path) -> None:
    update(sandbox, 1004, mailing_address=1012)  # of Mill
    with gateway_of(sandbox.url, "north_manager") as gateway:
        assert OF_ANOTHER in codes(remove(Client(gateway, account="desk", state=state_in(tmp_path)), 1004))


def test_taking_it_back_warns_as_well(sandbox: Sandbox, mover: Client) -> None:
    update(sandbox, 1052, mailing_address=OKONKWO_ADDRESS)
    entry = mover.move([1052], to=1003).apply().entry
    assert entry is not None
    assert BORROWED in codes(mover.undo(entry).draft)


def test_several_adults(sandbox: Sandbox, mover: Client) -> None:
    (warning,) = (one for one in move(mover, 1052, to=1003).warnings if one.code == "several-adults")
    assert dict(warning.values) == {"group": 1001, "count": 3, "most": 2}
    assert describe_warning(warning).startswith("group 1001 will have 3 adults, more than 2")
    assert "several-adults" not in codes(move(mover, 1053, to=1003))  # a child
    assert "several-adults" not in codes(remove(mover, 1021))  # there were four, and are three
    update(sandbox, 1053, dob="2001-05-05")
    assert "several-adults" in codes(move(mover, 1053, to=1003))


def test_nobody_asked_about_adults(gateway: Gateway, tmp_path: Path) -> None:
    mover = Client(gateway, account="desk", state=state_in(tmp_path))
    assert "several-adults" not in codes(move(mover, 1052, to=1003))
