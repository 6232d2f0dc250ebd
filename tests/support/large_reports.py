"""Large reports with everything that a page can show: reasons and dates of debts, blocks, changes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from support.detailed_reports import bill
from support.report_samples import GENERATED_AT, large_report

from evergreen_groups.groups import Group, Member, PatronState
from evergreen_groups.ils import (
    BillKind,
    OrgUnit,
    Penalty,
    PenaltyKind,
    PenaltyKinds,
    Profiles,
    UnreturnedItems,
)
from evergreen_groups.report import (
    LEAD,
    ChangeKind,
    Changes,
    Contact,
    GroupChange,
    MemberDetails,
    PostalAddress,
    Report,
    ReportDetails,
    RunTotals,
)
from evergreen_groups.report.details import SummedBills
from evergreen_groups.report.models import FinesBlocks

_OVERDUE = BillKind("circulation", "Overdue Materials")
_LOST = BillKind("circulation", "Lost Materials")
_COPIES = BillKind("grocery", "Photocopies")
_BEGAN = datetime(2025, 11, 26, 12, tzinfo=UTC)
_KINDS = (ChangeKind.UNCHANGED, ChangeKind.WORSE, ChangeKind.UNCHANGED, ChangeKind.BETTER, ChangeKind.NEW)


def full_report(group_count: int, *, contact: bool = False) -> Report:
    """Return so many families, about eleven members to four, like a night of a real library."""
    report = large_report(group_count)
    members = {member.id: _details(member) for group in report.groups for member in group.members}
    fines, library = PenaltyKind(1, "PATRON_EXCEEDS_FINES", ("CIRC", "HOLD")), OrgUnit(1, "CONS", "", None)
    penalties = {
        member.id: (Penalty(member.id, member.id, fines, library, None, _BEGAN + timedelta(member.id % 200)),)
        for group in report.groups
        for member in group.members
        if member.over_limit and member.id % 10
    }
    profiles = Profiles([(1, "Patrons", None), (2, "Juvenile", 1)])
    return replace(
        report,
        details=ReportDetails(members, profiles, report.criteria.age_bands, report.generated_at),
        contacts={group.number: _contact(group) for group in report.groups} if contact else None,
        blocks=FinesBlocks(penalties, PenaltyKinds([fines], {})),
        changes=_changes(report),
    )


def _contact(group: Group) -> Contact:
    lead = group.lead
    return Contact(
        patron=lead.id,
        name=lead.name,
        role=LEAD,
        library=lead.library,
        day_phone=f"(555) 555-{lead.id % 10_000:04d}",
        email=f"patron.{lead.id}@example.org",
        postal_address=PostalAddress(f"{lead.id % 200} Harbor Street", "apt. 5", "Lakeland", "MN", "55555", "USA"),
        invalid=("evening_phone",) if lead.id % 9 == 0 else (),
        in_collections=group.number % 12 == 0,
        collections_since=_BEGAN if group.number % 12 == 0 else None,
    )


def _details(member: Member) -> MemberDetails:
    kinds = (_OVERDUE, _LOST, _COPIES)[: 1 + member.id % 3] if member.own_fines > 1 else (_OVERDUE,)
    share = (member.own_fines / len(kinds)).quantize(Decimal("0.01"))
    amounts = [member.own_fines - share * (len(kinds) - 1), *[share] * (len(kinds) - 1)]
    since = _BEGAN + timedelta(member.id % 240)
    paid = since + timedelta(9) if member.id % 4 == 0 else None
    owed = tuple(bill(member.id, amount, kind, since, paid) for kind, amount in zip(kinds, amounts, strict=True))
    child = member.id % 3 == 0 and not member.group_lead
    state = PatronState(child, member.id % 11 == 0, member.id % 50 == 0)
    items = UnreturnedItems(member.id % 3, int(_LOST in kinds))
    return MemberDetails(SummedBills.of(owed), items, state, "Juvenile" if child else "Patrons")


def _changes(report: Report) -> Changes:
    def change(place: int, group: Group) -> GroupChange:
        kind = _KINDS[place % 5]
        worse = {ChangeKind.WORSE: Decimal("3.25"), ChangeKind.BETTER: Decimal("-4.50")}.get(kind, Decimal("0.00"))
        before = None if kind is ChangeKind.NEW else group.combined_fines - worse
        return GroupChange(
            group.number, kind, before, group.combined_fines, group.library, joined_count=place % 20 == 1
        )

    by_group = {group.number: change(place, group) for place, group in enumerate(report.groups)}
    groups, members, fines = (report.totals.group_count, report.totals.member_count, report.totals.combined_fines)
    trend = (
        RunTotals(GENERATED_AT - timedelta(days=29 - night), groups - 29 + night, members, fines * (70 + night) / 99)
        for night in range(30)
    )
    return Changes(GENERATED_AT - timedelta(days=1), by_group, (), tuple(trend))
