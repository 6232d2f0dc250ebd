"""Hidden members of many groups, set by set: how many each group has, and what they owe together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Set
from decimal import Decimal
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

from evergreen_groups.errors import PermissionDeniedError, ServerError
from evergreen_groups.gateway import holds
from evergreen_groups.groups.hidden_members import HiddenMembers, read_balances
from evergreen_groups.groups.hidden_of_few import find_hidden_of_few
from evergreen_groups.groups.numbers_in_order import (
    FEWEST_LABELS,
    MOST_LABELS,
    GroupNumber,
    MemberCount,
    MemberFines,
    read_numbers,
)
from evergreen_groups.ils import read_own_fines
from evergreen_groups.money import NOTHING

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups.queries import Query

# So few take three calls together; set by set they would take seven and more.
_FEW = 5
# What ids may take in a form that may have 32 kB; the rest is for the question around them.
_MOST_BYTES = 26_000
_CENT = Decimal("0.01")
_OPEN = {"+mbts": {"xact_finish": None}}
_OWED_BY_MEMBER = {"mbts": {"m": {"class": "au", "fkey": "usr", "field": "id"}}}
BalanceProgress = Callable[[int, int], None]
"""Called with how many groups' balances were read, and how many more have to be, since the last call."""


Value = TypeVar("Value")


def find_hidden(
    gateway: Gateway,
    visible: Mapping[int, Set[int]],
    org_units: Callable[[], Collection[int]],
    progress: BalanceProgress = lambda _read, _more: None,
    *,
    own_fines: Mapping[int, Decimal] | None = None,
    with_fines: bool = True,
) -> dict[int, HiddenMembers]:
    """Compare the visible members (ids by group) with those the ILS has; groups without hidden ones are left out.

    ``own_fines`` is what visible members owe, by id (who isn't there owes nothing); it is read where it isn't given.
    Without ``with_fines`` hidden members are counted alone, as far as that takes less: what they owe isn't known then.

    Seven calls for some 600 groups, whatever is hidden (ten where few are visible; two without fines): how many members
    each has, and what all of them owe, are read by :func:`read_numbers`, and what the visible ones owe is taken off.
    That the account may know it is asked first: ``usergroup.members.balance_owed`` says it of any group to whoever has
    VIEW_USER at the own library, and to nobody else. What it says of one group has to be the same, and how many are
    hidden, and what they owe, has to be right for all groups together.

    A handful of groups, those with members or fines beyond what is read so, and those in which somebody was moved or
    paid meanwhile are looked at as :func:`find_hidden_of_few` does, which is given ``org_units``; the ids of the hidden
    members are known of these alone.

    Raises:
        DataError: the ILS names members or balances of other groups, or not all.
        PermissionDeniedError: groups have to be looked at one by one, and the account has no VIEW_USER at its own
            library.
    """
    in_sets = {group: ids for group, ids in visible.items() if ids and _size(ids) < _MOST_BYTES}

    def find(groups: Iterable[int]) -> dict[int, HiddenMembers]:
        of_set = {group: visible[group] for group in groups}
        labels = _labels(visible, of_set)
        if len(labels) < FEWEST_LABELS:
            return {}
        in_set = _HiddenInSet(gateway, of_set, labels, own_fines, progress)
        return in_set.find() if with_fines else in_set.count()

    certain: dict[int, HiddenMembers] = {}
    for found in gateway.map(find, _portions(in_sets) if len(in_sets) > _FEW else []):
        certain.update(found)
    rest = {group: visible[group] for group in visible.keys() - certain.keys()}
    hidden = {group: its_hidden for group, its_hidden in certain.items() if its_hidden.count}
    return {**hidden, **find_hidden_of_few(gateway, rest, org_units)}


class _HiddenInSet:
    """The hidden members of as many groups as one question has room for."""

    def __init__(
        self,
        gateway: Gateway,
        visible: Mapping[int, Set[int]],
        labels: list[int],
        own_fines: Mapping[int, Decimal] | None,
        progress: BalanceProgress,
    ) -> None:
        self._gateway = gateway
        self._visible = visible
        self._labels = labels
        self._own_fines = own_fines
        self._progress = progress

    def count(self) -> dict[int, HiddenMembers]:
        """How many there are in each group, none as well; without groups that aren't certain."""
        return {group: HiddenMembers(count, None) for group, count in self._proved(self._counts(), _are_all).items()}

    def find(self) -> dict[int, HiddenMembers]:
        """The same with what they owe."""
        counts = {group: hidden.count for group, hidden in self.count().items()}
        found = {group: HiddenMembers(0, NOTHING) for group, count in counts.items() if not count}
        with_hidden = counts.keys() - found.keys()
        if with_hidden:
            self._progress(0, len(with_hidden))
            fines = self._fines(max(with_hidden, key=lambda group: (counts[group], group)), with_hidden)
            found.update((group, HiddenMembers(counts[group], owed)) for group, owed in fines.items())
            self._progress(len(with_hidden), 0)
        return found

    def _counts(self) -> dict[int, int]:
        """How many hidden members each group has, none as well."""
        counts: dict[int, int] = {}
        for group, count in self._read(MemberCount(), self._visible).items():
            if count is not None and count >= len(self._visible[group]):
                counts[group] = count - len(self._visible[group])
        return counts

    def _fines(self, sample: int, groups: Collection[int]) -> Mapping[int, Decimal | None]:
        """What the hidden members of groups owe together, None where the account may not know it.

        ``sample`` is one of the groups, of which the ILS is asked as for a single group.
        """
        try:
            balances = read_balances(self._gateway, sample)
        # The ids may be had where the balances may not: unknown then, never nought.
        except PermissionDeniedError:
            return dict.fromkeys(groups)
        own_fines = self._own_fines
        if own_fines is None:
            own_fines = read_own_fines(self._gateway, self._known(groups))
        fines: dict[int, Decimal] = {}
        for group, number in self._read(MemberFines(), groups).items():
            if number is not None:
                visible = sum((own_fines.get(id, NOTHING) for id in self._visible[group]), NOTHING)
                fines[group] = number * _CENT - visible
        reported = sum((owed for id, owed in balances.items() if id not in self._visible[sample]), NOTHING)
        proved = self._proved(fines, _owe_together) if fines.get(sample, reported) == reported else {}
        return {**proved}

    def _proved(
        self, found: Mapping[int, Value], together: Callable[[Collection[Value], Query], Query]
    ) -> dict[int, Value]:
        """What was found of groups for which it is right ``together``: a condition made of it, and of who is hidden.

        Somebody always pays somewhere; so where it isn't right for all of them, it is asked again of each half.
        """
        if not found:
            return {}
        hidden: Query = {"deleted": "f", "usrgroup": sorted(found), "id": {"not in": self._known(found)}}
        if holds(self._gateway, together(found.values(), hidden), apart=True):
            return dict(found)
        if len(found) <= _FEW:
            return {}
        groups = sorted(found)
        halves = (groups[: len(groups) // 2], groups[len(groups) // 2 :])
        proved = [self._proved({group: found[group] for group in half}, together) for half in halves]
        return {**proved[0], **proved[1]}

    def _read(self, number: GroupNumber, groups: Collection[int]) -> dict[int, int | None]:
        witnesses = {_witness(self._visible[group]): group for group in groups}
        try:
            return read_numbers(self._gateway, number, witnesses, self._labels)
        # A release that takes fewer functions or operators still lists the members.
        except ServerError:
            return {}

    def _known(self, groups: Iterable[int]) -> list[int]:
        return sorted(chain.from_iterable(self._visible[group] for group in groups))


def _are_all(counts: Collection[int], hidden: Query) -> Query:
    """The condition that so many patrons are hidden together, no more and no less (``hidden-numbers-004``)."""
    count = {
        "select": {"au": [{"column": "id", "transform": "count", "aggregate": True}]},
        "from": "au",
        "where": hidden,
        "having": {"+au": {"id": {"=": {"transform": "count", "value": sum(counts)}}}},
    }
    return {"-exists": count}


def _owe_together(fines: Collection[Decimal], hidden: Query) -> Query:
    """The condition that the hidden patrons owe as much together, no more and no less.

    It holds in ``hidden-numbers-005``, and doesn't in ``hidden-numbers-006``.
    """
    total = sum(fines, NOTHING)
    # Without a transaction there is no sum, which isn't the same as nought here.
    word, operator = ("-exists", "=") if total else ("-not-exists", "<>")
    owed: Query = {
        "select": {"mbts": [{"column": "balance_owed", "transform": "sum", "aggregate": True}]},
        "from": _OWED_BY_MEMBER,
        "where": {**_OPEN, "+m": hidden},
        "having": {"+mbts": {"balance_owed": {operator: {"transform": "sum", "value": str(total)}}}},
    }
    return {word: owed}


def _witness(ids: Set[int]) -> int:
    """The visible member by whom a group is known."""
    return min(ids)


def _labels(visible: Mapping[int, Set[int]], of_set: Mapping[int, Set[int]]) -> list[int]:
    """Visible members beside the witnesses of some groups: as many as :func:`read_numbers` takes, or there are."""
    witnesses = {_witness(ids) for ids in of_set.values()}
    others = chain.from_iterable(visible[group] for group in sorted(visible))
    return sorted(set(others) - witnesses)[:MOST_LABELS]


def _portions(known: Mapping[int, Set[int]]) -> Iterator[list[int]]:
    """The groups, in portions as large as a form has room for, by what is ``known`` of each (ids)."""
    # Where hardly anybody is beside the witnesses, those of one half are labels for the other.
    few = sum(map(len, known.values())) - len(known) < FEWEST_LABELS
    most = (len(known) + 1) // 2 if few else len(known)
    portion: list[int] = []
    size = 0
    for group in sorted(known):
        its_size = _size(known[group])
        if portion and (size + its_size > _MOST_BYTES or len(portion) == most):
            yield portion
            portion, size = [], 0
        portion.append(group)
        size += its_size
    if portion:
        yield portion


def _size(ids: Set[int]) -> int:
    """How many bytes a group takes in a form: its ids, its number and one of the ids once more, each with a comma."""
    return (len(ids) + 2) * (len(str(max(ids, default=0))) + len("%2C"))
