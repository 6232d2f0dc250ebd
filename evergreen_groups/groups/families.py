"""Read patrons by barcode or id, with their accounts, fines and cards, and whole groups with their hidden members."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from evergreen_groups.errors import DataError, PermissionDeniedError, PlanError, RecordNotFoundError
from evergreen_groups.gateway import TOKEN, Record, columns
from evergreen_groups.groups.barcodes import all_spellings, first_match, spellings
from evergreen_groups.groups.contacts import CONTACT_FIELDS, Contacts, read_contacts
from evergreen_groups.groups.hidden import (
    find_hidden_with_ids,
    inconsistent_members,
    read_members,
    read_visible_balances,
)
from evergreen_groups.groups.models import (
    ACCOUNT_FIELDS,
    PATRON_FIELDS,
    Group,
    Member,
    PatronAccount,
    PatronRow,
    make_members,
    read_barcodes,
)
from evergreen_groups.ils import OrgUnits, read_fines_of, read_own_fines

if TYPE_CHECKING:
    from decimal import Decimal

    from evergreen_groups.gateway import Gateway

_RETRIEVE = "open-ils.actor.user.retrieve.authoritative"
_BY_BARCODE = "open-ils.actor.user.fleshed.retrieve_by_barcode.authoritative"
_CARD_FIELDS = ("id", "usr", "barcode", "active")


def read_patron(gateway: Gateway, patron: int) -> Record | None:
    """Return a patron's record from the primary database, None if the patron is unknown or hidden.

    pcrud may read from a replica that lags a few seconds behind. The record has pcrud's unfleshed form
    (``patrons-031``, ``pcrud-102``), because a fleshed record never compares equal. Releases before 3.14.11 send a
    digest of the password along. Drop it: sent back, the digest would become the password.

    Raises:
        DataError: the answer isn't this patron's record.
    """
    try:
        answer = gateway.call("open-ils.actor", _RETRIEVE, TOKEN, patron).value
    except (RecordNotFoundError, PermissionDeniedError):
        return None
    record = patron_in(gateway, answer, patron)
    if any(isinstance(value, dict | list) for value in record.to_wire()["__p"]):
        raise DataError("the ILS gave the patron in another form than was asked for", code="patron-in-another-form")
    return record.replace(passwd=None)


def require_visible(gateway: Gateway, patron: int) -> None:
    """Raise an error if the session may not see the patron. Unknown patrons are fine.

    Raises:
        PermissionDeniedError: with the missing permission and the library.
    """
    with suppress(RecordNotFoundError):
        gateway.call("open-ils.actor", _RETRIEVE, TOKEN, patron)


def patron_in(gateway: Gateway, answer: object, patron: int) -> Record:
    """Decode an answer that must be this patron's record.

    Raises:
        DataError: the answer is something else, or another patron.
    """
    record = gateway.decode(answer)
    if not isinstance(record, Record) or record.class_id != "au" or record.id != patron:
        raise _not_the_patron()
    return record


def _not_the_patron() -> DataError:
    return DataError("the ILS gave something else than the patron asked for", code="not-the-patron")


def not_replicated_yet() -> DataError:
    """Make the error for a patron whom the primary database has and the replica doesn't have yet."""
    return DataError(
        "the copy of the ILS's database that is read doesn't have this patron yet",
        advice="try again in a few seconds",
        code="not-copied-yet",
    )


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


def find_owner(gateway: Gateway, barcode: str) -> tuple[int, bool] | None:
    """Return the owner (patron id) of the card with this barcode, and whether the card is active.

    Return None if the card is unknown or hidden. Also find new cards that aren't on the replica yet.
    """
    card = find_card(gateway, barcode)
    if card is not None:
        return int(card.usr), bool(card.active)
    return read_owners(gateway, [barcode]).get(barcode) if gateway.reads_replicas else None


def read_owners(gateway: Gateway, barcodes: Iterable[str]) -> dict[str, tuple[int, bool]]:
    """Find the owner (patron id) of each card on the primary database, and whether the card is active.

    Unknown and hidden cards are left out. Takes one call per spelling of a barcode.

    Raises:
        DataError: an answer isn't a patron with this card.
    """
    found = {}
    for barcode in barcodes:
        owners = (_read_owner(gateway, spelling) for spelling in spellings(barcode))
        owner = next((owner for owner in owners if owner is not None), None)
        if owner is not None:
            found[barcode] = owner
    return found


def _read_owner(gateway: Gateway, barcode: str) -> tuple[int, bool] | None:
    try:
        answer = gateway.call("open-ils.actor", _BY_BARCODE, TOKEN, barcode).value
    except (RecordNotFoundError, PermissionDeniedError):
        return None
    patron = gateway.decode(answer)
    cards = patron.cards if isinstance(patron, Record) and patron.class_id == "au" else None
    if isinstance(cards, list):
        for card in cards:
            if card.barcode == barcode:
                return int(patron.id), bool(card.active)
    raise _not_the_patron()


Query = dict[str, Any]

PatronReference = str | int
"""A barcode, in which blanks are ignored, or a patron id."""

# A barcode occurs twice in the query, percent-encoded. This many characters stay below the gateway's 32 kB.
_AT_ONCE, _CHARACTERS_AT_ONCE = 200, 8_000
# A page with cards stays below a megabyte.
_ROWS_AT_ONCE = 1_000
_MAX_READINGS = 3
_MEMBER_FIELDS = (*PATRON_FIELDS, "deleted", *ACCOUNT_FIELDS)
_FIELDS = (*_MEMBER_FIELDS, *CONTACT_FIELDS)


@dataclass(frozen=True, slots=True)
class Card:
    """A library card found by barcode or owner. ``active`` is the state of this card, not of the patron."""

    barcode: str
    active: bool
    member: Member
    account: PatronAccount


@dataclass(frozen=True, slots=True)
class Families:
    """Patrons and their accounts by id, and their groups by number. Nothing is decided yet.

    ``own_fines`` has the patrons with an open transaction, even with a balance of 0.00. ``groups``, ``cards`` (by the
    names that were asked for) and ``contacts`` (by id) are empty unless requested.
    """

    members: Mapping[int, Member]
    accounts: Mapping[int, PatronAccount]
    own_fines: Mapping[int, Decimal]
    groups: Mapping[int, Group] = field(default_factory=dict)
    cards: Mapping[PatronReference, Card] = field(default_factory=dict)
    contacts: Mapping[int, Contacts] = field(default_factory=dict)

    def card(self, patron: int, barcode: str | None = None, *, active: bool = True) -> Card:
        """Make the card of a patron. Without ``barcode``, it is the primary card, if any."""
        member = self.members[patron]
        return Card(barcode or member.barcode or "", active, member, self.accounts[patron])


class FamilyReader:
    """Reads patrons and their groups in lists. If plain reads go to replicas, :meth:`named` corrects its answer.

    ``org_units`` provides the ILS's org units; by default they are read once.
    """

    def __init__(self, gateway: Gateway, org_units: Callable[[], OrgUnits] | None = None) -> None:
        self._gateway = gateway
        self._org_units = org_units
        self._known_org_units: OrgUnits | None = None

    @property
    def org_units(self) -> OrgUnits:
        """All org units of the ILS."""
        if self._known_org_units is None:
            self._known_org_units = self._org_units() if self._org_units else OrgUnits.read(self._gateway)
        return self._known_org_units

    def by_barcodes(self, barcodes: Iterable[str]) -> dict[str, Card]:
        """Look up patrons by card. Ignore blanks in barcodes (:func:`spellings`), but not case.

        Return cards by the barcodes as given (``patrons-011``), without unknown ones.
        """
        given = list(barcodes)
        # Drop duplicates: a value named in two lists returns its rows twice.
        cards = {
            record.barcode: record
            for batch in self._gateway.pcrud.by_values("ac", "barcode", all_spellings(given), unique=True)
            for record in batch
        }
        found = self.by_ids({card.usr for card in cards.values()})
        known = ((barcode, first_match(barcode, cards)) for barcode in given)
        return {
            barcode: found.card(card.usr, card.barcode, active=bool(card.active))
            for barcode, card in known
            if card is not None and card.usr in found.members
        }

    def by_ids(self, ids: Collection[int]) -> Families:
        """Read patrons by id, including deleted ones. Leave out hidden patrons."""
        found = self._gateway.pcrud.columns_by_values("au", _MEMBER_FIELDS, "id", sorted(ids))
        return self._families(chain.from_iterable(found))

    def by_groups(self, numbers: Collection[int]) -> Families:
        """Read whole groups with hidden members.

        Raises:
            PermissionDeniedError: the account may not see patrons at its own library.
        """
        wanted = sorted(set(numbers))
        # Deleted patrons keep their group's number, so exclude them (pcrud-009). Send "f", because JSON's false matches
        # nothing (pcrud-011).
        found = self._gateway.pcrud.columns_by_values("au", _MEMBER_FIELDS, "usrgroup", wanted, where={"deleted": "f"})
        read = self._families(chain.from_iterable(found))
        by_group: dict[int, set[int]] = {number: set() for number in wanted}
        for member in read.members.values():
            by_group[member.patron.group].add(member.id)
        # Check for hidden members even if the account sees all patrons: a missed member would do harm in a move.
        return replace(read, groups=_groups(read, by_group, self._find_hidden(by_group)))

    def named(
        self,
        references: Iterable[PatronReference],
        groups: Collection[int] = (),
        *,
        with_contacts: bool = False,
        active_cards: bool = False,
    ) -> Families:
        """Read the named patrons, their groups, and these ``groups``.

        Works in two stages, whatever the size of the groups. The first finds the patrons and their cards. The second
        reads fines, members and contacts concurrently. Takes four calls for up to 200 patrons, and two more if members
        are hidden (:func:`find_hidden_with_ids` explains when it takes more). If plain reads go to replicas, takes one
        more call for each named patron and each group, and one or two for members whom the replica has in other groups.
        With ``active_cards``, an unknown or inactive card stops the reading after the first call.

        Raises:
            PlanError: ``active_cards`` is set and a barcode isn't that of an active card.
            DataError: the replica doesn't have one of the named patrons yet, or patrons keep being moved between reads.
            PermissionDeniedError: the account may not see patrons at its own library.
        """
        gateway = self._gateway
        wanted = list(dict.fromkeys(references))
        barcodes = [named for named in wanted if isinstance(named, str)]
        ids = [named for named in wanted if isinstance(named, int)]
        # Name families by subqueries, so the first stage takes a single call.
        people = _read_people(
            gateway,
            [{"id": id} for id in ids]
            + [{"barcode": barcode} for barcode in all_spellings(barcodes)]
            + [{"group": group} for group in groups],
        )
        cards = {card.barcode: card for person in people.values() for card in person.cards}
        matches = ((barcode, first_match(barcode, cards)) for barcode in barcodes)
        owners = {barcode: (int(card.usr), bool(card.active)) for barcode, card in matches if card is not None}
        if gateway.reads_replicas:
            # A card that has just been issued isn't on the replica yet.
            owners |= read_owners(gateway, (barcode for barcode in barcodes if barcode not in owners))
        if active_cards and not all(barcode in owners and owners[barcode][1] for barcode in barcodes):
            raise PlanError(
                "a barcode isn't that of an active card of a visible patron",
                advice="look up whose it is",
                code="no-active-card",
            )
        named = {*ids, *(patron for patron, _active in owners.values())}
        members: Mapping[int, frozenset[int]] | None = None
        if gateway.reads_replicas:
            if not named <= people.keys():  # the replica has the patron, but not the new card
                people = {**_read_people(gateway, [{"id": id} for id in named - people.keys()]), **people}
            people, members = _correct_from_primary(gateway, people, named, groups)
        # Subqueries ignore permissions (pcrud-141), so naming a hidden patron also finds the family. Drop those
        # families.
        concerned = {person.usrgroup for id, person in people.items() if id in named}.union(groups)
        read = self._read_details(
            [person for person in people.values() if person.usrgroup in concerned],
            set(groups),
            members,
            with_contacts=with_contacts,
        )
        found: dict[PatronReference, Card] = {
            barcode: read.card(patron, barcode, active=active)
            for barcode, (patron, active) in owners.items()
            if patron in read.members
        }
        return replace(read, cards=found | {id: read.card(id) for id in ids if id in read.members})

    def _read_details(
        self,
        people: Sequence[Record],
        groups: set[int],
        primary: Mapping[int, frozenset[int]] | None,
        *,
        with_contacts: bool,
    ) -> Families:
        """Read the second stage of :meth:`named`: fines, contacts, and the hidden members of all groups.

        ``primary`` are the ids of each group's members on the primary database, None if plain reads will do.
        """
        by_group: dict[int, set[int]] = {number: set() for number in groups}
        for person in people:
            members = by_group.setdefault(person.usrgroup, set())
            if not person.deleted:
                members.add(person.id)
        barcodes = {card.id: card.barcode for person in people for card in person.cards}
        # One by one, because the primary's records may have come with another IDL, after an upgrade of the server.
        rows = [row for person in people for row in columns([person], *_FIELDS)]
        reads: tuple[Callable[[], Any], ...] = (
            lambda: self._families(rows, barcodes, sorted(by_group)),
            lambda: self._find_hidden(by_group, primary) if by_group else {},
            lambda: (
                read_contacts(self._gateway, {row[0]: row[len(_MEMBER_FIELDS) :] for row in rows})
                if with_contacts
                else {}
            ),
        )
        found: list[Any] = list(self._gateway.map(lambda read: read(), reads))
        read: Families = found[0]
        return replace(read, groups=_groups(read, by_group, found[1]), contacts=found[2])

    def _find_hidden(
        self, visible: Mapping[int, Set[int]], primary: Mapping[int, frozenset[int]] | None = None
    ) -> dict[int, Any]:
        return find_hidden_with_ids(self._gateway, visible, lambda: [unit.id for unit in self.org_units], primary)

    def _families(
        self,
        records: Iterable[tuple[Any, ...]],
        barcodes: Mapping[int, str] | None = None,
        groups: Sequence[int] = (),
    ) -> Families:
        """Combine rows (``_MEMBER_FIELDS``, further columns are ignored) with fines, cards and home libraries.

        ``barcodes`` are by card id; by default they are read concurrently with the fines, in one call each. If
        ``groups`` has the numbers of all the patrons' groups, the fines are corrected
        (:func:`correct_fines_from_primary`).
        """
        now = datetime.now(UTC)
        width = len(PATRON_FIELDS)
        rows: list[tuple[PatronRow, bool]] = []
        accounts: dict[int, PatronAccount] = {}
        for record in records:
            row = PatronRow._make(record[:width])
            rows.append((row, bool(record[width])))
            accounts[row.id] = PatronAccount.of(record[width + 1 : len(_MEMBER_FIELDS)], now)
        readers: tuple[Callable[[], Any], ...] = (
            lambda: correct_fines_from_primary(
                self._gateway, groups, accounts, lambda: read_own_fines(self._gateway, accounts)
            ),
            lambda: barcodes if barcodes is not None else read_barcodes(self._gateway, (row.card for row, _ in rows)),
            lambda: self.org_units if rows else None,
        )
        own_fines, known_barcodes, org_units = self._gateway.map(lambda read: read(), readers)
        patrons = [
            row.patron(known_barcodes.get(row.card), org_units.unit(row.home_library), deleted=deleted)
            for row, deleted in rows
        ]
        members = {member.id: member for member in make_members(patrons, own_fines, {})}
        return Families(members, accounts, own_fines)


def _groups(read: Families, members: Mapping[int, Set[int]], hidden: Mapping[int, Any]) -> dict[int, Group]:
    """Make the groups with these visible members (ids by group)."""
    return {
        number: Group.by_name(number, [read.members[id] for id in sorted(ids)], hidden.get(number))
        for number, ids in members.items()
    }


def correct_fines_from_primary(
    gateway: Gateway, groups: Sequence[int], patrons: Collection[int], read: Callable[[], Mapping[int, Decimal]]
) -> Mapping[int, Decimal]:
    """Return what ``patrons`` (ids) of some groups owe, corrected from the primary database.

    ``read`` reads the same by pcrud. If plain reads go to replicas, takes one concurrent call, and one for each patron
    with differing balances. Without replicas, or if the session may not see the balances, return the result of
    ``read``.
    """
    if not groups or not gateway.reads_replicas:
        return read()
    readers: tuple[Callable[[], Any], ...] = (read, lambda: read_visible_balances(gateway, groups, primary=True))
    fines, now = gateway.map(lambda read: read(), readers)

    def owed_by(id: int) -> Decimal | None:
        # Ask about this patron alone: the answer names the patron, while a list of balances doesn't name the group.
        try:
            return read_fines_of(gateway, id, primary=True)
        except PermissionDeniedError:
            owed: Decimal | None = fines.get(id)
            return owed

    # Start with pcrud's answer and reread only patrons about whom the two answers differ.
    doubtful = [] if now is None else sorted(id for id in patrons if fines.get(id) != now.get(id))
    found = {**fines, **dict(zip(doubtful, gateway.map(owed_by, doubtful), strict=True))}
    return {id: owed for id, owed in found.items() if owed is not None}


def _read_people(gateway: Gateway, conditions: Sequence[Mapping[str, Any]]) -> dict[int, Record]:
    """Read the patrons that match the conditions, and the members of their groups, by id.

    A condition has one of ``id``, ``barcode`` and ``group``. Takes one call for up to 200 conditions.
    """
    found = gateway.map(lambda batch: _matching(gateway, batch), _in_batches(conditions))
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


def _matching(gateway: Gateway, named: Sequence[Mapping[str, Any]]) -> list[Record]:
    """Read the patrons that match the conditions, and the members of their groups (``desk-010``)."""
    gateway.idl("au", "ac", "mous", "aua")  # load them in one request, together with those needed next
    queries = list(_queries(named))
    # Read all cards, because the named barcode may be on an old one.
    pages = gateway.pcrud.pages(
        "au",
        # The ILS refuses a union of a single query.
        {"id": {"in": {"union": queries} if len(queries) > 1 else queries[0]}},
        select=_FIELDS,
        flesh=1,
        flesh_fields={"au": ("cards",)},
        page_size=_ROWS_AT_ONCE,
        concurrency=1,
    )
    people = list(chain.from_iterable(pages))
    for person in people:
        cards = person.cards
        # The ILS sends an empty list for no cards (oils_sql.c, doFieldmapperSearch).
        if not isinstance(cards, list) or any(card.usr != person.id for card in cards):
            raise DataError(
                "the ILS gave no list of a patron's cards, or another patron's",
                advice="look at the proxy, where there is one: it may have mixed up answers",
                code="cards-broken",
            )
    return people


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


def _correct_from_primary(
    gateway: Gateway, people: Mapping[int, Record], named: Collection[int], groups: Collection[int]
) -> tuple[dict[int, Record], dict[int, frozenset[int]]]:
    """Correct what a replica says about the ``named`` patrons (ids), their groups, and ``groups``.

    Return the people by id as the primary database has them, and the ids of the members of each group.
    """
    wanted = sorted(named)
    for _ in range(_MAX_READINGS):
        read = zip(wanted, gateway.map(partial(read_patron, gateway), wanted), strict=True)
        records = {id: record for id, record in read if record is not None}
        if not records.keys() <= people.keys():
            raise not_replicated_yet()
        numbers = {int(record.usrgroup) for record in records.values()}.union(groups)
        # pcrud always shows the session's own user, even without VIEW_USER at the user's library. read_patron doesn't.
        numbers |= {int(people[id].usrgroup) for id in people.keys() & set(wanted) - records.keys()}
        members = read_members(gateway, numbers)
        # They disagree if a patron was moved between the two reads.
        if all((id in members[int(one.usrgroup)]) is not bool(one.deleted) for id, one in records.items()):
            return _apply_moves(gateway, people, records, members), members
    raise inconsistent_members()


def _apply_moves(
    gateway: Gateway,
    people: Mapping[int, Record],
    records: Mapping[int, Record],
    members: Mapping[int, frozenset[int]],
) -> dict[int, Record]:
    """Apply recent moves: drop members who left, add those who joined."""
    everybody = frozenset[int]().union(*members.values())
    elsewhere = sorted(everybody - people.keys())
    come = _read_people(gateway, [{"id": id} for id in elsewhere]) if elsewhere else {}
    found: dict[int, Record] = {}
    for id, person in {**{id: come[id] for id in elsewhere if id in come}, **people}.items():
        now = records[id].replace(cards=person.cards) if id in records else person
        number = next((number for number, ids in members.items() if id in ids), None)
        # Drop patrons whom only the replica has in one of these groups. Keep patrons of other groups.
        if number is not None:
            found[id] = now.replace(usrgroup=number)
        elif id in records or now.usrgroup not in members:
            found[id] = now
    return found
