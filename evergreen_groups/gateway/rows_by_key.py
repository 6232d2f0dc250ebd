"""All rows of a class in the order of a key: page by page, in ranges of it side by side."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

from evergreen_groups.errors import DataError
from evergreen_groups.gateway.hidden_rows import HiddenKeys
from evergreen_groups.gateway.paging import Page, PageSize, Stretch, anything, both, stretches, walk
from evergreen_groups.gateway.row_search import RowSearch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evergreen_groups.arguments import Several
    from evergreen_groups.gateway.gateway import Gateway
    from evergreen_groups.gateway.row_search import Where

_FIRST_PAGE = 1000
_FIRST_FLESHED = 100  # rows; nobody knows beforehand how large fleshed ones are


class RowsByKey:
    """The rows for which a condition holds, by ascending ``key``, as :meth:`Pcrud.pages` describes it.

    ``bounds`` are the lowest and the highest key, None where there is none; ``options`` those of :class:`RowSearch`.
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
        # A field that isn't selected comes as null (pcrud-001), the key to go on from as well.
        if select is not None and key not in select:
            select = [*select, key]
        self._search = RowSearch(gateway, class_id, select=select, order_by=key, join=join, **options)
        self._first = _FIRST_FLESHED if options.get("flesh") else _FIRST_PAGE
        source: Any = class_id if join is None else {class_id: join}
        self._hidden = None if all_visible else HiddenKeys(gateway, source, where, key)

    def pages(self, page_size: int | None, concurrency: int) -> Iterator[Page]:
        """Yield the pages, of ``page_size`` rows at first, with up to ``concurrency`` stretches under way at once."""

        def fetch(stretch: Stretch, limit: int) -> Page:
            return self._search.page(self._condition(stretch), limit)

        parts = self._stretches(concurrency)
        position = self._gateway.idl(self._class_id)[self._class_id].field(self._key).position
        size = PageSize(page_size or self._first)
        rest_of = _nothing_left if self._hidden is None else self._hidden.rest_of
        return walk(fetch, itemgetter(position), parts, size, concurrency, rest_of)

    def _condition(self, stretch: Stretch) -> dict[str, Any]:
        return both(self._where, stretch.condition(self._key) or anything(self._key))

    def _stretches(self, concurrency: int) -> list[Stretch]:
        """Return the stretches of keys to walk: one, or as many as may be under way at once."""
        low, high = self._bounds
        if concurrency == 1:
            return [Stretch(low, high, inclusive=True)]
        low = self._edge("asc") if low is None else low
        high = self._edge("desc") if high is None and low is not None else high
        if low is None or high is None:
            # Nothing is there, or the row at one end is hidden.
            return self._hidden.rest_of(Stretch(*self._bounds, inclusive=True)) if self._hidden is not None else []
        if low > high:
            return []
        return stretches(low, high, concurrency)

    def _edge(self, direction: str) -> int | None:
        """Return the lowest or highest key that matches, None where nothing does."""
        class_id, key = self._class_id, self._key
        condition = self._condition(Stretch(*self._bounds, inclusive=True))
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


def _nothing_left(_stretch: Stretch) -> list[Stretch]:
    """A short page was the last."""
    return []
