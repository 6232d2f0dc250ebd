"""Patrons who were named, with everybody of their groups: what a plan is made from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evergreen_groups.errors import PlanError
from evergreen_groups.groups.barcodes import all_spellings, first_spelled
from evergreen_groups.groups.contacts import Contacts, read_contacts
from evergreen_groups.groups.current_people import find_hidden_now, read_current, read_owners
from evergreen_groups.groups.hidden_of_few import find_hidden_of_few
from evergreen_groups.groups.membership import (
    MEMBER_FIELDS,
    Card,
    Membership,
    MembershipReader,
)
from evergreen_groups.groups.models import Group, Member
from evergreen_groups.groups.people import read_people

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups.hidden_members import HiddenMembers
    from evergreen_groups.groups.people import Person

PatronReference = str | int
"""Somebody's barcode, in which blanks are ignored, or their id."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known of those who were named, and of everybody in their groups.

    ``cards`` has the visible ones of them by how they were named, ``membership`` these and everybody of their groups,
    ``contacts`` how each of them is reached, where that was asked for.
    """

    cards: Mapping[PatronReference, Card]
    membership: Membership
    contacts: Mapping[int, Contacts]


def read_surroundings(
    gateway: Gateway,
    reader: MembershipReader,
    references: Iterable[PatronReference],
    groups: Collection[int] = (),
    *,
    with_contacts: bool = False,
    active_cards: bool = False,
) -> Surroundings:
    """Read the named patrons, everybody of their groups, and of these ``groups`` as well.

    In two stages, whatever the size of the groups: who they are, with their cards, and beside one another what they
    owe, who is in the groups, and how they are reached, where that is asked for. For up to 200 of them that is four
    calls, and where members are hidden, two more after these (:func:`find_hidden_of_few` says where it is more).
    With ``active_cards`` it is one where a barcode is that of no active card. Where plain reads come from copies of the
    database, :func:`read_current` is asked as well.

    Raises:
        PlanError: that is so.
        PermissionDeniedError: the account may see no patrons at its own library.
    """
    wanted = list(dict.fromkeys(references))
    barcodes = [named for named in wanted if isinstance(named, str)]
    ids = [named for named in wanted if isinstance(named, int)]
    conditions = (
        [{"id": id} for id in ids]
        + [{"barcode": it} for it in all_spellings(barcodes)]
        + [{"group": it} for it in groups]
    )
    people: Mapping[int, Person] = read_people(gateway, conditions)
    owners = _owners(people.values(), barcodes)
    reads_copies = gateway.reads_copies
    if reads_copies:
        owners |= read_owners(gateway, (barcode for barcode in barcodes if barcode not in owners))
    if active_cards and not all(named in owners and owners[named][1] for named in wanted if isinstance(named, str)):
        raise PlanError(
            "a barcode isn't that of an active card of a visible patron",
            advice="look up whose it is",
            code="no-active-card",
        )
    named = {*ids, *(patron for patron, _active in owners.values())}
    members: Mapping[int, frozenset[int]] | None = None
    if reads_copies:
        if not named <= people.keys():  # a copy knows the patron, but not the new card
            people = {**read_people(gateway, [{"id": id} for id in named - people.keys()]), **people}
        current = read_current(gateway, people, named, groups)
        people, members = current.people, current.members
    # Subqueries see everybody (pcrud-141): somebody hidden who was named leads to nobody else all the same.
    concerned = {person.group for id, person in people.items() if id in named}.union(groups)
    about = [person for person in people.values() if person.group in concerned]
    membership, contacts = _completed(gateway, reader, about, set(groups), members, with_contacts)
    return Surroundings(_cards(membership, ids, owners), membership, contacts)


def _owners(people: Iterable[Person], barcodes: Collection[str]) -> dict[str, tuple[int, bool]]:
    """Whose each card is (a patron's id), and whether it is active; unknown barcodes are left out."""
    cards = {card.barcode: (person.id, bool(card.active)) for person in people for card in person.cards}
    known = ((barcode, first_spelled(barcode, cards)) for barcode in barcodes)
    return {barcode: owner for barcode, owner in known if owner is not None}


def _completed(
    gateway: Gateway,
    reader: MembershipReader,
    people: Sequence[Person],
    groups: set[int],
    everybody: Mapping[int, frozenset[int]] | None,
    with_contacts: bool,
) -> tuple[Membership, Mapping[int, Contacts]]:
    """What stands about people, and the hidden members of all groups that they are in.

    ``everybody`` are the ids of all who are in these groups now, None where a plain read tells.
    """
    by_group: dict[int, set[int]] = {number: set() for number in groups}
    for person in people:
        members = by_group.setdefault(person.group, set())
        if not person.deleted:
            members.add(person.id)
    barcodes = {card.id: card.barcode for person in people for card in person.cards}
    records = {person.id: person.row[len(MEMBER_FIELDS) :] for person in people}

    def hidden_members() -> Mapping[int, HiddenMembers]:
        if everybody is not None:
            return find_hidden_now(gateway, everybody, by_group)
        return find_hidden_of_few(gateway, by_group, lambda: [unit.id for unit in reader.org_units])

    reads: tuple[Callable[[], Any], ...] = (
        lambda: reader.completed((person.row for person in people), barcodes, sorted(by_group)),
        lambda: hidden_members() if by_group else {},
        lambda: read_contacts(gateway, records) if with_contacts else {},
    )
    read, hidden, contacts = gateway.map(lambda read: read(), reads)
    members_of = {number: [read.members[id] for id in ids] for number, ids in by_group.items()}
    found = {number: Group.by_name(number, _in_order(of), hidden.get(number)) for number, of in members_of.items()}
    return Membership(read.members, read.accounts, found, read.own_fines), contacts


def _in_order(members: Iterable[Member]) -> list[Member]:
    return sorted(members, key=lambda member: member.id)


def _cards(
    membership: Membership, ids: Iterable[int], owners: Mapping[str, tuple[int, bool]]
) -> dict[PatronReference, Card]:
    found: dict[PatronReference, Card] = {}
    members, accounts = membership.members, membership.accounts
    for barcode, (patron, active) in owners.items():
        if patron in members:
            found[barcode] = Card(barcode, active, members[patron], accounts[patron])
    for id in ids:
        if id in members:
            found[id] = Card(members[id].barcode or "", True, members[id], accounts[id])
    return found
