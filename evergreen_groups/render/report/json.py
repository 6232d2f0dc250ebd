"""The report as JSON, for programs; ``report.schema.json`` beside this module describes it.

``schema`` names the shape and its version. Within a version keys may be added, never changed or removed, so readers
pass over keys they don't know.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

from evergreen_groups.money import plain_amount, plain_amount_or_none
from evergreen_groups.render import penalty_document, total_document
from evergreen_groups.render.report.wording import group_details_document, member_details_document
from evergreen_groups.render.report.writers import Part, write_alone, write_side_by_side
from evergreen_groups.report import (
    BlockTotals,
    ChangeKind,
    Changes,
    Criteria,
    GroupChange,
    Report,
    RunTotals,
    Totals,
)
from evergreen_groups.total import Total

if TYPE_CHECKING:
    from evergreen_groups.groups import Group, Member
    from evergreen_groups.policy import Limit

SCHEMA = "evergreen-groups/report/1"

_BLOCKS_NOT_READ = BlockTotals(*[Total(0, exact=False)] * 3)


def _plain_text(value: object) -> str:
    """Return a Message as a plain string: msgspec takes no subclass of str."""
    if isinstance(value, str):
        return str(value)
    raise TypeError(f"{type(value).__name__} can't be written as JSON")


_encoder = msgspec.json.Encoder(enc_hook=_plain_text)
_HALF_A_PAIR = re.compile("[\ud800-\udfff]")


def write_document(report: Report, stream: TextIO, *, details: bool = True) -> None:
    """Write the document, indented by two, group by group so that it is never in memory as a whole.

    Amounts are strings with two places, and other scripts than Latin are written as they are.
    """
    write_alone(_DocumentWriter(report, details), report, stream)


def write_parts(report: Report, parts: Sequence[Part], *, details: bool = True) -> None:
    """Write parts of a report as :func:`write_document` does."""
    write_side_by_side(_DocumentWriter(report, details), report, parts)


class _DocumentWriter:
    between = ",\n    "

    def __init__(self, report: Report, details: bool) -> None:
        self._documents = GroupDocuments(report, details)

    def head(self, part: Report) -> Iterator[str]:
        yield text({"schema": SCHEMA, **head_document(part)}).removesuffix("\n}")
        yield ',\n  "groups": [' + ("\n    " if part.groups else "")

    def group(self, group: Group) -> str:
        # Line breaks inside strings are escaped, so each one here is the layout's own.
        return text(self._documents.of(group)).replace("\n", "\n    ")

    def tail(self, part: Report) -> Iterator[str]:
        yield "\n  ]\n}\n" if part.groups else "]\n}\n"


def head_document(report: Report) -> dict[str, Any]:
    """What a report is about, without its groups."""
    return {
        "generated_at": report.generated_at.isoformat(timespec="seconds"),
        "gateway": report.gateway,
        "criteria": _criteria(report.criteria),
        "totals": {**_totals(report.totals), **_block_totals(report)},
        "notes": list(report.notes),
        "left_out_count": report.left_out_count,
        "changes": None if report.changes is None else _changes(report.changes),
    }


class GroupDocuments:
    """Makes the objects of a report's groups, with ``details`` those of their members."""

    def __init__(self, report: Report, details: bool) -> None:
        self._report = report
        self._with_members = details
        self._changes = report.changes.by_group if report.changes else {}

    def of(self, group: Group) -> dict[str, Any]:
        """That of a group."""
        report = self._report
        document = _group(group, self._changes.get(group.number))
        if report.details is not None:
            document.update(group_details_document(report.details.of_group(group)))
        if self._with_members:
            document["members"] = [_member(report, member) for member in group.members]
        return document


def text(value: dict[str, Any]) -> str:
    """Return JSON indented by two, byte for byte as Python's own encoder lays it out, and faster."""
    try:
        return msgspec.json.format(_encoder.encode(value), indent=2).decode()
    except UnicodeEncodeError:  # half a surrogate pair
        return _HALF_A_PAIR.sub("\ufffd", json.dumps(value, indent=2, ensure_ascii=False))


def line(value: dict[str, Any]) -> str:
    """Return JSON on one line that ends with a line feed."""
    try:
        return _encoder.encode(value).decode() + "\n"
    except UnicodeEncodeError:
        written = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        return _HALF_A_PAIR.sub("\ufffd", written) + "\n"


def _criteria(criteria: Criteria) -> dict[str, Any]:
    return {
        "min_total": plain_amount(criteria.min_total),
        "min_members": criteria.min_members,
        "orgs": list(criteria.orgs),
        "top": criteria.top,
        "sort": criteria.sort,
        "limit": None if criteria.limit is None else limit_document(criteria.limit),
        "choice": criteria.choice.document(),
        "details": "full" if criteria.details else "sums",
    }


def limit_document(limit: Limit) -> dict[str, Any]:
    """The individual limit; an amount of None is no limit."""
    return {
        "amount": plain_amount_or_none(limit.amount),
        "comparison": limit.comparison.value,
    }


def _totals(totals: Totals) -> dict[str, Any]:
    return {
        "group_count": totals.group_count,
        "member_count": totals.member_count,
        **total_document("owing_count", totals.owing_count),
        **total_document("over_limit_count", totals.over_limit_count),
        "combined_fines": plain_amount_or_none(totals.combined_fines),
        **total_document("groups_no_member_over_limit", totals.groups_without_member_over_limit),
        "incomplete_group_count": totals.incomplete_group_count,
    }


def _changes(changes: Changes) -> dict[str, Any]:
    return {
        "since": changes.since.isoformat(timespec="seconds") if changes.since else None,
        "counts": {kind.value: changes.count(kind) for kind in ChangeKind},
        "difference": plain_amount_or_none(changes.difference),
        "cleared": [_cleared(change) for change in changes.cleared],
        "trend": [_run(totals) for totals in changes.trend],
    }


def _change(change: GroupChange) -> dict[str, Any]:
    return {
        "before": plain_amount_or_none(change.known_before),
        "difference": plain_amount_or_none(change.difference),
        "formerly": list(change.formerly),
        "joined_count": change.joined_count,
        "left_count": change.left_count,
        "certain": change.certain,
    }


def _cleared(change: GroupChange) -> dict[str, Any]:
    present = change.present
    return {
        "group": change.group,
        "library": change.library,
        "before": plain_amount_or_none(change.known_before),
        "certain": change.certain,
        "present": None
        if present is None
        else {
            "group": present.group,
            "lead_name": present.lead_name,
            "member_count": present.member_count,
            "combined_fines": plain_amount_or_none(present.combined_fines),
        },
    }


def _run(totals: RunTotals) -> dict[str, Any]:
    return {
        "at": totals.at.isoformat(timespec="seconds"),
        "group_count": totals.group_count,
        "member_count": totals.member_count,
        "combined_fines": plain_amount_or_none(totals.combined_fines),
    }


def _block_totals(report: Report) -> dict[str, Any]:
    totals = report.block_totals or _BLOCKS_NOT_READ
    return {
        **total_document("blocked_in_evergreen_count", totals.blocked),
        **total_document("not_yet_blocked_count", totals.not_yet_blocked),
        **total_document("now_within_limit_count", totals.now_within_limit),
    }


def _group(group: Group, change: GroupChange | None) -> dict[str, Any]:
    lead = group.lead
    return {
        "group": group.number,
        "lead": {"id": lead.id, "name": lead.name, "barcode": lead.barcode, "group_lead": lead.group_lead},
        "library": group.library,
        "member_count": group.member_count,
        **total_document("owing_count", group.owing_count),
        "combined_fines": plain_amount_or_none(group.combined_fines),
        **total_document("highest_own_fines", group.highest_own_fines),
        **total_document("over_limit_count", group.over_limit_count),
        "no_member_over_limit": group.no_member_over_limit,
        "complete": group.complete,
        "hidden_member_count": group.hidden_member_count,
        "hidden_fines": plain_amount_or_none(group.hidden_fines),
        "change": None if change is None else {"kind": change.kind.value, **_change(change)},
    }


def _member(report: Report, member: Member) -> dict[str, Any]:
    standing = report.standing(member)
    return {
        **member_document(member),
        # Null isn't none: nobody has asked.
        "blocked_in_evergreen": None if standing is None else [*map(penalty_document, standing.blocks_for_fines)],
        "difference": None if standing is None or standing.difference is None else standing.difference.value,
        **({} if report.details is None else member_details_document(report.details.of(member))),
    }


def member_document(member: Member) -> dict[str, Any]:
    """One member of a group; ``over_limit`` and ``limit`` only where something was decided about them."""
    decision = member.decision
    return {
        "id": member.id,
        "barcode": member.barcode,
        "name": member.name,
        "library": member.library,
        "own_fines": plain_amount(member.own_fines),
        **({} if decision is None else {"over_limit": decision.over_limit}),
        "group_lead": member.group_lead,
        **({} if decision is None else {"limit": limit_document(decision.limit)}),
    }


LINES_SCHEMA = "evergreen-groups/report-lines/1"


def write_lines(report: Report, stream: TextIO, *, details: bool = True) -> None:
    """Write the lines, each ended by a line feed, so that none of them is in memory longer than it takes to write."""
    write_alone(_LineWriter(report, details), report, stream)


def write_line_parts(report: Report, parts: Sequence[Part], *, details: bool = True) -> None:
    """Write parts of a report as :func:`write_lines` does."""
    write_side_by_side(_LineWriter(report, details), report, parts)


class _LineWriter:
    between = ""

    def __init__(self, report: Report, details: bool) -> None:
        self._documents = GroupDocuments(report, details)

    def head(self, part: Report) -> Iterator[str]:
        document: dict[str, Any] = {"schema": LINES_SCHEMA, **head_document(part)}
        yield line(document)

    def group(self, group: Group) -> str:
        return line(self._documents.of(group))

    def tail(self, part: Report) -> Iterator[str]:  # noqa: ARG002  # nothing comes after the groups
        return iter(())
