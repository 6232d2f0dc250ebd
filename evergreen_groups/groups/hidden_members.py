"""Members of a group that the account can't see, and what they owe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from evergreen_groups.errors import DataError, PermissionDeniedError
from evergreen_groups.gateway import TOKEN, Gateway, finite_number, whole_number
from evergreen_groups.groups.member_check import are_the_members, balances_missing, members_not_asked_for, owe_nothing
from evergreen_groups.money import NOTHING

_SERVICE = "open-ils.actor"
_MEMBERS = "open-ils.actor.usergroup.members.retrieve"
_BALANCES = "open-ils.actor.usergroup.members.balance_owed"
# One by one it was 6 to 8 ms a group, for 2,067 groups a good part of a minute; the answer for a hundred is a few kB.
_GROUPS_AT_ONCE = 100
_MOST_READINGS = 3


@dataclass(frozen=True, slots=True)
class HiddenMembers:
    """The members of one group that the account can't see: their ids, and what they owe (None: not known)."""

    ids: frozenset[int]
    fines: Decimal | None


def find_hidden(gateway: Gateway, visible: Mapping[int, Set[int]]) -> dict[int, HiddenMembers]:
    """Compare the visible members (ids by group) with those the ILS counts; groups without hidden ones are left out.

    ``usergroup.members.retrieve`` checks VIEW_USER only at the account's own library and then lists every member
    (``groups-047``). It takes a list of groups as well (``groups-075``), so a hundred of them go in one call. Where
    there are hidden ones, one call more holds them against the groups, and another asks whether those without a balance
    owe nothing.

    Raises:
        DataError: the ILS names members or balances of other groups, or not all.
        PermissionDeniedError: the account has no VIEW_USER at its own library, so nothing can be compared.
    """
    groups = sorted(visible)
    batches = [groups[start : start + _GROUPS_AT_ONCE] for start in range(0, len(groups), _GROUPS_AT_ONCE)]
    missing: dict[int, frozenset[int]] = {}
    for of_batch in gateway.map(lambda batch: _hidden_ids(gateway, batch, visible), batches):
        missing.update(of_batch)
    for _ in range(_MOST_READINGS):
        read = gateway.map(
            lambda group: _with_balances(gateway, group, missing[group], visible[group]), sorted(missing)
        )
        found = dict(zip(sorted(missing), read, strict=True))
        if owe_nothing(gateway, {id for ids, owed in found.values() if owed is not None for id in ids - owed.keys()}):
            return {
                group: HiddenMembers(ids, None if owed is None else total_of(owed, ids))
                for group, (ids, owed) in found.items()
            }
    raise balances_missing()


def read_member_ids(gateway: Gateway, groups: Sequence[int]) -> frozenset[int]:
    """The ids of all members of some groups, whether the account sees them or not; deleted ones aren't members.

    Raises:
        PermissionDeniedError: the account has no VIEW_USER at its own library.
    """
    answer = gateway.call(_SERVICE, _MEMBERS, TOKEN, list(groups)).value
    try:
        ids = [_id(id) for id in _listed(answer)]
    except (TypeError, ValueError) as error:
        raise DataError(
            "the ILS gave a list of members that holds something else than ids", code="members-broken"
        ) from error
    return frozenset(_each_once(ids))


def read_balances(gateway: Gateway, *groups: int) -> dict[int, Decimal]:
    """What each member of these groups owes, by id; of hidden ones as well. Who has no open transaction is left out.

    The method takes a list as well (``desk-007``): it looks members up as that for their ids does (``UserGroups.pm``).

    Raises:
        PermissionDeniedError: the account has no VIEW_USER at its own library.
    """
    wanted = list(groups) if len(groups) > 1 else groups[0]
    answer = gateway.call(_SERVICE, _BALANCES, TOKEN, wanted).value
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


def _hidden_ids(gateway: Gateway, groups: Sequence[int], visible: Mapping[int, Set[int]]) -> dict[int, frozenset[int]]:
    """The hidden members of ``groups``, by group; groups without are left out."""
    for _ in range(_MOST_READINGS):
        lists = list(_members_by_list(gateway, groups, visible))
        hidden = {few[0]: unknown for few, everybody in lists if (unknown := everybody - _known(few, visible))}
        # In halves they were read because somebody was hidden.
        if not hidden and len(lists) == 1:
            return {}
        if are_the_members(gateway, groups, hidden, sum(len(everybody) for _, everybody in lists)):
            return hidden
        # Somebody was moved or deleted meanwhile; else it is another question's answer.
    raise members_not_asked_for()


def _members_by_list(
    gateway: Gateway, groups: Sequence[int], visible: Mapping[int, Set[int]]
) -> Iterator[tuple[Sequence[int], frozenset[int]]]:
    """Lists of groups with their members' ids: cut in halves until each list has no hidden ones, or is one group.

    The answer doesn't say whose each id is (``groups-075``), and balances have to be asked for group by group.
    """
    everybody, known = read_with_known(gateway, groups, visible)
    if everybody <= known or len(groups) == 1:
        yield groups, everybody
        return
    middle = len(groups) // 2
    yield from _members_by_list(gateway, groups[:middle], visible)
    yield from _members_by_list(gateway, groups[middle:], visible)


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


def _with_balances(
    gateway: Gateway, group: int, ids: frozenset[int], visible: Set[int]
) -> tuple[frozenset[int], Mapping[int, Decimal] | None]:
    """The hidden members ``ids`` of a group, and all balances if the ILS tells; ``visible`` are the other members."""
    for _ in range(_MOST_READINGS):
        try:
            balances = read_balances(gateway, group)
        # The ids may be had where the balances may not: unknown then, never nought.
        except PermissionDeniedError:
            return ids, None
        if balances.keys() <= ids | visible:
            return ids, balances
        # Somebody was moved in meanwhile, or what is owed isn't said of the one who owes it.
        ids = _hidden_ids(gateway, [group], {group: visible}).get(group, frozenset())
    raise members_not_asked_for()


def _listed(answer: object) -> list[Any]:
    """An answer that has to be a list: in a hash or a text nobody would be, which isn't the same as owing nothing."""
    if not isinstance(answer, list):
        raise TypeError("not a list")
    return answer
