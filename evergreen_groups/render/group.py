"""Group Member Details as a table for a terminal, and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

from evergreen_groups.money import NOTHING, amount, plain_amount
from evergreen_groups.render.json_documents import group_document, patron_document, write_json_document
from evergreen_groups.render.report import limit_document
from evergreen_groups.render.safe_text import printable
from evergreen_groups.render.standing_wording import explain_standing, standing_document
from evergreen_groups.render.text_columns import EMPTY, PLAIN, Cell, Columns, TextColumn, wrapped
from evergreen_groups.render.wording import counted, describe_limit, hidden_members

if TYPE_CHECKING:
    from evergreen_groups.desk import GroupDetails
    from evergreen_groups.groups import Member, PatronAccount
    from evergreen_groups.ils import CirculationCounts

SCHEMA = "evergreen-groups/group/1"
_UNKNOWN = "–"
_COLUMNS = (
    TextColumn("Name", least=14),
    TextColumn("Barcode", least=14),
    TextColumn("Library"),
    TextColumn("Own fines", right=True),
    TextColumn("Out", right=True),
    TextColumn("Over- due", right=True),
    TextColumn("Lost", right=True),
    TextColumn("Remarks", least=10),
)


def write_details(details: GroupDetails, stream: TextIO, *, width: int) -> None:
    """Write the table: a row for each member, the sums under it, and the group fines, for information only."""
    group = details.group
    rows = [_row(details, member) for member in group.members]
    sums = _sums(details)
    columns = Columns(_COLUMNS, [*rows, sums], width)
    stream.write(f"Group {group.number}: {counted(group.member_count, 'member')}\n\n")
    stream.writelines(_lines(columns, rows, sums))
    stream.write(f"\nGroup fines: {amount(group.combined_fines)}, for information only.\n")
    stream.write(f"Over the limit, by their own fines alone: {_rule(details)}.\n")
    stream.writelines(_explanations(details, width))
    if not group.complete:
        stream.write(hidden_members(group, "the group fines") + "\n")


def _rule(details: GroupDetails) -> str:
    if details.limit is None:
        return "who is marked, each by the limit for their profile and library (check says which)"
    return f"who owes {describe_limit(details.limit)}"


def _row(details: GroupDetails, member: Member) -> list[Cell]:
    account = details.accounts[member.id]
    texts = [
        printable(member.name),
        printable(member.barcode or "no card"),
        printable(member.library),
        amount(member.own_fines),
        *_counts(details.circulations[member.id]),
        ", ".join(_remarks(details, member, account)),
    ]
    return [Cell(text) for text in texts]


def _remarks(details: GroupDetails, member: Member, account: PatronAccount) -> Iterator[str]:
    standing = details.standing(member)
    if member.group_lead:
        yield "lead"
    if standing.over_limit:
        yield "over limit"
    if standing.blocked_for_fines:
        yield "blocked"
    if standing.other_blocks:
        yield "other block"
    if account.juvenile:
        yield "juvenile"
    if not account.active:
        yield "inactive"
    if account.barred:
        yield "barred"
    if account.expired:
        yield "expired"


def _explanations(details: GroupDetails, width: int) -> Iterator[str]:
    """Where the limit and Evergreen's blocks differ, what else blocks a member, and whose limit isn't known."""
    for member in details.group.members:
        for sentence in explain_standing(details.standing(member)):
            yield from (f"{line}\n" for line in wrapped(f"{printable(member.name)}: {sentence}.", width))
    hidden = sum(member.decision is None for member in details.group.members)
    if hidden:
        who = counted(hidden, "member is", "members are")
        words = f"Whether {who} over the limit isn't known: this account may not see the limit."
        yield from (f"{line}\n" for line in wrapped(words, width))


def _sums(details: GroupDetails) -> list[Cell]:
    owed = sum((member.own_fines for member in details.group.members), NOTHING)
    texts = ["Total", "", "", amount(owed), *_counts(details.all_circulations), ""]
    return [Cell(text) if text else EMPTY for text in texts]


def _counts(counts: CirculationCounts | None) -> list[str]:
    if counts is None:
        return [_UNKNOWN] * 3
    more = "" if counts.complete else "+"
    return [f"{number:,}{more}" for number in (counts.out, counts.overdue, counts.lost)]


def _lines(columns: Columns, rows: list[list[Cell]], sums: list[Cell]) -> Iterator[str]:
    rule = "─" * columns.width + "\n"
    yield "".join(segment.text for segment in columns.heading(PLAIN))
    yield rule
    for row in rows:
        yield "".join(segment.text for segment in columns.row(row))
    yield rule
    yield "".join(segment.text for segment in columns.row(sums))


def write_json(details: GroupDetails, stream: TextIO) -> None:
    """Write the group as one JSON object; amounts are strings with two places."""
    group = details.group
    document = {
        "schema": SCHEMA,
        "gateway": details.gateway,
        **group_document(group),
        "complete": group.complete,
        "limit": None if details.limit is None else limit_document(details.limit),
        "totals": _items(details.all_circulations),
        "members": [_member(details, member) for member in group.members],
    }
    write_json_document(document, stream)


def _items(counts: CirculationCounts | None) -> dict[str, int] | None:
    # A number that is at least so many isn't one.
    return (
        None
        if counts is None or not counts.complete
        else {"out": counts.out, "overdue": counts.overdue, "lost": counts.lost}
    )


def _member(details: GroupDetails, member: Member) -> dict[str, Any]:
    account = details.accounts[member.id]
    return {
        **patron_document(member.patron),
        "own_fines": plain_amount(member.own_fines),
        "limit": None if member.decision is None else limit_document(member.limit),
        **standing_document(details.standing(member)),
        "blocked": member.over_limit_if_known,  # as it was called before; it stays until the next minor version
        "items": _items(details.circulations[member.id]),
        "profile": details.profiles[member.id],
        "juvenile": account.juvenile,
        "active": account.active,
        "barred": account.barred,
        "expired": account.expired,
        "expires": account.expire_date.isoformat() if account.expire_date else None,
        "group_lead": member.group_lead,
    }
