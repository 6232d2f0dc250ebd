"""Read families: those of named patrons, the desk's, and those of a report or an audit from rows of a search."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from evergreen_groups.errors import PlanError
from evergreen_groups.gateway import Record, columns
from evergreen_groups.groups.barcodes import all_spellings, first_match
from evergreen_groups.groups.contacts import read_contacts
from evergreen_groups.groups.families import (
    FIELDS,
    MEMBER_FIELDS,
    Card,
    Families,
    PatronReference,
    find_card,
    read_people,
)
from evergreen_groups.groups.hidden import find_hidden
from evergreen_groups.groups.models import (
    PATRON_FIELDS,
    Group,
    HiddenMembers,
    Member,
    PatronAccount,
    PatronRow,
    decide_patrons,
    make_members,
    make_patrons,
)
from evergreen_groups.groups.replica import PrimarySource, source_of
from evergreen_groups.ils import Limits, OrgUnits, read_own_fines
from evergreen_groups.message import Progress, silent

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups.panel import GroupViewer, VisiblePatrons
    from evergreen_groups.ils import Access
    from evergreen_groups.policy import Decision


def find_owner(gateway: Gateway, barcode: str) -> tuple[int, bool] | None:
    """Return a card's owner (patron id) and whether it is active; None if hidden or unknown, even to the primary."""
    card = find_card(gateway, barcode)
    if card is not None:
        return int(card.usr), bool(card.active)
    return source_of(gateway).owners([barcode]).get(barcode)


class FamilyReader:
    """Reads patrons and their groups. If plain reads go to replicas, corrects all answers but those of :meth:`by_ids`.

    ``org_units`` provides the ILS's org units; by default they are read once.
    """

    def __init__(self, gateway: Gateway, org_units: Callable[[], OrgUnits] | None = None) -> None:
        self._gateway = gateway
        self._read_org_units = org_units or partial(OrgUnits.read, gateway)

    @cached_property
    def _source(self) -> PrimarySource:
        return source_of(self._gateway)  # may take a call

    @cached_property
    def org_units(self) -> OrgUnits:
        """All org units of the ILS."""
        return self._read_org_units()

    def by_ids(self, ids: Collection[int]) -> Families:
        """Read patrons by id, including deleted ones. Leave out hidden patrons."""
        found = self._gateway.pcrud.columns_by_values("au", MEMBER_FIELDS, "id", sorted(ids))
        return self._families(found)

    def of_patron(self, patron: int, viewer: GroupViewer) -> VisiblePatrons | None:
        """Read a patron's group for the desk, like :meth:`of_group`. Return None if the patron is deleted, unknown or
        hidden.
        """
        return self._source.of_patron(patron, viewer)

    def of_group(self, number: int, viewer: GroupViewer) -> VisiblePatrons:
        """Read the group with this number for the desk.

        Raises DataError if the group has more than ``panel.MAX_MEMBERS`` members, or if patrons keep being moved
        between reads.
        """
        return self._source.of_group(number, viewer)

    def fines_of_group(
        self, number: int, members: Collection[int], read: Callable[[], Mapping[int, Decimal]]
    ) -> Mapping[int, Decimal]:
        """Return what a group's visible members (ids) owe. ``read`` reads it by pcrud."""
        return self._source.fines([number], members, read)

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
        wanted = list(dict.fromkeys(references))
        barcodes = [named for named in wanted if isinstance(named, str)]
        ids = [named for named in wanted if isinstance(named, int)]
        # Name families by subqueries, so the first stage takes a single call.
        people: Mapping[int, Record] = read_people(
            self._gateway,
            [{"id": id} for id in ids]
            + [{"barcode": barcode} for barcode in all_spellings(barcodes)]
            + [{"group": group} for group in groups],
        )
        cards = {card.barcode: card for person in people.values() for card in person.cards}
        matches = ((barcode, first_match(barcode, cards)) for barcode in barcodes)
        owners = {barcode: (int(card.usr), bool(card.active)) for barcode, card in matches if card is not None}
        owners |= self._source.owners(barcode for barcode in barcodes if barcode not in owners)
        if active_cards and not all(barcode in owners and owners[barcode][1] for barcode in barcodes):
            raise PlanError(
                "no visible patron has an active card with this barcode",
                advice="look up the patron",
                code="no-active-card",
            )
        named = {*ids, *(patron for patron, _active in owners.values())}
        people, members = self._source.correct(people, named, groups)
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
        rows = [row for person in people for row in columns([person], *FIELDS)]
        found: list[Any] = self._gateway.in_parallel(
            lambda: self._families(rows, barcodes, sorted(by_group), with_fines=with_fines),
            lambda: self._source.hidden(by_group, lambda: [unit.id for unit in self.org_units], primary),
            lambda: (
                read_contacts(self._gateway, {row[0]: row[len(MEMBER_FIELDS) :] for row in rows})
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
        """Combine rows (``MEMBER_FIELDS``, further columns are ignored) with fines, cards and home libraries.

        ``barcodes`` are by card id; by default they are read. Fines are corrected if ``groups`` has the numbers of all
        the patrons' groups.
        """
        now = datetime.now(UTC)
        width = len(PATRON_FIELDS)
        rows: list[tuple[PatronRow, bool]] = []
        accounts: dict[int, PatronAccount] = {}
        for record in records:
            row = PatronRow._make(record[:width])
            rows.append((row, bool(record[width])))
            accounts[row.id] = PatronAccount.of(record[width + 1 : len(MEMBER_FIELDS)], now)

        def fines() -> Mapping[int, Decimal]:
            if not with_fines:
                return {}
            read = partial(read_own_fines, self._gateway, accounts)
            return self._source.fines(groups, accounts, read) if groups else read()

        own_fines, known_barcodes, org_units = self._gateway.in_parallel(
            fines,
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


@dataclass(frozen=True, slots=True)
class GroupReader:
    """Turns rows of patrons into groups with own fines, cards and hidden members.

    ``limits`` decide who is over the limit; without them, nothing is decided. ``progress`` reports on the balances of
    hidden members.
    """

    gateway: Gateway
    org_units: OrgUnits
    access: Access
    limits: Limits | None = None
    progress: Progress = silent

    def with_limits(self, limits: Limits) -> GroupReader:
        return replace(self, limits=limits)

    def build_groups(self, rows: Iterable[PatronRow]) -> list[Group]:
        """Build groups from ``rows``, which must be all visible members of each group, with hidden members."""
        by_group: dict[int, list[Member]] = {}
        for member in self._members(rows):
            by_group.setdefault(member.patron.group, []).append(member)
        hidden: dict[int, HiddenMembers] = {}
        # No member is hidden from an account that sees all patrons. For a large report, this saves twenty calls or
        # more.
        if not self.access.everywhere:
            visible = {group: {member.id for member in members} for group, members in by_group.items()}
            hidden = find_hidden(
                self.gateway,
                visible,
                lambda: [unit.id for unit in self.org_units],
                progress=self.progress,
            )
        return [Group.by_fines(number, members, hidden.get(number)) for number, members in by_group.items()]

    def members(self, rows: Iterable[PatronRow], *, cards: bool) -> dict[int, Member]:
        """Return the patrons by id, with own fines and, if ``cards``, barcodes, whatever their groups."""
        return {member.patron.id: member for member in self._members(rows, cards=cards)}

    def _members(self, rows: Iterable[PatronRow], *, cards: bool = True) -> list[Member]:
        by_id = {row.id: row for row in rows}
        # Read lists concurrently. Fleshed cards would take the ILS a query per row.
        own_fines, barcodes = self.gateway.in_parallel(
            # Leave out open transactions of 0.00, which makes answers smaller, unless a limit counts them.
            lambda: read_own_fines(
                self.gateway, by_id, debtors_only=self.limits is None or not self.limits.need_transactions
            ),
            lambda: Member.read_barcodes(self.gateway, (row.card for row in by_id.values())) if cards else {},
        )
        patrons = make_patrons(by_id.values(), barcodes, self.org_units)
        decisions: dict[int, Decision] = {}
        if self.limits is not None:
            decisions = decide_patrons(self.gateway, self.limits, patrons, own_fines)
        return make_members(patrons, own_fines, decisions)

    def read_groups(self, numbers: Iterable[int]) -> dict[int, Group]:
        """Read the groups with these numbers, by number. Leave out groups without a visible member."""
        # Deleted patrons keep their group's number (pcrud-009). Send "f", because JSON's false matches nothing.
        rows = self.gateway.pcrud.columns_by_values(
            "au", PATRON_FIELDS, "usrgroup", sorted(set(numbers)), where={"deleted": "f"}
        )
        return {group.number: group for group in self.build_groups(map(PatronRow._make, rows))}
