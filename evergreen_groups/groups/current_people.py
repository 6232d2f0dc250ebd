"""People and groups as they are where changes are written, for sites whose plain reads come from copies.

Only who is in which group, and who leads it, is read there, person by person and group by group; whatever else stands
about people is the copy's, and so some seconds old.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from evergreen_groups.errors import DataError, PermissionDeniedError
from evergreen_groups.groups.barcodes import spellings
from evergreen_groups.groups.hidden_members import HiddenMembers, read_balances, read_member_ids
from evergreen_groups.groups.member_check import are_the_members, members_not_asked_for
from evergreen_groups.groups.people import read_people
from evergreen_groups.groups.written_patron import read_card_owner, read_patron

if TYPE_CHECKING:
    from decimal import Decimal

    from evergreen_groups.gateway import Gateway, Record
    from evergreen_groups.groups.people import Person

_MOST_READINGS = 3


@dataclass(frozen=True, slots=True)
class CurrentPeople:
    """``people`` (by id) with their groups and marks now, and the ids of the ``members`` of groups (numbers)."""

    people: Mapping[int, Person]
    members: Mapping[int, frozenset[int]]


def read_owners(gateway: Gateway, barcodes: Iterable[str]) -> dict[str, tuple[int, bool]]:
    """Whose each card is (a patron's id), and whether it is active; one call for each spelling of a barcode."""
    found = {}
    for barcode in barcodes:
        owners = (read_card_owner(gateway, spelling) for spelling in spellings(barcode))
        owner = next((owner for owner in owners if owner is not None), None)
        if owner is not None:
            found[barcode] = owner
    return found


def read_current(
    gateway: Gateway, people: Mapping[int, Person], named: Collection[int], groups: Collection[int]
) -> CurrentPeople:
    """What a copy says of ``people``, put right: the ``named`` (ids), and everybody of their groups and of ``groups``.

    One call for each of the named and each group, and one or two for those whom the copy has elsewhere.

    Raises:
        DataError: the copy doesn't have one of the named yet, or somebody is being moved all the time.
        PermissionDeniedError: the account may see no patrons at its own library.
    """
    wanted = sorted(named)
    for _ in range(_MOST_READINGS):
        read = zip(wanted, gateway.map(partial(read_patron, gateway), wanted), strict=True)
        records = {id: record for id, record in read if record is not None}
        if not records.keys() <= people.keys():
            raise not_copied_yet()
        numbers = {int(record.usrgroup) for record in records.values()}.union(groups)
        # Whom pcrud shows and this method doesn't: the session's own user, where it may look at nobody at home.
        numbers |= {people[id].group for id in people.keys() & set(wanted) - records.keys()}
        members = read_members(gateway, numbers)
        if _agree(records, members):
            return CurrentPeople(_put_right(gateway, people, records, members), members)
    raise members_not_asked_for()


def read_members(gateway: Gateway, groups: Collection[int], *, apart: bool = False) -> dict[int, frozenset[int]]:
    """The ids of everybody in each group now, by number; one call for each, ``apart`` as for :func:`read_member_ids`.

    Raises:
        PermissionDeniedError: the account has no VIEW_USER at its own library.
    """
    # Group by group: of all of them together nobody would see who has gone from one to another.
    numbers = sorted(groups)
    found = gateway.map(lambda group: read_member_ids(gateway, [group], current=True, apart=apart), numbers)
    return dict(zip(numbers, found, strict=True))


def find_hidden_now(
    gateway: Gateway, members: Mapping[int, frozenset[int]], visible: Mapping[int, Set[int]]
) -> dict[int, HiddenMembers]:
    """The ``members`` (ids by group) who aren't ``visible``, and what they owe.

    As elsewhere they are held against the groups by a query. A copy that is behind says no to that; then they are read
    again, and have to be the same.

    Raises:
        DataError: they aren't.
    """
    hidden = {group: ids - visible.get(group, set()) for group, ids in members.items()}
    hidden = {group: ids for group, ids in hidden.items() if ids}
    if not hidden:
        return {}
    groups = sorted(hidden)
    owed = _balances(gateway, groups)
    everybody = frozenset[int]().union(*(members[group] for group in groups))
    if owed is not None and not owed.keys() <= everybody:
        raise members_not_asked_for()
    owing_nothing = frozenset[int]().union(*hidden.values()) - owed.keys() if owed is not None else frozenset[int]()
    if not are_the_members(gateway, groups, hidden, len(everybody), owing_nothing=owing_nothing):
        again = read_members(gateway, groups, apart=True)
        if _balances(gateway, groups, apart=True) != owed or any(again[group] != members[group] for group in groups):
            raise members_not_asked_for()
    return {group: HiddenMembers.of(ids, owed) for group, ids in hidden.items()}


def not_copied_yet() -> DataError:
    """The error for somebody whom the database has that is written to, and the copy that is read doesn't."""
    return DataError(
        "the copy of the ILS's database that is read doesn't have this patron yet",
        advice="try again in a few seconds",
        code="not-copied-yet",
    )


def _agree(records: Mapping[int, Record], members: Mapping[int, Set[int]]) -> bool:
    """Whether everybody is among the members of their group; not where somebody was moved between two looks."""
    return all((id in members[int(record.usrgroup)]) is not bool(record.deleted) for id, record in records.items())


def _put_right(
    gateway: Gateway,
    people: Mapping[int, Person],
    records: Mapping[int, Record],
    members: Mapping[int, frozenset[int]],
) -> dict[int, Person]:
    """The people without those who have left these groups, and with those who have come."""
    everybody = frozenset[int]().union(*members.values())
    elsewhere = sorted(everybody - people.keys())
    come = read_people(gateway, [{"id": id} for id in elsewhere]) if elsewhere else {}
    found: dict[int, Person] = {}
    for id, person in {**{id: come[id] for id in elsewhere if id in come}, **people}.items():
        record = records.get(id)
        now = person if record is None else person.as_written(record)
        number = next((number for number, ids in members.items() if id in ids), None)
        if number is not None:
            found[id] = now.in_group(number)
        elif record is not None or now.group not in members:
            found[id] = now
    return found


def _balances(gateway: Gateway, groups: list[int], *, apart: bool = False) -> Mapping[int, Decimal] | None:
    try:
        return read_balances(gateway, *groups, current=True, apart=apart)
    except PermissionDeniedError:  # the ids may be had and the balances not: unknown then, never nought
        return None
