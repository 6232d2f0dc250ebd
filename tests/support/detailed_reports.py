"""A report with the reasons and dates of members' debts, and their checkouts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from support.report_samples import sample_report

from evergreen_groups.groups import PatronState
from evergreen_groups.ils import Bill, BillKind, Profiles, UnreturnedItems
from evergreen_groups.report import MemberDetails, Report, ReportDetails
from evergreen_groups.report.details import SummedBills

LOST, GROCERY = BillKind("circulation", "Lost Materials"), BillKind("grocery", "=Photocopies")
ADULT, CHILD = PatronState(False, False, False), PatronState(True, True, True)
MARCH, MAY = datetime(2026, 3, 2, 12, tzinfo=UTC), datetime(2026, 5, 4, 12, tzinfo=UTC)


def bill(patron: int, balance: Decimal, kind: BillKind, since: datetime, payment: datetime | None = None) -> Bill:
    return Bill(patron, patron, kind, balance, balance, Decimal(0), since, payment, 4)


def detailed() -> Report:
    """The sample report; everything is known about the first group, nothing about the second group's first member."""
    report = sample_report()
    found: dict[int, MemberDetails] = {}
    for place, group in enumerate(report.groups):
        for number, member in enumerate(group.members):
            owed = (bill(member.id, member.own_fines, LOST if number else GROCERY, MAY - timedelta(number), MARCH),)
            bills = owed if member.own_fines else ()
            items = UnreturnedItems(2, 1) if place == number == 0 else UnreturnedItems()
            unknown = place == 1 and number == 0
            state = CHILD if number else ADULT
            found[member.id] = MemberDetails(
                None if unknown else SummedBills.of(bills), None if unknown else items, state, "Adult"
            )
    profiles = Profiles([(1, "Adult", None)])
    return replace(report, details=ReportDetails(found, profiles, (30, 60, 90), report.generated_at))
