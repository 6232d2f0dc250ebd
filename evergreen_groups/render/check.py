"""Who is over the limit, as a table for a terminal, and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

from evergreen_groups.money import amount, plain_amount
from evergreen_groups.render.json_documents import group_document, patron_document, write_json_document
from evergreen_groups.render.report import limit_document
from evergreen_groups.render.safe_text import printable
from evergreen_groups.render.standing_wording import standing_document
from evergreen_groups.render.text_columns import PLAIN, Cell, Columns, TextColumn
from evergreen_groups.render.wording import describe_limit, hidden_members

if TYPE_CHECKING:
    from evergreen_groups.desk import GroupCheck
    from evergreen_groups.groups import Member
    from evergreen_groups.ils import Penalty

SCHEMA = "evergreen-groups/check/1"


def write_check(check: GroupCheck, stream: TextIO, *, width: int) -> None:
    """Write a row for each patron, under it the reasons, and the group's total, for information only."""
    rows = [_row(member) for member in check.checked]
    columns = Columns(_COLUMNS, rows, width)
    stream.write("".join(segment.text for segment in columns.heading(PLAIN)))
    stream.write("─" * columns.width + "\n")
    for row in rows:
        stream.write("".join(segment.text for segment in columns.row(row)))
    stream.write("\n")
    for member in check.checked:
        stream.writelines(f"{line}\n" for line in _reasons(check, member))
    group = check.group
    stream.write(f"\nGroup {group.number} owes {amount(group.combined_fines)} together, for information only.\n")
    if not group.complete:
        stream.write(hidden_members(group) + "\n")


_COLUMNS = (
    TextColumn("Name", least=14),
    TextColumn("Barcode", least=14),
    TextColumn("Library"),
    TextColumn("Own fines", right=True),
    TextColumn("Limit", least=10),
    TextColumn("Over the limit"),
)


def _row(member: Member) -> list[Cell]:
    texts = (
        printable(member.name),
        printable(member.barcode or "no card"),
        printable(member.library),
        amount(member.own_fines),
        "not visible" if member.decision is None else describe_limit(member.limit),
        {True: "yes", False: "no", None: "not known"}[member.over_limit_if_known],
    )
    return [Cell(text) for text in texts]


def _reasons(check: GroupCheck, member: Member) -> Iterator[str]:
    yield from _decision(member)
    for difference in check.differences(member):
        yield f"  {printable(difference)}"


def _decision(member: Member) -> Iterator[str]:
    decision = member.decision
    if decision is None:
        yield f"{printable(member.name)}: not decided, for the account may not see the limit."
        return
    yield f"{printable(member.name)}: {decision.explanation}"
    yield f"  Limit: {printable(decision.limit.origin)}."
    if decision.own_balance != member.own_fines:
        yield (
            f"  Of {amount(member.own_fines)} owed, {amount(decision.own_balance)} counts: "
            "what is owed at the limit's libraries."
        )


def write_check_json(check: GroupCheck, stream: TextIO) -> None:
    """Write the check as one JSON object; amounts are strings with two places."""
    group = check.group
    document = {
        "schema": SCHEMA,
        "gateway": check.gateway,
        "over_limit": check.over_limit,
        "blocked": check.over_limit,  # as it was called before; it stays until the next minor version
        "complete": check.complete,
        "patrons": [_patron(check, member) for member in check.checked],
        **group_document(group),
    }
    write_json_document(document, stream)


def _patron(check: GroupCheck, member: Member) -> dict[str, Any]:
    decision = member.decision
    return {
        **patron_document(member.patron),
        "own_fines": plain_amount(member.own_fines),
        "counted_fines": None if decision is None else plain_amount(decision.own_balance),
        "limit": None if decision is None else {**limit_document(decision.limit), "origin": decision.limit.origin},
        **standing_document(check.standing(member)),
        "blocked": member.over_limit_if_known,
        "over_by": None if decision is None else plain_amount(decision.over_by),
        "explanation": None if decision is None else decision.explanation,
        "recorded": [_recorded(check, member, penalty) for penalty in check.penalties[member.id]],
        "differences": list(check.differences(member)),
    }


def _recorded(check: GroupCheck, member: Member, penalty: Penalty) -> dict[str, Any]:
    return {
        "penalty": penalty.kind.name,
        "library": penalty.org_unit.shortname,
        "for_fines": check.is_for_fines(member, penalty),
        "by_hand": penalty.by_staff,
        "blocks": list(penalty.kind.blocks),
    }
