"""The audit as JSON. ``schema`` names the format; within a version, keys are added but never changed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TextIO

from evergreen_groups.audit import Audit, FindingKind, GroupFinding, PatronFinding, ThresholdFinding
from evergreen_groups.money import plain_amount_or_none
from evergreen_groups.render.audit.wording import (
    HEADINGS,
    WHAT_TO_DO,
    describe_evidence,
    describe_reason,
    explanation,
    group_link,
)
from evergreen_groups.render.json_documents import limit_document, line, text
from evergreen_groups.render.report import member_document

if TYPE_CHECKING:
    from evergreen_groups.audit import Confidence
    from evergreen_groups.ils import Penalty
    from evergreen_groups.render import StaffClient

SCHEMA = "evergreen-groups/audit/1"


def write_document(audit: Audit, stream: TextIO, *, client: StaffClient | None = None) -> None:
    """Write the document, indented by two spaces, one finding at a time to limit memory use.

    Amounts are strings with two decimal places. With a staff ``client``, groups link to their pages.
    """
    head = text({"schema": SCHEMA, **head_document(audit)})
    stream.write(head.removesuffix("\n}") + ",\n")
    _write_list(stream, "people", map(patron_document, audit.patrons))
    _write_list(stream, "thresholds", map(threshold_document, audit.thresholds))
    _write_list(stream, "groups", (group_document(finding, client) for finding in audit.groups))
    stream.write(text({"groups_to_keep": list(audit.to_keep)}).removeprefix("{\n") + "\n")


def head_document(audit: Audit) -> dict[str, Any]:
    """Return the criteria, the notes and the number of findings of each kind."""
    return {
        "generated_at": audit.generated_at.isoformat(timespec="seconds"),
        "gateway": audit.gateway,
        "criteria": {
            "orgs": list(audit.criteria.orgs),
            "limit": None if audit.criteria.limit is None else limit_document(audit.criteria.limit),
            "top": audit.criteria.top,
        },
        "complete": audit.complete,
        "notes": list(audit.notes),
        "kinds": [
            {"kind": kind.value, "title": HEADINGS[kind], "to_do": WHAT_TO_DO[kind], "count": audit.count(kind)}
            for kind in FindingKind
        ],
    }


def _write_list(stream: TextIO, name: str, documents: Iterable[dict[str, Any]]) -> None:
    """Write a list of documents with the key, indentation and commas of the enclosing document."""
    stream.write(f'  "{name}": [')
    separator = "\n    "
    for document in documents:
        stream.write(separator + text(document).replace("\n", "\n    "))
        separator = ",\n    "
    stream.write("],\n" if separator == "\n    " else "\n  ],\n")


def patron_document(finding: PatronFinding) -> dict[str, Any]:
    """Return the object of a finding about a patron."""
    return {
        "kind": finding.kind.value,
        "group": finding.member.patron.group,
        "member": member_document(finding.member),
        "reason": explanation(finding),
        "reason_code": finding.reason.code,
        "group_fines": plain_amount_or_none(finding.group_fines),
        "blocks": [_penalty(block) for block in finding.blocks],
    }


def threshold_document(finding: ThresholdFinding) -> dict[str, Any]:
    """Return the object of a finding about a threshold. Without a threshold, the keys that describe one are null."""
    return {
        "kind": finding.kind.value,
        "reason": describe_reason(finding.reason),
        "reason_code": finding.reason.code,
        "threshold": plain_amount_or_none(finding.threshold),
        "profile": finding.profile,
        "library": finding.library,
        "penalty": finding.penalty,
        "limit": limit_document(finding.limit),
        "patron_count": finding.patron_count,
    }


def _penalty(penalty: Penalty) -> dict[str, Any]:
    return {
        "id": penalty.id,
        "penalty": penalty.kind.name,
        "org_unit": penalty.org_unit.shortname,
        "by_staff": penalty.by_staff,
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


def group_document(finding: GroupFinding, client: StaffClient | None) -> dict[str, Any]:
    """Return the object of a finding about a group, with a link to the group's page if ``client`` is given."""
    group = finding.group
    return {
        "kind": finding.kind.value,
        "group": group.number,
        "member_count": group.member_count,
        "hidden_member_count": group.hidden_member_count,
        "combined_fines": plain_amount_or_none(group.combined_fines),
        "reasons": [describe_reason(reason) for reason in finding.reasons],
        "reason_codes": [reason.code for reason in finding.reasons],
        "confidence": None if finding.confidence is None else _confidence(finding.confidence),
        "split": None
        if finding.split is None
        else {"stay": list(finding.split.stay), "leave": [list(family) for family in finding.split.leave]},
        "page": None if client is None else group_link(finding, client),
        "members": [member_document(member) for member in group.members],
    }


LINES_SCHEMA = "evergreen-groups/audit-lines/1"


def write_lines(audit: Audit, stream: TextIO, *, client: StaffClient | None = None) -> None:
    """Write JSON lines: the head, then one line for each finding, to limit memory use.

    With a staff ``client``, groups link to their pages.
    """
    stream.write(line({"schema": LINES_SCHEMA, **head_document(audit), "groups_to_keep": list(audit.to_keep)}))
    stream.writelines(line(patron_document(finding)) for finding in audit.patrons)
    stream.writelines(line(threshold_document(finding)) for finding in audit.thresholds)
    stream.writelines(line(group_document(finding, client)) for finding in audit.groups)
