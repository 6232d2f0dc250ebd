"""Contact data, and what patrons have in common."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from support.gateways import gateway_of
from support.patron_records import read_contact_records
from support.recorded import gateway_of as recorded_gateway_of
from support.recorded import payload

from evergreen_groups.gateway import Gateway
from evergreen_groups.groups import Patron
from evergreen_groups.groups.contacts import Contacts, Relations, read_contacts
from evergreen_groups.ils import OrgUnit
from evergreen_groups.sandbox import Sandbox

HARBOR_STREET = ("14harborstreet", "55555")


def contacts_of(gateway: Gateway, *patrons: int) -> dict[int, Contacts]:
    return read_contacts(gateway, read_contact_records(gateway, patrons))


def update(sandbox: Sandbox, patron: int, **values: object) -> None:
    sandbox._store.update("au", patron, values)


def test_as_a_real_evergreen_has_them() -> None:
    with recorded_gateway_of("family-006", "family-005", alike=False) as gateway:
        found = contacts_of(gateway, *range(5001, 5053))
    assert found[5001].addresses == {("12rúanova", "45501")}
    assert not any(contacts.lenders or contacts.hidden_lender for contacts in found.values())


def test_address_rows_of_others_as_a_real_evergreen_has_them() -> None:
    with recorded_gateway_of("contacts-001", "contacts-002") as gateway:
        found = contacts_of(gateway, *range(301, 317))
    assert {id: set(theirs.lenders) for id, theirs in found.items() if theirs.lenders} == {
        302: {301},
        303: {301},
        305: {304},
        307: {301},
        311: {310},
        312: {304, 310},
        315: {314},
        316: {313},
    }
    assert not any(theirs.hidden_lender for theirs in found.values())
    assert found[302].phones == {"5550107302", "5550107301"}
    assert found[305].emails == {"edda@example.org"}
    assert found[303].addresses == {("3lanternrow", "45501")}


def test_a_row_of_somebody_hidden_is_missing_at_a_real_evergreen() -> None:
    with recorded_gateway_of("contacts-008", "contacts-009") as gateway:
        found = contacts_of(gateway, *range(301, 317))
    assert not {306, 308, 310} & set(found)
    assert [id for id, theirs in found.items() if theirs.hidden_lender] == [311, 312]
    assert found[312].lenders == {304}


@pytest.mark.parametrize(
    ("older", "exchange_id"), [("3.12/family-005", "family-005"), ("3.12/family-006", "family-006")]
)
def test_an_older_release_answers_the_same(older: str, exchange_id: str) -> None:
    assert payload(older) == payload(exchange_id)


def test_hidden_patrons_and_their_rows_are_missing_without_a_word() -> None:
    with recorded_gateway_of("family-022", alike=False) as gateway:
        assert read_contact_records(gateway, range(5001, 5053)) == {}
    with recorded_gateway_of("family-021", alike=False) as gateway:
        (borrower,) = read_contacts(gateway, {5001: (9001, None, None, None, None, None, None)}).values()
    assert (borrower.lenders, borrower.hidden_lender) == (frozenset(), True)


def test_whose_address_a_record_uses(sandbox: Sandbox, staff: Gateway) -> None:
    update(sandbox, 1004, mailing_address=1001, billing_address=1001)
    found = contacts_of(staff, 1001, 1003, 1004)
    assert (found[1004].lenders, found[1004].addresses) == ({1001}, {HARBOR_STREET})
    assert (found[1001].lenders, found[1001].addresses) == (frozenset(), {HARBOR_STREET})
    assert (found[1003].lenders, found[1003].addresses) == (frozenset(), frozenset())


def test_a_lender_who_is_hidden(sandbox: Sandbox) -> None:
    update(sandbox, 1004, billing_address=1012)  # of Mill, which the manager of the north doesn't see
    with gateway_of(sandbox.url, "north_manager") as gateway:
        (found,) = contacts_of(gateway, 1004).values()
    assert (found.lenders, found.hidden_lender) == (frozenset(), True)


@pytest.mark.parametrize(
    ("written", "phones"),
    [("(555) 010-7788", {"5550107788"}), ("none", set()), ("x204", set()), ("000-000-0000", set()), (None, set())],
)
def test_phones_are_digits(sandbox: Sandbox, staff: Gateway, written: str | None, phones: set[str]) -> None:
    update(sandbox, 1004, evening_phone=written)
    assert contacts_of(staff, 1004)[1004].phones == phones


@pytest.mark.parametrize(("written", "emails"), [(" A.B@Example.org", {"a.b@example.org"}), ("none", set())])
def test_emails(sandbox: Sandbox, staff: Gateway, written: str, emails: set[str]) -> None:
    update(sandbox, 1004, email=written)
    assert contacts_of(staff, 1004)[1004].emails == emails


@pytest.mark.differs("no-count", reason="lists name fewer ids where each row is looked up by itself")
def test_many_are_read_in_few_calls(staff: Gateway) -> None:
    records = dict.fromkeys(range(1, 2001), (1001, 1012, None, None, None, None, None))
    contacts_of(staff, 1001)
    before = staff.statistics.calls
    assert read_contacts(staff, records)[7].lenders == {1001, 1012}
    assert staff.statistics.calls - before <= 3
    assert read_contacts(staff, {}) == {}


NOW = datetime(2026, 3, 2, 10, tzinfo=UTC)
ELM, OAK = ("1elmst", "55555"), ("2oakrd", "55555")


def patron(id: int, surname: str = "", library: int = 0) -> Patron:
    unit = OrgUnit(library or id, f"L{library or id}", "", None)
    return Patron(id, 1, f"{surname}, N", surname or f"S{id}", None, unit, 2, group_lead=False)


def test_what_two_have_in_common() -> None:
    contacts = {
        1: Contacts(frozenset({ELM}), frozenset({"5550107788"}), frozenset({"a@example.org"})),
        2: Contacts(frozenset({ELM, OAK}), frozenset({"5550107788"}), frozenset({"a@example.org"})),
    }
    relations = Relations([patron(1, "Berg ", 7), patron(2, "BERG", 7), patron(3)], contacts)
    assert relations.shared(1, [2, 3]) == {"surname", "address", "phone", "email", "library"}
    assert relations.shared(1, [1, 3]) == set()
    assert relations.strangers([1, 2, 3]) == [3]
    assert relations.strangers([1]) == []


def test_blanks_are_nothing_to_have_in_common() -> None:
    unit = [OrgUnit(id, "", "", None) for id in (1, 2)]
    nameless = [Patron(id, 1, "", " ", None, unit[id - 1], 2, group_lead=False) for id in (1, 2)]
    assert Relations(nameless, {}).shared(1, [2]) == set()


def test_families_are_joined_by_whoever_shares_with_both() -> None:
    contacts = {2: Contacts(frozenset({ELM})), 3: Contacts(frozenset({ELM}))}
    people = [patron(1, "Aas"), patron(2, "Aas"), patron(3, "Berg"), patron(4, "Berg"), patron(5, "Dahl", 1), patron(6)]
    assert Relations(people, contacts).families([6, 5, 4, 3, 2, 1]) == [(1, 2, 3, 4), (5,), (6,)]


def test_a_library_makes_no_family() -> None:
    relations = Relations([patron(1, library=7), patron(2, library=7)], {})
    assert (relations.families([1, 2]), relations.strangers([1, 2])) == ([(1,), (2,)], [])


def test_what_all_of_them_share() -> None:
    relations = Relations([patron(1, "Aas"), patron(2, "Aas"), patron(3, "Berg")], {})
    assert relations.in_common([1, 2, 3]) == {1: {"surname"}, 2: {"surname"}, 3: set()}
    assert relations.in_common([1, 3]) == {1: set(), 3: set()}


@pytest.mark.parametrize(
    ("hours", "surname", "is_clone"), [(1, "Berg", True), (24, "Berg", True), (25, "Berg", False), (1, "Aas", False)]
)
def test_a_clone_is_made_within_a_day_and_shares_the_address_alone(hours: int, surname: str, is_clone: bool) -> None:
    contacts = {
        1: Contacts(frozenset({ELM}), created=NOW),
        2: Contacts(frozenset({ELM}), created=NOW + timedelta(hours=hours), lenders=frozenset({1})),
    }
    relations = Relations([patron(1, "Aas"), patron(2, surname)], contacts)
    assert relations.cloned([1, 2]) == ([2] if is_clone else [])
    assert relations.cloned([2]) == []
