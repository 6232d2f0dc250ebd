"""Constraints of Evergreen's tables: defaults, NOT NULL, unique and foreign keys (``sql/Pg/*.sql``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from evergreen_groups.sandbox.database.values import BadValueError, to_storage
from evergreen_groups.sandbox.services import Die

if TYPE_CHECKING:
    from evergreen_groups.sandbox.database.classes import StoredClass
    from evergreen_groups.sandbox.database.store import Store

INTEGER_LIMIT = 2**31
# NUMERIC(6,2): at most four digits before the decimal point.
_AMOUNTS = {"au": "credit_forward_balance", "mb": "amount"}
_AMOUNT_LIMIT = 10**6

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "ac": {"active": "t"},
    "aua": {"address_type": "MAILING", "valid": "t", "within_city_limits": "t", "pending": "f"},
    "aum": {"create_date": "now", "deleted": "f", "pub": "f"},
    "aupw": {"place_holds": "f", "pickup_holds": "f", "view_history": "f", "checkout_items": "f"},
    "ausp": {"set_date": "now"},
    "mb": {"billing_ts": "now", "create_date": "now", "voided": "f"},
    "mg": {"xact_start": "now"},
}
REQUIRED: Mapping[str, tuple[str, ...]] = {
    "ac": ("usr", "barcode", "active"),
    "au": (
        *("profile", "usrname", "standing", "ident_type", "net_access_level", "first_given_name", "family_name"),
        *("home_ou", "active", "master_account", "super_user", "barred", "deleted", "juvenile", "usrgroup"),
        *("claims_returned_count", "claims_never_checked_out_count", "credit_forward_balance", "create_date"),
        "expire_date",
    ),
    "aua": ("usr", "street1", "city", "post_code", "country", "valid", "within_city_limits", "pending"),
    "aum": ("usr", "message", "sending_lib", "create_date", "deleted", "pub"),
    "aupw": ("usr", "name"),
    "ausp": ("usr", "org_unit", "standing_penalty"),
    "mb": ("xact", "amount", "billing_type", "btype", "billing_ts", "voided"),
    "mg": ("usr", "billing_location", "xact_start"),
}
UNIQUE: Mapping[str, tuple[str, ...]] = {"ac": ("barcode",), "au": ("usrname", "card")}
_REFERENCES: Mapping[str, Mapping[str, str]] = {
    "ac": {"usr": "au"},
    "au": {"profile": "pgt", "home_ou": "aou", "mailing_address": "aua", "billing_address": "aua"},
    "aua": {"usr": "au", "replaces": "aua"},
    "aum": {"usr": "au", "sending_lib": "aou"},
    "aupw": {"usr": "au"},
    "ausp": {"usr": "au", "org_unit": "aou", "standing_penalty": "csp", "staff": "au"},
}
# Most foreign keys are deferred to the commit; these are checked as soon as the row is written.
_IMMEDIATE: Mapping[str, Mapping[str, str]] = {"aum": {"editor": "au"}, "ausp": {"usr_message": "aum"}}
# Ids in stock tables that the sandbox doesn't store (950.data.seed-values.sql).
_STOCK: Mapping[str, Mapping[str, frozenset[int]]] = {
    "au": {"ident_type": frozenset({1, 2, 3}), "standing": frozenset({1, 2}), "net_access_level": frozenset({1, 2, 3})},
    "mb": {"btype": frozenset({*range(1, 12), 101})},
}


def values_fit(idl_class: StoredClass, values: Mapping[str, Any]) -> bool:
    """Return whether every value fits its column's type and range."""
    try:
        stored = {item.name: to_storage(item.kind, values.get(item.name)) for item in idl_class.columns}
    except BadValueError:
        return False
    numbers = [stored[item.name] for item in idl_class.columns if item.kind == "integer"]
    amount = stored.get(_AMOUNTS.get(idl_class.id, ""))
    in_range = all(number is None or -INTEGER_LIMIT <= number < INTEGER_LIMIT for number in numbers)
    return in_range and (amount is None or abs(amount) < _AMOUNT_LIMIT)


def rows_hold(store: Store, idl_class: StoredClass, values: Mapping[str, Any]) -> bool:
    """Return whether a row meets the constraints that are checked on writing: NOT NULL, unique, some foreign keys."""
    if any(values.get(name) is None for name in REQUIRED.get(idl_class.id, ())):
        return False
    for name in UNIQUE.get(idl_class.id, ()):
        if values.get(name) is None:
            continue
        others = store.rows(idl_class.id, {name: values[name]})
        if any(row[idl_class.primary] != values.get(idl_class.primary) for row in others):
            return False
    immediate = _IMMEDIATE.get(idl_class.id, {}).items()
    return all(values.get(name) is None or store.row(target, values[name]) for name, target in immediate)


def check_references(store: Store, class_id: str, values: Mapping[str, Any]) -> None:
    """Check the deferred foreign keys, as PostgreSQL does when a transaction is committed.

    Raises:
        Die: a referenced row doesn't exist; the Perl methods don't handle a commit that fails.
    """
    references, stock = _REFERENCES.get(class_id, {}), _STOCK.get(class_id, {})
    for name, value in values.items():
        if value is None:
            continue
        missing = name in references and store.row(references[name], value) is None
        if missing or (name in stock and value not in stock[name]):
            raise Die("Exception: OpenSRF::DomainObject::oilsMethodException <500>  Error committing transaction")
