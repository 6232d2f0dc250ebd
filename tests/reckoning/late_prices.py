"""What the report says overdue and lost items would cost, computed a second time."""

import json
from collections.abc import Iterable
from decimal import Decimal
from random import Random
from typing import Any

from reckoning.library import Content, Library, Row

_ITEMS = range(1, 13)
_NOT_CATALOGED = -1
_AMOUNTS = (None, None, "0.00", "0.00", "2.50", "9.99", "20.00", "75.00", "-3.00")
_PRIMARY, _SECONDARY = "circ.primary_item_value_field", "circ.secondary_item_value_field"
_DEFAULT, _ON_ZERO = "cat.default_item_price", "circ.charge_lost_on_zero"
_LEAST, _MOST = "circ.min_item_price", "circ.max_item_price"
_VALUES: dict[str, tuple[Any, ...]] = {
    _PRIMARY: ("price", "cost", "cost"),
    _SECONDARY: ("price", "cost", None),
    _DEFAULT: (12, "15.00", 7.5, None),
    _LEAST: (5, "10.00", 0),
    _MOST: (18, "50.00", None),
    _ON_ZERO: (True, False, None),
}


def add_prices(content: Content, chance: Random) -> None:
    """Give each circulation an item: with any price and cost, in any library, or missing; and set the settings."""
    libraries = [row["id"] for row in content["aou"]]
    content["acn"] = [{"id": _NOT_CATALOGED, "owning_lib": libraries[0], "record": -1, "label": "", "deleted": "f"}]
    content["acp"] = []
    for id in _ITEMS:
        if chance.random() < 0.95:
            content["acn"].append({"id": 100 + id, "owning_lib": chance.choice(libraries), "record": 1, "label": "A"})
        number = _NOT_CATALOGED if chance.random() < 0.2 else 100 + id
        prices = {"price": chance.choice(_AMOUNTS), "cost": chance.choice(_AMOUNTS)}
        row = {"id": id, "barcode": f"I{id}", "call_number": number, "circ_lib": chance.choice(libraries), **prices}
        if chance.random() < 0.95:
            content["acp"].append({**row, "deleted": chance.choice("ft")})
    for row in content["circ"]:
        row["target_copy"] = chance.choice(_ITEMS)
    taken = max((row["id"] for row in content["aous"]), default=0)
    for name, values in _VALUES.items():
        for library in chance.sample(libraries, min(len(libraries), chance.choice((0, 1, 1, 2)))):
            taken += 1
            value = json.dumps(chance.choice(values))
            content["aous"].append({"id": taken, "org_unit": library, "name": name, "value": value})


def price_of_items(library: Library, items: Iterable[int]) -> tuple[Decimal, bool]:
    """Return what Evergreen would bill for items, and whether all prices are known."""
    cents = [_cents_of(library, item) for item in items]
    return Decimal(sum(one for one in cents if one is not None)) / 100, None not in cents


def _cents_of(library: Library, item: int) -> int | None:
    copies = {row["id"]: row for row in library.rows("acp")}
    volumes = {row["id"]: row for row in library.rows("acn")}
    if item not in copies:
        return None
    copy = copies[item]
    if copy["call_number"] == _NOT_CATALOGED:
        owner = copy["circ_lib"]
    elif copy["call_number"] in volumes:
        owner = volumes[copy["call_number"]]["owning_lib"]
    else:  # the owner doesn't matter if all libraries have the same settings
        owner, *others = library.orgs
        if any(_settings(library, other) != _settings(library, owner) for other in others):
            return None
    return max(_billed(copy, _settings(library, owner)), 0)


def _settings(library: Library, owner: int) -> dict[str, Any]:
    return {name: _setting(library, owner, name) for name in _VALUES}


def _setting(library: Library, owner: int, name: str) -> Any:
    """Return the value at the nearest org unit that has one, which may be null."""
    stored = {row["org_unit"]: row["value"] for row in library.rows("aous") if row["name"] == name}
    return next((json.loads(stored[org]) for org in library.upwards(owner) if org in stored), None)


def _billed(copy: Row, setting: dict[str, Any]) -> int:
    """Return ``get_copy_price`` in cents."""
    fields = {name: None if copy[name] is None else _cents(copy[name]) for name in ("price", "cost")}
    if (fields["price"] or 0) < 0:
        fields["price"] = 0
    first = fields["cost" if setting[_PRIMARY] == "cost" else "price"]
    candidates = [first]
    if setting[_SECONDARY] is not None:
        candidates.append(fields[setting[_SECONDARY]])
    usable = [one for one in candidates if one is not None and (one != 0 or not setting[_ON_ZERO])]
    # The second field replaces a first one that isn't usable, and is used if it is.
    found = usable[0] if usable else _cents(setting[_DEFAULT] or 0)
    if setting[_MOST] is not None and found > _cents(setting[_MOST]):
        return _cents(setting[_MOST])
    keeps_zero = found == 0 and setting[_ON_ZERO] is False
    if setting[_LEAST] is not None and found < _cents(setting[_LEAST]) and not keeps_zero:
        return _cents(setting[_LEAST])
    return found


def _cents(amount: Any) -> int:
    return round(float(amount) * 100)
