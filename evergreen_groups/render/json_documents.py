"""Parts shared by JSON documents: groups, patrons and totals."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TextIO

from evergreen_groups.money import plain_amount, plain_amount_or_none

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evergreen_groups.groups import Group, Patron, StandingTotals
    from evergreen_groups.ils import CirculationCounts
    from evergreen_groups.total import Total


def group_document(group: Group) -> dict[str, Any]:
    """Return a group's number, fines and hidden members; amounts are strings with two decimal places."""
    return {
        "group": group.number,
        "group_fines": plain_amount_or_none(group.combined_fines),
        "group_fines_are": "for information only",
        "hidden_member_count": group.hidden_member_count,
        "hidden_fines": plain_amount_or_none(group.hidden_fines),
    }


def total_document(name: str, total: Total[int] | Total[Decimal]) -> dict[str, Any]:
    """Return a total under ``name``, null unless exact, and its lower bound under ``NAME_at_least``."""
    at_least = total.at_least
    written = plain_amount(at_least) if isinstance(at_least, Decimal) else at_least
    return {name: written if total.exact else None, f"{name}_at_least": written}


def standing_totals_document(totals: StandingTotals) -> dict[str, Any]:
    """Return how many members are over the limit, blocked for fines, and blocked for any reason."""
    return {
        **total_document("over_limit_count", totals.over_limit),
        **total_document("blocked_in_evergreen_count", totals.blocked_for_fines),
        **total_document("blocked_count", totals.blocked),
    }


def item_totals_document(name: str, counts: CirculationCounts) -> dict[str, Any]:
    """Return the checked-out items of all members under ``name``, null unless exact, and lower bounds."""
    written = {"out": counts.out, "overdue": counts.overdue, "lost": counts.lost}
    return {name: written if counts.complete else None, f"{name}_at_least": written}


def patron_document(patron: Patron) -> dict[str, Any]:
    """Return a patron's id, name, barcode and home library."""
    return {"id": patron.id, "name": patron.name, "barcode": patron.barcode, "library": patron.home_library.shortname}


def write_json_document(document: Mapping[str, Any], stream: TextIO) -> None:
    """Write one JSON object, indented for human readers."""
    json.dump(document, stream, indent=2, ensure_ascii=False)
    stream.write("\n")
