"""Who is over the limit, as a table for a terminal, and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

from evergreen_groups.language import describe_total, gettext, pgettext, price
from evergreen_groups.message import Message
from evergreen_groups.money import plain_amount
from evergreen_groups.render.json_documents import group_document, patron_document, write_json_document
from evergreen_groups.render.report import limit_document
from evergreen_groups.render.safe_text import printable
from evergreen_groups.render.standing_wording import prospect_document, standing_document
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
    columns = Columns(_columns(), rows, width)
    stream.write("".join(segment.text for segment in columns.heading(PLAIN)))
    stream.write("─" * columns.width + "\n")
    for row in rows:
        stream.write("".join(segment.text for segment in columns.row(row)))
    stream.write("\n")
    for member in check.checked:
        stream.writelines(f"{line}\n" for line in _reasons(check, member))
    group = check.group
    text = gettext(
        "Combined fines of group {group}: {fines}, for information only.",
        group=group.number,
        fines=describe_total(group.combined_fines),
    )
    stream.write(f"\n{text}\n")
    if not group.complete:
        stream.write(hidden_members(group) + "\n")


def _columns() -> tuple[TextColumn, ...]:
    return (
        TextColumn(gettext("Name"), least=14),
        TextColumn(gettext("Barcode"), least=14),
        TextColumn(gettext("Library")),
        TextColumn(gettext("Own fines"), right=True),
        TextColumn(gettext("Limit"), least=10),
        TextColumn(gettext("Over the limit")),
    )


_OVER_THE_LIMIT = {
    True: Message("yes", context="over the limit"),
    False: Message("no", context="over the limit"),
    None: Message("not known", context="over the limit"),
}


def _row(member: Member) -> list[Cell]:
    texts = (
        printable(member.name),
        printable(member.barcode) if member.barcode else gettext("no card"),
        printable(member.library),
        price(member.own_fines),
        pgettext("limit", "not visible") if member.decision is None else describe_limit(member.limit),
        gettext(_OVER_THE_LIMIT[member.over_limit_if_known]),
    )
    return [Cell(text) for text in texts]


def _reasons(check: GroupCheck, member: Member) -> Iterator[str]:
    yield from _decision(member)
    for difference in check.differences(member):
        yield f"  {printable(gettext(difference))}"


def _decision(member: Member) -> Iterator[str]:
    name, decision = printable(member.name), member.decision
    if decision is None:
        yield gettext("{name}: not decided, for the account may not see the limit.", name=name)
        return
    yield gettext("{name}: {explanation}", name=name, explanation=decision.explanation)
    yield "  " + gettext("Limit: {origin}.", origin=printable(gettext(decision.limit.origin)))
    if decision.own_balance != member.own_fines:
        yield "  " + gettext(
            "Of {owed} owed, {counted} counts: what is owed at the limit's libraries.",
            owed=member.own_fines,
            counted=decision.own_balance,
        )


def write_check_json(check: GroupCheck, stream: TextIO) -> None:
    """Write the check as one JSON object; amounts are strings with two places."""
    group = check.group
    document = {
        "schema": SCHEMA,
        "gateway": check.gateway,
        "over_limit": check.over_limit,
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
        **prospect_document(check.prospects.get(member.id)),
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
