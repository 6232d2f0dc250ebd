"""Read patrons named by barcode or id together with their whole groups and all cards."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from evergreen_groups.errors import DataError, PermissionDeniedError, PlanError
from evergreen_groups.gateway import columns
from evergreen_groups.groups.barcodes import all_spellings, first_match, spellings
from evergreen_groups.groups.contacts import CONTACT_FIELDS, Contacts, read_contacts
from evergreen_groups.groups.hidden import (
    HiddenMembers,
    find_hidden_with_ids,
    inconsistent_members,
    membership_holds,
    read_balances,
    read_member_ids,
)
from evergreen_groups.groups.models import Group
from evergreen_groups.groups.patron_record import read_card_owner, read_patron
from evergreen_groups.groups.reader import MEMBER_FIELDS, Card, Membership, MembershipReader

if TYPE_CHECKING:
    from decimal import Decimal

    from evergreen_groups.gateway import Gateway, Record

Query = dict[str, Any]

# A barcode occurs twice in the query, percent-encoded. This many characters stay below the gateway's 32 kB.
_AT_ONCE, _CHARACTERS_AT_ONCE = 200, 8_000
# A page with cards stays below a megabyte.
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
        """The number of the patron's group."""
        return int(self.row[_GROUP])

    @property
    def deleted(self) -> bool:
        """Whether the patron's record is deleted."""
        return bool(self.row[_DELETED])

    def in_group(self, number: int) -> Person:
        """Return the person in the group with this number."""
        return replace(self, row=tuple(number if at == _GROUP else value for at, value in enumerate(self.row)))

    def with_record(self, record: Record) -> Person:
        """Return the person with the fields of a newer record."""
        return replace(self, row=next(columns([record], *_FIELDS)))


def read_people(gateway: Gateway, conditions: Sequence[Mapping[str, Any]]) -> dict[int, Person]:
    """Read the patrons that match the conditions, and the members of their groups, by id.

    A condition has one of ``id``, ``barcode`` and ``group``. Takes one call for up to 200 conditions.
    """
    found = gateway.map(lambda batch: _people(gateway, batch), _in_batches(conditions))
    return {person.id: person for person in chain.from_iterable(found)}


def _in_batches(conditions: Sequence[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Split the conditions into as few queries as possible."""
    batch: list[Mapping[str, Any]] = []
    length = 0
    for condition in conditions:
        more = len(quote(str(condition.get("barcode", ""))))
        if batch and (len(batch) == _AT_ONCE or length + more > _CHARACTERS_AT_ONCE):
            yield batch
            batch, length = [], 0
        batch.append(condition)
        length += more
    if batch:
        yield batch


def _people(gateway: Gateway, named: Sequence[Mapping[str, Any]]) -> list[Person]:
    """Read the patrons that match the conditions, and the members of their groups (``desk-010``)."""
    gateway.idl("au", "ac", "mous", "aua")  # load them in one request, together with those needed next
    queries = list(_queries(named))
    # The ILS refuses a union of a single query.
    everybody = {"id": {"in": {"union": queries} if len(queries) > 1 else queries[0]}}
    # Read all cards, because the named barcode may be on an old one.
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
    # The ILS sends an empty list for no cards (oils_sql.c, doFieldmapperSearch).
    if not isinstance(cards, list) or any(card.usr != record.id for card in cards):
        raise DataError(
            "the ILS gave no list of a patron's cards, or another patron's",
            advice="look at the proxy, where there is one: it may have mixed up answers",
            code="cards-broken",
        )
    return cards


def _queries(named: Sequence[Mapping[str, Any]]) -> Iterator[Query]:
    """Yield queries for patron ids.

    Kept separate because PostgreSQL uses an index for each. With an "or" it would scan all patrons.
    """
    ids, barcodes, groups = (
        [condition[kind] for condition in named if kind in condition] for kind in ("id", "barcode", "group")
    )
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


_MAX_READINGS = 3


@dataclass(frozen=True, slots=True)
class PrimaryPeople:
    """``people`` by id as the primary database has them, and the ids of the ``members`` of each group."""

    people: Mapping[int, Person]
    members: Mapping[int, frozenset[int]]


def read_owners(gateway: Gateway, barcodes: Iterable[str]) -> dict[str, tuple[int, bool]]:
    """Find the owner (patron id) of each card, and whether the card is active.

    Takes one call per spelling of a barcode.
    """
    found = {}
    for barcode in barcodes:
        owners = (read_card_owner(gateway, spelling) for spelling in spellings(barcode))
        owner = next((owner for owner in owners if owner is not None), None)
        if owner is not None:
            found[barcode] = owner
    return found


def read_from_primary(
    gateway: Gateway, people: Mapping[int, Person], named: Collection[int], groups: Collection[int]
) -> PrimaryPeople:
    """Correct what a replica says about the ``named`` patrons (ids), their groups, and ``groups``.

    Takes one call for each named patron and each group, and one or two for members whom the replica has in other
    groups.

    Raises:
        DataError: the replica doesn't have one of the named patrons yet, or patrons keep being moved between reads.
        PermissionDeniedError: the account may not see patrons at its own library.
    """
    wanted = sorted(named)
    for _ in range(_MAX_READINGS):
        read = zip(wanted, gateway.map(partial(read_patron, gateway), wanted), strict=True)
        records = {id: record for id, record in read if record is not None}
        if not records.keys() <= people.keys():
            raise not_replicated_yet()
        numbers = {int(record.usrgroup) for record in records.values()}.union(groups)
        # pcrud always shows the session's own user, even without VIEW_USER at the user's library. read_patron doesn't.
        numbers |= {people[id].group for id in people.keys() & set(wanted) - records.keys()}
        members = read_members(gateway, numbers)
        if _agree(records, members):
            return PrimaryPeople(_apply_moves(gateway, people, records, members), members)
    raise inconsistent_members()


def read_members(
    gateway: Gateway, groups: Collection[int], *, own_connection: bool = False
) -> dict[int, frozenset[int]]:
    """Read the ids of all members of each group from the primary database, by group number. Takes one call per group.

    ``own_connection`` works as in :func:`read_member_ids`.

    Raises:
        PermissionDeniedError: the account has no VIEW_USER at its own library.
    """
    # A single call for all groups wouldn't show moves between them.
    numbers = sorted(groups)
    found = gateway.map(
        lambda group: read_member_ids(gateway, [group], primary=True, own_connection=own_connection), numbers
    )
    return dict(zip(numbers, found, strict=True))


def find_hidden_on_primary(
    gateway: Gateway, members: Mapping[int, frozenset[int]], visible: Mapping[int, Set[int]]
) -> dict[int, HiddenMembers]:
    """Find the ``members`` (ids by group) who aren't ``visible``, and what they owe, according to the primary database.

    A query on the replica verifies the list. It fails while the replica lags behind; then the lists are read again from
    the primary database and must be the same.

    Raises:
        DataError: the lists differ.
    """
    hidden = {group: ids - visible.get(group, set()) for group, ids in members.items()}
    hidden = {group: ids for group, ids in hidden.items() if ids}
    if not hidden:
        return {}
    groups = sorted(hidden)
    # Balances bypass visibility, so they can be summed up for members whose rows don't come back.
    owed = _balances(gateway, groups)
    everybody = frozenset[int]().union(*(members[group] for group in groups))
    if owed is not None and not owed.keys() <= everybody:
        raise inconsistent_members()
    owing_nothing = frozenset[int]().union(*hidden.values()) - owed.keys() if owed is not None else frozenset[int]()
    if not membership_holds(gateway, groups, hidden, len(everybody), owing_nothing=owing_nothing):
        again = read_members(gateway, groups, own_connection=True)
        if _balances(gateway, groups, own_connection=True) != owed or any(
            again[group] != members[group] for group in groups
        ):
            raise inconsistent_members()
    return {group: HiddenMembers.of(ids, owed) for group, ids in hidden.items()}


def not_replicated_yet() -> DataError:
    """Make the error for a patron whom the primary database has and the replica doesn't have yet."""
    return DataError(
        "the copy of the ILS's database that is read doesn't have this patron yet",
        advice="try again in a few seconds",
        code="not-copied-yet",
    )


def _agree(records: Mapping[int, Record], members: Mapping[int, Set[int]]) -> bool:
    """Return whether records and member lists agree. They don't if a patron was moved between the two reads."""
    return all((id in members[int(record.usrgroup)]) is not bool(record.deleted) for id, record in records.items())


def _apply_moves(
    gateway: Gateway,
    people: Mapping[int, Person],
    records: Mapping[int, Record],
    members: Mapping[int, frozenset[int]],
) -> dict[int, Person]:
    """Apply recent moves: drop members who left, add those who joined."""
    everybody = frozenset[int]().union(*members.values())
    elsewhere = sorted(everybody - people.keys())
    come = read_people(gateway, [{"id": id} for id in elsewhere]) if elsewhere else {}
    found: dict[int, Person] = {}
    for id, person in {**{id: come[id] for id in elsewhere if id in come}, **people}.items():
        record = records.get(id)
        now = person if record is None else person.with_record(record)
        number = next((number for number, ids in members.items() if id in ids), None)
        # Drop patrons whom only the replica has in one of these groups. Keep patrons of other groups.
        if number is not None:
            found[id] = now.in_group(number)
        elif record is not None or now.group not in members:
            found[id] = now
    return found


def _balances(gateway: Gateway, groups: list[int], *, own_connection: bool = False) -> Mapping[int, Decimal] | None:
    try:
        return read_balances(gateway, *groups, primary=True, own_connection=own_connection)
    except PermissionDeniedError:  # unknown, not zero
        return None


PatronReference = str | int
"""A barcode, in which blanks are ignored, or a patron id."""


@dataclass(frozen=True, slots=True)
class NamedFamilies:
    """The named patrons with the members of their groups.

    ``cards`` maps each name to the visible patron's card. ``membership`` has the patrons and their groups; ``contacts``
    has their contacts by id, if requested.
    """

    cards: Mapping[PatronReference, Card]
    membership: Membership
    contacts: Mapping[int, Contacts]


def read_named_families(
    gateway: Gateway,
    reader: MembershipReader,
    references: Iterable[PatronReference],
    groups: Collection[int] = (),
    *,
    with_contacts: bool = False,
    active_cards: bool = False,
) -> NamedFamilies:
    """Read the named patrons, their groups, and these ``groups``.

    Works in two stages, whatever the size of the groups. The first finds the patrons and their cards. The second reads
    fines, members and contacts concurrently. Takes four calls for up to 200 patrons, and two more if members are hidden
    (:func:`find_hidden_with_ids` explains when it takes more). If plain reads go to replicas, :func:`read_from_primary`
    adds its calls. With ``active_cards``, an unknown or inactive card stops the reading after the first call.

    Raises:
        PlanError: ``active_cards`` is set and a barcode isn't that of an active card.
        PermissionDeniedError: the account may not see patrons at its own library.
    """
    wanted = list(dict.fromkeys(references))
    barcodes = [named for named in wanted if isinstance(named, str)]
    ids = [named for named in wanted if isinstance(named, int)]
    conditions = (
        [{"id": id} for id in ids]
        + [{"barcode": barcode} for barcode in all_spellings(barcodes)]
        + [{"group": group} for group in groups]
    )
    # Name families by subqueries, so the first stage takes a single call.
    people: Mapping[int, Person] = read_people(gateway, conditions)
    owners = _owners(people.values(), barcodes)
    if gateway.reads_replicas:
        # A card that has just been issued isn't on the replica yet.
        owners |= read_owners(gateway, (barcode for barcode in barcodes if barcode not in owners))
    if active_cards and not all(named in owners and owners[named][1] for named in wanted if isinstance(named, str)):
        raise PlanError(
            "a barcode isn't that of an active card of a visible patron",
            advice="look up whose it is",
            code="no-active-card",
        )
    named = {*ids, *(patron for patron, _active in owners.values())}
    members: Mapping[int, frozenset[int]] | None = None
    if gateway.reads_replicas:
        if not named <= people.keys():  # the replica has the patron, but not the new card
            people = {**read_people(gateway, [{"id": id} for id in named - people.keys()]), **people}
        corrected = read_from_primary(gateway, people, named, groups)
        people, members = corrected.people, corrected.members
    # Subqueries ignore permissions (pcrud-141), so naming a hidden patron also finds the family. Drop those families.
    concerned = {person.group for id, person in people.items() if id in named}.union(groups)
    about = [person for person in people.values() if person.group in concerned]
    membership, contacts = _read_details(gateway, reader, about, set(groups), members, with_contacts)
    return NamedFamilies(_cards(membership, ids, owners), membership, contacts)


def _owners(people: Iterable[Person], barcodes: Collection[str]) -> dict[str, tuple[int, bool]]:
    """Find the owner (patron id) of each card and whether the card is active. Unknown barcodes are left out."""
    cards = {card.barcode: (person.id, bool(card.active)) for person in people for card in person.cards}
    known = ((barcode, first_match(barcode, cards)) for barcode in barcodes)
    return {barcode: owner for barcode, owner in known if owner is not None}


def _read_details(
    gateway: Gateway,
    reader: MembershipReader,
    people: Sequence[Person],
    groups: set[int],
    primary_members: Mapping[int, frozenset[int]] | None,
    with_contacts: bool,
) -> tuple[Membership, Mapping[int, Contacts]]:
    """Read the second stage: fines, contacts, and the hidden members of all groups.

    ``primary_members`` are the ids of each group's members on the primary database, None if plain reads will do.
    """
    by_group: dict[int, set[int]] = {number: set() for number in groups}
    for person in people:
        members = by_group.setdefault(person.group, set())
        if not person.deleted:
            members.add(person.id)
    barcodes = {card.id: card.barcode for person in people for card in person.cards}
    records = {person.id: person.row[len(MEMBER_FIELDS) :] for person in people}

    def hidden_members() -> Mapping[int, HiddenMembers]:
        if primary_members is not None:
            return find_hidden_on_primary(gateway, primary_members, by_group)
        return find_hidden_with_ids(gateway, by_group, lambda: [unit.id for unit in reader.org_units])

    reads: tuple[Callable[[], Any], ...] = (
        lambda: reader.assemble((person.row for person in people), barcodes, sorted(by_group)),
        lambda: hidden_members() if by_group else {},
        lambda: read_contacts(gateway, records) if with_contacts else {},
    )
    read, hidden, contacts = gateway.map(lambda read: read(), reads)
    found = {
        number: Group.by_name(number, [read.members[id] for id in sorted(ids)], hidden.get(number))
        for number, ids in by_group.items()
    }
    return Membership(read.members, read.accounts, found, read.own_fines), contacts


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
    """Find the card (``ac``) with this barcode, active or not, ignoring blanks.

    Return None if the card is unknown or its patron is hidden. ``with_patron`` fleshes the card's ``usr`` with the
    whole patron record and selects all fields of the card.
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
    return first_match(barcode, {card.barcode: card for card in found})


def find_owner(gateway: Gateway, barcode: str) -> int | None:
    """Return the id of the patron whose card has this barcode. Also find new cards that aren't on the replica yet."""
    card = find_card(gateway, barcode)
    if card is not None:
        return int(card.usr)
    if not gateway.reads_replicas:
        return None
    owner = read_owners(gateway, [barcode]).get(barcode)
    return None if owner is None else owner[0]
