"""Read groups and patrons: a group as the panel shows it, and named patrons with their accounts, fines and families.

The ILS silently drops rows that the account may not see. :class:`FamilyQuery` therefore adds extra rows to the query of
the panel that come back only under certain conditions, which saves further calls. :class:`FamilyReader` looks for
hidden members in calls of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from itertools import chain
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from evergreen_groups.batches import batched, batched_by_size
from evergreen_groups.errors import DataError, PermissionDeniedError, PlanError, RecordNotFoundError, unreadable
from evergreen_groups.gateway import TOKEN, Record, columns
from evergreen_groups.groups.barcodes import all_spellings, first_match, spellings
from evergreen_groups.groups.contacts import CONTACT_FIELDS, Contacts, read_contacts
from evergreen_groups.groups.hidden import (
    IDS_AT_ONCE,
    find_hidden,
    inconsistent_members,
    read_member_ids,
    read_members,
    read_visible_balances,
)
from evergreen_groups.groups.models import (
    ACCOUNT_FIELDS,
    PATRON_FIELDS,
    Group,
    Member,
    Patron,
    PatronAccount,
    PatronRow,
    Query,
    make_members,
    make_patrons,
)
from evergreen_groups.ils import PENALTY_FIELDS, OrgUnits, PenaltyRow, read_fines_of, read_own_fines

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
    """
    try:
        answer = gateway.call("open-ils.actor", _RETRIEVE, TOKEN, patron).value
    except (RecordNotFoundError, PermissionDeniedError):
        return None
    record = patron_in(gateway, answer, patron)
    if any(isinstance(value, dict | list) for value in record.to_wire()["__p"]):
        raise unreadable("patron-in-another-form", "the patron isn't fleshed as requested")
    return record.replace(passwd=None)


def require_visible(gateway: Gateway, patron: int) -> None:
    """Raise PermissionDeniedError if the session may not see the patron. Unknown patrons are fine."""
    with suppress(RecordNotFoundError):
        gateway.call("open-ils.actor", _RETRIEVE, TOKEN, patron)


def patron_in(gateway: Gateway, answer: object, patron: int) -> Record:
    """Decode an answer that must be this patron's record."""
    record = gateway.decode(answer)
    if not isinstance(record, Record) or record.class_id != "au" or record.id != patron:
        raise _not_the_patron()
    return record


def _not_the_patron() -> DataError:
    return unreadable("not-the-patron", "not the requested patron")


def not_replicated_yet() -> DataError:
    """Make the error for a patron whom the primary database has and the replica doesn't have yet."""
    return DataError(
        "the database replica doesn't have this patron yet", advice="try again in a few seconds", code="not-copied-yet"
    )


def find_card(gateway: Gateway, barcode: str, *, with_patron: bool = False) -> Record | None:
    """Find the card (``ac``) with this barcode, active or not, ignoring blanks. ``with_patron`` adds the whole ``usr``.

    Return None if the card is unknown or its patron is hidden.
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
    """Return a card's owner (patron id) and whether it is active; None if hidden or unknown, even to the primary."""
    card = find_card(gateway, barcode)
    if card is not None:
        return int(card.usr), bool(card.active)
    return read_owners(gateway, [barcode]).get(barcode) if gateway.reads_replicas else None


def read_owners(gateway: Gateway, barcodes: Iterable[str]) -> dict[str, tuple[int, bool]]:
    """Like :func:`find_owner` for several cards, on the primary database. Takes one call per spelling of a barcode."""
    found: dict[str, tuple[int, bool]] = {}
    for barcode, spelling in ((given, spelling) for given in barcodes for spelling in spellings(given)):
        if barcode in found:
            continue
        try:
            answer = gateway.call("open-ils.actor", _BY_BARCODE, TOKEN, spelling).value
        except (RecordNotFoundError, PermissionDeniedError):
            continue
        patron = gateway.decode(answer)
        cards = patron.cards if isinstance(patron, Record) and patron.class_id == "au" else None
        with_barcode = [card for card in cards if card.barcode == spelling] if isinstance(cards, list) else []
        if not with_barcode:
            raise _not_the_patron()
        found[barcode] = int(patron.id), bool(with_barcode[0].active)
    return found


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
        """Make the card of a patron, by default the primary card, if any."""
        member = self.members[patron]
        return Card(barcode or member.barcode or "", active, member, self.accounts[patron])


class FamilyReader:
    """Reads patrons and their groups in lists. If plain reads go to replicas, :meth:`named` corrects its answer.

    ``org_units`` provides the ILS's org units; by default they are read once.
    """

    def __init__(self, gateway: Gateway, org_units: Callable[[], OrgUnits] | None = None) -> None:
        self._gateway = gateway
        self._read_org_units = org_units or partial(OrgUnits.read, gateway)

    @cached_property
    def org_units(self) -> OrgUnits:
        """All org units of the ILS."""
        return self._read_org_units()

    def by_ids(self, ids: Collection[int]) -> Families:
        """Read patrons by id, including deleted ones. Leave out hidden patrons."""
        found = self._gateway.pcrud.columns_by_values("au", _MEMBER_FIELDS, "id", sorted(ids))
        return self._families(found)

    def named(
        self,
        references: Iterable[PatronReference],
        groups: Collection[int] = (),
        *,
        with_fines: bool = True,
        with_contacts: bool = False,
        active_cards: bool = False,
    ) -> Families:
        """Read the named patrons, their groups, and these ``groups``.

        Works in two stages, whatever the size of the groups. The first finds the patrons and their cards. The second
        reads fines, members and contacts concurrently. Takes four calls for up to 200 patrons, and two more if members
        are hidden (:func:`find_hidden` explains when it takes more). If plain reads go to replicas, takes one
        more call for each named patron and each group, and one or two for members whom the replica has in other groups.
        Without ``with_fines``, all members seem to owe nothing.

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
                "no visible patron has an active card with this barcode",
                advice="look up the patron",
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
            with_fines=with_fines,
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
        with_fines: bool,
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
        found: list[Any] = self._gateway.in_parallel(
            lambda: self._families(rows, barcodes, sorted(by_group), with_fines=with_fines),
            lambda: (
                find_hidden(self._gateway, by_group, lambda: [unit.id for unit in self.org_units], primary)
                if by_group
                else {}
            ),
            lambda: (
                read_contacts(self._gateway, {row[0]: row[len(_MEMBER_FIELDS) :] for row in rows})
                if with_contacts
                else {}
            ),
        )
        read: Families = found[0]
        # Check for hidden members even if the account sees all patrons: a missed member would do harm in a move.
        by_number = {
            number: Group.by_name(number, [read.members[id] for id in sorted(ids)], found[1].get(number))
            for number, ids in by_group.items()
        }
        return replace(read, groups=by_number, contacts=found[2])

    def _families(
        self,
        records: Iterable[tuple[Any, ...]],
        barcodes: Mapping[int, str] | None = None,
        groups: Sequence[int] = (),
        *,
        with_fines: bool = True,
    ) -> Families:
        """Combine rows (``_MEMBER_FIELDS``, further columns are ignored) with fines, cards and home libraries.

        ``barcodes`` are by card id; by default they are read. If ``groups`` has the numbers of all the patrons' groups,
        the fines are corrected (:func:`correct_fines_from_primary`).
        """
        now = datetime.now(UTC)
        width = len(PATRON_FIELDS)
        rows: list[tuple[PatronRow, bool]] = []
        accounts: dict[int, PatronAccount] = {}
        for record in records:
            row = PatronRow._make(record[:width])
            rows.append((row, bool(record[width])))
            accounts[row.id] = PatronAccount.of(record[width + 1 : len(_MEMBER_FIELDS)], now)
        own_fines, known_barcodes, org_units = self._gateway.in_parallel(
            lambda: (
                correct_fines_from_primary(
                    self._gateway, groups, accounts, lambda: read_own_fines(self._gateway, accounts)
                )
                if with_fines
                else {}
            ),
            lambda: (
                barcodes if barcodes is not None else Member.read_barcodes(self._gateway, (row.card for row, _ in rows))
            ),
            lambda: self.org_units if rows else None,
        )
        patrons = [
            row.patron(known_barcodes.get(row.card), org_units.unit(row.home_library), deleted=deleted)
            for row, deleted in rows
        ]
        members = {member.id: member for member in make_members(patrons, own_fines, {})}
        return Families(members, accounts, own_fines)


def correct_fines_from_primary(
    gateway: Gateway, groups: Sequence[int], patrons: Collection[int], read: Callable[[], Mapping[int, Decimal]]
) -> Mapping[int, Decimal]:
    """Return what ``patrons`` (ids) of some groups owe, corrected from the primary database.

    ``read`` reads the same by pcrud, which is enough without replicas, or if the session may not see the balances.
    Otherwise, takes one concurrent call, and one for each patron with differing balances.
    """
    if not groups or not gateway.reads_replicas:
        return read()
    fines, now = gateway.in_parallel(read, lambda: read_visible_balances(gateway, groups, primary=True))

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
    """Read patrons by ``id``, ``barcode`` or ``group``, and the members of their groups. Up to 200 take one call."""
    batches = batched_by_size(
        conditions,
        _CHARACTERS_AT_ONCE,
        lambda condition: len(quote(str(condition.get("barcode", "")))),
        lambda _count: _AT_ONCE,
    )
    found = gateway.map(lambda batch: _matching(gateway, batch), batches)
    return {person.id: person for person in chain.from_iterable(found)}


def _matching(gateway: Gateway, named: Sequence[Mapping[str, Any]]) -> list[Record]:
    """Read the patrons that match the conditions, and the members of their groups (``desk-010``)."""
    gateway.idl("au", "ac", "mous", "aua")  # load them in one request, together with those needed next
    # Read all cards, because the named barcode may be on an old one.
    pages = gateway.pcrud.pages(
        "au",
        _any_of(list(_queries(named))),
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
            raise unreadable(
                "cards-broken",
                "not a list of the patron's cards",
                advice="check any proxy in between: it may have mixed up answers",
            )
    return people


def _queries(named: Sequence[Mapping[str, Any]]) -> Iterator[Query]:
    """Yield queries for patron ids: PostgreSQL uses an index for each, but would scan all patrons for an "or"."""
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


def _any_of(queries: Sequence[Query]) -> Query:
    # The ILS refuses a union of a single query.
    return {"id": {"in": {"union": queries} if len(queries) > 1 else queries[0]}}


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
    gateway: Gateway, people: Mapping[int, Record], records: Mapping[int, Record], members: Mapping[int, frozenset[int]]
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


# An id takes some seven bytes and occurs up to three times in a request of at most 32 kB.
_MAX_ORG_UNITS = 800


@dataclass(frozen=True, slots=True)
class HiddenCirculations:
    """Circulations at ``hidden_at``, which the account can't see, of patrons from ``counted_at`` (both org unit ids).

    The ILS includes them in the counts of these patrons.
    """

    hidden_at: frozenset[int]
    counted_at: frozenset[int]

    @property
    def can_be_asked_about(self) -> bool:
        """Whether there are any, and few enough org units to fit into a request."""
        count = len(self.hidden_at) + len(self.counted_at)
        return bool(self.hidden_at) and bool(self.counted_at) and count <= _MAX_ORG_UNITS


@dataclass(frozen=True, slots=True)
class GroupViewer:
    """The session that looks at a group, and what it wants to know in addition to the members.

    ``user`` is the session's ``au.id`` and ``group`` the number of that user's own group (None: unknown). The session
    sees patrons of the org units ``patrons_at``; ``everywhere`` means all of them. ``circulations`` asks whether any
    are hidden, ``with_staff`` asks for the staff who set penalties, and ``extra_patrons`` are ids of other patrons to
    read. A replica may have older records of the patrons ``changed`` (ids; None: of any patron).
    """

    user: int
    patrons_at: frozenset[int]
    everywhere: bool
    circulations: HiddenCirculations | None = None
    with_staff: bool = False
    extra_patrons: frozenset[int] = frozenset()
    group: int | None = None
    changed: frozenset[int] | None = frozenset()


class FamilyQuery:
    """The query for one group. ``inside`` and ``outside`` are conditions on ``usrgroup``."""

    def __init__(self, inside: Query, outside: Query, viewer: GroupViewer) -> None:
        self._inside = inside
        self._outside = outside
        self._viewer = viewer
        # The session user's own row signals the answer about circulations, so don't ask if it comes back anyway.
        asked = viewer.circulations is not None and viewer.user not in viewer.extra_patrons
        self._circulations = viewer.circulations if asked else None
        self._has_sentinel = bool(viewer.patrons_at)
        # A long list of libraries doesn't fit into the query. Then all members must be at the sentinel's library.
        self._visible_homes = sorted(viewer.patrons_at) if len(viewer.patrons_at) <= _MAX_ORG_UNITS else []
        self._with_staff = viewer.with_staff and (viewer.everywhere or bool(self._visible_homes))

    @classmethod
    def of_patron(cls, patron: int, viewer: GroupViewer) -> FamilyQuery:
        group_of_patron = {"select": {"au": ["usrgroup"]}, "from": "au", "where": {"id": patron, "deleted": "f"}}
        return cls({"in": group_of_patron}, {"not in": group_of_patron}, viewer)

    @classmethod
    def of_number(cls, group: int, viewer: GroupViewer) -> FamilyQuery:
        return cls({"=": group}, {"<>": group}, viewer)

    @property
    def where(self) -> Query:
        """The condition on patrons (``au``) that matches the members and the extra rows."""
        queries = [self._members()]
        if self._has_sentinel:
            queries.append(self._sentinel())
        if self._with_staff:
            # Staff who set a hidden member's penalty couldn't be told apart from the sentinel, so don't ask about them.
            staff = self._staff() if self._viewer.everywhere else self._staff(home_ou=self._visible_homes)
            queries.append(_ids({"id": {"in": staff}}))
        if self._viewer.extra_patrons:
            queries.append(_ids({"id": sorted(self._viewer.extra_patrons)}))
        if self._circulations is not None:
            queries.append(self._no_hidden_circulation(self._circulations))
        return _any_of(queries)

    def interpret(
        self, members: Set[int], others: Mapping[int, int], staff: Set[int]
    ) -> tuple[frozenset[int], bool, bool] | None:
        """Interpret the rows that don't belong to ``members`` (ids). Return None if a row can't be explained.

        ``others`` maps their patron ids to group numbers. ``staff`` are the ids of users who set the members'
        penalties, including archived ones. The result has the ids of staff and extra patrons that were found, whether
        no member is hidden, and whether no circulation is. If False, some may be hidden.
        """
        viewer, own = self._viewer, frozenset({self._viewer.user})
        expected = viewer.extra_patrons | ((staff - own) if self._with_staff else frozenset())
        named = others.keys() & expected
        signal = own if self._circulations is not None else frozenset[int]()
        # At most one row may be left: the sentinel's.
        rest = others.keys() - named - signal
        if len(rest) > self._has_sentinel:
            return None
        # If the row of an expected patron is missing, as happens with hidden patrons, a row with a mixed-up id could
        # pass for the sentinel.
        missing = expected - members - others.keys()
        if viewer.group is None:
            missing |= signal - others.keys()
        is_sentinel = not missing and all(others[id] != viewer.group for id in rest)
        return frozenset(named), bool(rest) and is_sentinel, bool(others.keys() & signal)

    def _members(self, **more: Any) -> Query:
        return _ids({"deleted": "f", "usrgroup": self._inside, **more})

    def _staff(self, **members: Any) -> Query:
        """Return the query for the staff who set the members' penalties, without the session's own user."""
        set_by = {"usr": {"in": self._members(**members)}, "staff": {"<>": self._viewer.user}}
        return {"select": {"ausp": ["staff"]}, "from": "ausp", "where": set_by}

    def _no_hidden_circulation(self, asked: HiddenCirculations) -> Query:
        """Return the query for the session's own user, whose row comes back if no circulation is hidden."""
        members = self._members(home_ou=sorted(asked.counted_at))
        hidden = {"usr": {"in": members}, "checkin_time": None, "circ_lib": sorted(asked.hidden_at)}
        found = {"select": {"circ": ["id"]}, "from": "circ", "where": hidden}
        return _ids({"id": self._viewer.user, "-not-exists": found})

    def _sentinel(self) -> Query:
        """Return the query for one patron of another group whose row comes back if and only if every member is visible.

        An account sees all patrons of a library or none. So every member must be at the sentinel's library, or at a
        library that the account is known to see. The sentinel mustn't be a patron whose row means something else.
        """
        others: list[Query] = [{"id": {"not in": sorted({self._viewer.user, *self._viewer.extra_patrons})}}]
        if self._viewer.group is not None:
            others.append({"usrgroup": {"<>": self._viewer.group}})
        if self._with_staff:
            others.append({"id": {"not in": self._staff()}})
        sentinel: Query = {"deleted": "f", "usrgroup": self._outside, "-and": others}
        if not self._viewer.everywhere:
            sentinel |= self._at_fully_visible_library()
        return _ids({"id": {"in": {**_ids(sentinel), "limit": 1}}})

    def _at_fully_visible_library(self) -> Query:
        """Return the condition that no member is hidden if the sentinel is visible."""
        # Permissions don't apply inside a subquery (pcrud-141), so these find the members that the search itself leaves
        # out.
        homes = {"select": {"au": ["home_ou"]}, "from": "au", "where": {"deleted": "f", "usrgroup": self._inside}}
        seen = self._visible_homes
        not_seen = [{"home_ou": {"not in": seen}}] if seen else []
        elsewhere = {
            # Join au to aou: the first class of a subquery can't have an alias, and "au" has to mean the sentinel here.
            "select": {"aou": ["id"]},
            "from": {"aou": {"m": {"class": "au", "fkey": "id", "field": "home_ou"}}},
            "where": {
                "+m": {
                    "deleted": "f",
                    "usrgroup": self._inside,
                    "-and": [{"home_ou": {"<>": {"+au": "home_ou"}}}, *not_seen],
                }
            },
        }
        somewhere = [{"home_ou": {"in": homes}}, *([{"home_ou": seen}] if seen else [])]
        return {"-or": somewhere, "-not-exists": elsewhere}


MAX_MEMBERS = 5_000
"""Larger groups aren't read: a real gateway gets stuck on answers not much larger than theirs."""

_MAX_OTHERS = 500
"""How many extra rows to allow for. Most are staff who set penalties."""

_PATRON, _STAFF = PENALTY_FIELDS.index("usr"), PENALTY_FIELDS.index("staff")

# Fleshing costs the ILS two queries per row, which is cheaper for a family than two more calls.
_FLESHED = ("card", "standing_penalties")


@dataclass(frozen=True)
class VisiblePatrons:
    """The visible members of a group, without their fines.

    ``records`` and ``rows`` are the members, ``barcodes`` are by card id. ``penalties`` are those in force. ``names``
    are those of visible staff and extra patrons, by id. ``complete`` means that no member is hidden,
    ``no_circulation_hidden`` that none of the circulations asked about is; if False, some may be hidden.
    """

    group: int
    records: tuple[Record, ...]
    rows: tuple[PatronRow, ...]
    barcodes: Mapping[int, str]
    penalties: tuple[PenaltyRow, ...]
    names: Mapping[int, str]
    complete: bool
    no_circulation_hidden: bool

    @cached_property
    def ids(self) -> frozenset[int]:
        return frozenset({row.id for row in self.rows})

    @cached_property
    def accounts(self) -> Mapping[int, PatronAccount]:
        """The members' accounts by patron id. A summary doesn't need them."""
        now = datetime.now(UTC)
        found = columns(self.records, "id", *ACCOUNT_FIELDS)
        return {id: PatronAccount.of(values, now) for id, *values in found}

    @property
    def named_org_units(self) -> frozenset[int]:
        """The ids of the org units that the members and their penalties refer to."""
        return frozenset({row.home_library for row in self.rows} | {row.org_unit for row in self.penalties})

    def patrons(self, org_units: OrgUnits) -> list[Patron]:
        """Make the members' patron records. Raises DataError if a home library isn't among the org units."""
        return make_patrons(self.rows, self.barcodes, org_units)

    @staticmethod
    def of_patron(gateway: Gateway, patron: int, viewer: GroupViewer) -> VisiblePatrons | None:
        """Read a patron's group, like :meth:`of_group`. Return None if the patron is deleted, unknown or hidden."""
        if gateway.reads_replicas and (record := read_patron(gateway, patron)) is not None:
            if record.deleted:
                return None
            family = VisiblePatrons.of_group(gateway, int(record.usrgroup), viewer)
            if patron not in family.ids:
                raise not_replicated_yet()
            return family
        # Find the group number in the same query, so that the desk waits for one call instead of two.
        query = FamilyQuery.of_patron(patron, viewer)
        found = _search(gateway, query)
        group = next((record.usrgroup for record in found if record.id == patron and not record.deleted), None)
        return None if group is None else _split_rows(group, found, query)

    @staticmethod
    def of_group(gateway: Gateway, group: int, viewer: GroupViewer) -> VisiblePatrons:
        """Read the group with this number.

        If plain reads go to replicas, take the membership from the primary database. Other fields are as old as the
        replica. This takes one more concurrent call, one for each member who joined or left, and another for those who
        joined together. The records of members who may have changed are read as well, because their group lead flag may
        have changed. Without VIEW_USER at its own library, the account can't list members and gets the replica's group.

        Raises:
            DataError: the group has more than ``MAX_MEMBERS`` members, or member lists and records keep contradicting
            each
                other.
        """
        query = FamilyQuery.of_number(group, viewer)

        def members() -> frozenset[int] | None:
            try:
                return read_member_ids(gateway, [group], primary=True)
            except PermissionDeniedError:
                return None

        def plain() -> VisiblePatrons:
            return _split_rows(group, _search(gateway, query), query)

        if not gateway.reads_replicas:
            return plain()
        for _ in range(_MAX_READINGS):
            found, ids = gateway.in_parallel(plain, members)
            if ids is None:
                return cast("VisiblePatrons", found)
            # Members who joined are in another group on the replica, so read their rows by id.
            pages = [{"id": page, "deleted": "f"} for page in batched(sorted(ids - found.ids), IDS_AT_ONCE)]
            arrived = [record for where in pages for record in _fleshed(gateway, where, len(where["id"]) + 1)]
            joined = _of_members(group, arrived, _penalties(arrived))
            visible = found.ids | joined.ids
            changed = visible if viewer.changed is None else visible & viewer.changed
            to_check = sorted((visible - ids) | joined.ids | changed)
            # The two reads aren't simultaneous. A patron's own record decides who is right about a membership.
            records = dict(zip(to_check, gateway.map(partial(read_patron, gateway), to_check), strict=True))
            if all(
                (record is not None and not record.deleted and int(record.usrgroup) == group) is (id in ids)
                for id, record in records.items()
            ):
                return _merge(found, joined, ids, records)
        raise inconsistent_members()


def _merge(
    found: VisiblePatrons, joined: VisiblePatrons, ids: frozenset[int], records: dict[int, Record | None]
) -> VisiblePatrons:
    leads = {id: bool(record.master_account) for id, record in records.items() if record is not None}
    rows = tuple(
        row._replace(group=found.group, group_lead=leads.get(row.id, row.group_lead))
        for row in (*found.rows, *joined.rows)
        if row.id in ids
    )
    visible = {row.id for row in rows}
    return replace(
        found,
        rows=rows,
        barcodes={**found.barcodes, **joined.barcodes},
        records=tuple(record for record in (*found.records, *joined.records) if record.id in visible),
        penalties=tuple(row for row in (*found.penalties, *joined.penalties) if row.patron in visible),
        complete=ids == visible,
        # The query didn't ask about circulations of members who just joined.
        no_circulation_hidden=found.no_circulation_hidden and not joined.rows,
    )


def _search(gateway: Gateway, query: FamilyQuery) -> list[Record]:
    gateway.idl("au", "ac", "ausp", "mous")  # load them in one request, together with those needed next
    most = MAX_MEMBERS + _MAX_OTHERS
    found = _fleshed(gateway, query.where, most)
    if len(found) == most:
        raise _too_large()
    return found


def _fleshed(gateway: Gateway, where: Query, limit: int) -> list[Record]:
    fields = (*PATRON_FIELDS, *ACCOUNT_FIELDS, "deleted")
    return gateway.pcrud.search("au", where, select=fields, flesh=1, flesh_fields={"au": _FLESHED}, limit=limit)


def _split_rows(group: int, found: list[Record], query: FamilyQuery) -> VisiblePatrons:
    members: dict[int, Record] = {}
    others: dict[int, Record] = {}
    numbers: dict[int, int] = {}
    for record, (id, number, deleted) in zip(found, columns(found, "id", "usrgroup", "deleted"), strict=True):
        if number == group and not deleted:
            members[id] = record
        else:
            others[id], numbers[id] = record, number
    if len(members) > MAX_MEMBERS:
        raise _too_large()
    penalties = _penalties(members.values())
    staff = {row[_STAFF] for row in penalties if row[_STAFF] is not None}
    extra = query.interpret(members.keys(), numbers, staff)
    if extra is None:
        raise unreadable(
            "groups-not-asked-for",
            "patrons of other groups",
            advice="check any proxy in between: it may have mixed up answers",
        )
    named, complete, no_circulation_hidden = extra
    named_rows = map(PatronRow._make, columns([others[id] for id in named], *PATRON_FIELDS))
    return _of_members(
        group,
        members.values(),
        penalties,
        names={row.id: row.name for row in named_rows},
        complete=complete,
        no_circulation_hidden=no_circulation_hidden,
    )


def _of_members(
    group: int,
    members: Collection[Record],
    penalties: list[tuple[Any, ...]],
    *,
    names: Mapping[int, str] | None = None,
    complete: bool = False,
    no_circulation_hidden: bool = False,
) -> VisiblePatrons:
    """Make the record from the members' rows and their ``penalties``."""
    rows = list(map(PatronRow._make, columns(members, *PATRON_FIELDS)))
    cards: list[Any] = [row.card for row in rows if isinstance(row.card, Record)]
    barcodes = list(columns(cards, "id", "barcode"))
    ids = (id for id, _barcode in barcodes)
    return VisiblePatrons(
        group,
        tuple(members),
        rows=tuple(row._replace(card=next(ids)) if isinstance(row.card, Record) else row for row in rows),
        barcodes=dict(barcodes),
        penalties=tuple(PenaltyRow.select_in_force(penalties)),
        names=names or {},
        complete=complete,
        no_circulation_hidden=no_circulation_hidden,
    )


def _too_large() -> DataError:
    return DataError(
        "the group has more than {most:,} members",
        advice="see the accidental groups in the audit",
        code="group-too-large",
        values={"most": MAX_MEMBERS},
    )


def _penalties(records: Collection[Record]) -> list[tuple[Any, ...]]:
    found: list[Record] = []
    owners: list[int] = []
    for id, rows in columns(records, "id", "standing_penalties"):
        # The ILS sends an empty list for no penalties (oils_sql.c, doFieldmapperSearch). A missing list mustn't pass
        # for none.
        if not isinstance(rows, list):
            raise unreadable("penalties-not-a-list", "a patron's penalties aren't a list")
        found += rows
        owners += [id] * len(rows)
    penalties = list(columns(found, *PENALTY_FIELDS))
    # A mixed-up answer would show another patron's penalties.
    if [row[_PATRON] for row in penalties] != owners:
        raise unreadable("penalties-of-another", "penalties of another patron")
    return penalties
