"""Hidden members of many groups, set by set: how many each group has, and what they owe together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Set
from decimal import Decimal
from itertools import chain
from typing import TYPE_CHECKING

from evergreen_groups.errors import PermissionDeniedError
from evergreen_groups.gateway import beyond, holds
from evergreen_groups.groups.hidden_members import HiddenMembers, read_balances
from evergreen_groups.groups.hidden_of_few import find_hidden_of_few
from evergreen_groups.groups.member_check import are_in_their_groups
from evergreen_groups.money import NOTHING

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups.queries import Query

# So few take three calls together; set by set they would take five and more.
_FEW = 5
# Each of these numbers takes a question of its own; groups with more hidden members are rare, and looked at one by one.
_MOST_COUNTED = 7
# What ids may take in a form that may have 32 kB; the rest is for the question around them.
_MOST_BYTES = 26_000
_MEMBER = {"aou": {"m": {"class": "au", "field": "home_ou", "fkey": "id"}}}
_OWED_BY_MEMBER = {"mbts": {"m": {"class": "au", "fkey": "usr", "field": "id"}}}

BalanceProgress = Callable[[int, int], None]
"""Called with how many groups' balances were read, and how many more have to be, since the last call."""


def find_hidden(
    gateway: Gateway,
    visible: Mapping[int, Set[int]],
    org_units: Callable[[], Collection[int]],
    progress: BalanceProgress = lambda _read, _more: None,
    *,
    with_fines: bool = True,
) -> dict[int, HiddenMembers]:
    """Compare the visible members (ids by group) with those the ILS has; groups without hidden ones are left out.

    Without ``with_fines`` they are counted alone, as far as that takes less: what they owe isn't known then.

    What is inside a query isn't filtered by permission (``pcrud-141``): so one question over one visible member of each
    group says which groups have others (``hidden-members-001``), further ones how many (``hidden-members-003``), one
    whose owe anything (``hidden-members-002``), and more of them whether that is all. For groups whose hidden members
    owe something ``usergroup.members.balance_owed`` is left, one call each. With 200,300 patrons and 2,067 groups the
    sets took 0.4 s, where single calls took half a minute.

    A handful of groups, those with more than seven hidden members or too many visible ones for a form, and those in
    which somebody was moved meanwhile are looked at as :func:`find_hidden_of_few` does, which is given ``org_units``;
    the ids of the hidden members are known of these alone.

    Raises:
        DataError: the ILS names members or balances of other groups, or not all.
        PermissionDeniedError: groups have to be looked at one by one, and the account has no VIEW_USER at its own
            library.
    """
    found: dict[int, HiddenMembers] = {}
    in_sets = {} if len(visible) <= _FEW else {group: ids for group, ids in visible.items() if _size(ids) < _MOST_BYTES}
    certain: set[int] = set()
    for groups in _portions(in_sets):
        in_set = _HiddenInSet(gateway, {group: visible[group] for group in groups}, progress)
        of_set = in_set.find() if with_fines else in_set.count()
        certain.update(of_set)
        found.update((group, hidden) for group, hidden in of_set.items() if hidden.count)
    rest = {group: visible[group] for group in visible.keys() - certain}
    return {**found, **find_hidden_of_few(gateway, rest, org_units)}


class _HiddenInSet:
    """The hidden members of as many groups as one question has room for."""

    def __init__(self, gateway: Gateway, visible: Mapping[int, Set[int]], progress: BalanceProgress) -> None:
        self._gateway = gateway
        self._visible = visible
        self._progress = progress

    def count(self) -> dict[int, HiddenMembers]:
        """How many there are in each group, none as well; without groups that aren't certain."""
        counts = self._counts()
        return {group: HiddenMembers(count, None) for group, count in counts.items()} if self._are_all(counts) else {}

    def find(self) -> dict[int, HiddenMembers]:
        """The same with what they owe."""
        counts = {group: hidden.count for group, hidden in self.count().items()}
        with_hidden = [group for group, count in counts.items() if count]
        owing = sorted(self._where(with_hidden, {"-exists": _debt(self._hidden_here(with_hidden))}))
        self._progress(0, len(owing))
        balances = dict(zip(owing, self._gateway.map(self._balances, owing), strict=True))
        if not self._owe_all(with_hidden, balances):
            return {group: HiddenMembers(0, NOTHING) for group, count in counts.items() if not count}
        return {group: HiddenMembers(count, _total(balances.get(group, {}))) for group, count in counts.items()}

    def _counts(self) -> dict[int, int]:
        """How many hidden members each group has, none as well; without those that have more than can be counted."""
        found = dict.fromkeys(self._visible, 0)
        with_more: Collection[int] = self._visible
        for number in range(_MOST_COUNTED + 1):
            if not with_more:
                break
            exists = {"-exists": beyond(number, _MEMBER, {"+m": self._hidden_here(with_more)}, "id")}
            with_more = self._where(with_more, exists)
            found.update(dict.fromkeys(with_more, number + 1))
        return {group: count for group, count in found.items() if count <= _MOST_COUNTED}

    def _where(self, groups: Collection[int], condition: Query) -> set[int]:
        """The groups for which a condition on their patrons (``au``) holds, by one visible member of each."""
        if not groups:
            return set()
        group_of = {min(self._visible[group]): group for group in groups}
        # Each of them is visible, so none counts against the limit and isn't shown.
        where = {"id": sorted(group_of), "deleted": "f", **condition}
        rows = self._gateway.pcrud.search_columns("au", ("id", "usrgroup"), where, limit=len(group_of))
        # Whoever was moved meanwhile says nothing about the group.
        return {group for id, group in rows if group_of[id] == group}

    def _hidden_here(self, groups: Collection[int]) -> Query:
        """The condition on a patron who is a hidden member of the group of the patron ``au``."""
        return {"deleted": "f", "usrgroup": {"=": {"+au": "usrgroup"}}, "id": {"not in": self._known(groups)}}

    def _known(self, groups: Iterable[int]) -> list[int]:
        return sorted(chain.from_iterable(self._visible[group] for group in groups))

    def _are_all(self, counts: Mapping[int, int]) -> bool:
        """Whether the groups have as many hidden members together, no more and no less."""
        exactly = {"id": {"=": {"transform": "count", "value": sum(counts.values())}}}
        count = {
            "select": {"au": [{"column": "id", "transform": "count", "aggregate": True}]},
            "from": "au",
            "where": {"deleted": "f", "usrgroup": sorted(counts), "id": {"not in": self._known(counts)}},
            "having": {"+au": exactly},
        }
        return not counts or holds(self._gateway, {"-exists": count}, apart=True)

    def _balances(self, group: int) -> Mapping[int, Decimal] | None:
        """What hidden members of a group owe who have an open transaction, by id; None where the ILS doesn't say it."""
        try:
            balances = read_balances(self._gateway, group)
        # The ids may be had where the balances may not: unknown then, never nought.
        except PermissionDeniedError:
            return None
        finally:
            self._progress(1, 0)
        return {id: owed for id, owed in balances.items() if id not in self._visible[group]}

    def _owe_all(self, groups: Collection[int], balances: Mapping[int, Mapping[int, Decimal] | None]) -> bool:
        """Whether those with balances are members of just these groups, and no other hidden member owes anything."""
        named = {group: owed.keys() for group, owed in balances.items() if owed is not None}
        pairs = [(group, id) for group, ids in named.items() for id in sorted(ids)]
        ids = {id for _group, id in pairs}
        if len(ids) < len(pairs) or not ids.isdisjoint(self._known(self._visible)):
            return False
        known = {
            group: self._visible[group] | named.get(group, set())
            for group in groups
            if balances.get(group, {}) is not None
        }
        return are_in_their_groups(self._gateway, pairs) and all(
            self._owe_nothing(some, chain.from_iterable(known[group] for group in some)) for some in _portions(known)
        )

    def _owe_nothing(self, groups: Collection[int], known: Iterable[int]) -> bool:
        """Whether members of some groups owe nothing, but those who are ``known`` (ids)."""
        hidden = {"deleted": "f", "usrgroup": sorted(groups), "id": {"not in": sorted(known)}}
        return holds(self._gateway, {"-not-exists": _debt(hidden)}, apart=True)


def _debt(member: Query) -> Query:
    """A query for what patrons owe for whom a condition holds."""
    owed = {"xact_finish": None, "balance_owed": {"<>": 0}}
    return {"select": {"mbts": ["id"]}, "from": _OWED_BY_MEMBER, "where": {"+mbts": owed, "+m": member}}


def _total(balances: Mapping[int, Decimal] | None) -> Decimal | None:
    return None if balances is None else sum(balances.values(), NOTHING)


def _portions(known: Mapping[int, Set[int]]) -> Iterator[list[int]]:
    """The groups, in portions as large as a form has room for, by what is ``known`` of each (ids)."""
    portion: list[int] = []
    size = 0
    for group in sorted(known):
        its_size = _size(known[group])
        if portion and size + its_size > _MOST_BYTES:
            yield portion
            portion, size = [], 0
        portion.append(group)
        size += its_size
    if portion:
        yield portion


def _size(ids: Set[int]) -> int:
    """How many bytes a group takes in a form: its ids, its number and one of the ids once more, each with a comma."""
    return (len(ids) + 2) * (len(str(max(ids, default=0))) + len("%2C"))
