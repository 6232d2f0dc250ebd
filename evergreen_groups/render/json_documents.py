"""What the JSON documents of a group share: its fines, for information only, its patrons, and how one is written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TextIO

from evergreen_groups.money import plain_amount, plain_amount_or_none

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evergreen_groups.groups import Group, Patron


def group_document(group: Group) -> dict[str, Any]:
    """The number of a group, its fines and its hidden members; amounts are strings with two places."""
    return {
        "group": group.number,
        "group_fines": plain_amount(group.combined_fines),
        "group_fines_are": "for information only",
        "hidden_member_count": group.hidden_member_count,
        "hidden_fines": plain_amount_or_none(group.hidden_fines),
    }


def patron_document(patron: Patron) -> dict[str, Any]:
    """Who a patron is, and the home library."""
    return {"id": patron.id, "name": patron.name, "barcode": patron.barcode, "library": patron.home_library.shortname}


def write_json_document(document: Mapping[str, Any], stream: TextIO) -> None:
    """Write one JSON object, indented, for programs and for people who look into it."""
    json.dump(document, stream, indent=2, ensure_ascii=False)
    stream.write("\n")
