"""Accidental groups as a work list: confidence and reasons, suggested splits, and groups to keep."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fault_proxy import Fault, FaultProxy
from support.gateways import gateway_of
from support.states import state_in

from evergreen_groups.audit import (
    Audit,
    AuditCriteria,
    Confidence,
    Evidence,
    FindingKind,
    GroupFinding,
    PatronFinding,
    blocks,
    build_audit,
)
from evergreen_groups.audit import queries as id_ranges
from evergreen_groups.audit.borrowed_addresses import find_borrowed_addresses
from evergreen_groups.audit.store import FindingStore
from evergreen_groups.client import Client
from evergreen_groups.errors import ArgumentError, ConfigurationError, NotFoundError
from evergreen_groups.formats import AUDIT_FORMATS
from evergreen_groups.gateway import TOKEN, Gateway
from evergreen_groups.groups import AdultRule, IdRange
from evergreen_groups.message import silent
from evergreen_groups.render import StaffClient
from evergreen_groups.render.audit import HEADINGS, describe_confidence, describe_split, group_link, render_audit
from evergreen_groups.sandbox import Sandbox

SCHOOL, LEADERLESS, TWO_LEADS = 1016, 1007, 1006
CRITERIA = AuditCriteria(institution_profiles=("institution",))
CLIENT = StaffClient(url="https://ils.example.org")


@pytest.fixture
def client(staff: Gateway, tmp_path: Path) -> Client:
    return Client(staff, account="consortium_staff", state=state_in(tmp_path))


def update(sandbox: Sandbox, patron: int, **values: object) -> None:
    with sandbox._store.transaction():
        sandbox._store.update("au", patron, values)


def accidental(audit: Audit) -> list[int]:
    return [finding.group.number for finding in audit.groups_of_kind(FindingKind.ACCIDENTAL)]


def for_review(audit: Audit) -> list[int]:
    return [finding.group.number for finding in audit.groups_of_kind(FindingKind.FOR_REVIEW)]


def found(audit: Audit, number: int) -> GroupFinding:
    (finding,) = (one for one in audit.groups if one.group.number == number)
    return finding


def evidence(finding: GroupFinding) -> dict[str, int]:
    assert finding.confidence is not None
    return {piece.code: piece.weight for piece in finding.confidence.evidence}


def test_the_surest_stand_first_and_each_says_why(staff: Gateway) -> None:
    audit = build_audit(staff, CRITERIA)
    assert (accidental(audit), for_review(audit)) == ([SCHOOL], [TWO_LEADS, LEADERLESS])
    school = found(audit, SCHOOL)
    assert evidence(school) == {"strangers": 35, "institution": 25, "cloned": 15}
    assert school.confidence is not None
    assert (school.confidence.points, school.confidence.level) == (75, "high")
    said = describe_confidence(school.confidence)
    assert said.startswith(
        "Confidence that the group is accidental: high (75 of 100). Evidence: 1 adult shares nothing"
    )
    assert evidence(found(audit, LEADERLESS)) == {"no-lead": 10, "surname-shared": -20}
    low = found(audit, LEADERLESS).confidence
    assert low is not None
    assert (low.points, low.level) == (0, "low")


def test_a_family_without_a_lead_is_for_review_until_nothing_is_shared(sandbox: Sandbox, staff: Gateway) -> None:
    update(sandbox, 1030, family_name="Quux")
    audit = build_audit(staff, CRITERIA)
    assert (accidental(audit), for_review(audit)) == ([SCHOOL, LEADERLESS], [TWO_LEADS])
    assert evidence(found(audit, LEADERLESS)) == {"nothing-shared": 25, "no-lead": 10}


@pytest.mark.parametrize("number", [LEADERLESS, SCHOOL])
def test_every_format_says_which_of_the_two_it_is_and_leads_to_the_same_page(staff: Gateway, number: int) -> None:
    audit = build_audit(staff, CRITERIA)
    audit = replace(audit, patrons=(), groups=(finding := found(audit, number),))
    kind, page = finding.kind, group_link(finding, CLIENT)

    def rendered(output_format: str, client: StaffClient | None = CLIENT) -> str:
        stream = io.StringIO(newline="")
        render_audit(audit, output_format, stream, client=client)
        return stream.getvalue()

    text = rendered("table")
    assert f"\n{HEADINGS[kind]} (1)\n" in text
    assert f"    {page}\n" in text
    rows = list(csv.DictReader(io.StringIO(rendered("csv"))))
    assert {(row["kind"], row["page"]) for row in rows} == {(kind.value, page)}
    document = json.loads(rendered("json"))
    assert {one["kind"]: one["count"] for one in document["kinds"] if one["count"]} == {kind.value: 1}
    (group,) = document["groups"]
    assert (group["kind"], group["page"]) == (kind.value, page)
    html = rendered("html")
    assert f'<h2 id="{kind.value}">{HEADINGS[kind]}' in html
    assert f'<a href="{page.replace("&", "&amp;")}">{number}</a>' in html
    for output_format in ("table", "csv", "json", "html"):
        assert "https://ils.example.org" not in rendered(output_format, client=None)
        assert in_tab(finding) in rendered(output_format, client=replace(CLIENT, groups_in_tab=True))


def in_tab(finding: GroupFinding) -> str:
    patron = finding.split.stay[0] if finding.split else finding.group.lead.id
    return f"https://ils.example.org/eg/staff/circ/patron/{patron}/group"


def test_without_profiles_of_institutions_there_is_no_such_evidence(staff: Gateway) -> None:
    assert evidence(found(build_audit(staff, AuditCriteria()), SCHOOL)) == {"strangers": 35, "cloned": 15}
    with pytest.raises(ConfigurationError, match='no profile "Nowhere"'):
        build_audit(staff, AuditCriteria(institution_profiles=("Nowhere",)))


@pytest.mark.parametrize(
    ("codes", "level"),
    [
        (["no-lead"], "low"),
        (["several-leads", "no-lead", "surname-shared"], "low"),
        (["unusually-large"], "medium"),
        (["strangers"], "medium"),
        (["strangers", "cloned"], "high"),
        (["strangers", "nothing-shared", "institution", "unusually-large"], "high"),
    ],
)
def test_levels(codes: list[str], level: str) -> None:
    confidence = Confidence.from_evidence(map(Evidence, codes))
    assert confidence.level == level
    assert 0 <= confidence.points <= 100


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"mailing_address": 1029}, "address-shared"),
        ({"email": "k@example.org"}, "phone-or-email-shared"),
        ({"other_phone": "555 0107"}, "phone-or-email-shared"),
        ({"family_name": "Quux"}, "nothing-shared"),
    ],
)
def test_what_all_share(sandbox: Sandbox, staff: Gateway, values: dict[str, object], code: str) -> None:
    update(sandbox, 1029, day_phone="5550107", email="K@example.org")
    update(sandbox, 1030, **values)
    assert code in evidence(found(build_audit(staff, AuditCriteria()), LEADERLESS))


def test_a_split_and_the_page_where_it_is_done(staff: Gateway) -> None:
    school = found(audit := build_audit(staff, CRITERIA), SCHOOL)
    assert school.split is not None
    assert (school.split.stay, school.split.leave) == ((1054, 1055), ((1056,),))
    assert (
        describe_split(school)
        == "Suggested split. Stay: Pine Hill School, Office; Sandoval, Greta. Leave: Petrov, Omar."
    )
    page = "https://ils.example.org/evergreen-groups/patrons/{}/group?client=eg{}"
    assert group_link(school, CLIENT) == page.format(1054, "&select=1056")
    together = found(audit, LEADERLESS)
    assert (together.split, describe_split(together)) == (None, "")
    assert group_link(together, CLIENT) == page.format(1029, "")


def test_of_families_as_large_the_leads_stays(sandbox: Sandbox, staff: Gateway) -> None:
    for patron in (1054, 1055):
        update(sandbox, patron, mailing_address=None, billing_address=None)
    split = found(build_audit(staff, AuditCriteria()), SCHOOL).split
    assert split is not None
    assert (split.stay, split.leaving) == ((1054,), (1055, 1056))


def test_of_a_group_with_hidden_members_only_what_the_others_show(sandbox: Sandbox) -> None:
    update(sandbox, 1054, expire_date="2015-03-01T00:00:00+0000")
    with gateway_of(sandbox.url, "north_manager") as gateway:
        school = found(build_audit(gateway, CRITERIA), SCHOOL)
    assert school.group.hidden_member_count == 1
    assert evidence(school) == {"institution": 25, "cloned": 15, "lead-expired": 10}
    assert school.split is None


def test_what_is_kept_is_not_listed_again_until_its_members_change(
    sandbox: Sandbox, client: Client, staff: Gateway
) -> None:
    client.keep_groups([SCHOOL, LEADERLESS])
    audit = client.audit(AuditCriteria())
    assert (accidental(audit), for_review(audit)) == ([], [TWO_LEADS])
    assert audit.to_keep == (LEADERLESS, SCHOOL)
    update(sandbox, 1056, usrgroup=4711)
    update(sandbox, 1055, home_ou=21)
    audit = client.audit(AuditCriteria())
    assert (accidental(audit), for_review(audit)) == ([], [TWO_LEADS])  # the school's members share an address
    update(sandbox, 1055, mailing_address=None, billing_address=None)
    audit = client.audit(AuditCriteria())
    assert (accidental(audit), for_review(audit)) == ([SCHOOL], [TWO_LEADS])
    assert audit.to_keep == (LEADERLESS,)
    # The decision isn't restored when the patron comes back: the group is listed again.
    update(sandbox, 1056, usrgroup=SCHOOL)
    assert SCHOOL in accidental(client.audit(AuditCriteria()))


def test_what_is_kept_for_a_family_is_forgotten_as_well_when_its_members_change(
    sandbox: Sandbox, client: Client
) -> None:
    client.keep_groups([LEADERLESS, TWO_LEADS])
    audit = client.audit(AuditCriteria())
    assert (for_review(audit), audit.to_keep) == ([], (TWO_LEADS, LEADERLESS))
    update(sandbox, 1003, usrgroup=LEADERLESS)
    assert TWO_LEADS not in for_review(audit := client.audit(AuditCriteria()))
    assert audit.to_keep == (TWO_LEADS,)
    assert client.audit(AuditCriteria()).to_keep == (TWO_LEADS,)


def test_listing_again(client: Client) -> None:
    assert client.list_groups_again([SCHOOL]) == 0
    client.keep_groups([SCHOOL])
    client.keep_groups([SCHOOL])
    assert client.list_groups_again([SCHOOL, LEADERLESS]) == 1
    assert SCHOOL in accidental(client.audit(AuditCriteria()))


def test_a_group_that_nobody_is_in_is_not_kept(client: Client) -> None:
    with pytest.raises(NotFoundError, match="group 4711 has no visible member"):
        client.keep_groups([SCHOOL, 4711])
    assert client.audit(AuditCriteria()).to_keep == ()


def test_who_sees_less_decides_about_the_same_members(sandbox: Sandbox, client: Client, tmp_path: Path) -> None:
    update(sandbox, 1054, expire_date="2015-03-01T00:00:00+0000")
    with gateway_of(sandbox.url, "north_manager") as gateway:
        Client(gateway, account="north_manager", state=state_in(tmp_path)).keep_groups([SCHOOL])
    assert client.audit(AuditCriteria()).to_keep == (SCHOOL,)


def test_several_adults(sandbox: Sandbox, staff: Gateway) -> None:
    def adults(most: int, from_age: int = 18) -> dict[int, object]:
        audit = build_audit(staff, AuditCriteria(adults=AdultRule(from_age, most)))
        findings = audit.groups_of_kind(FindingKind.SEVERAL_ADULTS)
        return {finding.group.number: finding.reasons[0].values["count"] for finding in findings}

    assert adults(0) == {}
    assert adults(2) == {1005: 4, 1014: 3, SCHOOL: 3}
    update(sandbox, 1021, dob="2012-05-05")  # a juvenile without the flag
    update(sandbox, 1022, dob="2001-05-05")  # an adult with an outdated juvenile flag
    update(sandbox, 1048, dob="2012-05-05")
    assert adults(2) == {1005: 4, SCHOOL: 3}
    assert adults(2, from_age=10) == {1005: 5, 1014: 3, SCHOOL: 3}


def test_addresses_borrowed_from_outside_the_group(sandbox: Sandbox, staff: Gateway) -> None:
    def borrowed(gateway: Gateway, *orgs: str) -> dict[int, tuple[str, object]]:
        findings = build_audit(gateway, AuditCriteria(orgs=orgs)).of_kind(FindingKind.BORROWED_ADDRESS)
        return {one.member.id: (one.reason.code, one.reason.values.get("group")) for one in findings}

    assert borrowed(staff) == {1044: ("borrowed-address", 1003)}  # not 1002, because the owner is family
    update(sandbox, 1039, billing_address=1012)
    update(sandbox, 1050, mailing_address=1040)
    update(sandbox, 1040, deleted="t")  # no one maintains a deleted patron's address
    update(sandbox, 1052, mailing_address=1051, billing_address=1001)
    assert borrowed(staff) == {
        1039: ("borrowed-address", 1003),
        1044: ("borrowed-address", 1003),
        1052: ("borrowed-address", 1001),
    }
    assert set(borrowed(staff, "HARBOR")) == {1039, 1052}
    with gateway_of(sandbox.url, "north_manager") as gateway:
        assert borrowed(gateway) == {1039: ("borrowed-address-of-hidden", None), 1052: ("borrowed-address", 1001)}


def test_no_birth_date_is_in_any_format(sandbox: Sandbox, staff: Gateway) -> None:
    for patron in (1019, 1020, 1021):
        update(sandbox, patron, dob="1971-07-13")
    audit = build_audit(staff, AuditCriteria(adults=AdultRule(18, 1)))
    for name in AUDIT_FORMATS:
        stream = io.StringIO(newline="")
        render_audit(audit, name, stream)
        assert "1971" not in stream.getvalue()


class SomebodyIsFoundError(Exception):
    """Raised if the search goes on with the patrons it found."""


@pytest.mark.apache(reason="whatever is empty is held against an echo")
def test_an_empty_answer_to_another_question_is_not_accepted(proxy: FaultProxy) -> None:
    """An empty list can't be matched to its query, so the search uses a fresh connection."""

    def members(_patrons: object, *, cards: bool) -> None:
        raise SomebodyIsFoundError

    with gateway_of(proxy.url, "consortium_staff", concurrency=1) as gateway:
        gateway.idl("au", "aua")
        assert gateway.token
        reader = SimpleNamespace(members=members)
        context: Any = SimpleNamespace(
            gateway=gateway,
            homes=(),
            id_ranges=[IdRange(None, None)],
            progress=silent,
            reader=reader,
            found=FindingStore(),
            top=None,
        )
        proxy.decide = lambda call: Fault.ANSWERS_BEHIND
        assert gateway.call("open-ils.pcrud", "open-ils.pcrud.search.au.atomic", TOKEN, {"id": -1}).value == []
        with pytest.raises(SomebodyIsFoundError):
            find_borrowed_addresses(context)


@pytest.mark.parametrize("account", ["consortium_staff", "north_manager"])
@pytest.mark.apache(reason="it counts calls")
def test_a_list_cut_short_has_the_first_of_all(sandbox: Sandbox, account: str) -> None:
    """Cards and fines are read only for the patrons on the shortened list."""
    with gateway_of(sandbox.url, account) as gateway:
        everything = build_audit(gateway, CRITERIA)
        calls = gateway.statistics.calls
        first = build_audit(gateway, replace(CRITERIA, top=1))
    assert gateway.statistics.calls - calls <= calls
    for kind in FindingKind:
        assert list(first.of_kind(kind)) == list(everything.of_kind(kind))[:1]
        assert list(first.groups_of_kind(kind)) == list(everything.groups_of_kind(kind))[:1]
        assert first.count(kind) == everything.count(kind)
        assert first.listed(kind) == min(first.count(kind), 1)
    with pytest.raises(ArgumentError):
        AuditCriteria(top="1")  # type: ignore[arg-type]


@given(st.integers(0, 3_000_000), st.integers(-10, 4_000_000))
def test_every_id_is_in_one_range(highest: int, patron: int) -> None:
    ranges = id_ranges.id_ranges(highest)
    within = [
        one for one in ranges if (one.low is None or patron > one.low) and (one.high is None or patron <= one.high)
    ]
    assert len(within) == 1
    assert len(ranges) <= 32


@pytest.mark.parametrize("top", [None, 2])
def test_patrons_come_once_however_they_are_asked_for(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, top: int | None
) -> None:
    """A range with more patrons than fit in one answer takes more calls, until nothing is left."""
    with gateway_of(sandbox.url, "consortium_staff") as gateway:
        at_once = build_audit(gateway, AuditCriteria(top=top))
        monkeypatch.setattr(id_ranges, "_WIDTH", 60)
        monkeypatch.setattr(blocks, "_PAGE", 2)
        monkeypatch.setattr(blocks, "_BATCH", 3)
        in_parts = build_audit(gateway, AuditCriteria(top=top))
    assert len(at_once.patrons) >= 4
    assert _found(in_parts) == _found(at_once)
    assert in_parts.counts == at_once.counts


def _found(audit: Audit) -> list[PatronFinding]:
    return list(audit.patrons)
