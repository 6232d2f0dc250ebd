"""The audit as one self-contained HTML file, with its style and script embedded.

Without JavaScript the page still shows everything; only sorting, searching and folding are missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, TextIO

from evergreen_groups.audit import FindingKind
from evergreen_groups.language import gettext
from evergreen_groups.message import Message
from evergreen_groups.render.audit.wording import (
    HEADINGS,
    LEVELS,
    MEANINGS,
    NOTHING_FOUND,
    TITLE,
    WHAT_TO_DO,
    Advice,
    advice_for,
    applied_limit,
    describe_evidence,
    describe_groups_to_keep,
    describe_reason,
    describe_scope,
    describe_split,
    describe_unlisted,
    group_link,
    kinds_found,
    short_reason,
)
from evergreen_groups.render.pages import write_template
from evergreen_groups.render.wording import describe_limit, describe_penalty

if TYPE_CHECKING:
    from evergreen_groups.audit import Audit, Confidence, GroupFinding, PatronFinding, Reason
    from evergreen_groups.groups import Member
    from evergreen_groups.render import StaffClient

_FIX = "evergreen-groups audit --fix"
_KEEP = "evergreen-groups audit --keep {group}"
_WHERE_TO_KEEP = {
    FindingKind.ACCIDENTAL: Message("Where all belong together:"),
    FindingKind.FOR_REVIEW: Message("Where it is as it should be:"),
}


@dataclass(frozen=True, slots=True)
class FindingRow:
    """A finding about a patron or a group, as a row of the page's table.

    ``subject`` is the patron, or the group's lead or the member shown in place of a lead. ``own_fines`` and
    ``group_fines`` are None if irrelevant or unknown. ``why`` has a short text for each reason, and ``remarks`` are
    shown below. ``evidence`` lists what speaks for and against the finding, each with its weight. ``confidence`` is
    None for kinds of findings that aren't guesses. ``group_page`` is None without a staff client to link to.
    """

    subject: Member
    group: int
    own_fines: Decimal | None
    group_fines: Decimal | None
    why: tuple[str, ...]
    remarks: tuple[str, ...]
    advice: tuple[Advice, ...]
    members: tuple[Member, ...] = ()
    member_count: int | None = None
    without_lead: bool = False
    confidence: Confidence | None = None
    evidence: tuple[tuple[str, str], ...] = ()
    group_page: str | None = None

    @property
    def confidence_level(self) -> str:
        """The confidence level in the reader's language; empty without a confidence."""
        return "" if self.confidence is None else gettext(LEVELS[self.confidence.level])


@dataclass(frozen=True, slots=True)
class ThresholdRow:
    """A threshold (None: Evergreen has none), the limit that it differs from, and how many patrons are affected."""

    threshold: Decimal | None
    limit: str
    patron_count: int
    why: str
    advice: Advice


_LABELS = {
    "threshold": Message("Threshold"),
    "limit": Message("Limit"),
    "patrons": Message("Patrons"),
    "lead": Message("Lead", context="a member who leads the group"),
    "name": Message("Name"),
    "library": Message("Library"),
    "group": Message("Group"),
    "members": Message("Members"),
    "own_fines": Message("Own fines"),
    "group_fines": Message("Group Fines"),
    "confidence": Message("Confidence"),
    "why": Message("Why"),
    "to_do": Message("What to do"),
}


@dataclass(frozen=True)
class Section:
    """All findings of one kind, identified by the kind's code (``id``); ``meaning`` says what they mean.

    ``command`` resolves many of the findings at once, and is empty if no command does. ``rows`` are the listed
    findings, out of ``count`` in all; ``more`` says where to find the others. ``thresholds`` has the rows of kinds
    about thresholds.
    """

    id: str
    heading: str
    meaning: str
    command: str
    about_groups: bool
    rows: tuple[FindingRow, ...]
    count: int
    more: str
    thresholds: tuple[ThresholdRow, ...] = ()

    @cached_property
    def labels(self) -> dict[str, str]:
        """The headings of all columns. On a narrow screen they stand in front of the cells."""
        return {name: gettext(label) for name, label in _LABELS.items()}

    @cached_property
    def columns(self) -> tuple[tuple[str, bool], ...]:
        """The heading of each column and whether it holds numbers. Columns without values are left out."""
        if self.thresholds:
            return (
                (self.labels["threshold"], True),
                (self.labels["limit"], False),
                (self.labels["patrons"], True),
                (self.labels["why"], False),
                (self.labels["to_do"], False),
            )
        return (
            (self.labels["lead" if self.about_groups else "name"], False),
            (self.labels["library"], False),
            (self.labels["group"], True),
            *(((self.labels["members"], True),) if self.with_members else ()),
            *(((self.labels["own_fines"], True),) if self.with_own_fines else ()),
            *(((self.labels["group_fines"], True),) if self.with_group_fines else ()),
            *(((self.labels["confidence"], True),) if self.with_confidence else ()),
            (self.labels["why"], False),
            (self.labels["to_do"], False),
        )

    @cached_property
    def with_members(self) -> bool:
        """Whether any row shows a number of members."""
        return any(row.member_count is not None for row in self.rows)

    @cached_property
    def with_own_fines(self) -> bool:
        """Whether any row shows a patron's own fines."""
        return any(row.own_fines is not None for row in self.rows)

    @cached_property
    def with_group_fines(self) -> bool:
        """Whether any row shows a group's fines."""
        return any(row.group_fines is not None for row in self.rows)

    @cached_property
    def with_confidence(self) -> bool:
        """Whether any row shows a confidence."""
        return any(row.confidence is not None for row in self.rows)


def sections_of(audit: Audit, client: StaffClient | None = None) -> list[Section]:
    """Return a section for each kind with findings, in the order of the kinds."""
    return [_section(audit, kind, client) for kind in kinds_found(audit)]


def _section(audit: Audit, kind: FindingKind, client: StaffClient | None) -> Section:
    if kind.about_groups:
        rows = tuple(_group_row(finding, client) for finding in audit.groups_of_kind(kind))
    else:
        rows = tuple(_patron_row(finding, client) for finding in audit.of_kind(kind))
    thresholds = tuple(
        ThresholdRow(
            finding.threshold,
            describe_limit(finding.limit),
            finding.patron_count,
            gettext(describe_reason(finding.reason)),
            advice_for(kind, finding.reason, None),
        )
        for finding in audit.thresholds_of_kind(kind)
    )
    return Section(
        id=kind.value,
        heading=gettext(HEADINGS[kind]),
        meaning=gettext(MEANINGS.get(kind, WHAT_TO_DO[kind])),
        command=_FIX if kind.recalculable else "",
        about_groups=kind.about_groups,
        rows=rows,
        count=audit.count(kind),
        more=describe_unlisted(audit, kind),
        thresholds=thresholds,
    )


def _patron_row(finding: PatronFinding, client: StaffClient | None) -> FindingRow:
    member = finding.member
    return FindingRow(
        subject=member,
        group=member.patron.group,
        own_fines=member.own_fines,
        group_fines=finding.group_fines,
        why=(short_reason(finding.reason),),
        remarks=tuple(_remarks(finding)),
        advice=(advice_for(finding.kind, finding.reason, member.barcode),),
        group_page=client.group_page(member.id) if client else None,
    )


def _remarks(finding: PatronFinding) -> Iterator[str]:
    if finding.limits_differ:
        yield gettext(applied_limit(finding.member))
    yield from map(describe_penalty, finding.blocks)


def _group_row(finding: GroupFinding, client: StaffClient | None) -> FindingRow:
    group, confidence = finding.group, finding.confidence
    return FindingRow(
        subject=group.lead,
        group=group.number,
        own_fines=None,
        group_fines=group.combined_fines,
        why=tuple(gettext(describe_reason(reason)) for reason in finding.reasons),
        remarks=(),
        evidence=tuple(
            (gettext(describe_evidence(piece)), f"{piece.weight:+}")
            for piece in (confidence.evidence if confidence else ())
        ),
        advice=tuple(_group_advice(finding)),
        members=group.members,
        member_count=group.member_count,
        without_lead=not group.lead.group_lead,
        confidence=confidence,
        group_page=group_link(finding, client) if client else None,
    )


def _group_advice(finding: GroupFinding) -> Iterator[Advice]:
    members = finding.group.members
    found = [advice_for(finding.kind, reason, _barcode(reason, members)) for reason in finding.reasons]
    yield from dict.fromkeys(found)
    if finding.split:
        yield Advice(describe_split(finding))
    if finding.confidence:
        yield Advice(gettext(_WHERE_TO_KEEP[finding.kind]), _KEEP.format(group=finding.group.number))


def _barcode(reason: Reason, members: tuple[Member, ...]) -> str | None:
    """Return the barcode of the member named in a reason, None if there is no such member or card."""
    return next((member.barcode for member in members if member.name == reason.values.get("name")), None)


def write_page(audit: Audit, stream: TextIO, *, client: StaffClient | None = None) -> None:
    """Write the page: a section with a table for each kind of finding.

    With a staff ``client``, names link to patrons and groups to their pages.
    """
    sections = sections_of(audit, client)
    write_template(
        "audit.html",
        stream,
        title=gettext(TITLE),
        audit=audit,
        sections=sections,
        filters=[(section.id, section.heading) for section in sections] if len(sections) > 1 else (),
        audit_nothing_found=NOTHING_FOUND,
        describe_scope=describe_scope,
        groups_to_keep=describe_groups_to_keep(audit),
        client=client,
    )
