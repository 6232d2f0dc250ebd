"""Records that belong to patrons, read by patron id."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from evergreen_groups.gateway import Gateway
from evergreen_groups.groups import ACCOUNT_FIELDS, PatronAccount
from evergreen_groups.groups.contacts import CONTACT_FIELDS


def read_contact_records(gateway: Gateway, patrons: Collection[int]) -> dict[int, tuple[Any, ...]]:
    """Read the ``CONTACT_FIELDS`` of patrons, by id."""
    found = gateway.pcrud.columns_by_values("au", ("id", *CONTACT_FIELDS), "id", patrons)
    return {id: tuple(record) for id, *record in found}


def read_accounts(gateway: Gateway, patrons: Collection[int]) -> dict[int, PatronAccount]:
    found = gateway.pcrud.columns_by_values("au", ("id", *ACCOUNT_FIELDS), "id", patrons)
    return {id: PatronAccount.of(values, datetime.now(UTC)) for id, *values in found}
