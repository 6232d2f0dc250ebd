"""Reading many rows in pages: none too large, several under way at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

from evergreen_groups.gateway import wire
from evergreen_groups.gateway.call import in_form
from evergreen_groups.gateway.rows import not_asked_for

if TYPE_CHECKING:
    from evergreen_groups.gateway.idl import Class

# 20,000 whole au rows, about 10 MB, got stuck: the service logs a JSON error, the caller waits 60 s for a 408.
TARGET_BYTES = 1024 * 1024
"""How large an answer ought to be; real gateways get stuck on those of about 10 MB."""

# Rows in an answer; more would save few calls and put off the first row.
LARGEST_PAGE = 5000
# Values in a list: 3,000 ids of seven digits are 24 kB in a form, which leaves the rest of REQUEST_LIMIT to the query.
LARGEST_LIST = 3000
# Where the server asks for permission row by row, before 3.16: 3,000 cards took it 3 seconds.
LIST_OF_SLOW_ROWS = 1500
_SMALLEST_PAGE = 10

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Page:
    """The values of rows in wire form, with the length in bytes of the answer that they came in."""

    rows: list[list[Any]]
    size: int


class PageSize:
    """How many rows to ask for, learnt from how large the rows have been. Safe to share between threads.

    ``first`` rows at first, then as many as make an answer of about ``TARGET_BYTES``, at most ``LARGEST_PAGE``, and
    never more than four times as many as have been tried. ``guess`` is what a row may need, in bytes.
    """

    def __init__(self, first: int, guess: int = 1) -> None:
        self._largest = max(first, LARGEST_PAGE)
        self._rows = first
        self._guess = guess
        self._row_bytes = 0.0
        self._lock = threading.Lock()

    @property
    def rows(self) -> int:
        """The number of rows to ask for next."""
        return self._rows

    @property
    def fitting(self) -> int:
        """The number of rows that make about ``TARGET_BYTES``, however many have been tried."""
        return max(_SMALLEST_PAGE, int(TARGET_BYTES / (self._row_bytes or self._guess)))

    def learn(self, page: Page) -> None:
        """Take in what an answer weighed."""
        if not page.rows:
            return
        with self._lock:
            row_bytes = page.size / len(page.rows)
            # Larger rows count at once, smaller ones by and by: an answer that is too large gets stuck, one that is
            # too small costs a call.
            self._row_bytes = max(row_bytes, (self._row_bytes + row_bytes) / 2)
            wanted = int(TARGET_BYTES / self._row_bytes)
            self._rows = max(_SMALLEST_PAGE, min(wanted, self._largest, max(self._rows, 4 * len(page.rows))))


def guessed_bytes(known: Class, select: Sequence[str] | None) -> int:
    """Return how many bytes a row of a class may need, before any has been seen.

    Recorded rows need about 15 bytes for a field that is sent and 5 for the null in place of one that isn't
    (``pcrud-001``, ``pcrud-007``).
    """
    sent = [field.position for field in known.fields if (field.name in select if select else not field.virtual)]
    return 30 + 15 * len(sent) + 5 * max(sent, default=0)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A range of keys that is walked page by page: those above ``after``, up to ``high``; None is no bound.

    ``inclusive`` makes ``after`` itself belong to it. ``in_windows`` says that pages are narrow ranges of its whole
    numbers, because a page that is short tells nothing about what comes behind it.
    """

    after: Any
    high: Any
    inclusive: bool = False
    in_windows: bool = False

    def window(self, width: int) -> Stretch:
        """The first ``width`` keys of it."""
        return Stretch(self.after, min(self.after + width, self.high))

    def behind(self, key: Any) -> list[Stretch]:
        """What is left of it behind a key."""
        return [] if self.high is not None and key >= self.high else [Stretch(key, self.high, False, self.in_windows)]

    def holds(self, key: Any) -> bool:
        """Whether a key belongs to it; one that isn't a whole number may be sorted in a way of the server's own."""
        if not isinstance(key, int):
            return key is not None
        above = self.after is None or key > self.after or (self.inclusive and key == self.after)
        return above and (self.high is None or key <= self.high)

    def condition(self, key: str) -> list[dict[str, Any]]:
        """Return what the WHERE clause has to say about the key."""
        # Keys rather than offsets: the server walks all rows that an offset skips, and a row that comes or goes
        # meanwhile would shift all later pages.
        above = [] if self.after is None else [{key: {">=" if self.inclusive else ">": self.after}}]
        return above + ([] if self.high is None else [{key: {"<=": self.high}}])


def stretches(low: int, high: int, count: int) -> list[Stretch]:
    """Cut the keys from ``low`` to ``high``, both included, into ``count`` stretches or fewer, about equally long."""
    count = max(1, min(count, high - low + 1))
    edges = [low - 1 + (high - low + 1) * part // count for part in range(count + 1)]
    return [Stretch(after, upto) for after, upto in pairwise(edges)]


def walk(
    fetch: Callable[[Stretch, int], Page],
    key_of: Callable[[list[Any]], Any],
    parts: Iterable[Stretch],
    size: PageSize,
    concurrency: int,
    rest_of: Callable[[Stretch], list[Stretch]],
) -> Iterator[Page]:
    """Yield the pages of all stretches as they come: in key order within each.

    ``fetch`` gets the beginning of what is left of a stretch, ``key_of`` the key of a row. A page that is shorter than
    asked for is the last of its stretch, unless ``rest_of`` knows better: it gets what lies behind the page. While the
    caller deals with one page, the next ones are already under way.

    Raises:
        DataError: a page has rows that weren't asked for.
    """

    def step(stretch: Stretch) -> tuple[Page, list[Stretch]]:
        asked = size.rows
        # There are no more rows than keys in a window, so its page is whole however many of them are hidden.
        part = stretch.window(asked) if stretch.in_windows else stretch
        page = fetch(part, asked)
        size.learn(page)
        keys = [key_of(row) for row in page.rows]
        # The keys alone: that rows fit what else was asked for is looked at where they come in (rows.py).
        if not all(map(part.holds, keys)):
            raise not_asked_for()
        if stretch.in_windows:
            return page, stretch.behind(part.high)
        if len(keys) >= asked:
            return page, stretch.behind(keys[-1])
        return page, rest_of(Stretch(keys[-1], stretch.high) if keys else stretch)

    executor = ThreadPoolExecutor(max_workers=concurrency, thread_name_prefix="evergreen")
    waiting = list(reversed(list(parts)))
    under_way: set[Future[tuple[Page, list[Stretch]]]] = set()
    try:
        while waiting or under_way:
            while waiting and len(under_way) < concurrency:
                under_way.add(executor.submit(step, waiting.pop()))
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                page, rest = future.result()
                under_way.update(executor.submit(step, stretch) for stretch in rest)
                if page.rows:
                    yield page
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def portions(values: Iterable[int | str], room: int, longest: Callable[[int], int]) -> Iterator[list[int | str]]:
    """Cut values, as they are needed, into lists of at most ``room`` bytes in a form.

    ``longest`` says how many values a list may have that has so many; it is asked where one has as many as it said.
    """
    portion: list[int | str] = []
    used = 0
    most = longest(0)
    comma = len(",")
    for value in values:
        length = (len(str(value)) if type(value) is int else encoded_length(value)) + comma
        if len(portion) >= most:
            most = longest(len(portion))
        if portion and (used + length > room or len(portion) >= most):
            yield portion
            portion, used = [], 0
        portion.append(value)
        used += length
    if portion:
        yield portion


def encoded_length(value: object) -> int:
    """Return how many bytes a value needs in a form."""
    return len(in_form(wire.dumps(value)))


def both(where: Mapping[str, Any] | None, conditions: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a WHERE clause that asks for ``where`` and for all of ``conditions``."""
    parts = ([dict(where)] if where else []) + conditions
    return parts[0] if len(parts) == 1 else {"-and": parts}


def anything(key: str) -> list[dict[str, Any]]:
    """A condition that every row meets (``audit-015``): pcrud refuses to go without one (``pcrud-159``)."""
    return [{key: {"<>": None}}]
