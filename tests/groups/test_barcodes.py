"""Barcodes as they are scanned, typed or pasted: what is ignored in them, and that it is wherever one is taken."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.circulators import change_rows

from evergreen_groups import hooks
from evergreen_groups.audit import BlockExplainer
from evergreen_groups.client import Client
from evergreen_groups.desk import LookupKind
from evergreen_groups.errors import NotFoundError
from evergreen_groups.groups import FamilyReader, families
from evergreen_groups.groups.barcodes import spellings, without_blanks
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import PolicySettings

CARD, OTHER = "20000000001036", "20000000001052"
SCANNED = " 2 0000 00000 1036\t\r\n"


@pytest.mark.parametrize(
    "text",
    [
        SCANNED,
        "2\u00a00000\u202f00000\u20091036",  # blanks that don't break, as they are printed
        "\x0220000000001036\x03",  # what some scanners send before and behind it
        "\ufeff20000000001036\u200b\u200e",  # copied out of a page
        "\u200f2000\u00ad0000001036",
    ],
)
def test_what_scanners_and_people_add_is_ignored(text: str) -> None:
    assert without_blanks(text) == CARD
    assert spellings(text)[-1] == CARD


@pytest.mark.parametrize("text", ["", " \t", "\u200b", "2000\x001036", "2000\udc801036"])
def test_what_no_card_can_have(text: str) -> None:
    assert spellings(text) == ()
    assert without_blanks(text) == ""


def test_what_cards_may_have_stays() -> None:
    assert spellings("A2000-0000.1036$") == ("A2000-0000.1036$",)


def test_wherever_a_barcode_is_taken(client: Client, tmp_path: Path) -> None:
    assert client.details.of_barcode(SCANNED).group.number == client.details.of_user(1036).group.number
    assert client.checks.of_barcode(SCANNED).checked[0].id == 1036
    assert client.patrons.find(SCANNED).patron == 1036
    assert hooks.block_decision_by_barcode(client, SCANNED).patron == 1036
    assert BlockExplainer(client.gateway, PolicySettings()).of_barcode(SCANNED).member.id == 1036
    plan = client.move([SCANNED], to=" 2000 0000 0010 52 ")
    assert [step.member.id for step in plan.draft.steps] == [1036]
    file = tmp_path / "changes.csv"
    file.write_text(f"action,barcode,target\nmove,2 0000 00000 1036,{OTHER} \n", "utf-8")
    assert [step.member.id for step in client.batch(file).steps] == [1036]


def test_a_card_with_a_blank_in_its_barcode_is_found(client: Client, sandbox: Sandbox) -> None:
    change_rows(sandbox, "UPDATE ac SET barcode = 'PINE 36' WHERE barcode = ?", CARD)
    change_rows(sandbox, "UPDATE ac SET barcode = 'PINE36' WHERE barcode = ?", OTHER)
    card = families.find_card(client.gateway, " PINE  36 ")
    assert card is not None
    assert card.usr == 1036
    assert 1036 in {member.id for member in client.details.of_barcode("PINE 36").group.members}
    assert FamilyReader(client.gateway).named(["PINE 36"]).cards["PINE 36"].member.id == 1036
    other = families.find_card(client.gateway, "PINE36")
    assert other is not None
    assert other.usr == 1052


def test_nobody_has_it_with_blanks_either(client: Client) -> None:
    with pytest.raises(NotFoundError):
        client.details.of_barcode("2 0000 00000 9999")
    assert client.patrons.find("2 0000 00000 9999").kind is LookupKind.NOBODY
