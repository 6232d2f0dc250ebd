"""Lists of members and balances held against the groups they are said to be of, hidden members among them.

No row tells of hidden members, but queries see them as well (``pcrud-141``). So what another service says of them, and
nothing else does, can be believed after a call or two: an answer to another question, or one that lacks somebody, would
be a wrong number otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from itertools import zip_longest
from typing import Any

from evergreen_groups.errors import DataError
from evergreen_groups.gateway import Gateway, beyond, holds
from evergreen_groups.message import Message

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
    return {"-not-exists": beyond(total, "au", {"deleted": "f", "usrgroup": list(groups)}, "id")}


def _is_member(group: int, id: int) -> dict[str, Any]:
    return {"-exists": beyond(0, "au", {"deleted": "f", "usrgroup": group, "id": id}, "id")}


def _each_in_its_group(pairs: Sequence[_Pair]) -> list[dict[str, Any]]:
    if not pairs:
        return []
    by_group: dict[int, list[int]] = {}
    for group, id in pairs:
        by_group.setdefault(group, []).append(id)
    # Within -or the fields of a hash are alternatives too, unless -and is put around them.
    theirs = [{"-and": {"usrgroup": group, "id": ids}} for group, ids in by_group.items()]
    return [{"-exists": beyond(len(pairs) - 1, "au", {"deleted": "f", "-or": theirs}, "id")}]


def _no_open_transaction(ids: Sequence[int]) -> list[dict[str, Any]]:
    return [{"-not-exists": beyond(0, "mbts", {"usr": list(ids), "xact_finish": None}, "usr")}] if ids else []


def members_not_asked_for() -> DataError:
    """The error for members, or balances, of others than those who belong to a group, or of not all of them."""
    return DataError(
        "the ILS gave members of other groups than were asked for, or not all members",
        advice=_TRY_AGAIN,
        code="members-not-asked-for",
    )
