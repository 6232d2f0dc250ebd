"""The audit as CSV (RFC 4180): a row for each patron, each threshold, and each visible member of a group."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

from evergreen_groups.money import plain_amount, plain_amount_or_none
from evergreen_groups.render.audit.wording import (
    describe_evidence,
    describe_reason,
    explanation,
    group_link,
)
from evergreen_groups.render.text import escape_formula
from evergreen_groups.render.wording import penalty_cell

if TYPE_CHECKING:
    from evergreen_groups.audit import Audit, GroupFinding
    from evergreen_groups.groups import Member
    from evergreen_groups.render import StaffClient

COLUMNS = (
    "kind",
    "group",
    "member_id",
    "member_barcode",
    "member_name",
    "member_library",
    "member_own_fines",
    "group_fines",
    "blocks",
    "reason",
    "confidence",
    "evidence",
    "split",
    "page",
    "threshold",
    "patron_count",
)


def write_rows(audit: Audit, stream: TextIO, *, client: StaffClient | None = None) -> None:
    """Write the header and the rows, each ending in CR LF. Text that a spreadsheet would take for a formula is escaped.

    With a staff ``client``, rows of groups link to the group's page.
    """
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    writer.writerows(_rows(audit, client))


def _rows(audit: Audit, client: StaffClient | None) -> Iterator[list[str]]:
    for finding in audit.patrons:
        number = str(finding.member.patron.group)
        fines = plain_amount_or_none(finding.group_fines) or ""
        blocks = escape_formula("; ".join(map(penalty_cell, finding.blocks)))
        reason = escape_formula(explanation(finding))
        yield [finding.kind.value, number, *_member(finding.member), fines, blocks, reason, *[""] * 6]
    for of_threshold in audit.thresholds:
        reason, amount = (
            escape_formula(describe_reason(of_threshold.reason)),
            plain_amount_or_none(of_threshold.threshold),
        )
        yield [of_threshold.kind.value, *[""] * 8, reason, *[""] * 4, amount or "", str(of_threshold.patron_count)]
    for found in audit.groups:
        group = found.group
        fines = plain_amount_or_none(group.combined_fines) or ""
        for member in group.members:
            reasons = escape_formula(" ".join(map(describe_reason, found.reasons)))
            yield [
                *(found.kind.value, str(group.number), *_member(member), fines, "", reasons),
                *_confidence(found),
                _part(found, member),
                group_link(found, client) if client else "",
                *("", ""),
            ]


def _confidence(found: GroupFinding) -> list[str]:
    if found.confidence is None:
        return ["", ""]
    pieces = (f"{describe_evidence(piece)} {piece.weight:+}" for piece in found.confidence.evidence)
    evidence = escape_formula("; ".join(pieces))
    return [f"{found.confidence.level} ({found.confidence.points})", evidence]


def _part(found: GroupFinding, member: Member) -> str:
    """Return ``stay`` or ``out N`` for a member in the suggested split; N is the number of the family that leaves."""
    if found.split is None:
        return ""
    place = next((number for number, family in enumerate(found.split.leave, 1) if member.id in family), None)
    return "stay" if place is None else f"out {place}"


def _member(member: Member) -> list[str]:
    texts = (member.barcode or "", member.name, member.library)
    return [str(member.id), *map(escape_formula, texts), plain_amount(member.own_fines)]
