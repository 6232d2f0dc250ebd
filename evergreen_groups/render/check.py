"""Who is blocked, as a table for a terminal, and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

from evergreen_groups.money import amount, plain_amount
from evergreen_groups.render.report import limit_document
from evergreen_groups.render.safe_text import printable
from evergreen_groups.render.text_columns import PLAIN, Cell, Columns, TextColumn
from evergreen_groups.render.wording import counted, limit_words

if TYPE_CHECKING:
    from evergreen_groups.desk import GroupCheck, PatronCheck, RecordedPenalty

SCHEMA = "evergreen-groups/check/1"


def write_check(check: GroupCheck, stream: TextIO, *, width: int) -> None:
    """Write a row for each patron, under it the reasons, and the group's total, for information only."""
    rows = [_row(patron) for patron in check.patrons]
    columns = Columns(_COLUMNS, rows, width)
    stream.write("".join(segment.text for segment in columns.heading(PLAIN)))
    stream.write("─" * columns.width + "\n")
    for row in rows:
        stream.write("".join(segment.text for segment in columns.row(row)))
    stream.write("\n")
    for patron in check.patrons:
        stream.writelines(f"{line}\n" for line in _reasons(patron))
    stream.write(f"\nGroup {check.group} owes {amount(check.group_fines)} together, for information only.\n")
    if check.hidden_count:
        stream.write(_hidden(check) + "\n")


_COLUMNS = (
    TextColumn("Name", least=14),
    TextColumn("Barcode", least=14),
    TextColumn("Library"),
    TextColumn("Own fines", right=True),
    TextColumn("Limit", least=10),
    TextColumn("Blocked"),
)


def _row(patron: PatronCheck) -> list[Cell]:
    texts = (
        printable(patron.name),
        printable(patron.barcode or "no card"),
        printable(patron.library),
        amount(patron.own_fines),
        limit_words(patron.limit.limit),
        "blocked" if patron.decision.blocked else "free",
    )
    return [Cell(text) for text in texts]


def _reasons(patron: PatronCheck) -> Iterator[str]:
    yield f"{printable(patron.name)}: {patron.decision.explanation}"
    yield f"  Limit: {printable(patron.limit.origin)}."
    if patron.decision.own_balance != patron.own_fines:
        counting = amount(patron.decision.own_balance)
        yield f"  Of {amount(patron.own_fines)} owed, {counting} counts: what is owed at the limit's libraries."
    for difference in patron.differences:
        yield f"  {printable(difference)}"


def _hidden(check: GroupCheck) -> str:
    who = counted(check.hidden_count, "member is", "members are")
    if check.hidden_fines is None:
        return f"{who} hidden from this account; what they owe is not known and not in it."
    return f"{who} hidden from this account; they owe {amount(check.hidden_fines)}, which is in it."


def write_check_json(check: GroupCheck, stream: TextIO) -> None:
    """Write the check as one JSON object; amounts are strings with two places."""
    document = {
        "schema": SCHEMA,
        "gateway": check.gateway,
        "blocked": check.blocked,
        "complete": check.complete,
        "patrons": [_patron(patron) for patron in check.patrons],
        "group": check.group,
        "group_fines": plain_amount(check.group_fines),
        "group_fines_are": "for information only",
        "hidden_member_count": check.hidden_count,
        "hidden_fines": None if check.hidden_fines is None else plain_amount(check.hidden_fines),
    }
    json.dump(document, stream, indent=2, ensure_ascii=False)
    stream.write("\n")


def _patron(patron: PatronCheck) -> dict[str, Any]:
    return {
        "id": patron.id,
        "name": patron.name,
        "barcode": patron.barcode,
        "library": patron.library,
        "own_fines": plain_amount(patron.own_fines),
        "counted_fines": plain_amount(patron.decision.own_balance),
        "limit": {**limit_document(patron.limit.limit), "origin": patron.limit.origin},
        "blocked": patron.decision.blocked,
        "over_by": plain_amount(patron.decision.over_by),
        "explanation": patron.decision.explanation,
        "recorded": [_recorded(penalty) for penalty in patron.recorded],
        "differences": list(patron.differences),
    }


def _recorded(penalty: RecordedPenalty) -> dict[str, Any]:
    return {
        "penalty": penalty.name,
        "library": penalty.library,
        "for_fines": penalty.for_fines,
        "by_hand": penalty.by_hand,
        "blocks": list(penalty.blocks),
    }
