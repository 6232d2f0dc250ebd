"""The rows that belong to a list of values, in answers that are whole whatever the account may not see."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Any

from evergreen_groups.gateway.call import REQUEST_LIMIT
from evergreen_groups.gateway.hidden_rows import more_than
from evergreen_groups.gateway.paging import (
    LARGEST_LIST,
    LARGEST_PAGE,
    LIST_OF_SLOW_ROWS,
    TARGET_BYTES,
    Page,
    PageSize,
    both,
    encoded_length,
    guessed_bytes,
    portions,
)
from evergreen_groups.gateway.row_search import RowSearch
from evergreen_groups.gateway.rows import primary_key
from evergreen_groups.gateway.rows_by_key import RowsByKey

if TYPE_CHECKING:
    from evergreen_groups.arguments import Several
    from evergreen_groups.gateway.gateway import Gateway
    from evergreen_groups.gateway.row_search import Where

# A page this much larger than usual is still far from what gets stuck, and what matches several values seldom fills it.
AMPLE = 4

_FIRST_OF_VALUES = 2001
_ENVELOPE = 600  # what a form needs besides its parameters, in bytes, with room to spare


class RowsByValues:
    """The rows whose ``field`` is among some values, as :meth:`Pcrud.by_values` describes it."""

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
        """Yield the rows in lists that follow the order of the values, which are taken as they are needed."""
        fixed = encoded_length(self._condition([])) + encoded_length(self._search.options(10 * LARGEST_PAGE))
        room = REQUEST_LIMIT - _ENVELOPE - len(self._class_id) - fixed
        lists: Iterable[list[int | str]] = portions(values, room, self._longest)
        if isinstance(values, Sized) and len(values) <= LARGEST_LIST:
            lists = list(lists)
        for pages in self._gateway.map(self._fetch, lists):
            yield from pages

    def _longest(self, count: int) -> int:
        """How many values a list may have that has so many: fewer where the server looks up each row by itself.

        It takes a millisecond for each, so that a long list would leave its other processes idle at the end. Of a short
        list nobody has to know.
        """
        known = count >= LIST_OF_SLOW_ROWS
        return LARGEST_LIST if known and not self._gateway.hidden_rows_count() else LIST_OF_SLOW_ROWS

    def _fetch(self, portion: list[int | str]) -> list[Page]:
        return list(self._by_keys(portion) if self._unique else self._in_halves(portion))

    def _by_keys(self, portion: list[int | str]) -> Iterator[Page]:
        """Yield the rows with these primary keys: no more than there are keys, so hidden ones leave none out."""
        while portion:
            count = self._size.fitting
            page = self._ask(portion[:count], len(portion[:count]))
            portion = portion[count:]
            if page.rows:
                yield page

    def _in_halves(self, portion: list[int | str]) -> Iterator[Page]:
        """Yield the rows with these values, the list cut in halves until the answer to each is whole."""
        limit = max(AMPLE * self._size.rows, len(portion) + 1)
        page = self._ask(portion, limit)
        if len(page.rows) < limit and not self._cut_off(portion, limit):
            if page.rows:
                yield page
        elif len(portion) > 1:
            middle = len(portion) // 2
            yield from self._in_halves(portion[:middle])
            yield from self._in_halves(portion[middle:])
        else:
            yield from self._one_by_key(portion[0])

    def _ask(self, portion: list[int | str], limit: int) -> Page:
        page = self._search.page(self._condition(portion), limit)
        self._size.learn(page)
        return page

    def _cut_off(self, portion: list[int | str], limit: int) -> bool:
        """Whether an answer with fewer rows than ``limit`` may still lack some."""
        if self._all_visible or not self._gateway.hidden_rows_count():
            return False
        return more_than(limit, self._gateway, self._class_id, self._condition(portion), self._field)

    def _one_by_key(self, value: int | str) -> Iterator[Page]:
        """Yield the rows with one value, of which there are too many for an answer."""
        key, condition = primary_key(self._class), self._condition([value])
        return RowsByKey(self._gateway, self._class_id, condition, key, select=self._select).pages(None, 1)

    def _condition(self, portion: list[int | str]) -> dict[str, Any]:
        return both(self._where, [{self._field: portion}])
