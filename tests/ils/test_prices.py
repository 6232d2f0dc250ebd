"""What Evergreen would bill for items: the rule against a transcription of Evergreen's, and prices in few calls."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.circulators import change_rows
from support.fault_proxy import FaultProxy, alter_payloads
from support.gateways import gateway_of
from support.recorded import gateway_of as recorded

from evergreen_groups.errors import DataError
from evergreen_groups.ils import ItemPrices, PriceRules
from evergreen_groups.sandbox import Sandbox

HARBOR, MILL = 11, 21
FIELD, OTHER_FIELD, DEFAULT, LEAST, MOST, ON_ZERO = PriceRules.SETTINGS


def get_copy_price(price: float | None, cost: float | None, settings: dict[str, Any]) -> float:
    """Transcribe AppUtils.pm, statement by statement, with Perl's floats. Its editor and call numbers are left out."""
    if price and price < 0:
        price = 0
    min_price = settings.get("circ.min_item_price")
    max_price = settings.get("circ.max_item_price")
    charge_on_0 = settings.get("circ.charge_lost_on_zero")
    primary_field = settings.get("circ.primary_item_value_field")
    backup_field = settings.get("circ.secondary_item_value_field")
    found = cost if primary_field is not None and primary_field == "cost" else price
    if found is None or (found == 0 and charge_on_0):
        if backup_field is not None and backup_field == "cost":
            found = cost
        elif backup_field is not None and backup_field == "price":
            found = price
    if found is None or (found == 0 and charge_on_0):
        found = settings.get("cat.default_item_price") or 0
    if max_price is not None and found > max_price:
        found = max_price
    elif min_price is not None and found < min_price and (found != 0 or charge_on_0 or charge_on_0 is None):
        found = min_price
    return found


def billed(price: float | None, cost: float | None, settings: dict[str, Any]) -> float:
    """Transcribe ``set_item_lost_or_lod``: ``if( $price > 0 )``."""
    found = get_copy_price(price, cost, settings)
    return found if found > 0 else 0


CENTS = st.sampled_from([-500, -1, 0, 0, 1, 99, 500, 1250, 2000, 9999])
FIELDS = st.none() | st.sampled_from(["price", "cost", "Cost", "", "barcode"])
AMOUNTS = st.none() | CENTS.map(lambda cents: cents / 100)


@given(
    price=AMOUNTS,
    cost=AMOUNTS,
    settings=st.fixed_dictionaries(
        {FIELD: FIELDS, OTHER_FIELD: FIELDS, DEFAULT: AMOUNTS, LEAST: AMOUNTS, MOST: AMOUNTS}
        | {ON_ZERO: st.sampled_from([None, True, False, 1, 0])}
    ),
    as_text=st.booleans(),
)
def test_as_evergreen_reckons(price: float | None, cost: float | None, settings: dict[str, Any], as_text: bool) -> None:
    def money(value: float | None) -> Decimal | None:
        return None if value is None else Decimal(f"{value:.2f}")

    amounts = {name: money(settings[name]) for name in (DEFAULT, LEAST, MOST)}
    if as_text:
        amounts = {name: None if value is None else str(value) for name, value in amounts.items()}  # type: ignore[misc]
    stored = {**settings, **amounts}
    rules = PriceRules(*(stored[name] for name in PriceRules.SETTINGS))
    assert rules.price(money(price), money(cost)) == money(billed(price, cost, settings))


@pytest.mark.parametrize(
    ("stored", "price"),
    [
        ("12.5", "12.50"),
        ("12,50", "12.00"),
        (" 7 dollars", "7.00"),
        ("$7", "0.00"),
        ("", "0.00"),
        (".5", "0.50"),
        ("-3", "0.00"),
        (Decimal("4.995"), "5.00"),
        (20, "20.00"),
    ],
)
def test_settings_are_numbers_as_perl_reads_them(stored: object, price: str) -> None:
    assert str(PriceRules(default=stored).price(None, None)) == price


@pytest.mark.parametrize(("stored", "price"), [("0", "0.00"), ("", "0.00"), ("f", "9.00"), ("1", "9.00")])
def test_whether_zero_is_charged_as_perl_reads_it(stored: str, price: str) -> None:
    assert str(PriceRules(default=9, charge_on_zero=stored).price(Decimal("0.00"), None)) == price


@pytest.fixture
def prices(sandbox: Sandbox) -> Sandbox:
    """The sandbox with prices of items 9001 to 9007, of which 9006 isn't cataloged, and with settings."""
    change_rows(sandbox, "UPDATE acp SET price = NULL, cost = NULL")
    change_rows(sandbox, "DELETE FROM aous WHERE name LIKE '%item%' OR name LIKE '%zero%'")
    for id, price, cost in [(9001, 1250, None), (9002, None, 800), (9003, 0, 800), (9005, 99_900, None)]:
        change_rows(sandbox, "UPDATE acp SET price = ?, cost = ? WHERE id = ?", price, cost, id)
    set_value(sandbox, DEFAULT, 1, "20")
    return sandbox


def set_value(sandbox: Sandbox, name: str, org_unit: int, value: str) -> None:
    sandbox._store.insert("aous", {"name": name, "org_unit": org_unit, "value": value})


def read(url: str, *copies: int) -> dict[int, str]:
    with gateway_of(url, "harbor_desk") as desk:
        return {id: str(price) for id, price in ItemPrices.begin(desk).read(copies).items()}


def test_prices_of_items(prices: Sandbox) -> None:
    assert read(prices.url, 9001, 9002, 9003, 9005) == {9001: "12.50", 9002: "20.00", 9003: "0.00", 9005: "999.00"}


def test_the_owning_librarys_settings_count(prices: Sandbox) -> None:
    """An item that isn't cataloged is owned by its circulating library."""
    change_rows(prices, "UPDATE acn SET owning_lib = ? WHERE id IN (8001, -1)", MILL)
    change_rows(prices, "UPDATE acp SET circ_lib = ? WHERE id = 9001", HARBOR)
    change_rows(prices, "UPDATE acp SET circ_lib = ?, price = 100 WHERE id = 9006", HARBOR)
    set_value(prices, LEAST, MILL, '"30.00"')
    set_value(prices, LEAST, HARBOR, "5.5")
    set_value(prices, MOST, 1, "900")
    assert read(prices.url, 9001, 9002, 9005, 9006) == {9001: "30.00", 9002: "20.00", 9005: "900.00", 9006: "5.50"}


def test_call_numbers_are_read_only_where_rules_differ(prices: Sandbox, proxy: FaultProxy) -> None:
    assert read(proxy.url, 9001, 9002, 9006) == {9001: "12.50", 9002: "20.00", 9006: "20.00"}
    assert not any(".acn." in method for method in proxy.seen)


def test_in_eight_calls_for_any_number(prices: Sandbox, proxy: FaultProxy) -> None:
    set_value(prices, LEAST, MILL, "1")
    with gateway_of(proxy.url, "harbor_desk") as desk:
        desk.login()
        desk.idl("acp", "acn")
        proxy.seen.clear()
        found = ItemPrices.begin(desk)
        assert proxy.seen == ["open-ils.actor.settings.value_for_all_orgs.atomic"] * 6
        proxy.seen.clear()
        assert found.read([]) == {}
        found.read(range(9001, 9013))
        assert proxy.seen == [f"open-ils.pcrud.search.{name}.atomic" for name in ("acp", "acn")]
        proxy.seen.clear()
        assert len(found.read([9006])) == 1
        assert proxy.seen == ["open-ils.pcrud.search.acp.atomic"]


def test_what_is_missing_is_unknown(prices: Sandbox, proxy: FaultProxy) -> None:
    """An item, its call number, or the settings of its library: never a price of 0.00."""
    change_rows(prices, "UPDATE acp SET call_number = 4_999_999 WHERE id = 9002")
    change_rows(prices, "UPDATE acn SET owning_lib = ? WHERE id = 8001", MILL)
    alter_payloads(
        proxy,
        "open-ils.actor.settings.value_for_all_orgs.atomic",
        lambda rows: [row for row in rows if row["org_unit"] != MILL],
        times=1,
    )
    assert read(proxy.url, 9001, 9002, 9003, 99_999) == {9003: "0.00"}


def test_an_answer_without_values(prices: Sandbox, proxy: FaultProxy) -> None:
    alter_payloads(proxy, "open-ils.actor.settings.value_for_all_orgs.atomic", lambda _rows: [{"org_unit": 1}], times=1)
    with pytest.raises(DataError, match=r"not the values of"):
        read(proxy.url, 9001)


def test_as_a_real_evergreen_has_billed() -> None:
    """When these items were then marked lost there, it billed these amounts (524 was lost already).

    At library 4, the cost comes before the price, with at least 5.00 and at most 50.00; at 9, zero is like no price.
    """
    settings = ("late-003", "late-004", "late-005", "late-006", "late-007", "late-008")
    with recorded(*settings, "late-009", "late-010") as gateway:
        found = ItemPrices.begin(gateway).read([1, 401, *range(518, 525)])
    billed = {1: "12.50", 518: "50.00", 519: "20.00", 520: "5.00", 521: "50.00", 522: "5.00", 523: "5.00", 401: "20.00"}
    assert {id: str(price) for id, price in found.items() if id != 524} == billed
