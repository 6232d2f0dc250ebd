"""Patrons who were named, with everybody of their groups: what a plan is made from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from evergreen_groups.errors import DataError, PlanError
from evergreen_groups.gateway import columns
from evergreen_groups.groups.barcodes import all_spellings, first_spelled
from evergreen_groups.groups.contacts import CONTACT_FIELDS, Contacts, read_contacts
from evergreen_groups.groups.hidden_of_few import find_hidden_of_few
from evergreen_groups.groups.membership import (
    MEMBER_FIELDS,
    Card,
    Membership,
    MembershipReader,
)
from evergreen_groups.groups.models import Group, Member

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway, Record

PatronReference = str | int
"""Somebody's barcode, in which blanks are ignored, or their id."""

Query = dict[str, Any]

# A barcode stands in the question twice, percent-encoded: with so many characters it stays below the gateway's 32 kB.
_AT_ONCE, _CHARACTERS_AT_ONCE = 200, 8_000
# With their cards these are under a megabyte.
_ROWS_AT_ONCE = 1_000


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
    With ``active_cards`` it is one where a barcode is that of no active card.

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
    found = gateway.map(lambda portion: _people(gateway, portion), _portions(conditions))
    people = {person.id: person for person in chain.from_iterable(found)}
    owners = _owners(people.values(), barcodes)
    if active_cards and not all(named in owners and owners[named][1] for named in wanted if isinstance(named, str)):
        raise PlanError(
            "a barcode isn't that of an active card of a visible patron",
            advice="look up whose it is",
            code="no-active-card",
        )
    named = {*ids, *(patron for patron, _active in owners.values())}
    # Subqueries see everybody (pcrud-141): somebody hidden who was named leads to nobody else all the same.
    concerned = {person.group for id, person in people.items() if id in named}.union(groups)
    about = [person for person in people.values() if person.group in concerned]
    membership, contacts = _completed(gateway, reader, about, set(groups), with_contacts)
    return Surroundings(_cards(membership, ids, owners), membership, contacts)


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


@dataclass(frozen=True, slots=True)
class _Person:
    """A patron's ``_FIELDS``, and cards."""

    row: tuple[Any, ...]
    cards: Sequence[Record]

    @property
    def id(self) -> int:
        return int(self.row[0])

    @property
    def group(self) -> int:
        return int(self.row[_GROUP])

    @property
    def deleted(self) -> bool:
        return bool(self.row[_DELETED])


def _owners(people: Iterable[_Person], barcodes: Collection[str]) -> dict[str, tuple[int, bool]]:
    """Whose each card is (a patron's id), and whether it is active; unknown barcodes are left out."""
    cards = {card.barcode: (person.id, bool(card.active)) for person in people for card in person.cards}
    known = ((barcode, first_spelled(barcode, cards)) for barcode in barcodes)
    return {barcode: owner for barcode, owner in known if owner is not None}


def _people(gateway: Gateway, named: Sequence[Mapping[str, Any]]) -> list[_Person]:
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
        _Person(row, _cards_of(record))
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


def _completed(
    gateway: Gateway,
    reader: MembershipReader,
    people: Sequence[_Person],
    groups: set[int],
    with_contacts: bool,
) -> tuple[Membership, Mapping[int, Contacts]]:
    """What stands about people, and the hidden members of all groups that they are in."""
    by_group: dict[int, set[int]] = {number: set() for number in groups}
    for person in people:
        members = by_group.setdefault(person.group, set())
        if not person.deleted:
            members.add(person.id)
    barcodes = {card.id: card.barcode for person in people for card in person.cards}
    records = {person.id: person.row[len(MEMBER_FIELDS) :] for person in people}

    def org_units() -> list[int]:
        return [unit.id for unit in reader.org_units]

    reads: tuple[Callable[[], Any], ...] = (
        lambda: reader.completed((person.row for person in people), barcodes),
        lambda: find_hidden_of_few(gateway, by_group, org_units) if by_group else {},
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


_FIELDS = (*MEMBER_FIELDS, *CONTACT_FIELDS)
_GROUP, _DELETED = MEMBER_FIELDS.index("usrgroup"), MEMBER_FIELDS.index("deleted")
