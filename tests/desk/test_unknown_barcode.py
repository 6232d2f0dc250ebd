"""Suggestions for a barcode that no visible patron has: few calls, and no hidden patrons."""

from __future__ import annotations

import pytest
from support.circulators import change_rows
from support.fault_proxy import FaultProxy
from support.gateways import gateway_of

from evergreen_groups.client import Client
from evergreen_groups.desk import NearCard, explain_unknown
from evergreen_groups.desk.lookup import UnknownBarcode
from evergreen_groups.gateway import Gateway
from evergreen_groups.groups import barcodes
from evergreen_groups.sandbox import Sandbox

CARD = "29999000001036"


@pytest.fixture
def gateway(client: Client) -> Gateway:
    return client.gateway


def explained(gateway: Gateway, barcode: str) -> UnknownBarcode:
    unknown = explain_unknown(gateway, barcode)
    assert unknown is not None
    return unknown


def with_a_card_of_its_own(sandbox: Sandbox) -> None:
    """Give patron 1036 a barcode unlike all others."""
    change_rows(sandbox, "UPDATE ac SET barcode = ? WHERE usr = 1036 AND active = 1", CARD)


def test_a_card_that_is_near(sandbox: Sandbox, gateway: Gateway) -> None:
    with_a_card_of_its_own(sandbox)
    for mistyped in (
        "29999000001063",  # two digits swapped
        "29999000001037",  # a wrong digit
        "2999900000103",  # a missing digit
        "299990000010366",  # an extra digit
        "A29999000001036B",  # letters added by the scanner
        "2-9999-00000-1036",  # printed hyphens
    ):
        unknown = explained(gateway, mistyped)
        assert unknown.near == (NearCard(CARD, "Whitfield, Grace", True),), mistyped
        assert unknown.length == (None if len(mistyped) == 14 else 14), mistyped
        assert not unknown.check_digit_fails


def test_the_likeliest_comes_first_and_there_are_few(gateway: Gateway) -> None:
    unknown = explained(gateway, "20000000001063")
    assert unknown.near[0].barcode == "20000000001036"
    assert len(unknown.near) == 5


def test_whose_record_is_deleted_and_whose_card_is_old(sandbox: Sandbox, gateway: Gateway) -> None:
    with_a_card_of_its_own(sandbox)
    change_rows(sandbox, "UPDATE au SET deleted = 1 WHERE id = 1036")
    unknown = explained(gateway, CARD)
    assert (unknown.deleted, unknown.near) == ("Whitfield, Grace", ())
    change_rows(sandbox, "UPDATE au SET deleted = 0 WHERE id = 1036")
    change_rows(sandbox, "UPDATE ac SET active = 0 WHERE barcode = ?", CARD)
    assert explained(gateway, "29999000001037").near == (NearCard(CARD, "Whitfield, Grace", False),)
    assert explain_unknown(gateway, CARD) is None  # a visible patron has the card, although it's inactive


def test_a_check_digit(sandbox: Sandbox, gateway: Gateway) -> None:
    right = ["21234567890124", "21234567890132", "21234567890140", "21234567890157", "21234567890165"]
    change_rows(sandbox, "UPDATE ac SET active = 0")
    for id, barcode in zip(range(1001, 1006), right, strict=True):
        change_rows(sandbox, "UPDATE ac SET barcode = ?, active = 1 WHERE usr = ?", barcode, id)
    assert explained(gateway, "21234567890123").check_digit_fails
    assert not explained(gateway, "21234567890173").check_digit_fails


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


def test_nothing_at_all(gateway: Gateway) -> None:
    assert explained(gateway, " \t").barcode == ""
