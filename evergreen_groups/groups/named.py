"""The people whom somebody has named, and everybody of their groups, with all their cards."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from evergreen_groups.errors import DataError, PermissionDeniedError, PlanError
from evergreen_groups.gateway import columns
from evergreen_groups.groups.barcodes import all_spellings, first_spelled, spellings
from evergreen_groups.groups.contacts import CONTACT_FIELDS, Contacts, read_contacts
from evergreen_groups.groups.hidden import (
    HiddenMembers,
    are_the_members,
    find_hidden_of_few,
    members_not_asked_for,
    read_balances,
    read_member_ids,
)
from evergreen_groups.groups.models import Group, Member
from evergreen_groups.groups.patron_record import read_card_owner, read_patron
from evergreen_groups.groups.reader import MEMBER_FIELDS, Card, Membership, MembershipReader

if TYPE_CHECKING:
    from decimal import Decimal

    from evergreen_groups.gateway import Gateway, Record

Query = dict[str, Any]

# A barcode stands in the question twice, percent-encoded: with so many characters it stays below the gateway's 32 kB.
_AT_ONCE, _CHARACTERS_AT_ONCE = 200, 8_000
# With their cards these are under a megabyte.
_ROWS_AT_ONCE = 1_000
_FIELDS = (*MEMBER_FIELDS, *CONTACT_FIELDS)
_GROUP, _DELETED = map(MEMBER_FIELDS.index, ("usrgroup", "deleted"))


@dataclass(frozen=True, slots=True)
class Person:
    """A patron's ``MEMBER_FIELDS`` and ``CONTACT_FIELDS`` in one row, and their cards."""

    row: tuple[Any, ...]
    cards: Sequence[Record]

    @property
    def id(self) -> int:
        """The patron's id."""
        return int(self.row[0])

    @property
    def group(self) -> int:
        """The number of their group."""
        return int(self.row[_GROUP])

    @property
    def deleted(self) -> bool:
        """Whether they have been deleted."""
        return bool(self.row[_DELETED])

    def in_group(self, number: int) -> Person:
        """The same in the group with this number."""
        return replace(self, row=tuple(number if at == _GROUP else value for at, value in enumerate(self.row)))

    def as_written(self, record: Record) -> Person:
        """The same with what stands in a record."""
        return replace(self, row=next(columns([record], *_FIELDS)))


def read_people(gateway: Gateway, conditions: Sequence[Mapping[str, Any]]) -> dict[int, Person]:
    """Those whom some conditions name, and the members of their groups, by id.

    A condition has one of ``id``, ``barcode`` and ``group``. One call for up to 200 of them.
    """
    found = gateway.map(lambda portion: _people(gateway, portion), _portions(conditions))
    return {person.id: person for person in chain.from_iterable(found)}


def _portions(conditions: Sequence[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """The conditions in as few questions as may be."""
    portion: list[Mapping[str, Any]] = []
    length = 0
    for condition in conditions:
        more = len(quote(str(condition.get("barcode", ""))))
        if portion and (len(portion) == _AT_ONCE or length + more > _CHARACTERS_AT_ONCE):
            yield portion
            portion, length = [], 0
        portion.append(condition)
        length += more
    if portion:
        yield portion


def _people(gateway: Gateway, named: Sequence[Mapping[str, Any]]) -> list[Person]:
    """Those whom some conditions name, and the members of their groups (``desk-010``)."""
    gateway.idl("au", "ac", "mous", "aua")  # in one go, with what is read next
    queries = list(_queries(named))
    everybody = {"id": {"in": {"union": queries} if len(queries) > 1 else queries[0]}}  # a union of one is refused
    # All of their cards, for it may be an old one that somebody was named by. They are small.
    pages = gateway.pcrud.pages(
        "au",
        everybody,
        select=_FIELDS,
        flesh=1,
        flesh_fields={"au": ("cards",)},
        page_size=_ROWS_AT_ONCE,
        concurrency=1,
    )
    return [
        Person(row, _cards_of(record))
        for page in pages
        for record, row in zip(page, columns(page, *_FIELDS), strict=True)
    ]


def _cards_of(record: Record) -> Sequence[Record]:
    cards = record.cards
    # A list even where there is none (oils_sql.c, doFieldmapperSearch).
    if not isinstance(cards, list) or any(card.usr != record.id for card in cards):
        raise DataError(
            "the ILS gave no list of a patron's cards, or another patron's",
            advice="look at the proxy, where there is one: it may have mixed up answers",
            code="cards-broken",
        )
    return cards


def _queries(named: Sequence[Mapping[str, Any]]) -> Iterator[Query]:
    """Queries for ids, of which PostgreSQL takes each by its own index; in an "or" it would look at every patron."""
    ids, barcodes, groups = ([it[kind] for it in named if kind in it] for kind in ("id", "barcode", "group"))
    if ids:
        yield _ids({"id": ids})
        yield _ids({"deleted": "f", "usrgroup": {"in": _ids({"id": ids}, "usrgroup")}})
    if barcodes:
        owners = {"select": {"ac": ["usr"]}, "from": "ac", "where": {"barcode": barcodes}}
        yield _ids({"id": {"in": owners}})
        yield _ids({"deleted": "f", "usrgroup": {"in": _ids({"id": {"in": owners}}, "usrgroup")}})
    if groups:
        yield _ids({"deleted": "f", "usrgroup": groups})


def _ids(where: Query, column: str = "id") -> Query:
    return {"select": {"au": [column]}, "from": "au", "where": where}


_MOST_READINGS = 3


@dataclass(frozen=True, slots=True)
class CurrentPeople:
    """``people`` (by id) with their groups and marks now, and the ids of the ``members`` of groups (numbers)."""

    people: Mapping[int, Person]
    members: Mapping[int, frozenset[int]]


def read_owners(gateway: Gateway, barcodes: Iterable[str]) -> dict[str, tuple[int, bool]]:
    """Whose each card is (a patron's id), and whether it is active; one call for each spelling of a barcode."""
    found = {}
    for barcode in barcodes:
        owners = (read_card_owner(gateway, spelling) for spelling in spellings(barcode))
        owner = next((owner for owner in owners if owner is not None), None)
        if owner is not None:
            found[barcode] = owner
    return found


def read_current(
    gateway: Gateway, people: Mapping[int, Person], named: Collection[int], groups: Collection[int]
) -> CurrentPeople:
    """What a copy says of ``people``, put right: the ``named`` (ids), and everybody of their groups and of ``groups``.

    One call for each of the named and each group, and one or two for those whom the copy has elsewhere.

    Raises:
        DataError: the copy doesn't have one of the named yet, or somebody is being moved all the time.
        PermissionDeniedError: the account may see no patrons at its own library.
    """
    wanted = sorted(named)
    for _ in range(_MOST_READINGS):
        read = zip(wanted, gateway.map(partial(read_patron, gateway), wanted), strict=True)
        records = {id: record for id, record in read if record is not None}
        if not records.keys() <= people.keys():
            raise not_copied_yet()
        numbers = {int(record.usrgroup) for record in records.values()}.union(groups)
        # Whom pcrud shows and this method doesn't: the session's own user, where it may look at nobody at home.
        numbers |= {people[id].group for id in people.keys() & set(wanted) - records.keys()}
        members = read_members(gateway, numbers)
        if _agree(records, members):
            return CurrentPeople(_put_right(gateway, people, records, members), members)
    raise members_not_asked_for()


def read_members(gateway: Gateway, groups: Collection[int], *, apart: bool = False) -> dict[int, frozenset[int]]:
    """The ids of everybody in each group now, by number; one call for each, ``apart`` as for :func:`read_member_ids`.

    Raises:
        PermissionDeniedError: the account has no VIEW_USER at its own library.
    """
    # Group by group: of all of them together nobody would see who has gone from one to another.
    numbers = sorted(groups)
    found = gateway.map(lambda group: read_member_ids(gateway, [group], current=True, apart=apart), numbers)
    return dict(zip(numbers, found, strict=True))


def find_hidden_now(
    gateway: Gateway, members: Mapping[int, frozenset[int]], visible: Mapping[int, Set[int]]
) -> dict[int, HiddenMembers]:
    """The ``members`` (ids by group) who aren't ``visible``, and what they owe.

    As elsewhere they are held against the groups by a query. A copy that is behind says no to that; then they are read
    again, and have to be the same.

    Raises:
        DataError: they aren't.
    """
    hidden = {group: ids - visible.get(group, set()) for group, ids in members.items()}
    hidden = {group: ids for group, ids in hidden.items() if ids}
    if not hidden:
        return {}
    groups = sorted(hidden)
    owed = _balances(gateway, groups)
    everybody = frozenset[int]().union(*(members[group] for group in groups))
    if owed is not None and not owed.keys() <= everybody:
        raise members_not_asked_for()
    owing_nothing = frozenset[int]().union(*hidden.values()) - owed.keys() if owed is not None else frozenset[int]()
    if not are_the_members(gateway, groups, hidden, len(everybody), owing_nothing=owing_nothing):
        again = read_members(gateway, groups, apart=True)
        if _balances(gateway, groups, apart=True) != owed or any(again[group] != members[group] for group in groups):
            raise members_not_asked_for()
    return {group: HiddenMembers.of(ids, owed) for group, ids in hidden.items()}


def not_copied_yet() -> DataError:
    """The error for somebody whom the database has that is written to, and the copy that is read doesn't."""
    return DataError(
        "the copy of the ILS's database that is read doesn't have this patron yet",
        advice="try again in a few seconds",
        code="not-copied-yet",
    )


def _agree(records: Mapping[int, Record], members: Mapping[int, Set[int]]) -> bool:
    """Whether everybody is among the members of their group; not where somebody was moved between two looks."""
    return all((id in members[int(record.usrgroup)]) is not bool(record.deleted) for id, record in records.items())


def _put_right(
    gateway: Gateway,
    people: Mapping[int, Person],
    records: Mapping[int, Record],
    members: Mapping[int, frozenset[int]],
) -> dict[int, Person]:
    """The people without those who have left these groups, and with those who have come."""
    everybody = frozenset[int]().union(*members.values())
    elsewhere = sorted(everybody - people.keys())
    come = read_people(gateway, [{"id": id} for id in elsewhere]) if elsewhere else {}
    found: dict[int, Person] = {}
    for id, person in {**{id: come[id] for id in elsewhere if id in come}, **people}.items():
        record = records.get(id)
        now = person if record is None else person.as_written(record)
        number = next((number for number, ids in members.items() if id in ids), None)
        if number is not None:
            found[id] = now.in_group(number)
        elif record is not None or now.group not in members:
            found[id] = now
    return found


def _balances(gateway: Gateway, groups: list[int], *, apart: bool = False) -> Mapping[int, Decimal] | None:
    try:
        return read_balances(gateway, *groups, current=True, apart=apart)
    except PermissionDeniedError:  # the ids may be had and the balances not: unknown then, never nought
        return None


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
    reads_replicas = gateway.reads_replicas
    if reads_replicas:
        owners |= read_owners(gateway, (barcode for barcode in barcodes if barcode not in owners))
    if active_cards and not all(named in owners and owners[named][1] for named in wanted if isinstance(named, str)):
        raise PlanError(
            "a barcode isn't that of an active card of a visible patron",
            advice="look up whose it is",
            code="no-active-card",
        )
    named = {*ids, *(patron for patron, _active in owners.values())}
    members: Mapping[int, frozenset[int]] | None = None
    if reads_replicas:
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


_CARD_FIELDS = ("id", "usr", "barcode", "active")


def find_card(gateway: Gateway, barcode: str, *, with_patron: bool = False) -> Record | None:
    """The card (``ac``) with this barcode, blanks in it ignored, be it active or not.

    None where there is none, or its patron is hidden. ``with_patron`` has the whole record of its ``usr`` in place of
    the id, and of the card all fields.
    """
    wanted = list(spellings(barcode))
    if not wanted:
        return None
    found = gateway.pcrud.search(
        "ac",
        {"barcode": wanted if len(wanted) > 1 else wanted[0]},
        select=None if with_patron else _CARD_FIELDS,
        flesh=1 if with_patron else None,
        flesh_fields={"ac": ("usr",)} if with_patron else None,
        limit=len(wanted),
    )
    return first_spelled(barcode, {card.barcode: card for card in found})


def find_owner(gateway: Gateway, barcode: str) -> int | None:
    """Whose card (a patron's id) has this barcode, as :func:`find_card` finds it, or one that no copy knows yet."""
    card = find_card(gateway, barcode)
    if card is not None:
        return int(card.usr)
    if not gateway.reads_replicas:
        return None
    owner = read_owners(gateway, [barcode]).get(barcode)
    return None if owner is None else owner[0]
