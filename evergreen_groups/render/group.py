"""Group Member Details as a table for a terminal, and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

from evergreen_groups.money import NOTHING, amount, plain_amount
from evergreen_groups.render.report import limit_document
from evergreen_groups.render.safe_text import printable
from evergreen_groups.render.text_columns import EMPTY, PLAIN, Cell, Columns, TextColumn
from evergreen_groups.render.wording import counted, limit_words

if TYPE_CHECKING:
    from evergreen_groups.desk import GroupDetails, Items, MemberDetails

SCHEMA = "evergreen-groups/group/1"
_UNKNOWN = "–"
_WIDE = 100
"""From this width on (terminal cells), there is room for birth dates."""


def write_details(group: GroupDetails, stream: TextIO, *, width: int) -> None:
    """Write the table: a row for each member, the sums under it, and the group fines, for information only."""
    rows = [_row(member, width) for member in group.members]
    sums = _sums(group, width)
    columns = Columns(_columns(width), [*rows, sums], width)
    stream.write(f"Group {group.group}: {counted(len(group.members) + group.hidden_count, 'member')}\n\n")
    stream.writelines(_lines(columns, rows, sums))
    stream.write(f"\nGroup fines: {amount(group.group_fines)}, for information only.\n")
    stream.write(f"Blocked by the rule, for their own fines alone: {_rule(group)}.\n")
    if group.hidden_count:
        stream.write(_hidden(group) + "\n")


def _rule(group: GroupDetails) -> str:
    if group.limit is None:
        return "who is marked, each by the limit for their profile and library (check says which)"
    return f"who owes {limit_words(group.limit)}"


def _columns(width: int) -> list[TextColumn]:
    columns = [
        TextColumn("Name", least=14),
        TextColumn("Barcode", least=14),
        TextColumn("Library"),
        TextColumn("Own fines", right=True),
        TextColumn("Out", right=True),
        TextColumn("Over- due", right=True),
        TextColumn("Lost", right=True),
    ]
    born = [TextColumn("Born")] if width >= _WIDE else []
    return [*columns, *born, TextColumn("Remarks", least=10)]


def _row(member: MemberDetails, width: int) -> list[Cell]:
    born = [member.birth_date.isoformat() if member.birth_date else ""] if width >= _WIDE else []
    texts = [
        printable(member.name),
        printable(member.barcode or "no card"),
        printable(member.library),
        amount(member.own_fines),
        *_counts(member.items),
        *born,
        ", ".join(_remarks(member)),
    ]
    return [Cell(text) for text in texts]


def _remarks(member: MemberDetails) -> Iterator[str]:
    if member.group_lead:
        yield "lead"
    if member.blocked:
        yield "blocked"
    if not member.active:
        yield "inactive"
    if member.barred:
        yield "barred"
    if member.expired:
        yield "expired"


def _sums(group: GroupDetails, width: int) -> list[Cell]:
    items = group.items
    owed = sum((member.own_fines for member in group.members), NOTHING)
    texts = ["Total", "", "", amount(owed), *_counts(items), *([""] if width >= _WIDE else []), ""]
    return [Cell(text) if text else EMPTY for text in texts]


def _counts(items: Items | None) -> list[str]:
    return [f"{items.out:,}", f"{items.overdue:,}", f"{items.lost:,}"] if items else [_UNKNOWN] * 3


def _lines(columns: Columns, rows: list[list[Cell]], sums: list[Cell]) -> Iterator[str]:
    rule = "─" * columns.width + "\n"
    yield "".join(segment.text for segment in columns.heading(PLAIN))
    yield rule
    for row in rows:
        yield "".join(segment.text for segment in columns.row(row))
    yield rule
    yield "".join(segment.text for segment in columns.row(sums))


def _hidden(group: GroupDetails) -> str:
    who = counted(group.hidden_count, "member is", "members are")
    if group.hidden_fines is None:
        return f"{who} hidden from this account; what they owe is not known and not in the group fines."
    return f"{who} hidden from this account; they owe {amount(group.hidden_fines)}, which is in the group fines."


def write_json(group: GroupDetails, stream: TextIO) -> None:
    """Write the group as one JSON object; amounts are strings with two places."""
    items = group.items
    document = {
        "schema": SCHEMA,
        "gateway": group.gateway,
        "group": group.group,
        "group_fines": plain_amount(group.group_fines),
        "group_fines_are": "for information only",
        "complete": not group.hidden_count,
        "hidden_member_count": group.hidden_count,
        "hidden_fines": None if group.hidden_fines is None else plain_amount(group.hidden_fines),
        "limit": None if group.limit is None else limit_document(group.limit),
        "totals": _items(items),
        "members": [_member(member) for member in group.members],
    }
    json.dump(document, stream, indent=2, ensure_ascii=False)
    stream.write("\n")


def _items(items: Items | None) -> dict[str, int] | None:
    return None if items is None else {"out": items.out, "overdue": items.overdue, "lost": items.lost}


def _member(member: MemberDetails) -> dict[str, Any]:
    return {
        "id": member.id,
        "name": member.name,
        "barcode": member.barcode,
        "library": member.library,
        "own_fines": plain_amount(member.own_fines),
        "limit": limit_document(member.limit),
        "blocked": member.blocked,
        "items": _items(member.items),
        "active": member.active,
        "barred": member.barred,
        "expired": member.expired,
        "birth_date": member.birth_date.isoformat() if member.birth_date else None,
        "group_lead": member.group_lead,
    }
