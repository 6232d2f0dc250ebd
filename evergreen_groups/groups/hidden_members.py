"""Members of a group that the account can't see, and what they owe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from evergreen_groups.errors import DataError
from evergreen_groups.gateway import TOKEN, Gateway, finite_number, whole_number
from evergreen_groups.groups.member_check import members_not_asked_for
from evergreen_groups.money import NOTHING

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
    answer = gateway.call(_SERVICE, method, TOKEN, list(groups), apart=apart).value
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
    answer = gateway.call(_SERVICE, method, TOKEN, wanted, apart=apart).value
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
