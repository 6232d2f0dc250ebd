"""Patrons and the groups they are in, as the ILS has them now: what showing and moving begin with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Any

from evergreen_groups.groups.barcodes import all_spellings, first_spelled
from evergreen_groups.groups.current_fines import put_fines_right
from evergreen_groups.groups.hidden_of_few import find_hidden_of_few
from evergreen_groups.groups.models import Group, Member
from evergreen_groups.groups.patrons import ACCOUNT_FIELDS, PATRON_FIELDS, PatronAccount, PatronRow, read_barcodes
from evergreen_groups.groups.reader import make_members
from evergreen_groups.ils import OrgUnits, read_own_fines

if TYPE_CHECKING:
    from decimal import Decimal

    from evergreen_groups.gateway import Gateway

MEMBER_FIELDS = (*PATRON_FIELDS, "deleted", *ACCOUNT_FIELDS)
"""The fields of ``au`` that :meth:`MembershipReader.completed` takes, in their order."""


@dataclass(frozen=True, slots=True)
class Membership:
    """Patrons with their accounts, by id, and where groups were asked for these, by number; nothing is decided yet.

    ``own_fines`` has those of the patrons who have an open transaction, be it that they owe 0.00 on it.
    """

    members: Mapping[int, Member]
    accounts: Mapping[int, PatronAccount]
    groups: Mapping[int, Group]
    own_fines: Mapping[int, Decimal]


@dataclass(frozen=True, slots=True)
class Card:
    """A library card that was looked up by its barcode; ``active`` says whether that very card is."""

    barcode: str
    active: bool
    member: Member
    account: PatronAccount


class MembershipReader:
    """Reads patrons and groups, always a list at a time. ``org_units`` gives the ILS's, or they are read once."""

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
        """Look patrons up by card; blanks in a barcode are ignored (:func:`spellings`), capitals aren't.

        The answer goes by the barcodes as they were given (``patrons-011``); unknown ones are left out.
        """
        given = list(barcodes)
        # Each barcode once: a value that is named in two lists brings its rows twice.
        cards = {
            record.barcode: record
            for batch in self._gateway.pcrud.by_values("ac", "barcode", all_spellings(given), unique=True)
            for record in batch
        }
        found = self.by_ids({card.usr for card in cards.values()})
        known = ((barcode, first_spelled(barcode, cards)) for barcode in given)
        return {
            barcode: Card(card.barcode, bool(card.active), found.members[card.usr], found.accounts[card.usr])
            for barcode, card in known
            if card is not None and card.usr in found.members
        }

    def by_ids(self, ids: Collection[int]) -> Membership:
        """Read patrons by id, deleted ones too; those that the account can't see are left out."""
        found = self._gateway.pcrud.columns_by_values("au", MEMBER_FIELDS, "id", sorted(ids))
        return self.completed(chain.from_iterable(found))

    def by_groups(self, numbers: Collection[int]) -> Membership:
        """Read whole groups: the visible members, what they owe, and what is hidden.

        Raises:
            PermissionDeniedError: the account may see no patrons at its own library.
        """
        wanted = sorted(set(numbers))
        found = self._gateway.pcrud.columns_by_values(
            # Deleted patrons keep their group's number and come unless they are excluded (pcrud-009), by "f": JSON's
            # false matches nothing (pcrud-011).
            "au",
            MEMBER_FIELDS,
            "usrgroup",
            wanted,
            where={"deleted": "f"},
        )
        read = self.completed(chain.from_iterable(found))
        by_group: dict[int, list[Member]] = {number: [] for number in wanted}
        for member in read.members.values():
            by_group[member.patron.group].append(member)
        # Asked whatever the account may see: moving people is where a member that nobody sees does harm.
        visible = {number: {member.id for member in found} for number, found in by_group.items()}
        hidden = find_hidden_of_few(self._gateway, visible, lambda: [unit.id for unit in self.org_units])
        groups = {number: Group.by_name(number, found, hidden.get(number)) for number, found in by_group.items()}
        return replace(read, groups=groups)

    def completed(
        self,
        records: Iterable[tuple[Any, ...]],
        barcodes: Mapping[int, str] | None = None,
        groups: Sequence[int] = (),
    ) -> Membership:
        """Patrons with what they owe, their cards and home libraries, of the ``MEMBER_FIELDS`` of their records.

        What stands behind these fields in a record is left alone. ``barcodes`` are those of their cards, by the cards'
        ids, where they are known; else they are read beside what patrons owe. One call each. ``groups`` are the numbers
        of those that all of the patrons are in, where these are known: then what they owe is put right
        (:func:`put_fines_right`).
        """
        now = datetime.now(UTC)
        width = len(PATRON_FIELDS)
        rows: list[tuple[PatronRow, bool]] = []
        accounts: dict[int, PatronAccount] = {}
        for record in records:
            row = PatronRow._make(record[:width])
            rows.append((row, bool(record[width])))
            accounts[row.id] = PatronAccount.of(record[width + 1 : len(MEMBER_FIELDS)], now)
        readers: tuple[Callable[[], Any], ...] = (
            lambda: put_fines_right(self._gateway, groups, accounts, lambda: read_own_fines(self._gateway, accounts)),
            lambda: barcodes if barcodes is not None else read_barcodes(self._gateway, (row.card for row, _ in rows)),
            lambda: self.org_units if rows else None,
        )
        own_fines, known_barcodes, org_units = self._gateway.map(lambda read: read(), readers)
        patrons = [
            row.patron(known_barcodes.get(row.card), org_units.unit(row.home_library), deleted=deleted)
            for row, deleted in rows
        ]
        members = {member.id: member for member in make_members(patrons, own_fines, {})}
        return Membership(members, accounts, {}, own_fines)
