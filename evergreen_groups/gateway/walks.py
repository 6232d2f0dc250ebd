"""Reading many rows: in the order of a key, or by a list of values, in parallel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sized
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from evergreen_groups.errors import DataError
from evergreen_groups.gateway.call import REQUEST_LIMIT
from evergreen_groups.gateway.rows import (
    LARGEST_LIST,
    LARGEST_PAGE,
    LIST_OF_SLOW_ROWS,
    TARGET_BYTES,
    KeyRange,
    Page,
    PageSize,
    RowSearch,
    all_of,
    any_row,
    batches,
    encoded_length,
    guessed_bytes,
    key_ranges,
    primary_key,
    walk,
)

if TYPE_CHECKING:
    from evergreen_groups.arguments import Several
    from evergreen_groups.gateway.gateway import Gateway
    from evergreen_groups.gateway.rows import Where

_LARGEST_KEY = 2**63 - 1  # PostgreSQL's bigint


def has_more_than(number: int, gateway: Gateway, source: Any, where: Mapping[str, Any], field: str) -> bool:
    """Return whether a condition holds for more than ``number`` rows, hidden rows included.

    ``source`` is a class's id or, with joined classes, a query's ``from``. ``field`` is any field of it.
    """
    return holds(gateway, {"-exists": rows_beyond(number, source, where, field)})


def holds(gateway: Gateway, condition: Mapping[str, Any], *, own_connection: bool = False) -> bool:
    """Return whether a condition made of subqueries holds (``-exists`` and ``-not-exists``).

    Subqueries aren't filtered by permission (``pcrud-141``). They are attached to a search for the root org unit, which
    every account may see. A row means yes, but doesn't say to which question: if several follow one another, ask with
    ``own_connection``.
    """
    where = {"parent_ou": None, **condition}
    return bool(gateway.pcrud.search("aou", where, select=["id"], limit=1, own_connection=own_connection))


def rows_beyond(number: int, source: Any, where: Mapping[str, Any], field: str) -> dict[str, Any]:
    """Return a subquery for the rows after the first ``number``; parameters as in :func:`has_more_than`."""
    class_id = source if isinstance(source, str) else next(iter(source))
    found = {"select": {class_id: [field]}, "from": source, "where": where}
    return {**found, "limit": 1, "offset": number} if number else found


class HiddenRows:
    """Finds what remains of a read by ``key`` after a page that hidden rows may have made short."""

    def __init__(self, gateway: Gateway, source: Any, where: Mapping[str, Any] | None, key: str) -> None:
        """``source`` is a class's id or, with joined classes, a query's ``from``."""
        self._gateway = gateway
        self._source = source
        self._where = where
        self._key = key

    def remaining(self, key_range: KeyRange) -> list[KeyRange]:
        """Return the rest as a range to read in windows; nothing if the page was the last.

        Raises:
            DataError: more rows exist, and the keys aren't whole numbers.
        """
        if not self._gateway.counts_hidden_rows() or not self._exists(key_range.condition(self._key)):
            return []
        after, high = key_range.after, key_range.high
        if not all(bound is None or isinstance(bound, int) for bound in (after, high)):
            raise self._not_walkable()
        if after is None:
            if self._exists([{self._key: {"<": 0}}]):  # negative keys: there is no known start
                raise self._not_walkable()
            after = -1
        elif key_range.inclusive:
            after -= 1
        return [KeyRange(after, self._highest(after) if high is None else high, in_windows=True)]

    def _highest(self, after: int) -> int:
        """Return a key that no row exceeds, at most about twice as far away as the highest key."""
        step = 1024
        while self._exists([{self._key: {">": after + step}}]):
            step *= 2
            if step > _LARGEST_KEY:
                raise self._not_walkable()
        return after + step

    def _exists(self, conditions: list[dict[str, Any]]) -> bool:
        """Return whether a row, hidden or not, meets the conditions."""
        where = all_of(self._where, conditions or any_row(self._key))
        return has_more_than(0, self._gateway, self._source, where, self._key)

    def _not_walkable(self) -> DataError:
        return DataError(
            "rows that the account may not see can't be skipped when reading in the order of {key}",
            advice="read in the order of the primary key, or name the home libraries that the account sees",
            code="hidden-rows-in-the-way",
            values={"key": self._key},
        )


_FIRST_PAGE = 1000
_FIRST_FLESHED = 100  # rows; the size of fleshed ones is unpredictable


class RowsByKey:
    """The rows that meet a condition, by ascending ``key``, as described in :meth:`Pcrud.pages`.

    ``bounds`` are the lowest and highest key, None if unbounded. ``options`` are those of :class:`RowSearch`.
    """

    def __init__(
        self,
        gateway: Gateway,
        class_id: str,
        where: Where | None,
        key: str,
        bounds: tuple[int | None, int | None] = (None, None),
        *,
        select: Several[str] | None = None,
        join: Any = None,
        all_visible: bool = False,
        **options: Any,
    ) -> None:
        self._gateway = gateway
        self._class_id = class_id
        self._where = where
        self._key = key
        self._bounds = bounds
        # Fields that aren't selected come as null (pcrud-001), and the next page starts after this key.
        if select is not None and key not in select:
            select = [*select, key]
        self._search = RowSearch(gateway, class_id, select=select, order_by=key, join=join, **options)
        self._first = _FIRST_FLESHED if options.get("flesh") else _FIRST_PAGE
        source: Any = class_id if join is None else {class_id: join}
        self._hidden = None if all_visible else HiddenRows(gateway, source, where, key)

    def pages(self, page_size: int | None, concurrency: int) -> Iterator[Page]:
        """Yield pages, with ``page_size`` rows at first and up to ``concurrency`` key ranges in parallel."""

        def fetch(key_range: KeyRange, limit: int) -> Page:
            return self._search.page(self._condition(key_range), limit)

        parts = self._key_ranges(concurrency)
        position = self._gateway.idl(self._class_id)[self._class_id].field(self._key).position
        size = PageSize(page_size or self._first)
        remaining = _nothing_left if self._hidden is None else self._hidden.remaining
        return walk(fetch, itemgetter(position), parts, size, concurrency, remaining)

    def _condition(self, key_range: KeyRange) -> dict[str, Any]:
        return all_of(self._where, key_range.condition(self._key) or any_row(self._key))

    def _key_ranges(self, concurrency: int) -> list[KeyRange]:
        """Return the key ranges to read: one, or as many as may be read in parallel."""
        low, high = self._bounds
        if concurrency == 1:
            return [KeyRange(low, high, inclusive=True)]
        low = self._edge("asc") if low is None else low
        high = self._edge("desc") if high is None and low is not None else high
        if low is None or high is None:
            # No rows, or the row at one end is hidden.
            return self._hidden.remaining(KeyRange(*self._bounds, inclusive=True)) if self._hidden is not None else []
        if low > high:
            return []
        return key_ranges(low, high, concurrency)

    def _edge(self, direction: str) -> int | None:
        """Return the lowest or highest matching key, None without matching rows."""
        class_id, key = self._class_id, self._key
        condition = self._condition(KeyRange(*self._bounds, inclusive=True))
        order = [{"class": class_id, "field": key, "direction": direction}]
        found = self._gateway.pcrud.search(class_id, condition, select=[key], order_by=order, limit=1)
        value = found[0][key] if found else None
        if value is not None and not isinstance(value, int):
            raise DataError(
                "{name}.{key} is not a whole number",
                advice="read these rows with a concurrency of 1",
                code="key-not-a-number",
                values={"name": class_id, "key": key},
            )
        return value


def _nothing_left(_key_range: KeyRange) -> list[KeyRange]:
    """End at a short page: no rows are hidden."""
    return []


# Answers of this multiple of the usual size are still far from getting stuck, and searches by several values rarely
# fill them.
LIMIT_FACTOR = 4

_FIRST_OF_VALUES = 2001
_ENVELOPE = 600  # bytes of a form without its parameters, rounded up generously


class RowsByValues:
    """The rows whose ``field`` is among some values, as described in :meth:`Pcrud.by_values`."""

    def __init__(
        self,
        gateway: Gateway,
        class_id: str,
        field: str,
        *,
        where: Where | None,
        select: Several[str] | None,
        order_by: Any = None,
        unique: bool = False,
        all_visible: bool = False,
    ) -> None:
        self._gateway = gateway
        self._class_id = class_id
        self._field = field
        self._where = where
        self._select = select
        self._all_visible = all_visible
        self._class = gateway.idl(class_id)[class_id]
        self._unique = unique or field == self._class.primary
        self._search = RowSearch(gateway, class_id, select=select, order_by=order_by or self._class.primary or None)
        row_bytes = guessed_bytes(self._class, None if select is None else list(select))
        self._size = PageSize(min(TARGET_BYTES // row_bytes, _FIRST_OF_VALUES), row_bytes)

    def pages(self, values: Iterable[int | str]) -> Iterator[Page]:
        """Yield pages in the order of the values, which are taken as needed."""
        fixed = encoded_length(self._condition([])) + encoded_length(self._search.options(10 * LARGEST_PAGE))
        room = REQUEST_LIMIT - _ENVELOPE - len(self._class_id) - fixed
        lists: Iterable[list[int | str]] = batches(values, room, self._longest)
        if isinstance(values, Sized) and len(values) <= LARGEST_LIST:
            lists = list(lists)
        for pages in self._gateway.map(self._fetch, lists):
            yield from pages

    def _longest(self, count: int) -> int:
        """Return how long a list with ``count`` values may become.

        Lists are shorter if the server checks permission row by row. This takes a millisecond per row, so a long list
        would leave the server's other processes idle at the end. For short lists the answer doesn't matter, and the
        server isn't asked.
        """
        known = count >= LIST_OF_SLOW_ROWS
        return LARGEST_LIST if known and not self._gateway.counts_hidden_rows() else LIST_OF_SLOW_ROWS

    def _fetch(self, batch: list[int | str]) -> list[Page]:
        return list(self._by_keys(batch) if self._unique else self._in_halves(batch))

    def _by_keys(self, batch: list[int | str]) -> Iterator[Page]:
        """Yield the rows with these primary keys. The limit is the number of keys, so hidden rows crowd out none."""
        while batch:
            count = self._size.fitting
            page = self._ask(batch[:count], len(batch[:count]))
            batch = batch[count:]
            if page.rows:
                yield page

    def _in_halves(self, batch: list[int | str]) -> Iterator[Page]:
        """Yield the rows with these values, halving the list until every answer is complete."""
        limit = max(LIMIT_FACTOR * self._size.rows, len(batch) + 1)
        page = self._ask(batch, limit)
        if len(page.rows) < limit and not self._cut_off(batch, limit):
            if page.rows:
                yield page
        elif len(batch) > 1:
            middle = len(batch) // 2
            yield from self._in_halves(batch[:middle])
            yield from self._in_halves(batch[middle:])
        else:  # more rows with one value than fit an answer
            key, condition = primary_key(self._class), self._condition(batch)
            yield from RowsByKey(self._gateway, self._class_id, condition, key, select=self._select).pages(None, 1)

    def _ask(self, batch: list[int | str], limit: int) -> Page:
        page = self._search.page(self._condition(batch), limit)
        self._size.learn(page)
        return page

    def _cut_off(self, batch: list[int | str], limit: int) -> bool:
        """Return whether an answer with fewer rows than ``limit`` may be incomplete."""
        if self._all_visible or not self._gateway.counts_hidden_rows():
            return False
        return has_more_than(limit, self._gateway, self._class_id, self._condition(batch), self._field)

    def _condition(self, batch: list[int | str]) -> dict[str, Any]:
        return all_of(self._where, [{self._field: batch}])
