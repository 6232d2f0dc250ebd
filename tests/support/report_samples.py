"""Sample reports: invented families, as many as a test wants, with everything that a page can show."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from evergreen_groups.groups import Group, Member, Patron, PatronState
from evergreen_groups.ils import Bill, BillKind, OrgUnit, Penalty, PenaltyKind, PenaltyKinds, Profiles, UnreturnedItems
from evergreen_groups.policy import Comparison, Limit, decide
from evergreen_groups.report import (
    ADULT,
    GUARDIAN,
    LEAD,
    ChangeKind,
    Changes,
    Contact,
    Criteria,
    GroupChange,
    MemberDetails,
    PostalAddress,
    Report,
    ReportDetails,
    RunTotals,
    Totals,
)
from evergreen_groups.report.details import SummedBills
from evergreen_groups.report.models import FinesBlocks, GroupNow

BLOCKED_SINCE = datetime(2026, 8, 1, 10, tzinfo=UTC)
GENERATED_AT = datetime(2026, 8, 14, 3, 15, 7, tzinfo=timezone(timedelta(hours=-5)))
GATEWAY = "https://ils.example.org/osrf-gateway-v1"
LIMIT = Limit()

_FAMILY_NAMES = (
    *("Okafor", "Lindqvist", "O'Brien", "van den Berg"),
    *("García Márquez", "Nguyễn", "Kowalczyk", "Featherstonehaugh"),
)
_GIVEN_NAMES = ("Ada", "Bartholomew", "Chi", "Dolores", "Emil", "Fatima", "Gus", "Hildegard Maria Theresia")
_LIBRARIES = ("BR1", "BR2", "BR3", "BM1", "SL1")


def member(
    id: int,
    name: str,
    own_fines: str,
    *,
    barcode: str | None = "",
    library: str = "BR1",
    group_lead: bool = False,
    limit: Limit = LIMIT,
) -> Member:
    """Return a member, by default with a barcode made of the id."""
    if barcode == "":
        barcode = f"2999900{id:07}"
    fines = Decimal(own_fines)
    home_library = OrgUnit(sum(library.encode()), library, "", None)
    patron = Patron(id, 0, name, name, barcode, home_library, 2, group_lead)
    return Member(patron, fines, decide(fines, limit))


def report_of(
    groups: Iterable[Group], *, criteria: Criteria | None = None, notes: Sequence[str] = (), left_out_count: int = 0
) -> Report:
    """Return a report of these groups with matching sums."""
    groups = tuple(groups)
    criteria = criteria or Criteria()
    return Report(GENERATED_AT, GATEWAY, criteria, groups, Totals.of(groups), tuple(notes), left_out_count)


def owing_more(group: Group, amount: Decimal) -> Group:
    """Return a group whose first member owes that much more."""
    first, *others = group.members
    return replace(group, members=(replace(first, own_fines=first.own_fines + amount), *others))


FAMILIES = (
    Group(
        1187,
        (
            member(412, "Castellanos-Whitfield, Maximiliana Josephine", "1204.50", library="BR1", group_lead=True),
            member(413, "Castellanos-Whitfield, Theo", "88.10", library="BR1"),
            member(977, "Whitfield, Rosa", "0.00", library="BR2"),
            member(1203, "Whitfield, Ben", "-3.25", library="BR2", barcode=None),
        ),
    ),
    Group(
        902,
        (
            member(377, "Tanaka, Keiko (田中 恵子)", "4.90", library="BR3", group_lead=True),
            member(378, "田中 健太郎", "4.95", library="BR3"),
            member(379, "田中 さくら", "4.75", library="BR3"),
            member(380, "Tanaka, Jun", "5.00", library="BR3"),
            member(381, "Tanaka, Emi", "4.80", library="BM1"),
            member(382, "Tanaka, Ryo", "4.60", library="BM1"),
        ),
    ),
    Group(
        2240,
        (
            member(1511, "O'Malley, Síle", "12.00", library="BR2", group_lead=True),
            member(1512, "O'Malley, Fionn", "9.99", library="BR2"),
        ),
        hidden_member_count=2,
        hidden_fines=Decimal("6.40"),
    ),
    Group(
        85,
        (
            member(31, "בן-דוד, יוסף", "20.00", library="BM1", barcode="21002000"),
            member(66, "Ben-David, Miriam", "5.25", library="BM1"),
        ),
    ),
    Group(
        31007,
        (
            member(20991, "Baptiste, Aimé", "25.00", library="SL1", group_lead=True),
            member(20992, "Baptiste, Noé", "0.00", library="SL1"),
        ),
        hidden_member_count=1,
        hidden_fines=None,
    ),
)

INCOMPLETE_NOTE = "Three members can't be seen: the account lacks VIEW_USER at BR3. Two groups are incomplete."
TOP_NOTE = "17 more groups owe that much and were left out by --top."


def sample_report() -> Report:
    """Return five families.

    One far over, one without a member over the limit, two incomplete, one without a group lead.
    """
    criteria = Criteria(orgs=("SYS1", "BM1"), top=5)
    return report_of(FAMILIES, criteria=criteria, notes=(INCOMPLETE_NOTE, TOP_NOTE), left_out_count=17)


def blocked_report() -> Report:
    """The sample with blocks.

    412 is over the limit and blocked, 413 isn't blocked yet, 977 is blocked by staff within the limit.
    """
    kind, library = PenaltyKind(1, "PATRON_EXCEEDS_FINES", ("CIRC", "HOLD")), OrgUnit(1, "CONS", "", None)
    penalties = {
        412: (Penalty(1, 412, kind, library, None, BLOCKED_SINCE),),
        977: (Penalty(2, 977, kind, library, 4, None),),
    }
    return replace(sample_report(), blocks=FinesBlocks(penalties, PenaltyKinds([kind], {})))


def report_with_limits() -> Report:
    """Return a family with a different limit for each member: an amount to exceed, one to reach, and none."""
    members = (
        member(1, "Quist, Ana", "12.00", group_lead=True),
        member(2, "Quist, Bo", "2.00", limit=Limit(Decimal("2.00"), Comparison.REACHES)),
        member(3, "Quist, Cai", "90.00", limit=Limit(None)),
    )
    return report_of([Group(1, members)], criteria=Criteria(limit=None))


def changed_report() -> Report:
    """Return the sample with a run of the night before.

    Changes of each kind, other numbers, members and unknown values.
    """
    fines = {group.number: group.group_fines for group in FAMILIES}

    def change(group: int, kind: ChangeKind, before: str | None, **rest: Any) -> GroupChange:
        return GroupChange(group, kind, Decimal(before) if before else None, fines.get(group), "BR1", **rest)

    present = GroupNow(612, "Featherstonehaugh, Hildegard Maria", 3, Decimal("3.00"), frozenset({"BR1"}))
    changes = (
        change(1187, ChangeKind.WORSE, "1204.00", joined_count=1),
        change(902, ChangeKind.NEW, None, formerly=(77,), joined_count=None, left_count=None),
        change(2240, ChangeKind.BETTER, "40.00", left_count=2, formerly=(11,)),
        change(85, ChangeKind.UNCHANGED, "25.25", formerly=(84, 85)),
        change(31007, ChangeKind.UNCHANGED, "25.00", certain=False),
    )
    cleared = (
        change(611, ChangeKind.CLEARED, "1260.10", member_count=4, present=present),
        change(17, ChangeKind.CLEARED, "26.10", certain=False),
    )
    trend = tuple(
        RunTotals(GENERATED_AT - timedelta(days=29 - night), 5 + night % 3, 19 + night % 4, Decimal(1000 + 10 * night))
        for night in range(30)
    )
    since = GENERATED_AT - timedelta(days=1)
    by_group = {change.group: change for change in changes}
    return replace(sample_report(), changes=Changes(since, by_group, cleared, trend))


def empty_report() -> Report:
    return report_of((), criteria=Criteria(min_total=Decimal("10000.00")))


def large_report(group_count: int = 4000) -> Report:
    """Return families of two to four and some of seven, eleven members to four groups, highest fines first."""
    groups = []
    patron = 1000
    for number in range(group_count):
        size = (2, 3, 2, 4)[number % 4] if number % 50 else 7
        members = []
        for place in range(size):
            patron += 1
            name = f"{_FAMILY_NAMES[number % 8]}, {_GIVEN_NAMES[(number + place) % 8]}"
            fines = Decimal(3_000_000 // (number + 20) + (patron * 7919) % 1700) / 100 / (place + 1)
            library = _LIBRARIES[number % 5]
            members.append(member(patron, name, f"{fines:.2f}", library=library, group_lead=place == 0))
        groups.append(Group(number * 3 + 1, tuple(members)))
    groups.sort(key=lambda group: group.group_fines, reverse=True)
    return report_of(groups)


_MARKUP = (
    *("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</td></table></details><h1>x", "</script><b>"),
    *("<!-- ", "]]>", "&lt;&amp;&#0;", "[bold red]x[/]", "[/]", ":skull:"),
)
_CONTROLS = ("\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x9b2J", "a\r\nb\tc", "nul\x00nul", "line\u2028separator\u2029")
_FORMULAS = ("=1+1", "'=1+1", "+1", "-2", "@SUM(A1)", "\t=1", "\r=1", "＝1", '","')
_SCRIPTS = ("\u202egnp.exe", "\u2067rtl\u2069", "שלום, עולם", "田中" * 20, "👩‍👩‍👧 e\u0301")
HOSTILE = (*_MARKUP, *_CONTROLS, *_FORMULAS, *_SCRIPTS, "a" * 120, "-" * 90, "")

hostile_texts = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(max_size=25),
    st.tuples(st.sampled_from(HOSTILE), st.text(max_size=8), st.sampled_from(HOSTILE)).map("".join),
)


@st.composite
def hostile_reports(draw: st.DrawFn) -> Report:
    """Yield reports in which every text is a possible attack."""
    groups = []
    for number in range(draw(st.integers(0, 3))):
        members = [
            member(
                number * 10 + place + 1,
                draw(hostile_texts),
                str(draw(st.decimals(-50, 99999, places=2, allow_nan=False, allow_infinity=False))),
                barcode=draw(st.none() | hostile_texts.filter(bool)),
                library=draw(hostile_texts),
                group_lead=draw(st.booleans()),
            )
            for place in range(draw(st.integers(1, 3)))
        ]
        hidden = draw(st.integers(0, 2))
        known = draw(st.booleans()) or not hidden
        groups.append(Group(number + 1, tuple(members), hidden, Decimal("0.00") if known else None))
    contact = draw(st.booleans())
    criteria = Criteria(orgs=tuple(draw(st.lists(hostile_texts, max_size=2))), contact=contact)
    report = report_of(groups, criteria=criteria, notes=draw(st.lists(hostile_texts, max_size=2)))
    some_text = st.just("") | hostile_texts
    texts = dict.fromkeys(("name", "library", "day_phone", "evening_phone", "other_phone", "email"), some_text)
    address = st.none() | st.builds(PostalAddress, **dict.fromkeys(PostalAddress._fields, some_text))
    role = st.sampled_from([LEAD, ADULT, GUARDIAN])
    contacts = st.builds(Contact, patron=st.just(1), role=role, postal_address=address, **texts)
    return replace(report, contacts={group.number: draw(contacts) for group in groups}) if contact else report


@st.composite
def hostile_changed_reports(draw: st.DrawFn) -> Report:
    """Yield the same with changes: in every listed group, and in cleared ones with hostile names and libraries."""
    report = draw(hostile_reports())
    by_group = {}
    for group in report.groups:
        kind = draw(st.sampled_from([ChangeKind.NEW, ChangeKind.WORSE, ChangeKind.BETTER, ChangeKind.UNCHANGED]))
        before = None if kind is ChangeKind.NEW else Decimal("26.10")
        by_group[group.number] = GroupChange(
            group.number, kind, before, group.group_fines, group.library, certain=draw(st.booleans())
        )
    cleared = tuple(
        GroupChange(
            100 + number,
            ChangeKind.CLEARED,
            Decimal("30.00"),
            None,
            draw(hostile_texts),
            present=draw(st.none() | st.builds(GroupNow, st.just(7), hostile_texts, st.just(2), st.just(None))),
        )
        for number in range(draw(st.integers(0, 12)))
    )
    trend = (RunTotals(GENERATED_AT, 0, 0, Decimal("-1.00")),) * draw(st.integers(0, 3))
    return replace(report, changes=Changes(GENERATED_AT, by_group, cleared, trend))


ORG_UNITS = (
    OrgUnit(1, "CONS", "All", None),
    OrgUnit(2, "SYS", "System", 1),
    OrgUnit(3, "BR1", "One", 2),
    OrgUnit(4, "BR2", "Two", 2),
)
LOST, GROCERY = BillKind("circulation", "Lost Materials"), BillKind("grocery", "=Photocopies")
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
            state = PatronState(*[number > 0] * 3)
            found[member.id] = MemberDetails(
                None if unknown else SummedBills.of(bills), None if unknown else items, state, "Adult"
            )
    profiles = Profiles([(1, "Adult", None)])
    return replace(report, details=ReportDetails(found, profiles, (30, 60, 90), report.generated_at))


_OVERDUE = BillKind("circulation", "Overdue Materials")
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
    kinds = (_OVERDUE, LOST, _COPIES)[: 1 + member.id % 3] if member.own_fines > 1 else (_OVERDUE,)
    share = (member.own_fines / len(kinds)).quantize(Decimal("0.01"))
    amounts = [member.own_fines - share * (len(kinds) - 1), *[share] * (len(kinds) - 1)]
    since = _BEGAN + timedelta(member.id % 240)
    paid = since + timedelta(9) if member.id % 4 == 0 else None
    owed = tuple(bill(member.id, amount, kind, since, paid) for kind, amount in zip(kinds, amounts, strict=True))
    child = member.id % 3 == 0 and not member.group_lead
    state = PatronState(child, member.id % 11 == 0, member.id % 50 == 0)
    items = UnreturnedItems(member.id % 3, int(LOST in kinds))
    return MemberDetails(SummedBills.of(owed), items, state, "Juvenile" if child else "Patrons")


def _changes(report: Report) -> Changes:
    def change(place: int, group: Group) -> GroupChange:
        kind = _KINDS[place % 5]
        worse = {ChangeKind.WORSE: Decimal("3.25"), ChangeKind.BETTER: Decimal("-4.50")}.get(kind, Decimal("0.00"))
        before = None if kind is ChangeKind.NEW else group.group_fines - worse
        return GroupChange(group.number, kind, before, group.group_fines, group.library, joined_count=place % 20 == 1)

    by_group = {group.number: change(place, group) for place, group in enumerate(report.groups)}
    groups, members, fines = (report.totals.group_count, report.totals.member_count, report.totals.group_fines)
    trend = (
        RunTotals(GENERATED_AT - timedelta(days=29 - night), groups - 29 + night, members, fines * (70 + night) / 99)
        for night in range(30)
    )
    return Changes(GENERATED_AT - timedelta(days=1), by_group, (), tuple(trend))
