"""The audit's queries as measured on a real Evergreen, by exchange id."""

import json
import re
from collections.abc import Callable, Collection
from datetime import UTC, date, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from support.patron_records import read_accounts, read_contact_records
from support.recorded import gateway_of, params

from evergreen_groups.audit import BlockExplainer, FindingKind, PenaltyFate
from evergreen_groups.audit.accidental_groups import AccidentalGroupJudge
from evergreen_groups.audit.borrowed_addresses import find_borrowed_addresses
from evergreen_groups.audit.queries import AccidentalGroups, BlockQuery, GroupsOfAdults, LimitBounds
from evergreen_groups.audit.store import FindingStore
from evergreen_groups.gateway import Gateway
from evergreen_groups.groups import ACCOUNT_FIELDS, PATRON_FIELDS, AdultRule, GroupReader, GroupSearch, IdRange, Query
from evergreen_groups.ils import Access, OrgUnits
from evergreen_groups.message import silent
from evergreen_groups.policy import Comparison, Limit
from evergreen_groups.settings import PolicySettings

ANY = IdRange(None, None)
FAMILIES = IdRange(7000, 7099)
TODAY = date(2026, 11, 26)
FIVE = LimitBounds(Limit(Decimal(5)), Limit(Decimal(5)))
LONG_AGO = datetime(2023, 11, 26, tzinfo=UTC)


@pytest.fixture(scope="module")
def org_units() -> OrgUnits:
    with gateway_of("contacts-021", "contacts-022") as gateway:
        return OrgUnits.read(gateway)


def context(gateway: Gateway, org_units: OrgUnits, homes: Collection[int] = ()) -> Any:
    """Return a search context. ``homes`` are the home libraries visible to an account that can't see all patrons."""
    every = frozenset(unit.id for unit in org_units)
    access = Access(frozenset(homes) or every, (org_units.root,) if homes else ())
    return SimpleNamespace(
        **{"gateway": gateway, "org_units": org_units, "access": access, "homes": homes, "id_ranges": [ANY]},
        **{"now": datetime.now(UTC), "progress": silent, "institutions": {}, "to_keep": {}, "top": None},
        **{"left_out_groups": set[int](), "changed_groups": set[int](), "found": FindingStore()},
        reader=GroupReader(gateway, org_units, access),
    )


@pytest.mark.parametrize(
    ("exchange_id", "limit"), [("audit-005", Limit(Decimal(5))), ("audit-008", Limit(Decimal(10), Comparison.REACHES))]
)
def test_debtors_over_a_limit_are_found_by_the_query_that_was_measured(exchange_id, limit):
    _token, measured, _options = params(exchange_id)
    over = measured["-and"][2]
    del over["-or"][0]["id"]["in"]["where"]["+d"]["-and"]  # the id range of the invented patrons
    asked = BlockQuery(LimitBounds(limit, limit), [1, 101], [1, 101]).not_blocked(ANY)
    assert json.dumps(asked["-and"][0]) == json.dumps(over)


@pytest.mark.parametrize(
    ("exchange_id", "place", "query"),
    [
        ("audit-012", 3, BlockQuery.not_blocked),
        ("audit-014", 2, BlockQuery.not_over),
        ("audit-015", 2, BlockQuery.by_staff),
    ],
)
def test_penalties_are_looked_up_in_a_list_that_is_a_filter(exchange_id, place, query):
    """The recorded queries skip every penalty that has a stop date. The rest is the same."""
    _token, measured, _options = params(exchange_id)
    [listed, never] = measured["-and"][place]["-or"]
    asked = query(BlockQuery(FIVE, [1, 101], [1, 101]), ANY)["-and"]
    [ours] = [one["-or"] for one in asked if "ausp" in json.dumps(one)]
    assert ours[1] == never == {"id": {"<": 0}}
    assert list(ours[0]["id"]) == list(listed["id"])
    [subquery], [recorded] = ours[0]["id"].values(), listed["id"].values()
    assert (subquery["select"], subquery["from"]) == (recorded["select"], recorded["from"])


@pytest.mark.parametrize(
    ("exchange_id", "query", "patrons"),
    [("work-list-017", BlockQuery.not_over, [308, 314]), ("work-list-018", BlockQuery.by_staff, [305])],
)
def test_a_penalty_that_ends_later_is_in_force(
    exchange_id: str, query: Callable[[BlockQuery, IdRange], Query], patrons: list[int]
) -> None:
    """The penalty of 314 ends in 2099. The one of 311 was archived."""
    asked = query(BlockQuery(LimitBounds(Limit(Decimal(10)), Limit(Decimal(10))), [1], [1], (4, 5, 6)), ANY)
    with gateway_of(exchange_id) as gateway:
        pages = gateway.pcrud.pages("au", asked, select=PATRON_FIELDS, page_size=4_000, concurrency=1, all_visible=True)
        assert [row.id for page in pages for row in page] == patrons


@pytest.mark.parametrize(
    ("exchange_id", "most", "homes", "visible", "members"),
    [
        ("work-list-001", 1, (), (), [*range(301, 307), *range(307, 310), 310, 311]),
        ("work-list-003", 1, (), (4, 8), [301, 302, 303, 304, 305, 307, 309, 311]),
        ("work-list-005", 1, (5,), (), [307, 308, 309]),
        ("work-list-007", 2, (), (), [304, 305, 306]),
    ],
)
def test_groups_of_several_adults(
    exchange_id: str, most: int, homes: tuple[int, ...], visible: tuple[int, ...], members: list[int]
) -> None:
    """307 comes of age this year and is found, in a group with 308 and a child without a birth date."""
    query = GroupsOfAdults(rule=AdultRule(18, most), today=TODAY, homes=homes, visible_orgs=visible)
    with gateway_of(exchange_id) as gateway:
        found = GroupSearch(gateway, query)._search(FAMILIES, 60)
    assert [row.id for row in found] == members


def test_who_turns_out_to_be_an_adult() -> None:
    with gateway_of("work-list-010") as gateway:
        accounts = read_accounts(gateway, range(301, 317))
    rule = AdultRule(18, 1)
    assert [rule.is_adult(accounts[id], TODAY) for id in (301, 303, 305, 307, 309)] == [True, False, True, False, False]


@pytest.mark.parametrize(
    ("exchange_id", "unusual_size", "homes", "visible", "members"),
    [
        ("work-list-002", 10, (), (), [*range(304, 310), 314, 315]),
        ("work-list-004", 10, (), (4, 8), [304, 305, 307, 309, 314, 315]),
        ("work-list-006", 10, (5,), (), [307, 308, 309]),
        ("work-list-008", 3, (), (), [*range(301, 310), 314, 315]),
    ],
)
def test_groups_that_may_be_accidental(
    exchange_id: str, unusual_size: int, homes: tuple[int, ...], visible: tuple[int, ...], members: list[int]
) -> None:
    query = AccidentalGroups(unusual_size=unusual_size, long_ago=LONG_AGO, homes=homes, visible_orgs=visible)
    with gateway_of(exchange_id, alike=False) as gateway:
        found = GroupSearch(gateway, query)._search(FAMILIES, 60)
    assert [row.id for row in found] == members
    asked = json.dumps(without_blank_names(query.members(FAMILIES)), sort_keys=True)
    [moment], [recorded] = re.findall(MOMENT, asked), re.findall(MOMENT, json.dumps(params(exchange_id)[1]))
    assert without_range_of_leads(asked) == json.dumps(params(exchange_id)[1], sort_keys=True).replace(recorded, moment)


MOMENT = r"\d{4}-\d\d-\d\dT[^\"]+"
LEAD = '"master_account": "t", "usrgroup": {"=": {"+d": "usrgroup"}}'


def without_range_of_leads(asked: str) -> str:
    """Return the query without the repeated group range for leads, as it was recorded."""
    within = json.dumps(FAMILIES.conditions())
    in_range = f'{{"-and": {within}, "deleted": "f", {LEAD}}}'
    assert asked.count(in_range) == 1
    return asked.replace(in_range, f'{{"deleted": "f", {LEAD}}}')


def without_blank_names(asked: Any) -> Any:
    """Return the query as it was before members without a family name counted as strangers."""
    if isinstance(asked, list):
        return [without_blank_names(item) for item in asked]
    if not isinstance(asked, dict):
        return asked
    query = {key: without_blank_names(value) for key, value in asked.items()}
    if "home_ou" in query and "-or" in query:
        query |= query.pop("-or")[0]
    return query


def test_the_questions_are_those_whose_cost_was_measured() -> None:
    """The queries repeat conditions for speed, so compare them literally."""
    _token, measured, _options = params("members-003")
    groups = AccidentalGroups(long_ago=LONG_AGO)
    assert json.dumps(without_blank_names(groups.members(IdRange(6100, 6110)))) == json.dumps(measured)
    _token, measured, _options = params("members-004")
    patrons = BlockQuery(FIVE, [1], [1])
    assert json.dumps(patrons.not_blocked(IdRange(6100, 6140))) == json.dumps(measured["-and"][0])


def test_the_evidence_about_them(org_units: OrgUnits) -> None:
    evidence = ("work-list-011", "work-list-012", "work-list-013", "work-list-014", "work-list-015", "work-list-016")
    with gateway_of("work-list-002", alike=False) as gateway:
        rows = GroupSearch(gateway, AccidentalGroups(long_ago=LONG_AGO))._search(FAMILIES, 60)
    with gateway_of(*evidence) as gateway:
        ids = sorted(row.id for row in rows)
        accounts = gateway.pcrud.columns_by_values("au", ("id", *ACCOUNT_FIELDS), "id", ids)
        records = {id: values for id, *values in accounts}
        contacts = read_contact_records(gateway, ids)
        asked = context(gateway, org_units)
        families = {number: [row for row in rows if row.group == number] for number in {row.group for row in rows}}
        drafts = AccidentalGroupJudge(asked).judge(families, {id: [*records[id], *contacts[id]] for id in ids})
        groups = {group.number: group for group in asked.reader.build_groups(rows)}
        found = [draft.of(groups[draft.number]) for draft in drafts]
    by_number = {finding.number: finding for finding in found}
    assert {number: [one.code for one in finding.reasons] for number, finding in by_number.items()} == {
        7002: ["stranger"],
        7003: ["lead-expired"],
        7006: ["lead-deleted"],
    }
    split = by_number[7002].split
    assert split is not None
    assert (split.stay, split.leave) == ((304, 305), ((306,),))
    confidence = by_number[7006].confidence
    assert confidence is not None
    assert [one.code for one in confidence.evidence] == ["lead-deleted", "surname-shared", "address-shared"]


def test_a_deleted_lead(org_units: OrgUnits) -> None:
    with gateway_of("work-list-009") as gateway:
        assert AccidentalGroupJudge(context(gateway, org_units))._with_deleted_lead(range(7001, 7007)) == {7006}


@pytest.mark.parametrize(
    ("exchange_ids", "homes", "reasons"),
    [
        (
            ("contacts-003", "contacts-004", "contacts-005", "contacts-006", "contacts-007"),
            (),
            [(307, "Vale, Ansel"), (312, "Birch, Dagny"), (312, "Wren, Jorun")],
        ),
        (
            ("contacts-010", "contacts-011", "contacts-012", "contacts-013", "contacts-014"),
            (4, 8),
            [(307, "Vale, Ansel"), (312, "Birch, Dagny"), (312, None)],
        ),
    ],
)
def test_addresses_borrowed_across_groups(
    org_units: OrgUnits, exchange_ids: tuple[str, ...], homes: tuple[int, ...], reasons: list[tuple[int, str | None]]
) -> None:
    """316 uses the address of a deleted patron, which no one maintains. Jorun Wren is hidden from the branch."""
    with gateway_of(*exchange_ids) as gateway:
        find_borrowed_addresses(asked := context(gateway, org_units, homes))
    found = asked.found.of_kind(FindingKind.BORROWED_ADDRESS)
    assert [(finding.member.id, finding.reason.values.get("owner")) for finding in found] == reasons


ANYWHERE = (
    *("contacts-021", "contacts-022"),
    *("explanation-004", "explanation-005", "explanation-006", "explanation-007", "explanation-008", "explanation-009"),
    *("explanation-010", "explanation-011", "explanation-012", "explanation-013"),
)
"""The exchanges of an account that may see all patrons everywhere."""


def test_why_a_patron_over_the_threshold_is_blocked() -> None:
    own = ("explanation-001", "explanation-002", "explanation-003", "explanation-003")
    with gateway_of(*ANYWHERE, *own, "explanation-014", "explanation-015") as gateway:
        found = BlockExplainer(gateway, PolicySettings()).of_user(302)
    assert found.threshold is not None
    assert (found.threshold.org_unit.shortname, found.threshold.profile) == ("CONS", "Users")
    assert (found.threshold.amount, found.counted, found.reaches_threshold) == (
        Decimal("10.00"),
        Decimal("19.00"),
        True,
    )
    assert found.fates == {801: PenaltyFate.STAYS}
    assert found.complete


def test_why_a_patron_who_has_paid_is_blocked() -> None:
    own = ("explanation-016", "explanation-017", "explanation-017", "explanation-018")
    with gateway_of(*ANYWHERE, *own, "explanation-019", "explanation-020") as gateway:
        found = BlockExplainer(gateway, PolicySettings()).of_user(308)
    assert (found.counted, found.reaches_threshold, found.would_block) == (Decimal("-1.00"), False, False)
    assert found.fates == {802: PenaltyFate.REMOVED}


def test_why_a_patron_is_not_blocked_as_a_branch_sees_it() -> None:
    """The threshold is set above the branch, fines at another branch count, and the penalty isn't set yet."""
    asked = (
        *("explanation-021", "explanation-022", "explanation-023", "explanation-023", "explanation-024"),
        *("explanation-025", "explanation-026", "explanation-027", "explanation-028", "explanation-029"),
        *("explanation-030", "explanation-031", "explanation-032", "explanation-033", "explanation-034"),
        *("explanation-035", "explanation-036", "explanation-037", "explanation-038"),
    )
    with gateway_of(*asked) as gateway:
        found = BlockExplainer(gateway, PolicySettings()).of_user(304)
    assert (found.counted, found.reaches_threshold, found.to_be_set) == (Decimal("11.00"), True, True)
    assert found.bills is not None
    assert [(one.library and one.library.shortname, one.counts) for one in found.bills] == [("BR3", True)]
    assert found.complete
