"""Hidden members of the few groups that somebody wants to change, in three calls whoever they are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from itertools import chain
from typing import TYPE_CHECKING

from evergreen_groups.errors import PermissionDeniedError
from evergreen_groups.groups.hidden_members import (
    HiddenMembers,
    read_balances,
    read_member_ids,
    read_with_known,
)
from evergreen_groups.groups.member_check import (
    answering_rows,
    are_the_members,
    cut,
    members_not_asked_for,
    part_by_group,
)

if TYPE_CHECKING:
    from decimal import Decimal

    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups.member_check import AnsweringRows

_MOST_READINGS = 3
# Balances take the ILS a query for each member, so of more groups those are looked for in which somebody is hidden.
_FEW = 20
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
    if len(numbers) > _FEW:
        with_hidden = chain.from_iterable(gateway.map(lambda groups: _if_hidden(gateway, groups, visible), some))
        some = cut(sorted(with_hidden), _FEW)
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
    for _ in range(_MOST_READINGS):
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
