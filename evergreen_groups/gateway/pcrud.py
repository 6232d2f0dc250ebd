"""The service open-ils.pcrud, which reads rows of Evergreen's classes that the account may see."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evergreen_groups import arguments
from evergreen_groups.errors import DataError
from evergreen_groups.gateway.call import PCRUD, GatewayKind
from evergreen_groups.gateway.record import ColumnReader, Record, class_ids, whole_number
from evergreen_groups.gateway.rows import RowCheck, RowSearch, primary_key
from evergreen_groups.gateway.session import TOKEN
from evergreen_groups.gateway.walks import RowsByKey, RowsByValues

if TYPE_CHECKING:
    from evergreen_groups.arguments import Several
    from evergreen_groups.gateway.answer import Expect, Result
    from evergreen_groups.gateway.gateway import Gateway
    from evergreen_groups.gateway.idl import Class
    from evergreen_groups.gateway.rows import Page, Where

MOST_ROWS = 20_000
"""Maximum number of rows in one answer. Nearly every site has fewer org units, profiles, penalty types and thresholds.
"""

_TRIES = 2


class Pcrud:
    """Searches through open-ils.pcrud.

    Rows that the account may not see are left out silently (``pcrud-034``). Ask for a boolean as ``"t"`` or ``"f"``;
    ``False`` matches nothing (``pcrud-011``). An empty condition, an empty list in a condition, and unknown fields
    raise ServerError (``pcrud-159``, ``pcrud-015``, ``pcrud-152``).
    """

    SERVICE = PCRUD
    """The service's name on the bus."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def search(  # noqa: PLR0913  # pcrud's own options, by name
        self,
        class_id: str,
        where: Where,
        *,
        select: Several[str] | None = None,
        order_by: Any = None,
        limit: int = 1000,
        offset: int | None = None,
        flesh: int | None = None,
        flesh_fields: Mapping[str, Several[str]] | None = None,
        join: Any = None,
        own_connection: bool = False,
    ) -> list[Record]:
        """Return at most ``limit`` rows of a class.

        ``select`` names fields of the class itself and must include fields to be fleshed (``pcrud-017``); all others
        are None. ``order_by`` is a field's name, several names, or one of pcrud's own forms. ``flesh`` is a depth.
        ``own_connection`` is as in :meth:`pages`.
        """
        _refuse_other_types(class_id, where, select)
        arguments.integer("limit", limit)
        search = RowSearch(
            self._gateway,
            class_id,
            select=select,
            order_by=order_by,
            own_connection=own_connection,
            offset=offset,
            flesh=flesh,
            flesh_fields=flesh_fields,
            join=join,
        )
        return self._records(class_id, search.page(where, limit).rows, nested=bool(flesh))

    def search_columns(
        self, class_id: str, names: Several[str], where: Where, *, order_by: Any = None, limit: int = 1000
    ) -> list[tuple[Any, ...]]:
        """Return the fields ``names`` of the rows that :meth:`search` would return, without making records."""
        _refuse_other_types(class_id, where, names)
        arguments.integer("limit", limit)
        idl = self._gateway.idl(class_id)
        reader = ColumnReader(idl[class_id], names, idl, self._gateway.statistics)
        search = RowSearch(self._gateway, class_id, select=names, order_by=order_by)
        return list(reader.read(search.page(where, limit).rows))

    def all_columns(self, class_id: str, names: Several[str]) -> list[tuple[Any, ...]]:
        """Return the fields ``names`` of all rows of a small class whose primary key is a whole number ``id``.

        Reads the rows and, in parallel, their ids in reverse order; if the two agree, no row is missing. Suits classes
        of which an account sees either every row or none.

        Raises:
            DataError: rows are missing.
        """
        wanted = ("id", *arguments.texts("names", names))
        arguments.text("class_id", class_id)
        for _ in range(_TRIES):  # a row may be added or deleted between the two calls
            reads: tuple[Callable[[], Any], ...] = (
                lambda: self._all_rows(class_id, wanted),
                lambda: self._all_ids(class_id),
            )
            rows, ids = self._gateway.map(lambda read: read(), reads)
            if [row[0] for row in rows] == ids[::-1]:
                return [row[1:] for row in rows]
        raise DataError(
            "the list of {name} rows isn't whole: their ids, asked for beside it, are others",
            advice="try again; look at the proxy, where there is one",
            code="rows-missing",
            values={"name": class_id},
        )

    def _all_rows(self, class_id: str, names: Sequence[str]) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = []
        # A condition that holds for all rows, because pcrud refuses an empty one (pcrud-159).
        condition: dict[str, Any] = {"id": {"<>": None}}
        while True:
            page = self.search_columns(class_id, names, condition, order_by="id", limit=MOST_ROWS)
            rows.extend(page)
            if len(page) < MOST_ROWS:
                return rows
            condition = {"id": {">": page[-1][0]}}

    def _all_ids(self, class_id: str) -> list[int]:
        ids: list[int] = []
        condition: dict[str, Any] = {"id": {"<>": None}}
        descending = [{"class": class_id, "field": "id", "direction": "desc"}]
        while True:
            page = self.id_list(class_id, condition, order_by=descending, limit=MOST_ROWS)
            ids.extend(page)
            if len(page) < MOST_ROWS:
                return ids
            condition = {"id": {"<": page[-1]}}

    def retrieve(self, class_id: str, id: int | str) -> Record | None:
        """Return the row with a primary key, None if it is missing or hidden (``pcrud-105``)."""
        arguments.text("class_id", class_id)
        if not isinstance(id, str):
            arguments.integer("id", id, "a key, as int or a text")
        # With the Rust gateway an empty payload may be a truncated answer, so search: an empty list is a definite
        # answer.
        if self._gateway.kind is GatewayKind.RUST:
            return next(iter(self.search(class_id, {primary_key(self._class(class_id)): id}, limit=1)), None)
        value = self._call(f"retrieve.{class_id}", id, expect="optional").value
        if value is None:
            return None
        known = self._class(class_id)
        check = RowCheck(known, {known.primary: id} if known.primary else {})
        return self._records(class_id, check.apply([value]))[0]

    def id_list(self, class_id: str, where: Where, *, order_by: Any = None, limit: int = 1000) -> list[int]:
        """Return the primary keys of at most ``limit`` rows."""
        _refuse_other_types(class_id, where)
        arguments.integer("limit", limit)
        options = RowSearch(self._gateway, class_id, order_by=order_by).options(limit)
        found = self._call(f"id_list.{class_id}.atomic", where, options).value
        ids = list(map(whole_number, found)) if isinstance(found, list) else [None]
        if None in ids or len(set(ids)) < len(ids) or len(ids) > limit:
            raise DataError(
                "the list of {name} ids holds something else than ids, or one of them twice",
                code="ids-broken",
                values={"name": class_id},
            )
        return [id for id in ids if id is not None]

    def count(self, class_id: str, where: Where) -> int:
        """Return the number of matching rows that the account may see."""
        # Neither count nor retrieve has an .atomic form (pcrud-100, pcrud-113), and count is missing before 3.16
        # (3.12/releases-059).
        _refuse_other_types(class_id, where)
        count = self._call(f"count.{class_id}", where).value
        if not re.fullmatch(r"\d{1,18}", str(count), re.ASCII):
            raise DataError("the count of {name} rows is not a number", code="count-broken", values={"name": class_id})
        return int(count)

    def pages(  # noqa: PLR0913  # likewise
        self,
        class_id: str,
        where: Where | None = None,
        *,
        key: str = "id",
        low: int | None = None,
        high: int | None = None,
        select: Several[str] | None = None,
        page_size: int | None = None,
        concurrency: int | None = None,
        flesh: int | None = None,
        flesh_fields: Mapping[str, Several[str]] | None = None,
        join: Any = None,
        all_visible: bool = False,
        own_connection: bool = False,
    ) -> Iterator[list[Record]]:
        """Yield all rows, page by page, by ascending ``key``, which must be an indexed field without duplicates.

        With a ``concurrency`` over 1 (default: the gateway's), whole-number keys from ``low`` to ``high`` (default:
        looked up) are split into as many ranges, which are read in parallel. Pages are in order within each range only.
        The first page of each has ``page_size`` rows (default: 1,000, or 100 if fleshed), later pages as many rows as
        make about 1 MB.

        Before 3.14, hidden rows count against a page, so a short page isn't always the last. If hidden rows turn up,
        whole-number keys are read in narrow ranges up to the highest key. ``all_visible`` promises that ``where``
        excludes hidden rows, which saves asking how the release behaves. ``own_connection`` reads each page over a new
        connection; use it if finding nothing is likely, because an empty answer doesn't show what it belongs to.

        Raises:
            DataError: rows don't match, or hidden rows may be in the way of keys that aren't whole numbers.
        """
        _refuse_other_types(class_id, where, select)
        rows = RowsByKey(
            self._gateway,
            class_id,
            where,
            key,
            (low, high),
            select=select,
            join=join,
            all_visible=all_visible,
            own_connection=own_connection,
            flesh=flesh,
            flesh_fields=flesh_fields,
        )
        for page in rows.pages(page_size, concurrency or self._gateway.concurrency):
            yield self._records(class_id, page.rows, nested=bool(flesh))

    def by_values(
        self,
        class_id: str,
        field: str,
        values: Iterable[int | str],
        *,
        where: Where | None = None,
        select: Several[str] | None = None,
        order_by: Any = None,
        unique: bool = False,
    ) -> Iterator[list[Record]]:
        """Yield the rows whose ``field`` is among ``values``, in lists that follow the order of the values.

        The values are taken as needed. A request names at most 3,000 of them (1,500 before 3.16) and stays under 32 kB;
        several requests run in parallel. A repeated value may yield its rows twice. ``unique`` promises that no two
        rows share a value, as with the primary key, so that no answer can silently lack rows.
        """
        for page in self._by_values(class_id, field, values, where, select=select, order_by=order_by, unique=unique):
            yield self._records(class_id, page.rows)

    def columns_by_values(
        self,
        class_id: str,
        names: Several[str],
        field: str,
        values: Iterable[int | str],
        *,
        where: Where | None = None,
        all_visible: bool = False,
    ) -> Iterator[list[tuple[Any, ...]]]:
        """Yield the fields ``names`` of the rows that :meth:`by_values` would yield, without making records.

        ``all_visible`` promises that the account may see all rows with these values. Before 3.16 this saves one call
        per list, which checks whether hidden rows crowded out others.
        """
        idl = self._gateway.idl(class_id)
        reader = ColumnReader(idl[class_id], names, idl, self._gateway.statistics)
        for page in self._by_values(class_id, field, values, where, select=names, all_visible=all_visible):
            yield list(reader.read(page.rows))

    def checked(self, class_id: str, rows: list[Any], where: Where) -> list[Record]:
        """Turn whole rows that another service's method returned into records, checked like the rows of a search.

        Raises:
            DataError: a row is of another class, incomplete, duplicated, or doesn't match ``where``.
        """
        return self._records(class_id, RowCheck(self._class(class_id), where).apply(rows))

    def _by_values(
        self,
        class_id: str,
        field: str,
        values: Iterable[int | str],
        where: Where | None,
        *,
        select: Several[str] | None,
        **options: Any,
    ) -> Iterator[Page]:
        _refuse_other_types(class_id, where, select)
        if isinstance(values, str | bytes):
            raise arguments.wrong("values", values, "several values, such as a list of them")
        return RowsByValues(self._gateway, class_id, field, where=where, select=select, **options).pages(values)

    def _class(self, class_id: str) -> Class:
        return self._gateway.idl(class_id)[class_id]

    def _records(self, class_id: str, rows: list[list[Any]], *, nested: bool = False) -> list[Record]:
        """Turn rows into records. If they may be ``nested``, fetch the classes of the records inside first."""
        if nested:
            self._gateway.idl(*class_ids(rows))
        idl = self._gateway.idl(class_id)
        return [Record(idl[class_id], values, idl) for values in rows]

    def _call(self, name: str, *parameters: Any, expect: Expect = "one") -> Result:
        return self._gateway.call(PCRUD, f"{PCRUD}.{name}", TOKEN, *parameters, expect=expect)


def _refuse_other_types(class_id: object, where: object | None, select: object | None = None) -> None:
    """Raise ArgumentError for an argument of a wrong type, before any call is made."""
    arguments.text("class_id", class_id)
    if where is not None:
        arguments.condition("where", where)
    if select is not None:
        arguments.texts("names of fields", select)
