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
    writer = csv.DictWriter(stream, COLUMNS, restval="", lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(_rows(audit, client))


def _rows(audit: Audit, client: StaffClient | None) -> Iterator[dict[str, object]]:
    for finding in audit.patrons:
        yield {
            "kind": finding.kind.value,
            "group": finding.member.patron.group,
            **_member(finding.member),
            "group_fines": plain_amount_or_none(finding.group_fines),
            "blocks": escape_formula("; ".join(map(penalty_cell, finding.blocks))),
            "reason": escape_formula(explanation(finding)),
        }
    for of_threshold in audit.thresholds:
        yield {
            "kind": of_threshold.kind.value,
            "reason": escape_formula(describe_reason(of_threshold.reason)),
            "threshold": plain_amount_or_none(of_threshold.threshold),
            "patron_count": of_threshold.patron_count,
        }
    for found in audit.groups:
        for member in found.group.members:
            yield {
                "kind": found.kind.value,
                "group": found.group.number,
                **_member(member),
                "group_fines": plain_amount_or_none(found.group.combined_fines),
                "reason": escape_formula(" ".join(map(describe_reason, found.reasons))),
                **_confidence(found),
                "split": _part(found, member),
                "page": group_link(found, client) if client else "",
            }


def _confidence(found: GroupFinding) -> dict[str, str]:
    if found.confidence is None:
        return {}
    pieces = (f"{describe_evidence(piece)} {piece.weight:+}" for piece in found.confidence.evidence)
    return {
        "confidence": f"{found.confidence.level} ({found.confidence.points})",
        "evidence": escape_formula("; ".join(pieces)),
    }


def _part(found: GroupFinding, member: Member) -> str:
    """Return ``stay`` or ``out N`` for a member in the suggested split; N is the number of the family that leaves."""
    if found.split is None:
        return ""
    place = next((number for number, family in enumerate(found.split.leave, 1) if member.id in family), None)
    return "stay" if place is None else f"out {place}"


def _member(member: Member) -> dict[str, object]:
    return {
        "member_id": member.id,
        "member_barcode": escape_formula(member.barcode or ""),
        "member_name": escape_formula(member.name),
        "member_library": escape_formula(member.library),
        "member_own_fines": plain_amount(member.own_fines),
    }
