"""Groups that look accidental and are to be kept as they are, so that nobody has to look at them every week.

What somebody decided about a group was about its members: when they change, it is forgotten.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, select

from evergreen_groups.state import schema

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

    from evergreen_groups.state import Transactions

groups_to_keep = schema.groups_to_keep


class GroupsToKeep:
    """Those of one gateway (its address), by number, each with the ids of the members it had then."""

    def __init__(self, transactions: Transactions, gateway: str) -> None:
        self._transactions = transactions
        self._gateway = gateway

    def read(self) -> dict[int, frozenset[int]]:
        """All of them.

        Raises:
            StateError: the database can't be used.
        """
        if not self._transactions.is_there:
            return {}
        stored = groups_to_keep.c
        question = select(stored.number, stored.members).where(stored.gateway == self._gateway)
        with self._transactions.reading() as connection:
            return {int(row.number): frozenset(json.loads(row.members)) for row in connection.execute(question)}

    def add(self, groups: Mapping[int, Collection[int]]) -> None:
        """Keep groups as they are, with these members (ids, hidden ones too)."""
        now = self._transactions.now()
        with self._transactions.writing() as connection:
            for number, members in groups.items():
                connection.execute(delete(groups_to_keep).where(*self._is(number)))
                connection.execute(
                    insert(groups_to_keep).values(
                        gateway=self._gateway, number=number, at=now, members=json.dumps(sorted(members))
                    )
                )

    def remove(self, numbers: Collection[int]) -> int:
        """Let groups be listed again; says how many of them were to be kept."""
        if not numbers or not self._transactions.is_there:
            return 0
        with self._transactions.writing() as connection:
            return sum(
                connection.execute(delete(groups_to_keep).where(*self._is(number))).rowcount for number in numbers
            )

    def _is(self, number: int) -> tuple[ColumnElement[bool], ...]:
        return groups_to_keep.c.gateway == self._gateway, groups_to_keep.c.number == number
