"""What patrons have in common."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from evergreen_groups.groups import Patron, Relations
from evergreen_groups.groups.contacts import Contacts
from evergreen_groups.ils import OrgUnit

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
