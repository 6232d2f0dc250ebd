"""Read families: those of named patrons, the desk's, and those of a report or an audit from rows of a search."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from evergreen_groups.errors import PlanError
from evergreen_groups.gateway import Record, columns
from evergreen_groups.groups import panel
from evergreen_groups.groups.barcodes import first_match, spellings
from evergreen_groups.groups.contacts import read_contacts
from evergreen_groups.groups.families import FIELDS, MEMBER_FIELDS, Card, Families, PatronReference, read_people
from evergreen_groups.groups.hidden import find_hidden
from evergreen_groups.groups.models import PATRON_FIELDS, Group, HiddenMembers, Member, PatronAccount, PatronRow
from evergreen_groups.ils import Limits, OrgUnits, read_own_fines
from evergreen_groups.message import Progress, silent
from evergreen_groups.values import ZERO

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.ils import Access

People = Mapping[int, Record]
"""Records of patrons with their cards, by id."""
MemberLists = Mapping[int, frozenset[int]]
"""The ids of all members, hidden ones included, by group number."""


class FamilyReader:
    """Reads patrons and their groups, as plain reads have them.

    ``org_units`` provides the ILS's org units; by default they are read once.
    """

    def __init__(self, gateway: Gateway, org_units: Callable[[], OrgUnits] | None = None) -> None:
        self._gateway = gateway
        self._read_org_units = org_units or partial(OrgUnits.read, gateway)

    @cached_property
    def org_units(self) -> OrgUnits:
        return self._read_org_units()

    def owners(self, barcodes: Iterable[str]) -> Mapping[str, tuple[int, bool]]:
        """Return the owners (patron ids) of cards that plain reads didn't find, and whether the cards are active."""
        return {}

    def fines(
        self, groups: Sequence[int], patrons: Collection[int], read: Callable[[], Mapping[int, Decimal]]
    ) -> Mapping[int, Decimal]:
        """Return what ``patrons`` (ids), the visible members of ``groups``, owe. ``read`` reads it by pcrud."""
        return read()

    def of_patron(self, patron: int, viewer: panel.GroupViewer) -> panel.VisiblePatrons | None:
        """Like :meth:`of_group` for a patron's group. Return None if the patron is deleted, unknown or hidden."""
        # Find the group number in the same query, so that the desk waits for one call instead of two.
        query = panel.FamilyQuery.of_patron(patron, viewer)
        found = panel.search(self._gateway, query)
        group = next((record.usrgroup for record in found if record.id == patron and not record.deleted), None)
        return None if group is None else panel.split_rows(group, found, query)

    def of_group(self, number: int, viewer: panel.GroupViewer) -> panel.VisiblePatrons:
        """Read the group with this number for the desk.

        Raises DataError if it has more than ``panel.MAX_MEMBERS`` members, or patrons keep being moved between reads.
        """
        query = panel.FamilyQuery.of_number(number, viewer)
        return panel.split_rows(number, panel.search(self._gateway, query), query)

    def by_ids(self, ids: Collection[int]) -> Families:
        """Read patrons by id, including deleted ones. Leave out hidden patrons."""
        rows = list(self._gateway.pcrud.columns_by_values("au", MEMBER_FIELDS, "id", sorted(ids)))
        card = PATRON_FIELDS.index("card")
        own_fines, barcodes, _org_units = self._gateway.in_parallel(
            lambda: read_own_fines(self._gateway, [row[0] for row in rows]),
            lambda: Member.read_barcodes(self._gateway, (row[card] for row in rows)),
            lambda: self.org_units if rows else None,
        )
        return self._families(rows, barcodes, own_fines)

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

        Takes four calls for up to 200 patrons, and two more or as many as :func:`find_hidden` if members are hidden:
        first the patrons and their cards, then fines, members and contacts concurrently. Without ``with_fines``, all
        members seem to owe nothing.

        Raises PlanError if ``active_cards`` is set and a barcode isn't that of an active card, PermissionDeniedError if
        the account may not see patrons at its own library, and DataError if a replica doesn't have a named patron yet,
        or patrons keep being moved between reads.
        """
        wanted = list(dict.fromkeys(references))
        barcodes = [named for named in wanted if isinstance(named, str)]
        ids = [named for named in wanted if isinstance(named, int)]
        # Name families by subqueries, so the first stage takes a single call.
        as_on_cards = dict.fromkeys(spelling for barcode in barcodes for spelling in spellings(barcode))
        people: People = read_people(self._gateway, ids, as_on_cards, groups)
        cards = {card.barcode: card for person in people.values() for card in person.cards}
        matches = ((barcode, first_match(barcode, cards)) for barcode in barcodes)
        owners = {barcode: (int(card.usr), bool(card.active)) for barcode, card in matches if card is not None}
        owners |= self.owners(barcode for barcode in barcodes if barcode not in owners)
        if active_cards and not all(barcode in owners and owners[barcode][1] for barcode in barcodes):
            raise PlanError(
                "no visible patron has an active card with this barcode",
                advice="look up the patron",
                code="no-active-card",
            )
        named = {*ids, *(patron for patron, _active in owners.values())}
        people, member_lists = self._corrected(people, named, groups)
        # Subqueries ignore permissions (pcrud-141), so naming a hidden patron also finds the family. Drop those
        # families.
        concerned = {person.usrgroup for id, person in people.items() if id in named}.union(groups)
        by_group: dict[int, set[int]] = {number: set() for number in concerned}
        family = [person for person in people.values() if person.usrgroup in concerned]
        for person in family:
            if not person.deleted:
                by_group[person.usrgroup].add(person.id)
        # One by one, because the primary's records may have come with another IDL, after an upgrade of the server.
        rows = {person.id: row for person in family for row in columns([person], *FIELDS)}
        contact_rows = {id: row[len(MEMBER_FIELDS) :] for id, row in rows.items()} if with_contacts else {}
        numbers, read_fines = sorted(by_group), partial(read_own_fines, self._gateway, list(rows))
        # Check for hidden members even if the account sees all patrons: a missed member would do harm in a move.
        own_fines, hidden, contacts, _org_units = self._gateway.in_parallel(
            lambda: self.fines(numbers, rows.keys(), read_fines) if with_fines and rows else {},
            lambda: self._hidden(by_group, member_lists),
            lambda: read_contacts(self._gateway, contact_rows),
            lambda: self.org_units if rows else None,
        )
        card_barcodes = {card.id: card.barcode for person in family for card in person.cards}
        read = self._families(rows.values(), card_barcodes, own_fines)
        by_number = {
            number: Group.by_name(number, [read.members[id] for id in sorted(members)], hidden.get(number))
            for number, members in by_group.items()
        }
        found: dict[PatronReference, Card] = {
            barcode: read.card(patron, barcode, active=active)
            for barcode, (patron, active) in owners.items()
            if patron in read.members
        }
        found |= {id: read.card(id) for id in ids if id in read.members}
        return replace(read, groups=by_number, contacts=contacts, cards=found)

    def _corrected(self, people: People, named: Set[int], groups: Collection[int]) -> tuple[People, MemberLists | None]:
        """Return the people with the ``named`` patrons (ids), their groups and ``groups`` as they are now.

        Also return the members of these groups, None if plain reads will do.
        """
        return people, None

    def _hidden(self, visible: Mapping[int, Set[int]], members: MemberLists | None) -> Mapping[int, HiddenMembers]:
        """Find hidden members, as :func:`find_hidden` does. ``members`` is what :meth:`_corrected` returned."""
        return find_hidden(self._gateway, visible, lambda: [unit.id for unit in self.org_units])

    def _families(
        self, rows: Iterable[tuple[Any, ...]], barcodes: Mapping[int, str], own_fines: Mapping[int, Decimal]
    ) -> Families:
        """Make members and accounts of rows (``MEMBER_FIELDS``, further columns are ignored)."""
        now, width = datetime.now(UTC), len(PATRON_FIELDS)
        accounts: dict[int, PatronAccount] = {}
        members: dict[int, Member] = {}
        for values in rows:
            row = PatronRow._make(values[:width])
            account = accounts[row.id] = PatronAccount.of(values[width + 1 : len(MEMBER_FIELDS)], now)
            deleted, juvenile = bool(values[width]), account.juvenile
            patron = row.patron(barcodes, self.org_units, deleted=deleted, juvenile=juvenile)
            members[row.id] = Member(patron, own_fines.get(row.id, ZERO))
        return Families(members, accounts, own_fines)


@dataclass(frozen=True, slots=True)
class GroupReader:
    """Turns rows of patrons into groups with own fines, cards and hidden members, and decides by ``limits``, if any."""

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
        for member in self.members(rows, cards=True).values():
            by_group.setdefault(member.patron.group, []).append(member)
        hidden: dict[int, HiddenMembers] = {}
        # No member is hidden from an account that sees all patrons. For a large report, this saves twenty calls or
        # more.
        if not self.access.everywhere:
            visible = {group: {member.id for member in members} for group, members in by_group.items()}
            org_units = [unit.id for unit in self.org_units]
            hidden = find_hidden(self.gateway, visible, lambda: org_units, progress=self.progress)
        for members in by_group.values():
            members.sort(key=lambda member: (-member.own_fines, member.id))
        return [Group.of(number, members, hidden.get(number)) for number, members in by_group.items()]

    def members(self, rows: Iterable[PatronRow], *, cards: bool) -> dict[int, Member]:
        """Return the patrons by id, with own fines and, if ``cards``, barcodes, whatever their groups."""
        by_id = {row.id: row for row in rows}
        # Leave out open transactions of 0.00, which makes answers smaller, unless a limit counts them.
        debtors_only = self.limits is None or not self.limits.need_transactions
        # Read lists concurrently. Fleshed cards would take the ILS a query per row.
        own_fines, barcodes = self.gateway.in_parallel(
            lambda: read_own_fines(self.gateway, by_id, debtors_only=debtors_only),
            lambda: Member.read_barcodes(self.gateway, (row.card for row in by_id.values())) if cards else {},
        )
        patrons = [row.patron(barcodes, self.org_units) for row in by_id.values()]
        members = Member.of_patrons(self.gateway, self.limits, patrons, own_fines, where_visible=False)
        return {member.patron.id: member for member in members}

    def read_groups(self, numbers: Iterable[int]) -> dict[int, Group]:
        """Read the groups with these numbers, by number. Leave out groups without a visible member."""
        # Deleted patrons keep their group's number (pcrud-009). Send "f", because JSON's false matches nothing.
        rows = self.gateway.pcrud.columns_by_values(
            "au", PATRON_FIELDS, "usrgroup", sorted(set(numbers)), where={"deleted": "f"}
        )
        return {group.number: group for group in self.build_groups(map(PatronRow._make, rows))}
