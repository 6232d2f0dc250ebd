"""What everybody in a group owes, hidden members too, where some may be hidden."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from evergreen_groups.gateway import holds
from evergreen_groups.groups.hidden_members import HiddenMembers, read_balances, read_member_ids
from evergreen_groups.groups.member_check import members_conditions, members_not_asked_for

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway

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
    current = gateway.reads_copies
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
