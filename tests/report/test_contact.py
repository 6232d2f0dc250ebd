"""Whom to contact about a group: the rule, what is shown of the person, and what it costs."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from dataclasses import replace
from email import message_from_bytes
from email.policy import SMTP
from typing import Any

import lxml.html
import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fault_proxy import FaultProxy
from support.gateways import gateway_of
from support.rendered import written, written_bytes
from support.report_samples import member

from evergreen_groups.groups import Group, PatronState
from evergreen_groups.ils import Profiles
from evergreen_groups.nightly.mailing import messages
from evergreen_groups.report import ADULT, GUARDIAN, LEAD, Contact, Criteria, Report, Run, build_report, libraries
from evergreen_groups.report.build import read_reports
from evergreen_groups.report.contact import ContactReader, contact_person, read_phones_and_email
from evergreen_groups.report.details import MemberDetails, ReportDetails
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import MailSettings

WANTED = Criteria(contact=True)
FAMILY, LEAD_ID, ADULT_ID = 1001, 1001, 1002
CHILDREN = (1003, 1004, 1005, 1006)
INVALID_DAY_PHONE, IN_COLLECTIONS, ALERT_NOTE = 32, 30, 20
CONSORTIUM, HARBOR = 1, 11
UNREACHABLE: dict[str, Any] = dict.fromkeys(("day_phone", "email", "mailing_address", "billing_address"))


def change(sandbox: Sandbox, patron: int, **fields: Any) -> None:
    sandbox._store.update("au", patron, fields)


def penalize(sandbox: Sandbox, patron: int, kind: int, org_unit: int = CONSORTIUM, **fields: Any) -> None:
    row = {"usr": patron, "standing_penalty": kind, "org_unit": org_unit, "staff": 4}
    sandbox._store.insert("ausp", {"set_date": "2026-09-03T10:00:00+0000", **row, **fields})


def read(sandbox: Sandbox | FaultProxy, criteria: Criteria = WANTED) -> Report:
    with gateway_of(sandbox.url, "consortium_staff") as gateway:
        return build_report(gateway, criteria)


def contact(sandbox: Sandbox) -> Contact:
    contacts = read(sandbox).contacts
    assert contacts is not None
    return contacts[FAMILY]


@pytest.fixture
def family(sandbox: Sandbox) -> Sandbox:
    change(sandbox, LEAD_ID, day_phone="555-0100", email="lead@example.org", pref_first_given_name="Chi")
    return sandbox


def test_the_lead_is_contacted_by_the_preferred_name(family: Sandbox) -> None:
    found = contact(family)
    assert (found.patron, found.role) == (LEAD_ID, LEAD)
    assert found.name == "Okonkwo, Chi"
    assert (found.day_phone, found.email) == ("555-0100", "lead@example.org")
    assert found.address.startswith("14 Harbor Street, Lakeland, MN 55555")


@pytest.mark.parametrize("fields", [{"juvenile": "t"}, UNREACHABLE])
def test_an_adult_is_contacted_instead_of_such_a_lead(family: Sandbox, fields: dict[str, Any]) -> None:
    change(family, LEAD_ID, **fields)
    change(family, ADULT_ID, evening_phone="555-0200")
    found = contact(family)
    assert (found.patron, found.role, found.evening_phone) == (ADULT_ID, ADULT, "555-0200")


def test_an_adult_lead_stays_if_no_adult_can_be_reached(family: Sandbox) -> None:
    for patron in (LEAD_ID, ADULT_ID):
        change(family, patron, **UNREACHABLE)
    change(family, CHILDREN[0], guardian="Ada Okonkwo", guardian_email="ada@example.org")
    found = contact(family)
    assert (found.patron, found.role, found.email) == (LEAD_ID, LEAD, "")
    [said] = lxml.html.document_fromstring(written(read(family), "html")).xpath(
        f"//tbody[tr/th='{FAMILY}']//small[@class='contact']"
    )
    assert said.text_content() == "Contact: Okonkwo, Chi (group lead) · no phone, e-mail or address on record"


def test_never_a_juvenile_but_their_guardian(family: Sandbox) -> None:
    for patron in (LEAD_ID, ADULT_ID, *CHILDREN):
        change(family, patron, juvenile="t", guardian=None)
    assert contact(family).patron is None
    with gateway_of(family.url, "consortium_staff") as gateway:  # before 3.16, guardians have no email
        email = "ada@example.org" if "guardian_email" in gateway.idl("au")["au"].positions else ""
    change(family, LEAD_ID, guardian="Ada Okonkwo", **({"guardian_email": email} if email else {}))
    found = contact(family)
    assert (found.role, found.name, found.email, found.day_phone) == (GUARDIAN, "Ada Okonkwo", email, "")


@pytest.mark.parametrize("fields", [{"valid": "f"}, {"pending": "t"}])
def test_an_address_is_valid_and_not_pending_or_the_other_one(family: Sandbox, fields: dict[str, str]) -> None:
    store = family._store
    row = {"usr": LEAD_ID, "street1": "1 Old Road", "city": "Lakeland", "country": "USA", "post_code": "1"}
    flags = {"valid": "t", "pending": "f", "within_city_limits": "t", **fields}
    new = store.insert("aua", {**row, "state": None, **flags})
    change(family, LEAD_ID, mailing_address=new, billing_address=1001)
    assert contact(family).address.startswith("14 Harbor Street")
    change(family, LEAD_ID, billing_address=new)
    assert contact(family).address == ""


def test_what_is_marked_invalid_and_who_is_in_collections(family: Sandbox) -> None:
    change(family, LEAD_ID, day_phone=None)
    penalize(family, LEAD_ID, INVALID_DAY_PHONE)
    penalize(family, LEAD_ID, IN_COLLECTIONS, stop_date="2026-09-30T10:00:00+0000")  # archived
    found = contact(family)
    assert (found.invalid, found.in_collections) == (("day_phone",), False)
    penalize(family, CHILDREN[0], IN_COLLECTIONS)
    found = contact(family)
    assert found.in_collections
    assert found.collections_since is not None
    assert found.collections_since.isoformat().startswith("2026-09-03")


def test_the_penalty_that_a_library_uses_in_place_of_the_stock_one(family: Sandbox) -> None:
    penalize(family, LEAD_ID, ALERT_NOTE, HARBOR)
    assert not contact(family).in_collections
    name = "circ.custom_penalty_override.PATRON_IN_COLLECTIONS"
    family._store.insert("aous", {"name": name, "org_unit": HARBOR, "value": f'"{ALERT_NOTE}"'})
    assert contact(family).in_collections


@pytest.mark.differs("fields-of-3.16", reason="records have no e-mail address of a guardian")
def test_how_to_reach_the_contact_without_a_letter(family: Sandbox) -> None:
    ways = {"day_phone": "555-0100", "evening_phone": " 555-0101", "other_phone": "555-0102", "email": "l@example.org"}
    change(family, LEAD_ID, **ways, guardian_email="ada@example.org")
    with gateway_of(family.url, "consortium_staff") as gateway:
        found = read_phones_and_email(gateway, LEAD_ID)
        assert found == Contact(LEAD_ID, **{**ways, "evening_phone": "555-0101"})
        change(family, LEAD_ID, juvenile="t")
        assert read_phones_and_email(gateway, LEAD_ID) == Contact(LEAD_ID, role=GUARDIAN, email="ada@example.org")
        assert read_phones_and_email(gateway, 999_999) == Contact(999_999), "a record that the account can't see"


def test_addresses_are_read_only_of_those_who_may_be_the_contact(family: Sandbox, proxy: FaultProxy) -> None:
    row = {"usr": ADULT_ID, "street1": "1 Old Road", "city": "Lakeland", "country": "USA", "post_code": "1"}
    flags = {"valid": "t", "pending": "f", "within_city_limits": "t", "state": None}
    new = family._store.insert("aua", {**row, **flags})
    change(family, ADULT_ID, mailing_address=new)
    for phone, is_read in (("555-0100", False), (None, True)):
        change(family, LEAD_ID, day_phone=phone, email=None)
        before = len(proxy.calls)
        read(proxy)
        (asked,) = (call for call in proxy.calls[before:] if ".aua." in call.method)
        assert (str(new) in str(asked.parameters)) is is_read


def test_the_rule(sandbox: Sandbox) -> None:
    with gateway_of(sandbox.url, "consortium_staff") as gateway:

        @given(
            st.lists(
                st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.integers(0, 3)),
                min_size=1,
                max_size=5,
            )
        )
        def holds(drawn: list[tuple[bool, bool, bool, bool, int]]) -> None:
            contacts, states, members = ContactReader(gateway), {}, []
            for id, (juvenile, is_lead, reachable, guarded, owed) in enumerate(drawn, 1):
                record = {"day_phone": "555" if reachable else None, "guardian": "Secret" if guarded else None}
                contacts.add_person(id, juvenile, [record.get(name) for name in contacts.fields])
                states[id] = MemberDetails(None, None, PatronState(juvenile, barred=False, expired=False), "Patrons")
                members.append(member(id, "n", f"{owed}", group_lead=is_lead))
            group, details = Group(7, tuple(members)), ReportDetails(states, Profiles([]))
            found = contacts.of_group(group)
            adults = {id for id, (juvenile, *_) in enumerate(drawn, 1) if not juvenile}
            reachable_adults = {id for id in adults if drawn[id - 1][2]}
            if adults:
                assert found.patron in (reachable_adults or adults)
                assert contact_person(group, None, details).id in adults
            else:
                assert found.patron is None or (found.role, found.name) == (GUARDIAN, "Secret")
            if leads := [one.id for one in members if one.group_lead and one.id in (reachable_adults or adults)]:
                assert (found.patron, found.role) == (leads[0], LEAD)
            elif adults:
                most = max(one.own_fines for one in members if one.id in (reachable_adults or adults))
                assert group.members[(found.patron or 0) - 1].own_fines == most
            assert found.patron in (None, contact_person(group, found, details).id)

        holds()


def test_the_follow_up_s_contact_is_the_report_s(family: Sandbox) -> None:
    change(family, LEAD_ID, **UNREACHABLE)
    penalize(family, CHILDREN[0], IN_COLLECTIONS)
    report = read(family)
    assert report.contacts is not None
    listings = Run.of(report).listings
    assert {number: one.contact for number, one in listings.items()} == {
        number: one.patron for number, one in report.contacts.items()
    }
    assert (listings[FAMILY].contact, listings[FAMILY].in_collections) == (ADULT_ID, True)


def test_without_contact_data_it_is_no_juvenile_either_if_the_report_knows(family: Sandbox) -> None:
    change(family, LEAD_ID, juvenile="t")
    penalize(family, CHILDREN[0], IN_COLLECTIONS)
    found = Run.of(read(family, Criteria())).listings[FAMILY]
    assert (found.contact, found.in_collections) == (ADULT_ID, False)
    assert Run.of(read(family, Criteria(details=False))).listings[FAMILY].contact == LEAD_ID


def test_each_report_of_a_night_has_the_same_contact_person(family: Sandbox) -> None:
    change(family, LEAD_ID, **UNREACHABLE)
    with gateway_of(family.url, "consortium_staff") as gateway:
        without, shown = read_reports(gateway, [Criteria(), WANTED])
    assert without.contacts is None
    assert "contact_name" not in json.loads(written(without, "json"))["groups"][0]
    assert [Run.of(one).listings[FAMILY].contact for one in (without, shown)] == [ADULT_ID, ADULT_ID]


def test_a_report_of_some_libraries_is_for_their_staff(family: Sandbox) -> None:
    change(family, LEAD_ID, home_ou=12)
    report = read(family, replace(WANTED, orgs=("HARBOR",)))
    assert report.contacts is not None
    assert (report.contacts[FAMILY].withheld, report.contacts[FAMILY].email) == (True, "")
    assert Run.of(report).listings[FAMILY].contact == LEAD_ID
    assert "lead@example.org" not in written(report, "html") + written(report, "json") + written(report, "csv")


def test_a_guardian_s_name_is_for_the_juvenile_s_library(family: Sandbox) -> None:
    for patron in (LEAD_ID, ADULT_ID, *CHILDREN):
        change(family, patron, juvenile="t", guardian="Ada Okonkwo", guardian_email="ada@example.org", home_ou=12)
    change(family, CHILDREN[0], home_ou=HARBOR)
    report = read(family)
    found = libraries.for_libraries(report, ("HARBOR",)).contacts
    assert found is not None
    assert (found[FAMILY].role, found[FAMILY].name, found[FAMILY].email) == (GUARDIAN, "", "")
    assert Run.of(report).listings[FAMILY].contact == LEAD_ID


def test_it_is_in_page_spreadsheet_csv_and_json_and_never_in_mail(family: Sandbox) -> None:
    change(family, LEAD_ID, day_phone="+1 555-0100 x7", email="lead@example.org")
    penalize(family, CHILDREN[0], IN_COLLECTIONS)
    report = read(family)
    group = next(one for one in json.loads(written(report, "json"))["groups"] if one["group"] == FAMILY)
    assert (group["contact_name"], group["contact_role"], group["in_collections"]) == ("Okonkwo, Chi", "lead", True)
    rows = [row for row in csv.DictReader(io.StringIO(written(report, "csv"))) if row["group"] == str(FAMILY)]
    assert {row["contact_day_phone"] for row in rows} == {"'+1 555-0100 x7"}, "no formula"
    sheet = openpyxl.load_workbook(io.BytesIO(written_bytes(report, "xlsx")))["Groups"]
    heads, *cells = [[cell.value for cell in row] for row in sheet.iter_rows()]
    [row] = [row for row in cells if row[0] == FAMILY]
    assert row[heads.index("Daytime phone")] == "+1 555-0100 x7"
    tree = lxml.html.document_fromstring(written(report, "html"))
    [body] = tree.xpath(f"//tbody[tr/th='{FAMILY}']")
    assert body.xpath(".//small[@class='contact']/a/@href") == ["tel:+15550100;ext=7", "mailto:lead@example.org"]
    assert "in collections since 3 Sept 2026" in body.text_content()
    assert "collections" in body.get("data-is")
    mail = MailSettings(
        host="localhost", sender="g@b.example", recipients=(("*", ("a@b.example",)),), names_in_mail=True, attach="csv"
    )
    [message] = messages(report, mail)
    [attached] = message_from_bytes(bytes(message), policy=SMTP).iter_attachments()
    assert "Okonkwo" in attached.get_content()
    assert not {"lead@example.org", "0100", "2026-09-03"} & {*re.split(r"[\s,;<>-]+", attached.get_content())}
    assert "lead@example.org" not in attached.get_content() + str(message.get_body(("html",)))


def test_readers_of_a_library_see_how_to_reach_its_own_patrons_only(family: Sandbox) -> None:
    report = read(family)
    at_home = libraries.for_libraries(report, ("HARBOR",)).contacts
    assert at_home is not None
    assert at_home[FAMILY].day_phone == "555-0100"
    change(family, LEAD_ID, home_ou=12)
    elsewhere = libraries.for_libraries(read(family), ("HARBOR",))
    assert elsewhere.contacts is not None
    found = elsewhere.contacts[FAMILY]
    assert (found.name, found.withheld) == ("Okonkwo, Chi", True)
    assert (found.day_phone, found.email, found.address) == ("", "", "")
    assert "how to reach them" in written(elsewhere, "html")


def test_at_most_four_more_calls_and_none_without_contact_data(proxy: FaultProxy) -> None:
    methods: list[list[str]] = []
    for criteria in (Criteria(), WANTED):
        before = len(proxy.calls)
        with gateway_of(proxy.url, "consortium_staff") as gateway:
            build_report(gateway, criteria)
        methods.append([call.method for call in proxy.calls[before:]])
    without, with_contacts = methods
    added = Counter(with_contacts) - Counter(without)
    assert added == {"open-ils.actor.settings.value_for_all_orgs.atomic": 1, "open-ils.pcrud.search.aua.atomic": 1}
    assert not Counter(without) - Counter(with_contacts)
    assert not [name for name in without if ".aua." in name]


@pytest.mark.parametrize("release", ["3.12", "3.17"])
def test_at_most_four_more_calls_for_a_thousand_groups(release: str) -> None:
    """Also where permissions are checked row by row, so lists are short, and if no lead has a phone or an e-mail."""
    counts = []
    with Sandbox(patrons=26_000, listed_groups=1000, release=release) as running:
        username, _password = running.report_account
        for criteria in (Criteria(), WANTED):
            with gateway_of(running.url, username) as gateway:
                report = build_report(gateway, criteria)
                counts.append(gateway.statistics.calls)
        for member in {group.lead.id for group in report.groups}:
            change(running, member, **dict.fromkeys(("day_phone", "evening_phone", "other_phone", "email")))
        with gateway_of(running.url, username) as gateway:
            build_report(gateway, WANTED)
            counts.append(gateway.statistics.calls)
    assert report.totals.group_count >= 1000
    assert max(counts) <= counts[0] + 4
