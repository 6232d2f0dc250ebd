"""The service open-ils.pcrud: reading rows of the ILS's classes, as far as the account may see them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
"""The most rows in one answer; org units, profiles, kinds of penalties and thresholds are fewer nearly everywhere."""

_TRIES = 2


class Pcrud:
    """Searches through open-ils.pcrud.

    Rows that the account may not see are left out without a word (``pcrud-034``). A boolean is asked for as ``"t"``
    or ``"f"``: ``False`` matches nothing (``pcrud-011``). An empty condition, an empty list in it and unknown fields
    are ServerErrors (``pcrud-159``, ``pcrud-015``, ``pcrud-152``).
    """

    SERVICE = PCRUD
    """Its name on the bus."""

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

        ``select`` names fields of the class itself; the others are None then, and one that is fleshed must be among
        them (``pcrud-017``). ``order_by`` is one field's name, several, or pcrud's own forms. ``flesh`` is a depth.
        ``own_connection`` is as in :meth:`pages`.
        """
        _refuse_other_types(class_id, where, select)
        arguments.whole("limit", limit)
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
        """Return the fields ``names`` of the rows that :meth:`search` finds, decoded, without making records."""
        _refuse_other_types(class_id, where, names)
        arguments.whole("limit", limit)
        idl = self._gateway.idl(class_id)
        reader = ColumnReader(idl[class_id], names, idl, self._gateway.statistics)
        search = RowSearch(self._gateway, class_id, select=names, order_by=order_by)
        return list(reader.read(search.page(where, limit).rows))

    def all_columns(self, class_id: str, names: Several[str]) -> list[tuple[Any, ...]]:
        """Return the fields ``names`` of all rows of a class that is small, and has a whole number as its key ``id``.

        In two calls side by side, as long as it is small, the second of which shows that no row is missing; it is for
        classes of which an account sees every row or none.

        Raises:
            DataError: rows are missing.
        """
        wanted = ("id", *arguments.texts("names", names))
        arguments.text("class_id", class_id)
        for _ in range(_TRIES):  # a row may be added or deleted between the two calls
            rows, ids = self._gateway.map(
                lambda read: read(), (lambda: self._all_rows(class_id, wanted), lambda: self._all_ids(class_id))
            )
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
        # A condition that all rows meet, because pcrud refuses an empty one (pcrud-159).
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
        """Return the row with a primary key, None where there is none or it is hidden (``pcrud-105``)."""
        arguments.text("class_id", class_id)
        if not isinstance(id, str):
            arguments.whole("id", id, "a key, as int or a text")
        # There an empty list is an answer, and nothing at all may be what is left of one.
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
        arguments.whole("limit", limit)
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
        """Return how many rows match and may be seen."""
        # Neither this nor retrieve has an .atomic form (pcrud-100, pcrud-113); before 3.16 there is no count at all
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
        """Yield all rows, page by page, by ascending ``key``: an indexed field, no value of which occurs twice.

        With a ``concurrency`` over 1 (the gateway's, unless given), whole-numbered keys from ``low`` to ``high``
        (looked up where they aren't given) are cut into as many stretches, walked side by side: pages are in order
        within each stretch only. ``page_size`` rows are asked for at first (1,000, or 100 fleshed ones, unless given),
        then as many as make about 1 MB.

        Before 3.14 rows that the account may not see count against a page, so a short one isn't the last; where they
        are met, whole-numbered keys are gone through in narrow ranges up to the last there is. ``all_visible`` says
        that ``where`` leaves no hidden rows, which saves asking how the release behaves. ``own_connection`` asks for each page
        on a connection of its own: for what may well find nothing, where nothing tells whether that was the answer.

        Raises:
            DataError: rows came that weren't asked for, or rows may be hidden in a walk along other keys.
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

        The values are taken as they are needed and cut so that a request names at most 3,000 of them (1,500 before
        3.16) and stays under 32 kB; several requests are under way at once. A value that occurs twice may bring its
        rows twice. ``unique`` says that no two rows have the same value, as with the primary key: then no answer can
        lack rows unnoticed.
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
        """Yield the fields ``names`` of the rows that :meth:`by_values` finds, decoded, without making records.

        ``all_visible`` says that the account may see all rows with these values: before 3.16 it saves a question for
        each list, whether hidden rows have left out others.
        """
        idl = self._gateway.idl(class_id)
        reader = ColumnReader(idl[class_id], names, idl, self._gateway.statistics)
        for page in self._by_values(class_id, field, values, where, select=names, all_visible=all_visible):
            yield list(reader.read(page.rows))

    def checked(self, class_id: str, rows: list[Any], where: Where) -> list[Record]:
        """Turn whole rows that another service's method gave into records, as if they had been searched for.

        Raises:
            DataError: ``where`` doesn't hold for them, or they aren't rows of the class, whole, and each there once.
        """
        return self._records(class_id, RowCheck(self._class(class_id), where).answer(rows))

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
        """Turn rows into records; ``nested`` where there may be others inside, whose classes have to be got first."""
        if nested:
            self._gateway.idl(*class_ids(rows))
        idl = self._gateway.idl(class_id)
        return [Record(idl[class_id], values, idl) for values in rows]

    def _call(self, name: str, *parameters: Any, expect: Expect = "one") -> Result:
        return self._gateway.call(PCRUD, f"{PCRUD}.{name}", TOKEN, *parameters, expect=expect)


def _refuse_other_types(class_id: object, where: object | None, select: object | None = None) -> None:
    """Raises ArgumentError: before anything is asked, where an argument is of another type than is documented."""
    arguments.text("class_id", class_id)
    if where is not None:
        arguments.condition("where", where)
    if select is not None:
        arguments.texts("names of fields", select)
