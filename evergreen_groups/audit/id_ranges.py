"""Ranges of patrons' ids, so that the ILS's database can be asked about some patrons after the others."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from evergreen_groups.groups import Query

# An answer has some thousand patrons where one in five of them is meant.
_WIDTH = 20_000
_MOST = 32


class IdRange(NamedTuple):
    """Ids over ``low`` and up to ``high``; None leaves that end open."""

    low: int | None
    high: int | None

    def conditions(self, field: str) -> list[Query]:
        """The range as conditions on a field that holds such an id."""
        ends = ((">", self.low), ("<=", self.high))
        return [{field: {operator: end}} for operator, end in ends if end is not None]


ALL_IDS = IdRange(None, None)


def id_ranges(highest: int) -> list[IdRange]:
    """Cut all ids, of which the highest is known, into ranges: 32 at the most, open at both ends.

    >>> id_ranges(50_000)
    [IdRange(low=None, high=25000), IdRange(low=25000, high=None)]
    """
    count = max(1, min(_MOST, highest // _WIDTH))
    edges = [None, *(highest * part // count for part in range(1, count)), None]
    return [IdRange(low, high) for low, high in pairwise(edges)]
