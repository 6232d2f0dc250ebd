"""Cutting all group numbers into ranges that the ILS answers one by one."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from itertools import chain

from evergreen_groups.groups.queries import GroupList, GroupRange, Groups

WANTED = 3_000
"""How many members a range is to have."""
# As many as are under way at once, for nobody knows beforehand how dense the numbers are.
_FIRST_WIDTHS = (3_000, 3_000, 10_000)
# An account of one library waits 2 ms for each row that it may not see (10.5 s for everything in one call): ranges get
# narrower long before the gateway's 60 s.
_SLOW_SECONDS = 8.0
_MOST_GROWTH = 8.0
# Three ranges are under way at once, and end at about the same time where none is much of the whole: with two large
# ones a report took twice as long. Eight cost the database hardly more than one does.
_MOST_SHARE = 8
_USUAL_WIDTH = 30_000
_PARTS = 8


class GroupRanges:
    """Cuts all group numbers into ranges as wide as earlier ones showed to be good: ``wanted`` members each or less.

    From the highest number down, where the groups are dense: numbers are given in sequence, and the first few belong
    to accounts that came with the system. The ends are open, so that groups made meanwhile belong to a range as well.

    ``searched`` says how many of the numbers up to ``highest`` are done with.
    """

    def __init__(self, highest: int, wanted: int = WANTED) -> None:
        self.highest = highest
        self._wanted = wanted
        self.searched = 0
        self._next: int | None = None
        self._put_back: list[GroupRange] = []
        self._widest = max(_FIRST_WIDTHS)
        self._width = self._widest
        self._seen_width = self._seen_members = 0.0
        self._memory = 1.0
        self._lock = threading.Lock()

    def first(self) -> list[GroupRange]:
        """The ranges to begin with; how wide the others should be is known only after them."""
        return list(chain.from_iterable(self._cut(width) for width in _FIRST_WIDTHS))

    @property
    def left(self) -> bool:
        """Whether there are others to be read: after all have been, some of them may have been put back in part."""
        return bool(self._put_back) or not self._ended

    def others(self) -> Iterator[GroupRange]:
        """The other ranges, each as wide as seems good when it is taken; what was put back comes first."""
        self._memory = 0.5  # from now on, what was seen counts for less the longer ago it was
        while self.left:
            if self._put_back:
                yield self._cut_off_put_back()
            else:
                yield from self._cut(self._width)

    def _cut_off_put_back(self) -> GroupRange:
        """Cut off one range of what was put back, from the lowest number up, or all of it where that is little."""
        with self._lock:
            low, high = within = self._put_back.pop()
            end = (low or 0) + self._width
            if (self.highest if high is None else high) - end <= self._width // 2:
                return within
            self._put_back.append(GroupRange(end, high))
            return GroupRange(low, end)

    @property
    def _ended(self) -> bool:
        return self._next is not None and self._next < 0

    def _cut(self, width: int) -> Iterator[GroupRange]:
        """Cut off one range below those cut so far, or all that is left where that is little."""
        if self._ended:
            return
        high = self._next
        low = (self.highest if high is None else high) - width
        if low <= width // 2:
            self._next = -1
            yield GroupRange(None, high)
        else:
            self._next = low
            yield GroupRange(low, high)

    def parts(self, within: Groups) -> Sequence[Groups]:
        """Cut groups into ``_PARTS`` or fewer, from the lowest up; none where it is a single one."""
        if isinstance(within, GroupList):
            return _parts_of_list(within)
        low = min(0, self.highest) - 1 if within.low is None else within.low
        high = self.highest if within.high is None else within.high
        count = min(_PARTS, high - low)
        if count < 2:
            return []
        edges = [low + (high - low) * part // count for part in range(1, count)]
        lows, highs = [within.low, *edges], [*edges, within.high]
        return [GroupRange(*edge) for edge in zip(lows, highs, strict=True)]

    def learn(self, within: GroupRange, members: int, seconds: float, rest: Sequence[GroupRange] = ()) -> None:
        """Take in how many members a range had and how long finding them took.

        ``rest`` are the parts of it that weren't looked at, being denser than was thought; they are put back.
        """
        width = self._width_of(within) - sum(map(self._width_of, rest))
        with self._lock:
            self._put_back.extend(rest)
            self.searched += width
            if within.low is None:
                return
            self._widest = max(self._widest, width)
            self._seen_width = self._seen_width * self._memory + width
            self._seen_members = self._seen_members * self._memory + members
            # From all that was seen, not from the last range alone: one range of newcomers says little about the next.
            wanted = self._wanted * self._seen_width / max(self._seen_members, 1)
            if seconds > _SLOW_SECONDS:
                wanted = min(wanted, width * _SLOW_SECONDS / seconds)
            share = max(_USUAL_WIDTH, self.highest // _MOST_SHARE)
            self._width = max(1, int(min(wanted, _MOST_GROWTH * self._widest, share)))

    def _width_of(self, within: GroupRange) -> int:
        return (self.highest if within.high is None else within.high) - (within.low or 0)


def _parts_of_list(groups: GroupList) -> list[GroupList]:
    numbers = groups.numbers
    length = max(1, -(-len(numbers) // _PARTS))
    cut = [GroupList(numbers[start : start + length]) for start in range(0, len(numbers), length)]
    return cut if len(cut) > 1 else []
