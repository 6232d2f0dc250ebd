"""People who owe something as CSV, for mailing houses and collection services."""

from __future__ import annotations

import csv
from functools import partial
from typing import TYPE_CHECKING, Any

from evergreen_groups.render.text import escape_formula
from evergreen_groups.report import WAYS, PostalAddress
from evergreen_groups.values import plain_amount

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from evergreen_groups.letters import Debtor, Debtors


def _part(name: str, one: Debtor) -> str:
    return str(getattr(one.addressee.address, name))


def _way(name: str, one: Debtor) -> str:
    return str(getattr(one.addressee.contact, name))


_COLUMNS: dict[str, Callable[[Debtor], Any]] = {
    "group": lambda one: one.group,
    "library": lambda one: one.member.library,
    "patron": lambda one: one.member.id,
    "barcode": lambda one: one.member.barcode,
    "patron_name": lambda one: one.member.name,
    "minor": lambda one: "true" if one.minor else "false",
    "own_fines": lambda one: plain_amount(one.member.own_fines),
    "owing_since": lambda one: one.owing_since and one.owing_since.date().isoformat(),
    "age_band": lambda one: one.age_band and one.age_band.text,
    "contact": lambda one: one.addressee.patron,
    "contact_role": lambda one: one.addressee.contact.role,
    "contact_name": lambda one: one.addressee.name,
    **{name: partial(_part, name) for name in PostalAddress._fields},
    **{name: partial(_way, name) for name in WAYS if name != "address"},
    "locale": lambda one: one.addressee.locale,
}
"""A stable interface (docs/letters.md): new columns come after all others."""
_AS_IS = {"own_fines"}
"""Columns with amounts, which no spreadsheet takes for a formula and which need no apostrophe."""


def write_debtors(debtors: Debtors, stream: TextIO) -> None:
    """Write a row for each person (RFC 4180). Texts that a spreadsheet would take for formulas get an apostrophe."""
    rows = csv.writer(stream)
    rows.writerow(_COLUMNS)
    for one in debtors.people:
        values = ((name, value_of(one)) for name, value_of in _COLUMNS.items())
        rows.writerow(
            value if name in _AS_IS or isinstance(value, int) else escape_formula(str(value or ""))
            for name, value in values
        )
