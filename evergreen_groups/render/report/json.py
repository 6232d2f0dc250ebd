"""The report as JSON, described by ``report.schema.json`` in this folder.

``schema`` names the format and its version. Within a version, keys may be added but never changed or removed, so
readers should ignore unknown keys.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

from evergreen_groups.money import plain_amount, plain_amount_or_none
from evergreen_groups.render import penalty_document
from evergreen_groups.render.json_documents import total_document
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

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def _plain_text(value: object) -> str:
    """Return a Message as a plain string: msgspec takes no subclass of str."""
    if isinstance(value, str):
        return str(value)
    raise TypeError(f"{type(value).__name__} can't be written as JSON")


_encoder = msgspec.json.Encoder(enc_hook=_plain_text)


def write_document(report: Report, stream: TextIO, *, details: bool = True) -> None:
    """Write the document, indented by two spaces, one group at a time to limit memory use.

    Amounts are strings with two decimal places. Non-Latin text isn't escaped.
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
        # Line breaks inside strings are escaped, so replacing only affects indentation.
        return text(self._documents.of(group)).replace("\n", "\n    ")

    def tail(self, part: Report) -> Iterator[str]:
        yield "\n  ]\n}\n" if part.groups else "]\n}\n"


def head_document(report: Report) -> dict[str, Any]:
    """Return everything about a report except its groups."""
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
    """Makes the JSON objects of a report's groups, with their members if ``details``."""

    def __init__(self, report: Report, details: bool) -> None:
        self._report = report
        self._with_members = details
        self._changes = report.changes.by_group if report.changes else {}

    def of(self, group: Group) -> dict[str, Any]:
        """Return the object of a group."""
        report = self._report
        document = _group(group, self._changes.get(group.number))
        if report.details is not None:
            document.update(group_details_document(report.details.of_group(group)))
        if self._with_members:
            document["members"] = [_member(report, member) for member in group.members]
        return document


def text(value: dict[str, Any]) -> str:
    """Return JSON indented by two spaces: the same bytes as Python's own encoder, and faster."""
    try:
        return msgspec.json.format(_encoder.encode(value), indent=2).decode()
    except UnicodeEncodeError:  # a lone surrogate, which UTF-8 can't encode
        return _LONE_SURROGATE.sub("\ufffd", json.dumps(value, indent=2, ensure_ascii=False))


def line(value: dict[str, Any]) -> str:
    """Return JSON on one line, including the line feed."""
    try:
        return _encoder.encode(value).decode() + "\n"
    except UnicodeEncodeError:
        written = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        return _LONE_SURROGATE.sub("\ufffd", written) + "\n"


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
    """Return a limit for own fines; an amount of null means no limit."""
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
        # Null means that penalties weren't read; an empty list means none.
        "blocked_in_evergreen": None if standing is None else [*map(penalty_document, standing.blocks_for_fines)],
        "difference": None if standing is None or standing.difference is None else standing.difference.value,
        **({} if report.details is None else member_details_document(report.details.of(member))),
    }


def member_document(member: Member) -> dict[str, Any]:
    """Return a member of a group, with ``over_limit`` and ``limit`` only if a decision was made."""
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
    """Write JSON lines: the head, then one line for each group, to limit memory use."""
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
