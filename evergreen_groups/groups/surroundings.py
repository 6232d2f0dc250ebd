"""Patrons who were named, with everybody of their groups: what a plan is made from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from evergreen_groups.gateway import columns
from evergreen_groups.groups.contacts import CONTACT_FIELDS, Contacts, read_contacts
from evergreen_groups.groups.hidden_members import find_hidden
from evergreen_groups.groups.membership import (
    MEMBER_FIELDS,
    Card,
    Membership,
    MembershipReader,
    may_be_barcode,
)
from evergreen_groups.groups.models import Group, Member

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway

PatronReference = str | int
"""Somebody's barcode, exactly as written, or their id."""

Query = dict[str, Any]

# A barcode stands in the question twice, percent-encoded: with so many characters it stays below the gateway's 32 kB.
_AT_ONCE, _CHARACTERS_AT_ONCE = 200, 8_000


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
) -> Surroundings:
    """Read the named patrons, everybody of their groups, and of these ``groups`` as well.

    In two stages, whatever the size of the groups: who they are, and beside one another what stands about them. For up
    to 200 of them that is six calls at most: one is for barcodes alone, one for contacts, and where members are
    hidden, what they owe takes some more.

    Raises:
        PermissionDeniedError: the account may see no patrons at its own library.
    """
    wanted = list(dict.fromkeys(references))
    barcodes = [named for named in wanted if isinstance(named, str) and may_be_barcode(named)]
    ids = [named for named in wanted if isinstance(named, int)]
    conditions = [{"id": id} for id in ids] + [{"barcode": it} for it in barcodes] + [{"group": it} for it in groups]
    reads: list[Callable[[], Any]] = [partial(_rows, gateway, portion) for portion in _portions(conditions)]
    if barcodes:
        reads.append(partial(_owners, gateway, barcodes))
    found = list(gateway.map(lambda read: read(), reads))
    owners = found.pop() if barcodes else {}
    rows = {row[0]: row for row in chain.from_iterable(found)}
    named = {*ids, *(patron for patron, _active in owners.values())}
    # Subqueries see everybody (pcrud-141): somebody hidden who was named leads to nobody else all the same.
    concerned = {row[_GROUP] for id, row in rows.items() if id in named}.union(groups)
    about = [row for row in rows.values() if row[_GROUP] in concerned]
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


def _owners(gateway: Gateway, barcodes: Sequence[str]) -> dict[str, tuple[int, bool]]:
    """Whose each card is (a patron's id), and whether it is active; unknown barcodes are left out."""
    found = gateway.pcrud.columns_by_values("ac", ("barcode", "usr", "active"), "barcode", barcodes)
    return {barcode: (patron, bool(active)) for batch in found for barcode, patron, active in batch}


def _rows(gateway: Gateway, named: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """The ``_FIELDS`` of those whom some conditions name, and of the members of their groups (``contacts-016``)."""
    queries = list(_queries(named))
    everybody = {"id": {"in": {"union": queries} if len(queries) > 1 else queries[0]}}  # a union of one is refused
    pages = gateway.pcrud.pages("au", everybody, select=_FIELDS, concurrency=1)
    return list(chain.from_iterable(columns(page, *_FIELDS) for page in pages))


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
    rows: list[tuple[Any, ...]],
    groups: set[int],
    with_contacts: bool,
) -> tuple[Membership, Mapping[int, Contacts]]:
    """What stands about those whose rows were read, and the hidden members of all groups that they are in."""
    by_group: dict[int, set[int]] = {number: set() for number in groups}
    for id, number, deleted in ((row[0], row[_GROUP], row[_DELETED]) for row in rows):
        members = by_group.setdefault(number, set())
        if not deleted:
            members.add(id)
    records = {row[0]: row[len(MEMBER_FIELDS) :] for row in rows}
    reads: tuple[Callable[[], Any], ...] = (
        lambda: reader.completed(rows),
        lambda: find_hidden(gateway, by_group) if by_group else {},
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
