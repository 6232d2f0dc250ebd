"""The audit's columns, each declared once: CSV, JSON and the page are made from these declarations.

A new column needs an entry in one of the tuples. CSV has it after all others, so that those keep their positions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from evergreen_groups.audit import FindingKind
from evergreen_groups.language import gettext
from evergreen_groups.message import Message
from evergreen_groups.render.audit import wording
from evergreen_groups.render.column import Column, JSONObject, own
from evergreen_groups.render.json_documents import fields, limit_document
from evergreen_groups.render.report import member_document
from evergreen_groups.render.wording import describe_limit, describe_penalty, penalty_cell

if TYPE_CHECKING:
    from evergreen_groups.audit import GroupFinding, PatronFinding, ThresholdFinding
    from evergreen_groups.groups import Member
    from evergreen_groups.ils import Penalty
    from evergreen_groups.render import StaffClient

_KEEP = "evergreen-groups audit --keep {group}"


class PatronFindingRow(NamedTuple):
    """A finding about a patron. Names link to the staff ``client`` (None: no links)."""

    finding: PatronFinding
    client: StaffClient | None = None

    @property
    def member(self) -> Member:
        return self.finding.member

    @property
    def page(self) -> str | None:
        """The address of the page of the patron's group, where a patron to remove is selected."""
        if self.client is None:
            return None
        to_remove = self.finding.kind is FindingKind.CAME_OF_AGE
        return self.client.group_page(self.member.id, select=(self.member.id,) if to_remove else ())


class GroupFindingRow(NamedTuple):
    """A finding about a group; in CSV, one of its members (None elsewhere)."""

    finding: GroupFinding
    client: StaffClient | None = None
    member: Member | None = None

    @property
    def lead(self) -> Member:
        """The group's lead, or the member shown in place of one."""
        return self.finding.group.lead

    @property
    def page(self) -> str | None:
        """The address of the group's page."""
        return None if self.client is None else wording.group_link(self.finding, self.client)


class Why(NamedTuple):
    """Short reasons for a finding, and remarks that are shown below, each with its weight if it is evidence."""

    reasons: tuple[tuple[str, str], ...]
    remarks: tuple[tuple[str, str], ...] = ()


def _why_patron(row: PatronFindingRow) -> Why:
    finding = row.finding
    limit = [gettext(wording.applied_limit(finding.member))] if finding.limits_differ else []
    remarks = (*limit, *map(describe_penalty, finding.blocks))
    return Why(((gettext(wording.describe_reason(finding.reason)), ""),), tuple((remark, "") for remark in remarks))


def _why_group(row: GroupFindingRow) -> Why:
    evidence = row.finding.confidence.evidence if row.finding.confidence else ()
    weights = {gettext(wording.describe_evidence(piece)): f"{piece.weight:+}" for piece in evidence}
    # Some evidence is a reason as well, and needs to be said once.
    texts = (gettext(wording.describe_reason(reason)) for reason in row.finding.reasons)
    reasons = tuple((text, weights.pop(text, "")) for text in texts)
    return Why(reasons, tuple(weights.items()))


def _patron_advice(row: PatronFindingRow) -> wording.Advice:
    finding = row.finding
    advice = wording.advice_for(finding.kind, finding.reason, row.member.barcode)
    if finding.kind is FindingKind.CAME_OF_AGE and row.page:
        return replace(advice, command="", page=row.page)
    return advice


def _group_advice(row: GroupFindingRow) -> Iterator[wording.Advice]:
    finding, members = row.finding, row.finding.group.members
    found = []
    for reason in finding.reasons:
        # The barcode of the member named in the reason, None if there is no such member or card.
        barcode = next((member.barcode for member in members if member.name == reason.values.get("name")), None)
        found.append(wording.advice_for(finding.kind, reason, barcode))
    yield from dict.fromkeys(found)
    if finding.split:
        yield wording.Advice(wording.describe_split(finding))
    if finding.confidence:
        yield wording.Advice(
            gettext("If the group is right, an administrator can stop listing it:"),
            _KEEP.format(group=finding.group.number),
        )


_BLOCK: JSONObject[Penalty] = JSONObject(
    "Block",
    own("id"),
    Column("penalty", attrgetter("kind.name")),
    Column("org_unit", attrgetter("org_unit.shortname")),
    own("by_staff"),
    Column("set_date", lambda penalty: penalty.set_date and penalty.set_date.isoformat()),
)


def _confidence(row: GroupFindingRow) -> str | None:
    confidence = row.finding.confidence
    return None if confidence is None else f"{confidence.level} ({confidence.points})"


def _evidence(row: GroupFindingRow) -> list[str]:
    evidence = row.finding.confidence.evidence if row.finding.confidence else ()
    return [f"{wording.describe_evidence(piece)} ({piece.weight:+})" for piece in evidence]


def _confidence_json(row: GroupFindingRow) -> dict[str, Any] | None:
    confidence = row.finding.confidence
    if confidence is None:
        return None
    evidence = [
        {"code": piece.code, "weight": piece.weight, "text": text}
        for piece, text in zip(confidence.evidence, _evidence(row), strict=True)
    ]
    return {"level": confidence.level, "points": confidence.points, "evidence": evidence}


def _split(row: GroupFindingRow) -> str:
    """Return ``stay`` or ``out N`` for the member in the suggested split; N is the number of the leaving family."""
    if row.finding.split is None or row.member is None:
        return ""
    families = enumerate(row.finding.split.leave, 1)
    place = next((number for number, family in families if row.member.id in family), None)
    return "stay" if place is None else f"out {place}"


_KIND: Column[Any] = Column("kind", lambda row: row.finding.kind.value)
_MEMBER: tuple[Column[Any], ...] = tuple(
    Column(f"member_{name}", attrgetter(f"member.{name}"), for_json=False)
    for name in ("id", "barcode", "name", "library", "own_fines")
)
_SPLIT: Column[Any] = Column(
    "split", _split, json=lambda row: row.finding.split and fields(row.finding.split, "stay", "leave")
)
OF_MEMBER = (*_MEMBER, _SPLIT)
"""The columns that differ between the members of a group."""
PATRON: tuple[Column[PatronFindingRow], ...] = (
    _KIND,
    Column("", lambda row: row.member, Message("Name"), page="patron"),
    Column("", lambda row: row.member.library, Message("Library"), page="library"),
    Column("group", lambda row: row.member.patron.group, Message("Group"), "id", page="group"),
    *_MEMBER,
    Column("member", lambda row: member_document(row.member), for_csv=False),
    Column("reason", lambda row: wording.explanation(row.finding)),
    Column("reason_code", lambda row: row.finding.reason.code, for_csv=False),
    Column("", lambda row: row.member.own_fines, Message("Own fines"), "money", page="own_fines"),
    Column("group_fines", lambda row: row.finding.group_fines, Message("Group Fines"), "money", page="group_fines"),
    Column(
        "blocks",
        lambda row: "; ".join(map(penalty_cell, row.finding.blocks)),
        json=lambda row: [*map(_BLOCK.document, row.finding.blocks)],
    ),
    Column("", _why_patron, Message("Why"), page="why"),
    Column(
        "",
        lambda row: [_patron_advice(row)],
        Message("What to do"),
        page="to_do",
    ),
)
THRESHOLD: tuple[Column[ThresholdFinding], ...] = (
    Column("kind", attrgetter("kind.value")),
    Column("reason", lambda finding: wording.describe_reason(finding.reason)),
    Column("reason_code", attrgetter("reason.code"), for_csv=False),
    own("threshold", Message("Threshold"), "money", page="threshold"),
    *(own(name, for_csv=False) for name in ("profile", "library", "penalty")),
    Column("limit", lambda finding: limit_document(finding.limit), for_csv=False),
    Column("", lambda finding: describe_limit(finding.limit), Message("Limit"), page="limit"),
    own("patron_count", Message("Patrons"), "number", page="patrons"),
    Column(
        "", lambda finding: Why(((gettext(wording.describe_reason(finding.reason)), ""),)), Message("Why"), page="why"
    ),
    Column(
        "",
        lambda finding: [wording.advice_for(finding.kind, finding.reason, None)],
        Message("What to do"),
        page="to_do",
    ),
)
GROUP: tuple[Column[GroupFindingRow], ...] = (
    _KIND,
    Column("", lambda row: row.lead, Message("Name"), page="patron"),
    Column("", lambda row: row.lead.library, Message("Library"), page="library"),
    Column("group", lambda row: row.finding.group.number, Message("Group"), "id", page="group"),
    *_MEMBER,
    Column(
        "member_count",
        attrgetter("finding.group.member_count"),
        Message("Members"),
        "number",
        page="members",
        for_csv=False,
    ),
    Column("hidden_member_count", attrgetter("finding.group.hidden_member_count"), for_csv=False),
    Column("group_fines", attrgetter("finding.group.group_fines"), Message("Group Fines"), "money", page="group_fines"),
    Column("reason", lambda row: "; ".join(map(wording.describe_reason, row.finding.reasons)), for_json=False),
    Column("reasons", lambda row: list(map(wording.describe_reason, row.finding.reasons)), for_csv=False),
    Column("reason_codes", lambda row: [reason.code for reason in row.finding.reasons], for_csv=False),
    Column("confidence", _confidence, json=_confidence_json),
    Column("", lambda row: row.finding.confidence, Message("Confidence"), "number", page="confidence"),
    Column("evidence", lambda row: "; ".join(_evidence(row)), for_json=False),
    _SPLIT,
    Column("page", lambda row: row.page),
    Column("members", lambda row: list(map(member_document, row.finding.group.members)), for_csv=False),
    Column("", _why_group, Message("Why"), page="why"),
    Column("", lambda row: list(_group_advice(row)), Message("What to do"), page="to_do"),
)
