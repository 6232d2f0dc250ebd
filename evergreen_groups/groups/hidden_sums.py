"""Read a sum over all members of each of many groups, hidden members included, from the sort order of rows.

Permissions don't apply inside a subquery (``pcrud-141``), but a query can only compare a sum there, not select it. So
search for one visible member of each group, the *representative*, and sort the rows by the binary digits of their
groups' sums (``hidden-numbers-001``, ``hidden-numbers-003``). Other visible patrons, the *markers*, are sorted in as
well: before the representatives with each combination of bits comes the marker with that combination. One search tells
up to six bits, so the ILS checks the permission for each row only once for all of them. These checks take longer than
the sums.

Every answer proves itself: the markers must all be there and in order, and the order differs from search to search. An
answer that fails is ignored.
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
    from evergreen_groups.groups.search import Query

# Each additional bit doubles the number of markers, and the ILS checks permissions for each marker's row.
_MIN_BITS, _MAX_BITS = 4, 6
_CENT = Decimal("0.01")
_MARKER = {"aou": {"label": {"class": "au", "field": "home_ou", "fkey": "id"}}}

MIN_MARKERS, MAX_MARKERS = 2**_MIN_BITS, 2**_MAX_BITS
"""The number of markers that :func:`read_sums` needs, and the most it can use. More markers mean fewer searches."""


class GroupSum(ABC):
    """An aggregate over the members of a group, as a number of up to ``BITS`` bits."""

    BITS: ClassVar[int]

    @property
    def conditions(self) -> list[Query]:
        """The conditions to sort by: whether the number is out of range, then each bit from the highest down."""
        return [self._is_out_of_range(), *(self._bit_is_set(position) for position in reversed(range(self.BITS)))]

    def of_group(self, condition: Query, markers: Sequence[int]) -> Query:
        """Return a query for the group of the patron ``au`` if the condition holds for the group's number.

        Patrons among the ``markers`` (ids) never match.
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
        """Return ``from`` and ``where`` of the aggregate, with members as ``m``."""

    @abstractmethod
    def _is_out_of_range(self) -> Query:
        """Return the condition that the number is negative or needs more bits."""

    @abstractmethod
    def _bit_is_set(self, position: int) -> Query:
        """Return the condition that a bit is set. The lowest bit has position 0."""


class MemberCount(GroupSum):
    """The number of members of a group, including hidden ones."""

    BITS = 5

    def _members(self, where: Query) -> Query:
        return {"from": {"aou": {"m": {"class": "au", "field": "home_ou", "fkey": "id"}}}, "where": where}

    def _is_out_of_range(self) -> Query:
        return self._count(">=", 2**self.BITS)

    def _bit_is_set(self, position: int) -> Query:
        """Return the condition that masking the bit out changes the number."""
        # A bitwise "and" works here because counts are integers. Sums of money aren't, see MemberFines.
        return self._count("<>", self._count("&", 2**self.BITS - 1 - 2**position))

    def _count(self, operator: str, value: Query | int) -> Query:
        return {"+m": {"id": {operator: {"transform": "count", "value": value}}}}


class MemberFines(GroupSum):
    """What all members of a group owe in open transactions, in cents, including hidden members."""

    BITS = 17

    def _members(self, where: Query) -> Query:
        owed = {"mbts": {"m": {"class": "au", "fkey": "usr", "field": "id"}}}
        return {"from": owed, "where": {"+mbts": {"xact_finish": None}, **where}}

    def _is_out_of_range(self) -> Query:
        # Recorded in hidden-numbers-002.
        return {"-or": [self._sum("<", "0"), self._sum(">=", str(2**self.BITS * _CENT))]}

    def _bit_is_set(self, position: int) -> Query:
        """Return the condition that the amount rounds up to a multiple of twice the bit's value.

        The modulo operator doesn't reach the database, because a ``%`` in a key is lost on the way. Floating point does
        the rounding instead: add a number so large that its last bit has the value to round to, and subtract it again.
        A condition needs a column on its left side, so a constant is written as the average of itself (``regr_avgx``),
        which is exact for a number with two significant bits. Scaling by a millionth up and down makes halves round up
        and keeps equal values equal. The error stays below a cent for every number in range.
        """
        large = 3 * 2 ** (52 + position)
        cents = self._sum("*", "100.0001")
        rounded = self._number("+", -large, self._number("+", large, cents))
        return self._sum("<", self._number("*", "0.00999999", rounded))

    def _sum(self, operator: str, value: Query | str) -> Query:
        return {"+mbts": {"balance_owed": {operator: {"transform": "sum", "value": value}}}}

    def _number(self, operator: str, constant: int | str, value: Query) -> Query:
        """Combine a constant and a value by an operator."""
        average = {"transform": "regr_avgx", "params": [str(constant)], "value": value}
        return {"+mbts": {"usr": {operator: average}}}


def read_sums(
    gateway: Gateway, number: GroupSum, representatives: Mapping[int, int], markers: Sequence[int]
) -> dict[int, int | None]:
    """Return the number of each group, by group number. ``representatives`` maps patron ids to their groups.

    The number is None if it is out of range. Groups whose answers can't be trusted are left out. ``markers`` are the
    ids of at least ``MIN_MARKERS`` other visible patrons.

    The number is in units: members or cents.
    """
    conditions = number.conditions
    at_once = min(len(markers).bit_length() - 1, _MAX_BITS)
    chunks = [conditions[start : start + at_once] for start in range(0, len(conditions), at_once)]
    # Rotate the markers, so that each search expects its own order and rejects another search's answer.
    searches = [
        _SortedSearch(number, chunk, representatives, [*markers[position:], *markers[:position]][: 2 ** len(chunk)])
        for position, chunk in enumerate(chunks)
    ]
    found = list(gateway.map(lambda search: search.ask(gateway), searches))
    # Keep the groups that every search answered.
    groups = set(representatives.values()).intersection(*found)
    bits = {group: "".join(searched[group] for searched in found) for group in groups}
    # The first bit says whether the number is out of range.
    return {group: None if ones[0] == "1" else int(ones, 2) for group, ones in bits.items()}


@dataclass(frozen=True, slots=True)
class _SortedSearch:
    """One search whose sort order tells for which groups some conditions hold."""

    number: GroupSum
    conditions: Sequence[Query]
    representatives: Mapping[int, int]
    markers: Sequence[int]

    def ask(self, gateway: Gateway) -> dict[int, str]:
        """Return which conditions hold, as a string of 1 and 0 by group.

        Return nothing if the answer doesn't prove itself.
        """
        ids = sorted({*self.representatives, *self.markers})
        where = {"id": ids, "deleted": "f"}
        rows = gateway.pcrud.search_columns("au", ("id", "usrgroup"), where, order_by=self._order(), limit=len(ids))
        markers = set(self.markers)
        starts = [start for start, (id, _group) in enumerate(rows) if id in markers]
        # All markers must be there in the expected order, with no row before the first one.
        if [rows[start][0] for start in starts] != list(self.markers) or starts[0] != 0:
            return {}
        found: dict[int, str] = {}
        for position, (start, end) in enumerate(pairwise([*starts, len(rows)])):
            block = rows[start + 1 : end]
            # Rows with the same bits are sorted by id. Any other order means that the answer was garbled.
            if block != sorted(block):
                return {}
            # A representative who has been moved says nothing about the group.
            found.update((group, self._bits(position)) for id, group in block if self.representatives[id] == group)
        return found

    def _bits(self, position: int) -> str:
        """Return the combination of bits that the marker at this position stands for."""
        return f"{position:0{len(self.conditions)}b}"

    def _order(self) -> list[Query]:
        # Among rows with the same bits, the marker comes first.
        first = {"class": "au", "field": "id", "compare": {"in": list(self.markers)}, "direction": "desc"}
        bits = [self._bit_order(position, condition) for position, condition in enumerate(self.conditions)]
        return [*bits, first, {"class": "au", "field": "id"}]

    def _bit_order(self, position: int, condition: Query) -> Query:
        """Sort by whether the condition holds for a representative's group, or by the marker's bit."""
        ones = [id for marker, id in enumerate(self.markers) if self._bits(marker)[position] == "1"]
        marked = {
            "select": {"label": ["usrgroup"]},
            "from": _MARKER,
            "where": {"+label": {"id": {"=": {"+au": "id"}}}, "+au": {"id": ones}},
        }
        either = {"union": [self.number.of_group(condition, self.markers), marked]}
        return {"class": "au", "field": "usrgroup", "compare": {"in": either}}
