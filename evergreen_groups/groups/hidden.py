"""Members of a group that the account can't see, and what they owe."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any, TypeVar

from evergreen_groups.errors import DataError, PermissionDeniedError, ServerError
from evergreen_groups.gateway import TOKEN, Gateway, finite_number, holds, rows_beyond, whole_number
from evergreen_groups.groups.hidden_numbers import (
    FEWEST_LABELS,
    MOST_LABELS,
    GroupNumber,
    MemberCount,
    MemberFines,
    read_numbers,
)
from evergreen_groups.ils import read_own_fines
from evergreen_groups.message import Message
from evergreen_groups.money import NOTHING

if TYPE_CHECKING:
    from evergreen_groups.groups.queries import Query

# Twice as many ids of seven digits in a form are 20 kB, which leaves room for a hundred groups.
_IDS_AT_ONCE = 1_000

# Some 300 bytes each in a form that may have 32 kB.
_PAIRS_AT_ONCE = 60

_Pair = tuple[int, int]

AnsweringRows = tuple[str, Sequence[int]]
"""Rows that the account sees, each of which stands for one answer: their class, and their ids."""

_TRY_AGAIN = Message(
    "try again, somebody may have been moved meanwhile; if it stays so, look at the proxy: it may mix up answers"
)


def are_the_members(
    gateway: Gateway,
    groups: Sequence[int],
    hidden: Mapping[int, Set[int]],
    total: int,
    *,
    owing_nothing: Set[int] = frozenset(),
) -> bool:
    """Whether :func:`members_conditions` hold. One call, or more where there are thousands of hidden members."""
    return all(holds(gateway, one) for one in members_conditions(groups, hidden, total, owing_nothing=owing_nothing))


def members_conditions(
    groups: Sequence[int], hidden: Mapping[int, Set[int]], total: int, *, owing_nothing: Set[int] = frozenset()
) -> list[dict[str, Any]]:
    """That the ``hidden`` (ids by group) are members of just these groups, and nobody is beside ``total`` members.

    And that of those ``owing_nothing`` (ids) nobody has an open transaction. Conditions made of queries, each to be
    asked in one call: one, or more where there are thousands of hidden members.
    """
    pairs = sorted((group, id) for group, ids in hidden.items() for id in ids)
    nobody_else = _nobody_beside(total, groups)
    return [
        {"-and": [nobody_else, *_each_in_its_group(some), *_no_open_transaction(ids)]}
        for some, ids in zip_longest(cut(pairs) or [[]], cut(sorted(owing_nothing)), fillvalue=())
    ]


def answering_rows(
    count: int, members: Collection[int], org_units: Callable[[], Collection[int]]
) -> AnsweringRows | None:
    """So many rows that are visible for :func:`part_by_group`; None where there are less, or no room for them.

    Those of ``members`` (ids) of the groups where they are enough, for nobody else's question has an answer of these;
    else those of ``org_units``, which are everybody's to see.
    """
    if count > _PAIRS_AT_ONCE:
        return None
    choices: tuple[tuple[str, Callable[[], Collection[int]]], ...] = (("au", lambda: members), ("aou", org_units))
    for class_id, read in choices:
        ids = sorted(read())
        if len(ids) >= count:
            return class_id, ids[:count]
    return None


def part_by_group(
    gateway: Gateway,
    groups: Sequence[int],
    hidden: Set[int],
    total: int,
    *,
    owing_nothing: Set[int],
    rows: AnsweringRows,
) -> dict[int, frozenset[int]] | None:
    """In which of the groups each of the ``hidden`` (ids) is, by group; None unless :func:`members_conditions` hold.

    One call. Their own rows aren't shown: so for each of the hidden and each of the groups there is one of the ``rows``
    that comes if that is where they are (``desk-008``, ``desk-009``). Exactly one comes for each of them; where rows
    are lost, somebody is in no group.
    """
    pairs: list[_Pair] = [(group, id) for group in groups for id in sorted(hidden)]
    class_id, ids = rows
    pair_of = dict(zip(ids, pairs, strict=True))
    where: dict[str, Any] = {
        "id": list(ids),
        "-and": [_nobody_beside(total, groups), *_no_open_transaction(sorted(owing_nothing))],
        "-or": [{"-and": [{"id": id}, _is_member(*pair)]} for id, pair in pair_of.items()],
    }
    found = [pair_of[row.id] for row in gateway.pcrud.search(class_id, where, select=["id"], limit=len(pairs))]
    if sorted(id for _group, id in found) != sorted(hidden):
        return None
    by_group = {group: frozenset(id for its, id in found if its == group) for group in groups}
    return {group: ids for group, ids in by_group.items() if ids}


def cut(values: Sequence[Any], size: int = _IDS_AT_ONCE) -> list[Sequence[Any]]:
    """The values in lists of at most ``size``, in their order."""
    return [values[start : start + size] for start in range(0, len(values), size)]


def _nobody_beside(total: int, groups: Sequence[int]) -> dict[str, Any]:
    return {"-not-exists": rows_beyond(total, "au", {"deleted": "f", "usrgroup": list(groups)}, "id")}


def _is_member(group: int, id: int) -> dict[str, Any]:
    return {"-exists": rows_beyond(0, "au", {"deleted": "f", "usrgroup": group, "id": id}, "id")}


def _each_in_its_group(pairs: Sequence[_Pair]) -> list[dict[str, Any]]:
    if not pairs:
        return []
    by_group: dict[int, list[int]] = {}
    for group, id in pairs:
        by_group.setdefault(group, []).append(id)
    # Within -or the fields of a hash are alternatives too, unless -and is put around them.
    theirs = [{"-and": {"usrgroup": group, "id": ids}} for group, ids in by_group.items()]
    return [{"-exists": rows_beyond(len(pairs) - 1, "au", {"deleted": "f", "-or": theirs}, "id")}]


def _no_open_transaction(ids: Sequence[int]) -> list[dict[str, Any]]:
    return [{"-not-exists": rows_beyond(0, "mbts", {"usr": list(ids), "xact_finish": None}, "usr")}] if ids else []


def members_not_asked_for() -> DataError:
    """The error for members, or balances, of others than those who belong to a group, or of not all of them."""
    return DataError(
        "the ILS gave members of other groups than were asked for, or not all members",
        advice=_TRY_AGAIN,
        code="members-not-asked-for",
    )


_SERVICE = "open-ils.actor"
_MEMBERS = "open-ils.actor.usergroup.members.retrieve"
_BALANCES = "open-ils.actor.usergroup.members.balance_owed"
_CURRENT = ".authoritative"


@dataclass(frozen=True, slots=True)
class HiddenMembers:
    """The members of one group that the account can't see: how many, and what they owe (None: not known).

    ``ids`` are theirs; None where they were counted alone.
    """

    count: int
    fines: Decimal | None
    ids: frozenset[int] | None = None

    @classmethod
    def of(cls, ids: Set[int], balances: Mapping[int, Decimal] | None) -> HiddenMembers:
        """Those with ``ids``, who owe what ``balances`` say (None: not known); who isn't among them owes nothing."""
        return cls(len(ids), None if balances is None else total_of(balances, ids), frozenset(ids))


def read_member_ids(
    gateway: Gateway, groups: Sequence[int], *, current: bool = False, apart: bool = False
) -> frozenset[int]:
    """The ids of all members of some groups, whether the account sees them or not; deleted ones aren't members.

    ``current`` ones come from where changes are written, others from where pcrud reads, so that they go together with
    its rows. ``apart`` asks over a connection of its own: the answer doesn't say whose members they are.

    ``usergroup.members.retrieve`` checks VIEW_USER only at the account's own library and then lists every member
    (``groups-047``). It takes a list of groups as well (``groups-075``), and doesn't say whose each member is.

    Raises:
        PermissionDeniedError: the account has no VIEW_USER at its own library.
    """
    method = f"{_MEMBERS}{_CURRENT}" if current else _MEMBERS
    answer = gateway.call(_SERVICE, method, TOKEN, list(groups), own_connection=apart).value
    try:
        ids = [_id(id) for id in _listed(answer)]
    except (TypeError, ValueError) as error:
        raise DataError(
            "the ILS gave a list of members that holds something else than ids", code="members-broken"
        ) from error
    return frozenset(_each_once(ids))


def read_balances(gateway: Gateway, *groups: int, current: bool = False, apart: bool = False) -> dict[int, Decimal]:
    """What each member of these groups owes, by id; of hidden ones as well. Who has no open transaction is left out.

    ``current`` and ``apart`` are as for :func:`read_member_ids`.

    The method takes a list as well (``desk-007``): it looks members up as that for their ids does (``UserGroups.pm``).

    Raises:
        PermissionDeniedError: the account has no VIEW_USER at its own library.
    """
    wanted = list(groups) if len(groups) > 1 else groups[0]
    method = f"{_BALANCES}{_CURRENT}" if current else _BALANCES
    answer = gateway.call(_SERVICE, method, TOKEN, wanted, own_connection=apart).value
    try:
        # Amounts are texts, "0.0" and "0.00" among them (groups-026, groups-008). Whoever has no open transaction
        # isn't there at all (groups-002), which is nought and not unknown.
        balances = [(_id(entry["usr"]), _money(entry["balance_owed"])) for entry in _listed(answer)]
    except (ArithmeticError, TypeError, ValueError, KeyError) as error:
        raise DataError("the ILS gave a balance that isn't an amount of money", code="balance-broken") from error
    _each_once([id for id, _owed in balances])
    return dict(balances)


def _id(value: object) -> int:
    """An id, as a number or as text; raises TypeError for anything else."""
    id = whole_number(value)
    if id is None:
        raise TypeError("not an id")
    return id


def _each_once(ids: list[int]) -> list[int]:
    """The ids; raises DataError where one is there twice, for somebody would be counted twice."""
    if len(set(ids)) < len(ids):
        raise DataError(
            "the ILS named the same member twice",
            advice="look at the proxy, where there is one: it may have mixed up answers",
            code="member-twice",
        )
    return ids


def _money(value: object) -> Decimal:
    """An amount; raises ArithmeticError for what is none, NaN and infinities among it."""
    amount = finite_number(value)
    if amount is None:
        raise ArithmeticError("not an amount")
    return amount.quantize(NOTHING)


def total_of(balances: Mapping[int, Decimal], ids: Set[int]) -> Decimal:
    """What those with ``ids`` owe together; who isn't among the balances owes nothing."""
    return sum((balances.get(id, NOTHING) for id in ids), NOTHING)


def read_with_known(
    gateway: Gateway, groups: Sequence[int], visible: Mapping[int, Set[int]]
) -> tuple[frozenset[int], frozenset[int]]:
    """The ids of all members of some groups, and of the visible ones.

    Raises:
        DataError: they aren't those of these groups.
    """
    everybody, known = read_member_ids(gateway, groups), _known(groups, visible)
    # One or the other may have been moved meanwhile; an answer without nearly everybody is another question's.
    if len(known & everybody) * 2 < len(known):
        raise members_not_asked_for()
    return everybody, known


def _known(groups: Sequence[int], visible: Mapping[int, Set[int]]) -> frozenset[int]:
    return frozenset[int]().union(*(visible[group] for group in groups))


def _listed(answer: object) -> list[Any]:
    """An answer that has to be a list: in a hash or a text nobody would be, which isn't the same as owing nothing."""
    if not isinstance(answer, list):
        raise TypeError("not a list")
    return answer


_MOST_ROUNDS = 3
# Balances take the ILS a query for each member, so of more groups those are looked for in which somebody is hidden.
_MOST_GROUPS = 20
_GROUPS_AT_ONCE = 100


def find_hidden_of_few(
    gateway: Gateway, visible: Mapping[int, Set[int]], org_units: Callable[[], Collection[int]]
) -> dict[int, HiddenMembers]:
    """Compare the visible members (ids by group) with those the ILS has, whose ids it finds in three calls.

    The ids of everybody; where some are hidden, what all owe; and whose the hidden ones are, which says as well that
    they are all, and that those without a balance owe nothing. Of several groups the latter takes as many visible
    members, or ``org_units`` (ids), as there are groups for each hidden member. Where there are less of both it takes
    one call more for each group but the last. Of more than twenty groups it looks first whether anybody is
    hidden in a hundred of them, and then at twenty at a time.

    Raises:
        DataError: the ILS names members or balances of other groups, or not all.
        PermissionDeniedError: the account has no VIEW_USER at its own library, so nothing can be compared.
    """
    numbers = sorted(visible)
    some = cut(numbers, _GROUPS_AT_ONCE)
    if len(numbers) > _MOST_GROUPS:
        with_hidden = chain.from_iterable(gateway.map(lambda groups: _if_hidden(gateway, groups, visible), some))
        some = cut(sorted(with_hidden), _MOST_GROUPS)
    found: dict[int, HiddenMembers] = {}
    for of_some in gateway.map(lambda groups: _hidden_of(gateway, groups, visible, org_units), some):
        found.update(of_some)
    return found


def _if_hidden(gateway: Gateway, groups: Sequence[int], visible: Mapping[int, Set[int]]) -> Sequence[int]:
    """The groups, or none of them where no member of any is hidden."""
    everybody, known = read_with_known(gateway, groups, visible)
    return () if everybody <= known else groups


def _hidden_of(
    gateway: Gateway,
    groups: Sequence[int],
    visible: Mapping[int, Set[int]],
    org_units: Callable[[], Collection[int]],
) -> dict[int, HiddenMembers]:
    """The hidden members of groups of which one question can be asked."""
    for _ in range(_MOST_ROUNDS):
        everybody, known = read_with_known(gateway, groups, visible)
        hidden = everybody - known
        if not hidden:
            return {}
        owed = _balances(gateway, groups)
        # Somebody was moved in meanwhile, or what is owed isn't said of the one who owes it.
        if owed is not None and not owed.keys() <= everybody | known:
            continue
        owing_nothing = frozenset() if owed is None else hidden - owed.keys()
        rows = answering_rows(len(groups) * len(hidden), known & everybody, org_units) if len(groups) > 1 else None
        found = _by_group(gateway, groups, hidden, len(everybody), owing_nothing, rows)
        if found is not None:
            return {group: HiddenMembers.of(ids, owed) for group, ids in found.items()}
    raise members_not_asked_for()


def _balances(gateway: Gateway, groups: Sequence[int]) -> Mapping[int, Decimal] | None:
    """What all members owe; None where the ids may be had and the balances may not: unknown then, never nought."""
    try:
        return read_balances(gateway, *groups)
    except PermissionDeniedError:
        return None


def _by_group(
    gateway: Gateway,
    groups: Sequence[int],
    hidden: frozenset[int],
    total: int,
    owing_nothing: frozenset[int],
    rows: AnsweringRows | None,
) -> Mapping[int, frozenset[int]] | None:
    """The hidden members by group; None where they aren't those of the groups, or somebody of them owes something."""
    if rows is not None:
        return part_by_group(gateway, groups, hidden, total, owing_nothing=owing_nothing, rows=rows)
    *others, last = groups
    read = gateway.map(lambda group: read_member_ids(gateway, [group]), others)
    found = {group: ids & hidden for group, ids in zip(others, read, strict=True)}
    found[last] = hidden.difference(*found.values())
    found = {group: ids for group, ids in found.items() if ids}
    return found if are_the_members(gateway, groups, found, total, owing_nothing=owing_nothing) else None


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
        if holds(self._gateway, together(found.values(), hidden), own_connection=True):
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


_MOST_READINGS = 2


Confirm = Callable[[dict[str, Any]], bool]
"""Asks in some call of its own whether a condition made of queries holds; False also where that can't be told."""


def read_whole_balances(
    gateway: Gateway, group: int, visible: Set[int], *, confirm: Confirm | None = None
) -> tuple[Mapping[int, Decimal], HiddenMembers | None]:
    """What each member of a group owes who has an open transaction, by id, and the members who aren't ``visible``.

    Two calls beside one another, and one more where there are hidden ones, which holds them against the group; it isn't
    made where ``confirm`` has had another call say the same.
    ``usergroup.members.balance_owed`` takes the ILS a query a member, ten times as long as reading the balances of
    visible ones: it is for groups of which somebody may be hidden. Where plain reads come from copies of the database,
    both are read where changes are written.

    Raises:
        DataError: the ILS names members or balances of other groups, or not all.
        PermissionDeniedError: the account has no VIEW_USER at its own library, or may not know the balances.
    """
    current = gateway.reads_replicas
    former: tuple[Mapping[int, Decimal], frozenset[int]] | None = None
    for _ in range(_MOST_READINGS):
        balances, everybody = _read(gateway, group, current=current, apart=former is not None)
        hidden = everybody - visible
        # Somebody may have been moved meanwhile; else what is owed isn't said of the one who owes it.
        if not everybody >= balances.keys() | visible:
            continue
        if not hidden:
            return balances, None
        owing_nothing = everybody - balances.keys()
        conditions = members_conditions([group], {group: hidden}, len(everybody), owing_nothing=owing_nothing)
        confirmed = confirm is not None and len(conditions) == 1 and confirm(conditions[0])
        if confirmed or all(holds(gateway, condition) for condition in conditions):
            return balances, HiddenMembers.of(hidden, balances)
        # A copy that is behind knows of other members, and owing others; what is so now comes twice.
        if current and (balances, everybody) == former:
            return balances, HiddenMembers.of(hidden, balances)
        former = balances, everybody
    raise members_not_asked_for()


def _read(gateway: Gateway, group: int, *, current: bool, apart: bool) -> tuple[Mapping[int, Decimal], frozenset[int]]:
    readers: tuple[Callable[[], Any], ...] = (
        lambda: read_balances(gateway, group, current=current, apart=apart),
        lambda: read_member_ids(gateway, [group], current=current, apart=apart),
    )
    balances, everybody = gateway.map(lambda read: read(), readers)
    return balances, everybody
