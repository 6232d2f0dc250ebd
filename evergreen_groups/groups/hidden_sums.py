"""A number of each of many groups, such as what all its members owe, read from the order in which rows come.

What is inside a query isn't filtered by permission (``pcrud-141``), but no query selects a sum: it says yes or no. So a
search for one visible member of each group, the *witness*, is put in the order of binary bits of its group's number
(``hidden-numbers-001``, ``hidden-numbers-003``). Among the representatives there are other visible patrons, the *markers*,
each of which stands before the representatives with its own bits. One search tells up to six bits, and the database asks
only once for permission to see a row; the sums are the smaller part.

Each answer proves itself: whole, it has all markers in their order, which is another one for each search. Where it
isn't, no number is taken from it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups.queries import Query

# Each bit more takes twice as many markers, each of which is a row for whose sight permission is asked.
_MIN_BITS, _MAX_BITS = 4, 6
_CENT = Decimal("0.01")
_MARKER = {"aou": {"label": {"class": "au", "field": "home_ou", "fkey": "id"}}}

MIN_MARKERS, MAX_MARKERS = 2**_MIN_BITS, 2**_MAX_BITS
"""How many markers :func:`read_sums` takes: with more of them it asks less."""


class GroupSum(ABC):
    """A number that each group has: an aggregate over its members, up to ``BITS`` binary bits long."""

    BITS: ClassVar[int]

    @property
    def conditions(self) -> list[Query]:
        """Whether the number has no position in so many bits, and whether each bit is 1, the highest first."""
        return [self._is_out_of_range(), *(self._bit_is_set(position) for position in reversed(range(self.BITS)))]

    def of_group(self, condition: Query, markers: Sequence[int]) -> Query:
        """A query for the group (``usrgroup``) of the patron ``au`` where the condition holds for its number.

        Of those that are among the ``markers`` (ids) it finds none.
        """
        return {
            "select": {"m": [{"column": "usrgroup", "transform": "max", "aggregate": True}]},
            **self._members(
                {
                    "+m": {"deleted": "f", "usrgroup": {"=": {"+au": "usrgroup"}}},
                    "+au": {"id": {"not in": list(markers)}},
                }
            ),
            "having": condition,
        }

    @abstractmethod
    def _members(self, where: Query) -> Query:
        """What the number is made of: ``from`` and ``where``, in which members are ``m``."""

    @abstractmethod
    def _is_out_of_range(self) -> Query:
        """The condition that the number is negative, or has more bits."""

    @abstractmethod
    def _bit_is_set(self, position: int) -> Query:
        """The condition that a bit is 1: the lowest has the position 0."""


class MemberCount(GroupSum):
    """How many members a group has, hidden ones too."""

    BITS = 5

    def _members(self, where: Query) -> Query:
        return {"from": {"aou": {"m": {"class": "au", "field": "home_ou", "fkey": "id"}}}, "where": where}

    def _is_out_of_range(self) -> Query:
        return self._count(">=", 2**self.BITS)

    def _bit_is_set(self, position: int) -> Query:
        """Without that bit it is another number."""
        return self._count("<>", self._count("&", 2**self.BITS - 1 - 2**position))

    def _count(self, operator: str, value: Query | int) -> Query:
        return {"+m": {"id": {operator: {"transform": "count", "value": value}}}}


class MemberFines(GroupSum):
    """What all members of a group owe in open transactions, hidden ones too, in cents."""

    BITS = 17

    def _members(self, where: Query) -> Query:
        owed = {"mbts": {"m": {"class": "au", "fkey": "usr", "field": "id"}}}
        return {"from": owed, "where": {"+mbts": {"xact_finish": None}, **where}}

    def _is_out_of_range(self) -> Query:
        # hidden-numbers-002
        return {"-or": [self._sum("<", "0"), self._sum(">=", str(2**self.BITS * _CENT))]}

    def _bit_is_set(self, position: int) -> Query:
        """Rounded to a multiple of twice the bit's worth, it is more than it was.

        The words for a remainder don't reach the database: the ``%`` in a key is lost on the way. But a floating-point
        number is rounded when a number so large is added that its last bit is worth that much, and taken off again. A
        condition has a column on its left, so such a number comes as the average of itself (``regr_avgx``), which is
        exact, having two bits. One part in a million more and less keeps halves, and what is equal, apart: that is
        less than a cent for each number that has a position.
        """
        large = 3 * 2 ** (52 + position)
        cents = self._sum("*", "100.0001")
        rounded = self._number("+", -large, self._number("+", large, cents))
        return self._sum("<", self._number("*", "0.00999999", rounded))

    def _sum(self, operator: str, value: Query | str) -> Query:
        return {"+mbts": {"balance_owed": {operator: {"transform": "sum", "value": value}}}}

    def _number(self, operator: str, constant: int | str, value: Query) -> Query:
        """A constant, and what is added to it, or multiplied by it."""
        average = {"transform": "regr_avgx", "params": [str(constant)], "value": value}
        return {"+mbts": {"usr": {operator: average}}}


def read_sums(
    gateway: Gateway, number: GroupSum, representatives: Mapping[int, int], markers: Sequence[int]
) -> dict[int, int | None]:
    """The number of each group, in units, by the ids of the patrons who are ``representatives``: their groups, by id.

    None where it has no position in its bits; groups of which nothing is certain are left out. ``markers`` are the ids of
    at least ``MIN_MARKERS`` other visible patrons.
    """
    conditions = number.conditions
    at_once = min(len(markers).bit_length() - 1, _MAX_BITS)
    some = [conditions[start : start + at_once] for start in range(0, len(conditions), at_once)]
    searches = [
        _SortedSearch(number, of_some, representatives, [*markers[position:], *markers[:position]][: 2 ** len(of_some)])
        for position, of_some in enumerate(some)
    ]
    found = list(gateway.map(lambda search: search.ask(gateway), searches))
    groups = set(representatives.values()).intersection(*found)
    return {group: _parse_bits("".join(bits[group] for bits in found)) for group in groups}


def _parse_bits(bits: str) -> int | None:
    """The number with some bits, None where it has no position in them, which the first of them says."""
    return None if bits[0] == "1" else int(bits, 2)


@dataclass(frozen=True, slots=True)
class _SortedSearch:
    """One search, whose order says for which groups some conditions on their numbers hold."""

    number: GroupSum
    conditions: Sequence[Query]
    representatives: Mapping[int, int]
    markers: Sequence[int]

    def ask(self, gateway: Gateway) -> dict[int, str]:
        """Which conditions hold, 1 and 0 as text, by group; nothing where the answer doesn't prove itself."""
        ids = sorted({*self.representatives, *self.markers})
        where = {"id": ids, "deleted": "f"}
        rows = gateway.pcrud.search_columns("au", ("id", "usrgroup"), where, order_by=self._order(), limit=len(ids))
        markers = set(self.markers)
        starts = [start for start, (id, _group) in enumerate(rows) if id in markers]
        if [rows[start][0] for start in starts] != list(self.markers) or starts[0] != 0:
            return {}
        found: dict[int, str] = {}
        for position, (start, end) in enumerate(pairwise([*starts, len(rows)])):
            its_rows = rows[start + 1 : end]
            if its_rows != sorted(its_rows):
                return {}
            # Whoever was moved meanwhile says nothing about the group.
            found.update((group, self._bits(position)) for id, group in its_rows if self.representatives[id] == group)
        return found

    def _bits(self, position: int) -> str:
        """Those of the marker at a position."""
        return f"{position:0{len(self.conditions)}b}"

    def _order(self) -> list[Query]:
        first = {"class": "au", "field": "id", "compare": {"in": list(self.markers)}, "direction": "desc"}
        bits = [self._bit_order(position, condition) for position, condition in enumerate(self.conditions)]
        return [*bits, first, {"class": "au", "field": "id"}]

    def _bit_order(self, position: int, condition: Query) -> Query:
        """The order by whether a condition holds for a witness's group; of a marker, by whether its bit is 1."""
        ones = [id for marker, id in enumerate(self.markers) if self._bits(marker)[position] == "1"]
        marked = {
            "select": {"label": ["usrgroup"]},
            "from": _MARKER,
            "where": {"+label": {"id": {"=": {"+au": "id"}}}, "+au": {"id": ones}},
        }
        either = {"union": [self.number.of_group(condition, self.markers), marked]}
        return {"class": "au", "field": "usrgroup", "compare": {"in": either}}
