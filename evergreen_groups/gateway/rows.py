"""Searches for rows, and checks of their answers: no duplicates, no missing fields, no rows that don't match.

A proxy may mix up answers, and a service may die halfway through one. Sums are made of rows, so every answer is checked
before its rows are used. The checks run on whole columns, because a report reads thousands of rows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import pairwise
from operator import ge, gt, itemgetter, le, lt
from typing import TYPE_CHECKING, Any

from evergreen_groups.errors import DataError
from evergreen_groups.gateway import call as wire
from evergreen_groups.gateway.call import percent_encoded
from evergreen_groups.gateway.record import FALSE, TRUE, values_of_rows
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from evergreen_groups.gateway.idl import Class

NEVER_NULL: Mapping[str, frozenset[str]] = {
    name: frozenset(fields.split())
    for name, fields in {
        "au": "id usrgroup home_ou profile master_account active barred juvenile deleted",
        "ac": "id usr barcode active",
        "aou": "id shortname name",
        "aua": "id usr",
        "ausp": "id usr standing_penalty org_unit",
        "circ": "id usr circ_lib",
        "csp": "id name",
        "mb": "id xact amount billing_type",
        "mbts": "id usr balance_owed",
        "mobts": "id usr balance_owed xact_start xact_type",
        "mous": "usr balance_owed",
        "pgpt": "id grp org_unit penalty threshold",
        "pgt": "id name",
    }.items()
}
"""Fields by class that are never null in Evergreen: its tables forbid it, and its balances are sums of such columns
(``005.schema.actors.sql``, ``080.schema.money.sql``; no recorded row has a null there)."""

_IDS = frozenset({"id", "link", "org_unit", "int"})
_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {">": gt, ">=": ge, "<": lt, "<=": le}
_LOOK_AT_PROXY = Message("look at the proxy, where there is one: it may have mixed up answers")


class RowCheck:
    """A check of one search's rows.

    At most ``limit`` rows must meet the condition ``where`` and have the fields of ``select`` (None: all). ``joined``
    allows duplicates, which a join to other classes may produce. ``fleshed`` names the fields that hold objects.
    """

    def __init__(  # pcrud's own options, by name
        self,
        known: Class,
        where: Mapping[str, Any],
        *,
        select: Iterable[str] | None = None,
        limit: int | None = None,
        order_by: Any = None,
        joined: bool = False,
        fleshed: Sequence[str] = (),
    ) -> None:
        self._class = known
        asked = {field.name for field in known.fields if not field.virtual}
        self._fields = asked if select is None else asked.intersection(select)
        self._where = where
        self._limit = limit
        self._order_by = order_by
        self._joined = joined
        self._fleshed = frozenset(fleshed)

    def apply(self, rows: list[Any]) -> list[list[Any]]:
        """Return the values of each row.

        Raises:
            DataError: a row is of another class, duplicated, incomplete, or doesn't match the search.
        """
        values = values_of_rows(rows, self._class.id)
        if not values:
            return values
        if self._limit is not None and len(values) > self._limit:
            raise unrequested_rows()
        self._refuse_incomplete(values)
        self._refuse_duplicates(values)
        for field, test in _conditions(self._where):
            if field in self._fields and field not in self._fleshed:
                self._check_condition(field, test, values)
        self._refuse_wrong_order(values)
        return values

    def _column(self, field: str, values: list[list[Any]]) -> Iterator[Any]:
        return map(itemgetter(self._class.positions[field]), values)

    def _refuse_incomplete(self, values: list[list[Any]]) -> None:
        # Rows end at the last selected field, null or not (pcrud-001 and all others).
        due = max((self._class.positions[field] for field in self._fields), default=-1) + 1
        if min(map(len, values)) < due:
            raise DataError(
                "a row of {name} came with fewer fields than were asked for",
                advice=_LOOK_AT_PROXY,
                code="row-cut-short",
                values={"name": self._class.id},
            )
        for field in NEVER_NULL.get(self._class.id, frozenset()) & self._fields:
            if None in self._column(field, values):
                raise DataError(
                    "the field {field} of a {name} came empty, which it never is in the ILS",
                    advice=_LOOK_AT_PROXY,
                    code="field-missing",
                    values={"field": field, "name": self._class.id},
                )

    def _refuse_duplicates(self, values: list[list[Any]]) -> None:
        key = self._class.primary
        if key not in self._fields or key in self._fleshed:
            return
        keys = list(self._column(key, values))
        if not set(map(type, keys)) <= {int, str}:
            raise DataError("a row came without its key", advice=_LOOK_AT_PROXY, code="row-without-key")
        if len(set(keys)) < len(keys) and not self._joined:
            raise DataError(
                "the same row of {name} came twice in one answer",
                advice=_LOOK_AT_PROXY,
                code="row-twice",
                values={"name": self._class.id},
            )

    def _check_condition(self, field: str, test: Any, values: list[list[Any]]) -> None:
        known = self._class.field(field)
        if known.datatype == "bool" and isinstance(test, str):
            right = TRUE if test in TRUE else FALSE
            if not all(value in right for value in set(map(_hashable, self._column(field, values)))):
                raise unrequested_rows()
        elif known.datatype in _IDS or (known.datatype == "text" and not known.translated):
            _check_values(test, list(self._column(field, values)))

    def _refuse_wrong_order(self, values: list[list[Any]]) -> None:
        """Refuse rows out of order: the next page starts after the last row of this one."""
        fields = _ascending(self._order_by, self._class)
        if not fields or not self._fields.issuperset(fields):
            return
        columns = [list(self._column(field, values)) for field in fields]
        if all(set(map(type, column)) == {int} for column in columns):
            keys = columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))
            if not all(one <= other for one, other in pairwise(keys)):
                raise DataError(
                    "the rows of {name} came in another order than was asked for",
                    advice=_LOOK_AT_PROXY,
                    code="rows-in-another-order",
                    values={"name": self._class.id},
                )


def _conditions(where: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the conditions on single fields of the class itself, skipping those on joined classes and OR clauses."""
    for name, test in where.items():
        if name == "-and" and isinstance(test, list | tuple):
            for part in test:
                yield from _conditions(part)
        elif not name.startswith(("-", "+")):
            yield name, test


def _check_values(test: Any, found: list[Any]) -> None:
    """Raise DataError if a value doesn't meet a condition."""
    if isinstance(test, Mapping):
        for operator, bound in test.items():
            if operator == "in" and isinstance(bound, list | tuple):
                _check_values(bound, found)
            elif operator in ("<>", "!=") and bound is None and None in found:
                raise unrequested_rows()
            elif type(bound) is int and operator in _COMPARISONS and set(map(type, found)) == {int}:
                compare = _COMPARISONS[operator]
                if not all(compare(value, bound) for value in (min(found), max(found))):
                    raise unrequested_rows()
        return
    asked = test if isinstance(test, list | tuple) else [test]
    # Some methods send numbers as text, or the other way round.
    if not set(map(str, found)) <= set(map(str, asked)):
        raise unrequested_rows()


def _hashable(value: Any) -> Any:
    return value if isinstance(value, str | int) else None


def _ascending(order_by: Any, known: Class) -> list[str]:
    """Return the fields that rows ascend by; empty for any other order."""
    if isinstance(order_by, Mapping):
        order_by = order_by.get(known.id) if set(order_by) == {known.id} else None
    if isinstance(order_by, str):
        order_by = [order_by]
    parts = order_by if isinstance(order_by, list | tuple) else ()
    fields = [_ascending_field(part, known) if isinstance(part, Mapping) else part for part in parts]
    return fields if all(isinstance(field, str) for field in fields) else []


def _ascending_field(part: Mapping[str, Any], known: Class) -> Any:
    plain = part.get("class") == known.id and part.get("direction", "asc") == "asc" and not set(part) - _PLAIN_ORDER
    return part.get("field") if plain else None


_PLAIN_ORDER = {"class", "field", "direction"}


def unrequested_rows() -> DataError:
    """Return the error for rows that don't match the search."""
    return DataError("rows came that were not asked for", advice=_LOOK_AT_PROXY, code="rows-not-asked-for")


def primary_key(known: Class) -> str:
    """Return the name of a class's primary key. Raises DataError if there is none."""
    if not known.primary:
        raise DataError("{name} has no primary key to read it by", code="class-without-key", values={"name": known.id})
    return known.primary


# Evergreen got stuck on 20,000 whole au rows, about 10 MB: the service logs a JSON error, and the caller gets 408 after
# 60 s.
TARGET_BYTES = 1024 * 1024
"""Target size of an answer; real gateways get stuck at about 10 MB."""

# Maximum rows per answer. More would save few calls and delay the first row.
LARGEST_PAGE = 5000
# Maximum values per list: 3,000 ids of seven digits make 24 kB of a form, and leave the rest of REQUEST_LIMIT to the
# query.
LARGEST_LIST = 3000
# The same before 3.16, where the server checks permission row by row: 3,000 cards took 3 seconds.
LIST_OF_SLOW_ROWS = 1500
_SMALLEST_PAGE = 10


@dataclass(frozen=True, slots=True)
class Page:
    """Rows in wire form, with the size of their answer in bytes."""

    rows: list[list[Any]]
    size: int


class PageSize:
    """The number of rows to ask for, adapted to the size of earlier rows. Safe to share between threads.

    Starts with ``first`` rows. Later pages have as many rows as make about ``TARGET_BYTES``, at most ``LARGEST_PAGE``,
    and at most four times as many as any page before. ``guess`` is the expected size of a row in bytes.
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
        """The number of rows that make about ``TARGET_BYTES``, without limiting growth."""
        return max(_SMALLEST_PAGE, int(TARGET_BYTES / (self._row_bytes or self._guess)))

    def learn(self, page: Page) -> None:
        """Adapt to the size of an answer."""
        if not page.rows:
            return
        with self._lock:
            row_bytes = page.size / len(page.rows)
            # Larger rows count at once, smaller ones gradually: an answer that is too large gets stuck, one that is too
            # small only costs a call.
            self._row_bytes = max(row_bytes, (self._row_bytes + row_bytes) / 2)
            wanted = int(TARGET_BYTES / self._row_bytes)
            self._rows = max(_SMALLEST_PAGE, min(wanted, self._largest, max(self._rows, 4 * len(page.rows))))


def guessed_bytes(known: Class, select: Sequence[str] | None) -> int:
    """Estimate the bytes per row of a class before the first answer.

    Recorded rows take about 15 bytes per sent field, and 5 per null in place of a field that isn't sent (``pcrud-001``,
    ``pcrud-007``).
    """
    sent = [field.position for field in known.fields if (field.name in select if select else not field.virtual)]
    return 30 + 15 * len(sent) + 5 * max(sent, default=0)


@dataclass(frozen=True, slots=True)
class KeyRange:
    """A range of keys, read page by page: keys above ``after``, up to ``high``; None is unbounded.

    ``inclusive`` includes ``after``. ``in_windows`` reads narrow ranges of whole-number keys instead of pages, for
    classes in which a short page may not be the last.
    """

    after: Any
    high: Any
    inclusive: bool = False
    in_windows: bool = False

    def window(self, width: int) -> KeyRange:
        """Return the first ``width`` keys of the range."""
        return KeyRange(self.after, min(self.after + width, self.high))

    def rest_after(self, key: Any) -> list[KeyRange]:
        """Return what remains of the range after a key, as a list of one range or none."""
        return [] if self.high is not None and key >= self.high else [KeyRange(key, self.high, False, self.in_windows)]

    def contains(self, key: Any) -> bool:
        """Return whether a key is in the range.

        Accept all keys that aren't whole numbers, because the server sorts them by its own collation.
        """
        if not isinstance(key, int):
            return key is not None
        above = self.after is None or key > self.after or (self.inclusive and key == self.after)
        return above and (self.high is None or key <= self.high)

    def condition(self, key: str) -> list[dict[str, Any]]:
        """Return the range as conditions for a WHERE clause."""
        # Don't use offsets: the server reads all rows that an offset skips, and rows added or deleted in between would
        # shift later pages.
        above = [] if self.after is None else [{key: {">=" if self.inclusive else ">": self.after}}]
        return above + ([] if self.high is None else [{key: {"<=": self.high}}])


def key_ranges(low: int, high: int, count: int) -> list[KeyRange]:
    """Split the keys from ``low`` to ``high``, both included, into at most ``count`` ranges of about equal length."""
    count = max(1, min(count, high - low + 1))
    edges = [low - 1 + (high - low + 1) * part // count for part in range(count + 1)]
    return [KeyRange(after, upto) for after, upto in pairwise(edges)]


def walk(
    fetch: Callable[[KeyRange, int], Page],
    key_of: Callable[[list[Any]], Any],
    parts: Iterable[KeyRange],
    size: PageSize,
    concurrency: int,
    remaining: Callable[[KeyRange], list[KeyRange]],
) -> Iterator[Page]:
    """Yield the pages of all ranges as they arrive, in key order within each range.

    ``fetch`` reads the beginning of a range, and ``key_of`` returns a row's key. A page shorter than requested is the
    last of its range, unless ``remaining`` returns ranges to read after it. The next pages are fetched while the caller
    works on one.

    Raises:
        DataError: a page has rows that don't match.
    """

    def step(key_range: KeyRange) -> tuple[Page, list[KeyRange]]:
        asked = size.rows
        # A window has at least as many keys as rows, so its page is complete however many rows are hidden.
        part = key_range.window(asked) if key_range.in_windows else key_range
        page = fetch(part, asked)
        size.learn(page)
        keys = [key_of(row) for row in page.rows]
        # Only the keys are checked here; RowCheck has checked the rest.
        if not all(map(part.contains, keys)):
            raise unrequested_rows()
        if key_range.in_windows:
            return page, key_range.rest_after(part.high)
        if len(keys) >= asked:
            return page, key_range.rest_after(keys[-1])
        return page, remaining(KeyRange(keys[-1], key_range.high) if keys else key_range)

    executor = ThreadPoolExecutor(max_workers=concurrency, thread_name_prefix="evergreen")
    waiting = list(reversed(list(parts)))
    under_way: set[Future[tuple[Page, list[KeyRange]]]] = set()
    try:
        while waiting or under_way:
            while waiting and len(under_way) < concurrency:
                under_way.add(executor.submit(step, waiting.pop()))
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                page, rest = future.result()
                under_way.update(executor.submit(step, key_range) for key_range in rest)
                if page.rows:
                    yield page
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def batches(values: Iterable[int | str], room: int, longest: Callable[[int], int]) -> Iterator[list[int | str]]:
    """Split values, as they are needed, into lists of at most ``room`` bytes in a form.

    ``longest`` takes the current length of a list and returns the maximum; it is called when a list reaches the last
    maximum.
    """
    batch: list[int | str] = []
    used = 0
    most = longest(0)
    comma = len(",")
    for value in values:
        length = (len(str(value)) if type(value) is int else encoded_length(value)) + comma
        if len(batch) >= most:
            most = longest(len(batch))
        if batch and (used + length > room or len(batch) >= most):
            yield batch
            batch, used = [], 0
        batch.append(value)
        used += length
    if batch:
        yield batch


def encoded_length(value: object) -> int:
    """Return the size of a value in a form, in bytes."""
    return len(percent_encoded(wire.dumps(value)))


def all_of(where: Mapping[str, Any] | None, conditions: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a WHERE clause that combines ``where`` and ``conditions`` with AND."""
    parts = ([dict(where)] if where else []) + conditions
    return parts[0] if len(parts) == 1 else {"-and": parts}


def any_row(key: str) -> list[dict[str, Any]]:
    """Return a condition that holds for all rows (``audit-015``); pcrud refuses an empty one (``pcrud-159``)."""
    return [{key: {"<>": None}}]
