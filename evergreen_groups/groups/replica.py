"""Read families at sites whose plain reads come from a replica, a copy of the database that is seconds behind.

:class:`ReplicaFamilyReader` reads memberships, group leads and balances from the primary database as well, by the
``.authoritative`` methods, and corrects the rows of the replica.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

from evergreen_groups.batches import batched
from evergreen_groups.errors import PermissionDeniedError
from evergreen_groups.groups import hidden, panel
from evergreen_groups.groups.families import find_card, not_replicated_yet, read_owners, read_patron, read_people
from evergreen_groups.groups.reader import FamilyReader, MemberLists, People
from evergreen_groups.ils import OrgUnits, read_fines_of

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway, Record
    from evergreen_groups.groups.models import HiddenMembers

_MAX_READINGS = 3


def family_reader(gateway: Gateway, org_units: Callable[[], OrgUnits] | None = None) -> FamilyReader:
    """Return the reader for the database that plain reads come from. May take a call."""
    return (ReplicaFamilyReader if gateway.reads_replicas else FamilyReader)(gateway, org_units)


def find_owner(gateway: Gateway, barcode: str) -> tuple[int, bool] | None:
    """Return a card's owner (patron id) and whether it is active; None if hidden or unknown, even to the primary."""
    card = find_card(gateway, barcode)
    if card is not None:
        return int(card.usr), bool(card.active)
    return family_reader(gateway).owners([barcode]).get(barcode)


class ReplicaFamilyReader(FamilyReader):
    """Reads patrons and their groups, and corrects all answers but those of :meth:`by_ids`."""

    def owners(self, barcodes: Iterable[str]) -> Mapping[str, tuple[int, bool]]:
        """Read the cards from the primary database: one that has just been issued isn't on the replica yet."""
        return read_owners(self._gateway, barcodes)

    def fines(
        self, groups: Sequence[int], patrons: Collection[int], read: Callable[[], Mapping[int, Decimal]]
    ) -> Mapping[int, Decimal]:
        """Take one more concurrent call, and one for each patron with differing balances.

        If the session may not see balances, return those of the replica.
        """
        gateway = self._gateway
        fines, now = gateway.in_parallel(read, lambda: hidden.read_visible_balances(gateway, groups, primary=True))

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

    def of_patron(self, patron: int, viewer: panel.GroupViewer) -> panel.VisiblePatrons | None:
        """Ask the primary database for the patron's group first. Raises DataError if the replica lacks the patron."""
        record = read_patron(self._gateway, patron)
        if record is None:
            return super().of_patron(patron, viewer)
        if record.deleted:
            return None
        family = self.of_group(int(record.usrgroup), viewer)
        if patron not in family.ids:
            raise not_replicated_yet()
        return family

    def of_group(self, number: int, viewer: panel.GroupViewer) -> panel.VisiblePatrons:
        """Take the membership from the primary database. Other fields are as old as the replica.

        This takes one more concurrent call, one for each member who joined or left or whose group lead flag may have
        changed, and another for those who joined together. Without VIEW_USER at its own library, the account can't
        list members and gets the replica's group. Raises DataError if lists and records keep contradicting each other.
        """
        gateway = self._gateway

        def members() -> frozenset[int] | None:
            try:
                return hidden.read_member_ids(gateway, [number], primary=True)
            except PermissionDeniedError:
                return None

        for _ in range(_MAX_READINGS):
            plain: panel.VisiblePatrons
            plain, ids = gateway.in_parallel(partial(super().of_group, number, viewer), members)
            if ids is None:
                return plain
            # Members who joined are in another group on the replica, so read their rows by id.
            pages = [{"id": page, "deleted": "f"} for page in batched(sorted(ids - plain.ids), hidden.IDS_AT_ONCE)]
            arrived = [record for where in pages for record in panel.fleshed(gateway, where, len(where["id"]) + 1)]
            joined = panel.of_members(number, arrived, panel.penalties_of(arrived))
            visible = plain.ids | joined.ids
            changed = visible if viewer.changed is None else visible & viewer.changed
            to_check = sorted((visible - ids) | joined.ids | changed)
            # The two reads aren't simultaneous. A patron's own record decides who is right about a membership.
            records = dict(zip(to_check, gateway.map(partial(read_patron, gateway), to_check), strict=True))
            if all(
                (record is not None and not record.deleted and int(record.usrgroup) == number) is (id in ids)
                for id, record in records.items()
            ):
                return _merged(plain, joined, ids, records)
        raise hidden.inconsistent_members()

    def _corrected(self, people: People, named: Set[int], groups: Collection[int]) -> tuple[People, MemberLists | None]:
        """Take a call for each named patron and each group, and one or two for members whom the replica has elsewhere.

        Raises DataError if the replica lacks a named patron, or if patrons keep being moved between reads.
        """
        gateway = self._gateway
        if not named <= people.keys():  # the replica has the patron, but not the new card
            people = {**read_people(gateway, named - people.keys()), **people}
        wanted = sorted(named)
        for _ in range(_MAX_READINGS):
            read = zip(wanted, gateway.map(partial(read_patron, gateway), wanted), strict=True)
            records = {id: record for id, record in read if record is not None}
            if not records.keys() <= people.keys():
                raise not_replicated_yet()
            numbers = {int(record.usrgroup) for record in records.values()}.union(groups)
            # pcrud always shows the session's own user, even without VIEW_USER at the user's library. read_patron
            # doesn't.
            numbers |= {int(people[id].usrgroup) for id in people.keys() & named - records.keys()}
            members = hidden.read_members(gateway, numbers)
            # They disagree if a patron was moved between the two reads.
            if all((id in members[int(one.usrgroup)]) is not bool(one.deleted) for id, one in records.items()):
                return self._with_moves(people, records, members), members
        raise hidden.inconsistent_members()

    def _with_moves(self, people: People, records: People, members: MemberLists) -> People:
        """Apply recent moves: drop members who left, add those who joined."""
        elsewhere = sorted(frozenset[int]().union(*members.values()) - people.keys())
        come = read_people(self._gateway, elsewhere)
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

    def _hidden(self, visible: Mapping[int, Set[int]], members: MemberLists | None) -> Mapping[int, HiddenMembers]:
        """Compare with the primary's members."""
        return hidden.find_on_primary(self._gateway, visible, members or {})


def _merged(
    plain: panel.VisiblePatrons,
    joined: panel.VisiblePatrons,
    ids: frozenset[int],
    records: Mapping[int, Record | None],
) -> panel.VisiblePatrons:
    leads = {id: bool(record.master_account) for id, record in records.items() if record is not None}
    rows = tuple(
        row._replace(group=plain.group, group_lead=leads.get(row.id, row.group_lead))
        for row in (*plain.rows, *joined.rows)
        if row.id in ids
    )
    visible = {row.id for row in rows}
    return replace(
        plain,
        rows=rows,
        accounts={**plain.accounts, **joined.accounts},
        barcodes={**plain.barcodes, **joined.barcodes},
        penalties=tuple(row for row in (*plain.penalties, *joined.penalties) if row.patron in visible),
        complete=ids == visible,
        # The query didn't ask about circulations of members who just joined.
        no_circulation=plain.no_circulation and not joined.rows,
    )
