"""Sample data in which every piece of a patron's data is a mark: a text that says whose it is.

Some families have members at three branches. Two clerks each work at one branch, and may do there what a desk may do.
"""

from __future__ import annotations

import io
import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import openpyxl

_HARBOR, _PINE, _MILL, _BUS, _ELM = 11, 12, 21, 23, 22
_HOMES = {
    **{1001: _HARBOR, 1002: _MILL, 1003: _PINE},
    **{1019: _ELM, 1020: _HARBOR, 1025: _MILL},
    **{1026: _PINE, 1027: _MILL, 1028: _HARBOR},
    **{1057: _HARBOR, 1058: _MILL},
}
_JUVENILE = (1057,)
"""With this one, a family has juveniles only: its contact is a guardian, of a patron of Harbor Street."""
_DESK = (
    *("VIEW_USER", "VIEW_USER_FINES_SUMMARY", "VIEW_USER_TRANSACTIONS", "VIEW_TRANSACTION", "VIEW_CIRCULATIONS"),
    "VIEW_HOLD",
    *("VIEW_GROUP_PENALTY_THRESHOLD", "UPDATE_USER", "CREATE_USER_GROUP_LINK", "REMOVE_USER_GROUP_LINK"),
    *("group_application.user", "group_application.user.patron", "VIEW_PERMISSION", "VIEW_PERM_GROUPS"),
)

_MARKS = re.compile(r"\b(phone|evening|other|mail|street|guardian|name|note|title)-(\d{4})\b|\b2000000000(\d{4})\b")
CONTACT_DATA = frozenset({"phone", "evening", "other", "mail", "street", "guardian"})

Mark = tuple[str, int]
"""What it is, and whose: the id of a patron, or the number of a group for notes, or of a record for titles."""


def marks_in(content: bytes) -> set[Mark]:
    """Return the marks in a page, a document, a spreadsheet or a mail's part. Barcodes have the kind "barcode"."""
    if content.startswith(b"PK"):
        sheets = openpyxl.load_workbook(io.BytesIO(content)).worksheets
        content = "\n".join(str(cell.value) for sheet in sheets for row in sheet for cell in row).encode()
    found = _MARKS.findall(content.decode())
    return {(kind or "barcode", int(number or card)) for kind, number, card in found}


@dataclass(frozen=True)
class Reader:
    """A clerk of one branch, and the marks that they may see: ``own`` at their branch, ``report`` in its report."""

    account: str
    library: str
    own: frozenset[Mark]
    report: frozenset[Mark]


class MarkedPatrons:
    """The sample data, as the sandbox loads them, and what each clerk may see of them."""

    def __init__(self) -> None:
        file = resources.files("evergreen_groups.sandbox.data").joinpath("families.json")
        self.content: dict[str, Any] = json.loads(file.read_text("utf-8"))
        self._patrons = [row for row in self.content["au"] if row["id"] > 1000]
        self._mark()
        self.content["au"].append(
            {"id": 7, "usrname": "mill_desk", "home_ou": _MILL, "usrgroup": 7, "card": 7, "profile": 3}
            | {"first_given_name": "Milo", "family_name": "Weir"}
        )
        self.content["ac"].append({"id": 7, "barcode": "90000000000007", "usr": 7})
        accounts = self.content["staff_permissions"]
        for account, home in (("harbor_desk", _HARBOR), ("mill_desk", _MILL)):
            rights = [["STAFF_LOGIN", home, 0], *([permission, home, 2] for permission in _DESK)]
            accounts[account] = {"password": "sandbox", "type": "staff", "perms": rights}

    def _mark(self) -> None:
        for row in self._patrons:
            id = row["id"]
            row["home_ou"] = _HOMES.get(id, row["home_ou"])
            row["first_given_name"] = f"name-{id}"
            row |= {"day_phone": f"phone-{id}", "evening_phone": f"evening-{id}", "other_phone": f"other-{id}"}
            row["email"] = f"mail-{id}@library.example"
            if id in _JUVENILE:
                row["juvenile"] = "t"
            if row.get("juvenile") == "t":
                row["guardian"] = f"guardian-{id}"
        for row in self.content["aua"]:
            row["street1"] = f"street-{row['id']}"
        for row in self.content["rmsr"]:
            row["title"] = f"title-{row['id']}"

    def families(self) -> dict[int, list[int]]:
        """Return the ids of each group's members."""
        found = defaultdict(list)
        for row in self._patrons:
            found[row["usrgroup"]].append(row["id"])
        return dict(found)

    def reader(self, account: str, library: str, *homes: int) -> Reader:
        own = {row["id"] for row in self._patrons if row["home_ou"] in homes}
        families = {group: members for group, members in self.families().items() if own.intersection(members)}
        addresses = {row[use] for row in self._patrons if row["id"] in own for use in _ADDRESSES if use in row}
        addresses |= {row["id"] for row in self.content["aua"] if row["usr"] in own}
        own_marks = {(kind, id) for kind in (*CONTACT_DATA - {"street"}, "name", "barcode") for id in own}
        own_marks |= {("street", id) for id in addresses} | {("note", group) for group in families}
        own_marks |= {("title", record) for record in self._records_of(own)}
        relatives = {id for members in families.values() for id in members}
        return Reader(
            account,
            library,
            frozenset(own_marks),
            frozenset(own_marks | {(kind, id) for kind in ("name", "barcode") for id in relatives}),
        )

    def _records_of(self, patrons: set[int]) -> set[int]:
        """Return the records of the items that patrons have, or had, checked out."""
        volumes = {row["id"]: row["record"] for row in self.content["acn"]}
        copies: Mapping[int, int] = {row["id"]: volumes[row["call_number"]] for row in self.content["acp"]}
        return {copies[row["target_copy"]] for row in self.content["circ"] if row["usr"] in patrons}

    def readers(self) -> tuple[Reader, Reader]:
        """Return a clerk of Harbor Street, and one of Mill Lane and its bookmobile."""
        return self.reader("harbor_desk", "HARBOR", _HARBOR), self.reader("mill_desk", "MILL", _MILL, _BUS)


_ADDRESSES = ("mailing_address", "billing_address")
