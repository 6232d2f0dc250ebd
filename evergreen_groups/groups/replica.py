"""Read families at sites whose plain reads come from a replica, a copy of the database that is seconds behind.

:func:`source_of` returns one of two strategies. :class:`PrimarySource` takes plain reads as they are.
:class:`ReplicaSource` reads memberships, group leads and balances from the primary database as well, by the
``.authoritative`` methods, and corrects the rows of the replica.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, cast

from evergreen_groups.batches import batched
from evergreen_groups.errors import PermissionDeniedError
from evergreen_groups.gateway import Record
from evergreen_groups.groups import hidden, panel
from evergreen_groups.groups.families import not_replicated_yet, read_owners, read_patron, read_people
from evergreen_groups.ils import read_fines_of

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups.models import HiddenMembers
    from evergreen_groups.groups.panel import GroupViewer, VisiblePatrons

People = Mapping[int, Record]
"""Records of patrons with their cards, by id."""
Members = Mapping[int, frozenset[int]]
"""The ids of all members, hidden ones included, by group number."""

_MAX_READINGS = 3


class PrimarySource:
    """Reads families where plain reads come from the primary database."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def owners(self, barcodes: Iterable[str]) -> Mapping[str, tuple[int, bool]]:
        """Return the owners (patron ids) of cards that plain reads didn't find, and whether the cards are active."""
        return {}

    def correct(self, people: People, named: Set[int], groups: Collection[int]) -> tuple[People, Members | None]:
        """Return the people with the ``named`` patrons (ids), their groups and ``groups`` as the primary has them.

        Also return the members of these groups, None if plain reads will do.
        """
        return people, None

    def hidden(
        self, visible: Mapping[int, Set[int]], org_units: Callable[[], Collection[int]], members: Members | None
    ) -> dict[int, HiddenMembers]:
        """Find hidden members, as :func:`hidden.find_hidden` does. ``members`` is what :meth:`correct` returned."""
        return hidden.find_hidden(self._gateway, visible, org_units)

    def fines(
        self, groups: Sequence[int], patrons: Collection[int], read: Callable[[], Mapping[int, Decimal]]
    ) -> Mapping[int, Decimal]:
        """Return what ``patrons`` (ids), the visible members of ``groups``, owe. ``read`` reads it by pcrud."""
        return read()

    def of_patron(self, patron: int, viewer: GroupViewer) -> VisiblePatrons | None:
        """Read a patron's group. Return None if the patron is deleted, unknown or hidden."""
        # Find the group number in the same query, so that the desk waits for one call instead of two.
        query = panel.FamilyQuery.of_patron(patron, viewer)
        found = panel.search(self._gateway, query)
        group = next((record.usrgroup for record in found if record.id == patron and not record.deleted), None)
        return None if group is None else panel.split_rows(group, found, query)

    def of_group(self, number: int, viewer: GroupViewer) -> VisiblePatrons:
        """Read the group with this number."""
        query = panel.FamilyQuery.of_number(number, viewer)
        return panel.split_rows(number, panel.search(self._gateway, query), query)


class ReplicaSource(PrimarySource):
    """Reads families where plain reads come from a replica."""

    def owners(self, barcodes: Iterable[str]) -> Mapping[str, tuple[int, bool]]:
        """Read the cards from the primary database: one that has just been issued isn't on the replica yet."""
        return read_owners(self._gateway, barcodes)

    def correct(self, people: People, named: Set[int], groups: Collection[int]) -> tuple[People, Members | None]:
        """Take a call for each named patron and each group, and one or two for members whom the replica has elsewhere.

        Raises:
            DataError: the replica doesn't have one of the named patrons yet, or patrons keep being moved between reads.
        """
        gateway = self._gateway
        if not named <= people.keys():  # the replica has the patron, but not the new card
            people = {**read_people(gateway, [{"id": id} for id in named - people.keys()]), **people}
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

    def _with_moves(self, people: People, records: People, members: Members) -> People:
        """Apply recent moves: drop members who left, add those who joined."""
        elsewhere = sorted(frozenset[int]().union(*members.values()) - people.keys())
        come = read_people(self._gateway, [{"id": id} for id in elsewhere]) if elsewhere else {}
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

    def hidden(
        self, visible: Mapping[int, Set[int]], org_units: Callable[[], Collection[int]], members: Members | None
    ) -> dict[int, HiddenMembers]:
        """Compare with the primary's members."""
        return hidden.find_on_primary(self._gateway, visible, members or {})

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

    def of_patron(self, patron: int, viewer: GroupViewer) -> VisiblePatrons | None:
        """Ask the primary database for the patron's group first.

        Raises DataError if the replica doesn't have the patron yet.
        """
        record = read_patron(self._gateway, patron)
        if record is None:
            return super().of_patron(patron, viewer)
        if record.deleted:
            return None
        family = self.of_group(int(record.usrgroup), viewer)
        if patron not in family.ids:
            raise not_replicated_yet()
        return family

    def of_group(self, number: int, viewer: GroupViewer) -> VisiblePatrons:
        """Take the membership from the primary database. Other fields are as old as the replica.

        This takes one more concurrent call, one for each member who joined or left, and another for those who joined
        together. The records of members who may have changed are read as well, because their group lead flag may have
        changed. Without VIEW_USER at its own library, the account can't list members and gets the replica's group.

        Raises DataError if member lists and records keep contradicting each other.
        """
        gateway = self._gateway

        def members() -> frozenset[int] | None:
            try:
                return hidden.read_member_ids(gateway, [number], primary=True)
            except PermissionDeniedError:
                return None

        for _ in range(_MAX_READINGS):
            found, ids = gateway.in_parallel(partial(super().of_group, number, viewer), members)
            if ids is None:
                return cast("VisiblePatrons", found)
            # Members who joined are in another group on the replica, so read their rows by id.
            pages = [{"id": page, "deleted": "f"} for page in batched(sorted(ids - found.ids), hidden.IDS_AT_ONCE)]
            arrived = [record for where in pages for record in panel.fleshed(gateway, where, len(where["id"]) + 1)]
            joined = panel.of_members(number, arrived, panel.penalties_of(arrived))
            visible = found.ids | joined.ids
            changed = visible if viewer.changed is None else visible & viewer.changed
            to_check = sorted((visible - ids) | joined.ids | changed)
            # The two reads aren't simultaneous. A patron's own record decides who is right about a membership.
            records = dict(zip(to_check, gateway.map(partial(read_patron, gateway), to_check), strict=True))
            if all(
                (record is not None and not record.deleted and int(record.usrgroup) == number) is (id in ids)
                for id, record in records.items()
            ):
                return _merge(found, joined, ids, records)
        raise hidden.inconsistent_members()


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


def source_of(gateway: Gateway) -> PrimarySource:
    """Return the strategy for the database that plain reads come from."""
    return ReplicaSource(gateway) if gateway.reads_replicas else PrimarySource(gateway)
