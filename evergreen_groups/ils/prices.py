"""What Evergreen would bill for an item that doesn't come back: an estimate, never part of what someone owes.

Source: ``get_copy_price`` in ``OpenILS/Application/AppUtils.pm``, unchanged since 3.8. Processing fees come on top.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

from evergreen_groups.ils.circulations import NOT_CATALOGED
from evergreen_groups.ils.org_units import OrgUnits
from evergreen_groups.values import ZERO

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway

_NUMBER = re.compile(r"\s*([+-]?(?:\d{1,9}(?:\.\d*)?|\.\d+))", re.ASCII)


@dataclass(frozen=True, slots=True)
class PriceRules:
    """The library settings that determine prices, as the owning library has them. None where not set."""

    SETTINGS = (
        "circ.primary_item_value_field",
        "circ.secondary_item_value_field",
        "cat.default_item_price",
        "circ.min_item_price",
        "circ.max_item_price",
        "circ.charge_lost_on_zero",
    )

    primary_field: Any = None
    secondary_field: Any = None
    default: Any = None
    least: Any = None
    most: Any = None
    charge_on_zero: Any = None

    def price(self, price: Decimal | None, cost: Decimal | None) -> Decimal:
        """Return what Evergreen would bill for an item with this price and cost (``acp``; None: not set).

        >>> PriceRules(default="20.00").price(None, None), PriceRules(default=20).price(Decimal("0.00"), None)
        (Decimal('20.00'), Decimal('0.00'))
        """
        # Perl's truth: a setting may be stored as true, as a number, or as a text.
        charge_on_zero = self.charge_on_zero not in (None, False, 0, "", "0")

        def is_missing(value: Decimal | None) -> bool:
            return value is None or (value == 0 and charge_on_zero)

        if price is not None:
            price = max(price, ZERO)
        value = cost if self.primary_field == "cost" else price
        if is_missing(value) and self.secondary_field in ("price", "cost"):
            value = cost if self.secondary_field == "cost" else price
        if value is None or is_missing(value):
            value = _number(self.default) or ZERO
        least, most = _number(self.least), _number(self.most)
        if most is not None and value > most:
            value = most
        # Unless set to false, zero is raised to the minimum, too.
        elif least is not None and value < least and (value != 0 or charge_on_zero or self.charge_on_zero is None):
            value = least
        # set_item_lost_or_lod (Cat/AssetCommon.pm) bills only what is more than 0.
        return max(value, ZERO).quantize(ZERO, ROUND_HALF_UP)


def _number(value: Any) -> Decimal | None:
    """Return the number that Perl sees in a setting: that at the beginning of a text, or 0. None if it isn't set."""
    if value is None:
        return None
    found = _NUMBER.match(str(value))
    return Decimal(found[1]) if found else ZERO


class ItemPrices:
    """Reads what Evergreen would bill for items. ``rules`` are those of each org unit, by id."""

    def __init__(self, gateway: Gateway, rules: Mapping[int, PriceRules | None]) -> None:
        """``rules`` are None where unknown."""
        self._gateway, self._rules = gateway, rules
        one = next(iter(rules.values()), None)
        self._of_all = one if all(other == one for other in rules.values()) else None

    @classmethod
    def begin(cls, gateway: Gateway) -> ItemPrices:
        """Read the rules of all org units, in six calls. No permission is needed."""
        settings = gateway.in_parallel(*(partial(OrgUnits.read_setting, gateway, name) for name in PriceRules.SETTINGS))
        known = set.intersection(*(set(values) for values in settings))
        every = set.union(*(set(values) for values in settings))
        return cls(
            gateway, {id: PriceRules(*(values[id] for values in settings)) if id in known else None for id in every}
        )

    def read(self, copies: Collection[int]) -> dict[int, Decimal]:
        """Return prices by item id (``acp.id``), in two calls per 3,000 items. Unknown items are left out.

        It takes one call if the same rules apply everywhere. Both tables are public (``items-007``, ``items-008``).
        """
        if not copies:
            return {}
        read = self._gateway.pcrud.columns_by_values
        fields = ("id", "price", "cost", "call_number", "circ_lib")
        items = list(read("acp", fields, "id", sorted(copies), all_visible=True))
        if self._of_all is not None:
            return {id: self._of_all.price(price, cost) for id, price, cost, *_ in items}
        volumes = {volume for *_, volume, _library in items} - {NOT_CATALOGED}
        owners = dict(read("acn", ("id", "owning_lib"), "id", sorted(volumes), all_visible=True)) if volumes else {}
        found = {}
        for id, price, cost, volume, library in items:
            rules = self._rules.get(library if volume == NOT_CATALOGED else owners.get(volume, 0))
            if rules is not None:
                found[id] = rules.price(price, cost)
        return found
