"""The audit as JSON, for programs. ``schema`` names the shape; within a version keys may be added, never changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TextIO

from evergreen_groups.audit import Audit, FindingKind, GroupFinding, PatronFinding
from evergreen_groups.money import plain_amount, plain_amount_or_none
from evergreen_groups.render.audit.links import group_link
from evergreen_groups.render.audit.wording import (
    HEADINGS,
    WHAT_TO_DO,
    describe_evidence,
    describe_reason,
    explanation,
)
from evergreen_groups.render.report import limit_document, member_document, text

if TYPE_CHECKING:
    from evergreen_groups.audit import Confidence
    from evergreen_groups.ils import Penalty
    from evergreen_groups.render import StaffClient

SCHEMA = "evergreen-groups/audit/1"


def write_document(audit: Audit, stream: TextIO, *, client: StaffClient | None = None) -> None:
    """Write the document, indented by two. Amounts are strings with two places. Groups lead into the staff ``client``
    where one is given.
    """
    stream.write(
        text(
            {
                "schema": SCHEMA,
                "generated_at": audit.generated_at.isoformat(timespec="seconds"),
                "gateway": audit.gateway,
                "criteria": {
                    "orgs": list(audit.criteria.orgs),
                    "limit": None if audit.criteria.limit is None else limit_document(audit.criteria.limit),
                },
                "complete": audit.complete,
                "notes": list(audit.notes),
                "kinds": [
                    {"kind": kind.value, "title": HEADINGS[kind], "to_do": WHAT_TO_DO[kind], "count": audit.count(kind)}
                    for kind in FindingKind
                ],
                "people": [_patron(finding) for finding in audit.patrons],
                "groups": [_group(finding, client) for finding in audit.groups],
                "groups_to_keep": list(audit.to_keep),
            }
        )
        + "\n"
    )


def _patron(finding: PatronFinding) -> dict[str, Any]:
    return {
        "kind": finding.kind.value,
        "group": finding.member.patron.group,
        "member": member_document(finding.member),
        "reason": explanation(finding),
        "reason_code": finding.reason.code,
        "group_fines": plain_amount_or_none(finding.group_fines),
        "blocks": [_penalty(block) for block in finding.blocks],
    }


def _penalty(penalty: Penalty) -> dict[str, Any]:
    return {
        "id": penalty.id,
        "penalty": penalty.kind.name,
        "org_unit": penalty.org_unit.shortname,
        "by_hand": penalty.by_staff,
        "set_date": penalty.set_date.isoformat() if penalty.set_date else None,
    }


def _confidence(confidence: Confidence) -> dict[str, Any]:
    return {
        "level": confidence.level,
        "points": confidence.points,
        "evidence": [
            {"code": piece.code, "weight": piece.weight, "text": f"{describe_evidence(piece)} {piece.weight:+}"}
            for piece in confidence.evidence
        ],
    }


def _group(finding: GroupFinding, client: StaffClient | None) -> dict[str, Any]:
    group = finding.group
    return {
        "kind": finding.kind.value,
        "group": group.number,
        "member_count": group.member_count,
        "hidden_member_count": group.hidden_member_count,
        "combined_fines": None if group.hidden_fines is None else plain_amount(group.combined_fines),
        "reasons": [describe_reason(reason) for reason in finding.reasons],
        "reason_codes": [reason.code for reason in finding.reasons],
        "confidence": None if finding.confidence is None else _confidence(finding.confidence),
        "split": None
        if finding.split is None
        else {"stay": list(finding.split.stay), "leave": [list(family) for family in finding.split.leave]},
        "page": None if client is None else group_link(finding, client),
        "members": [member_document(member) for member in group.members],
    }
