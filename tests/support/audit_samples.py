"""Sample audits with findings of every kind, a few or thousands of each, to see how they are written."""

from datetime import UTC, datetime
from decimal import Decimal

from evergreen_groups.audit import (
    Audit,
    AuditCriteria,
    Confidence,
    Evidence,
    FindingKind,
    GroupFinding,
    PatronFinding,
    Reason,
    ThresholdFinding,
)
from evergreen_groups.audit.findings import GroupSplit
from evergreen_groups.groups import Group, Member, Patron
from evergreen_groups.ils import OrgUnit, Penalty, PenaltyKind
from evergreen_groups.policy import Limit, decide

NOW = datetime(2026, 11, 25, 3, 15, tzinfo=UTC)
LIBRARIES = tuple(OrgUnit(10 + n, f"BR{n}", f"Branch {n}", 1) for n in range(1, 9))
ROOT = OrgUnit(1, "CONS", "Consortium", None)
FINES = PenaltyKind(1, "PATRON_EXCEEDS_FINES", ("CIRC", "HOLD", "RENEW"))
BY_STAFF = PenaltyKind(25, "STAFF_CHR", ("CIRC", "HOLD", "RENEW"))
FAMILIES = ("Okafor", "Lindqvist", "Wojciechowska", "van der Meer", "Ní Bhraonáin", "Østergård", "אבני", "Li")
GIVEN = ("Ada", "Bo", "Chidi", "Maria Guadalupe", "Jean-Baptiste", "Ümit")


def member(number: int, owed: str = "0.00", *, group: int | None = None, lead: bool = True) -> Member:
    """Return a member who differs for each number."""
    family = FAMILIES[(group or number) % len(FAMILIES)]
    name = f"{family}, {GIVEN[number % len(GIVEN)]}"
    barcode = None if number % 29 == 0 else f"2{number:013}"
    library = LIBRARIES[number % len(LIBRARIES)]
    patron = Patron(number, group or number, name, family, barcode, library, 2, group_lead=lead)
    return Member(patron, Decimal(owed), decide(Decimal(owed), Limit()))


def penalty(number: int, kind: PenaltyKind, org_unit: OrgUnit, staff: int | None) -> Penalty:
    """Return a penalty set at the beginning of the month."""
    return Penalty(number, number, kind, org_unit, staff, datetime(2026, 11, 2, tzinfo=UTC))


def sample_audit(times: int = 2) -> Audit:
    """Return an audit with findings of every kind and reason; ``times`` seven of the most frequent kind."""
    patrons: list[PatronFinding] = []
    for place in range(times * 7):
        owed = Decimal(600 + 137 * place % 5000) / 100
        reason = Reason("over-limit", {"over_by": owed - 5})
        patrons.append(PatronFinding(FindingKind.NOT_BLOCKED, member(1000 + place, f"{owed:.2f}"), reason))
    for place in range(times):
        number = 50_000 + place
        at_limit = place % 2 == 0
        reason = Reason("exactly-at-limit" if at_limit else "not-over-limit")
        blocks = (penalty(number, FINES, ROOT, None),)
        owes = member(number, "5.00" if at_limit else "1.20")
        patrons.append(PatronFinding(FindingKind.NOT_OVER, owes, reason, blocks))
        elsewhere = Reason("block-elsewhere")
        patrons.append(PatronFinding(FindingKind.LEFT_ALONE, member(number + 2_000, "1.20"), elsewhere, blocks))
    for place in range(times):
        number = 60_000 + place
        blocks = (penalty(number, BY_STAFF, LIBRARIES[0], 4),)
        family = Reason("group-over-limit")
        patrons.append(PatronFinding(FindingKind.FOR_FAMILY, member(number, "0.50"), family, blocks, Decimal("84.35")))
        within, known = (
            (Reason("group-within-limit"), Decimal("2.00")) if place % 2 else (Reason("group-not-known"), None)
        )
        patrons.append(PatronFinding(FindingKind.BY_STAFF, member(number + 5_000), within, blocks, known))
        of_age = Reason("came-of-age-obscured") if place % 2 else Reason("came-of-age", {"age": 18 + place})
        patrons.append(PatronFinding(FindingKind.CAME_OF_AGE, member(number + 15_000, "0.75"), of_age))
        borrowed = Reason("borrowed-address", {"owner": "Petrov, Omar", "library": "BR2", "group": 4711})
        patrons.append(PatronFinding(FindingKind.BORROWED_ADDRESS, member(number + 20_000), borrowed))
    groups = tuple(_group(70_000 + 20 * place, place) for place in range(times * 2))
    groups += tuple(_family(80_000 + 20 * place) for place in range(times))
    groups += tuple(_adults(90_000 + 20 * place) for place in range(times))
    order = list(FindingKind)
    patrons.sort(key=lambda found: (order.index(found.kind), -found.member.own_fines, found.member.id))
    thresholds = tuple(
        ThresholdFinding(kind, Reason(code, values), amount, "Child", "BR1", "PATRON_EXCEEDS_FINES", Limit(), 5_125)
        for kind, code, amount in (
            (FindingKind.THRESHOLD_HIGHER, "threshold-higher", Decimal("1234.50")),
            (FindingKind.THRESHOLD_LOWER, "threshold-lower", Decimal("3.00")),
        )
        for values in ({"threshold": amount, "profile": "Child", "library": "BR1", "penalty": "PATRON_EXCEEDS_FINES"},)
    )
    return Audit(NOW, "https://ils.example.org", AuditCriteria(), tuple(patrons), groups, thresholds=thresholds)


def _group(number: int, place: int) -> GroupFinding:
    size = 12 if place % 7 == 3 else 3
    members = tuple(member(number + n, f"{n}.25", group=number, lead=place % 3 == 0 and n < 2) for n in range(size))
    reasons = [Reason("several-leads", {"count": 2}) if place % 3 == 0 else Reason("no-lead")]
    if place % 2:
        reasons.append(Reason("stranger", {"name": members[2].name}))
    if size > 9:
        reasons.append(Reason("unusually-large", {"count": size}))
    hidden, fines = (2, None) if place % 5 == 4 else (0, Decimal("0.00"))
    evidence = [Evidence("strangers", {"count": 1}), Evidence("no-lead"), Evidence("surname-shared")]
    split = GroupSplit((members[0].id, members[1].id), ((members[2].id,),)) if place % 2 and size < 9 else None
    group = Group(number, members, hidden, fines)
    return GroupFinding(
        group, tuple(reasons), confidence=Confidence.from_evidence(evidence[: place % 3 + 1]), split=split
    )


def _family(number: int) -> GroupFinding:
    """Return a group for review: without a lead, and with too much in common for an accident."""
    members = tuple(member(number + n, f"{n}.25", group=number, lead=False) for n in range(3))
    confidence = Confidence.from_evidence([Evidence("no-lead"), Evidence("surname-shared")])
    return GroupFinding(Group(number, members), (Reason("no-lead"),), FindingKind.FOR_REVIEW, confidence=confidence)


def _adults(number: int) -> GroupFinding:
    members = tuple(member(number + n, f"{n}.25", group=number, lead=n == 0) for n in range(4))
    reason = Reason("several-adults", {"count": 4, "most": 2})
    return GroupFinding(Group(number, members), (reason,), FindingKind.SEVERAL_ADULTS)
