"""The service open-ils.pcrud: reading rows of the ILS's classes, as far as the account may see them.

It is one module because all of it is one class, whose methods share how a query is put and an answer read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sized
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from evergreen_groups import arguments
from evergreen_groups.errors import DataError
from evergreen_groups.gateway import small_classes
from evergreen_groups.gateway.call import REQUEST_LIMIT
from evergreen_groups.gateway.datatypes import whole_number
from evergreen_groups.gateway.hidden_rows import HiddenKeys, more_than
from evergreen_groups.gateway.kind import GatewayKind
from evergreen_groups.gateway.lists import by_keys, in_halves, nothing_left
from evergreen_groups.gateway.paging import (
    LARGEST_LIST,
    LARGEST_PAGE,
    LIST_OF_SLOW_ROWS,
    TARGET_BYTES,
    Page,
    PageSize,
    Stretch,
    anything,
    both,
    encoded_length,
    guessed_bytes,
    portions,
    stretches,
    walk,
)
from evergreen_groups.gateway.record import ColumnReader, Record
from evergreen_groups.gateway.rows import RowQuestion
from evergreen_groups.gateway.session import TOKEN

if TYPE_CHECKING:
    from evergreen_groups.arguments import Several
    from evergreen_groups.gateway.gateway import Gateway
    from evergreen_groups.gateway.idl import Class
    from evergreen_groups.gateway.result import Result


Where = Mapping[str, Any]
"""A condition in Evergreen's JSON query form: ``{"usrgroup": 6001, "deleted": "f"}``."""

_FIRST_PAGE = 1000
_FIRST_OF_VALUES = 2001
_FIRST_FLESHED = 100  # rows; nobody knows beforehand how large fleshed ones are
_ENVELOPE = 600  # what a form needs besides its parameters, in bytes, with room to spare


class Pcrud:
    """Searches through open-ils.pcrud.

    Rows that the account may not see are left out without a word (``pcrud-034``). A boolean is asked for as ``"t"``
    or ``"f"``: ``False`` matches nothing (``pcrud-011``). An empty condition, an empty list in it and unknown fields
    are ServerErrors (``pcrud-159``, ``pcrud-015``, ``pcrud-152``).
    """

    SERVICE = "open-ils.pcrud"
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
        apart: bool = False,
    ) -> list[Record]:
        """Return at most ``limit`` rows of a class.

        ``select`` names fields of the class itself; the others are None then, and one that is fleshed must be among
        them (``pcrud-017``). ``order_by`` is one field's name, several, or pcrud's own forms. ``flesh`` is a depth.
        ``apart`` is as in :meth:`pages`.
        """
        _refuse_other_types(class_id, where, select, limit)
        options = self._options(
            class_id,
            select=select,
            order_by=order_by,
            limit=limit,
            offset=offset,
            flesh=flesh,
            flesh_fields=flesh_fields,
            join=join,
        )
        return self._records(class_id, self._rows(class_id, where, options, apart=apart).rows, nested=bool(flesh))

    def search_columns(
        self, class_id: str, names: Several[str], where: Where, *, order_by: Any = None, limit: int = 1000
    ) -> list[tuple[Any, ...]]:
        """Return the fields ``names`` of the rows that :meth:`search` finds, decoded, without making records."""
        _refuse_other_types(class_id, where, names, limit)
        idl = self._gateway.idl(class_id)
        reader = ColumnReader(idl[class_id], names, idl)
        page = self._rows(class_id, where, self._options(class_id, select=names, order_by=order_by, limit=limit))
        return list(reader.read(page.rows))

    def all_columns(self, class_id: str, names: Several[str]) -> list[tuple[Any, ...]]:
        """Return the fields ``names`` of all rows of a class that is small, and has a whole number as its key ``id``.

        In two calls side by side, as long as it is small, the second of which shows that no row is missing; it is for
        classes of which an account sees every row or none.

        Raises:
            DataError: rows are missing.
        """
        wanted = arguments.texts("names", names)
        return small_classes.all_columns(self, self._gateway.map, arguments.text("class_id", class_id), wanted)

    def retrieve(self, class_id: str, id: int | str) -> Record | None:
        """Return the row with a primary key, None where there is none or it is hidden (``pcrud-105``)."""
        arguments.text("class_id", class_id)
        if not isinstance(id, str):
            arguments.whole("id", id, "a key, as int or a text")
        # There an empty list is an answer, and nothing at all may be what is left of one.
        if self._gateway.kind is GatewayKind.RUST:
            return next(iter(self.search(class_id, {self._key(class_id): id}, limit=1)), None)
        value = self._call(f"retrieve.{class_id}", id, expect="optional").value
        if value is None:
            return None
        known = self._gateway.idl(class_id)[class_id]
        question = RowQuestion(known, {known.primary: id} if known.primary else {})
        return self._records(class_id, question.answer([value]))[0]

    def id_list(self, class_id: str, where: Where, *, order_by: Any = None, limit: int = 1000) -> list[int]:
        """Return the primary keys of at most ``limit`` rows."""
        _refuse_other_types(class_id, where, None, limit)
        options = self._options(class_id, order_by=order_by, limit=limit)
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
        apart: bool = False,
    ) -> Iterator[list[Record]]:
        """Yield all rows, page by page, by ascending ``key``: an indexed field, no value of which occurs twice.

        With a ``concurrency`` over 1 (the gateway's, unless given), whole-numbered keys from ``low`` to ``high``
        (looked up where they aren't given) are cut into as many stretches, walked side by side: pages are in order
        within each stretch only. ``page_size`` rows are asked for at first (1,000, or 100 fleshed ones, unless given),
        then as many as make about 1 MB.

        Before 3.14 rows that the account may not see count against a page, so a short one isn't the last; where they
        are met, whole-numbered keys are gone through in narrow ranges up to the last there is. ``all_visible`` says
        that ``where`` leaves no hidden rows, which saves asking how the release behaves. ``apart`` asks for each page
        on a connection of its own: for what may well find nothing, where nothing tells whether that was the answer.

        Raises:
            DataError: rows came that weren't asked for, or rows may be hidden in a walk along other keys.
        """
        _refuse_other_types(class_id, where, select)
        concurrency = concurrency or self._gateway.concurrency
        # A field that isn't selected comes as null (pcrud-001), the key to go on from as well.
        if select is not None and key not in select:
            select = [*select, key]
        options = partial(
            self._options, class_id, select=select, order_by=key, flesh=flesh, flesh_fields=flesh_fields, join=join
        )
        source: Any = class_id if join is None else {class_id: join}
        hidden = None if all_visible else HiddenKeys(self._gateway, source, where, key)

        def fetch(stretch: Stretch, limit: int) -> Page:
            condition = both(where, stretch.condition(key) or anything(key))
            return self._rows(class_id, condition, options(limit=limit), apart=apart)

        parts = self._stretches(class_id, where, key, (low, high), concurrency, hidden)
        position = self._gateway.idl(class_id)[class_id].field(key).position
        size = PageSize(page_size or (_FIRST_FLESHED if flesh else _FIRST_PAGE))
        rest_of = nothing_left if hidden is None else hidden.rest_of
        for page in walk(fetch, itemgetter(position), parts, size, concurrency, rest_of):
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
        for page in self._by_values(class_id, field, values, where, select, order_by, unique=unique):
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
        reader = ColumnReader(idl[class_id], names, idl)
        for page in self._by_values(class_id, field, values, where, names, None, all_visible=all_visible):
            yield list(reader.read(page.rows))

    def checked(self, class_id: str, rows: list[Any], where: Where) -> list[Record]:
        """Turn whole rows that another service's method gave into records, as if they had been searched for.

        Raises:
            DataError: ``where`` doesn't hold for them, or they aren't rows of the class, whole, and each there once.
        """
        return self._records(class_id, RowQuestion(self._gateway.idl(class_id)[class_id], where).answer(rows))

    def _by_values(
        self,
        class_id: str,
        field: str,
        values: Iterable[int | str],
        where: Where | None,
        select: Several[str] | None,
        order_by: Any,
        *,
        unique: bool = False,
        all_visible: bool = False,
    ) -> Iterator[Page]:
        _refuse_other_types(class_id, where, select)
        if isinstance(values, str | bytes):
            raise arguments.wrong("values", values, "several values, such as a list of them")
        known = self._gateway.idl(class_id)[class_id]
        options = partial(self._options, class_id, select=select, order_by=order_by or known.primary or None)
        fixed = encoded_length(both(where, [{field: []}])) + encoded_length(options(limit=10 * LARGEST_PAGE))
        room = REQUEST_LIMIT - _ENVELOPE - len(class_id) - fixed
        row_bytes = guessed_bytes(known, None if select is None else list(select))
        size = PageSize(min(TARGET_BYTES // row_bytes, _FIRST_OF_VALUES), row_bytes)

        def ask(portion: list[int | str], limit: int) -> Page:
            page = self._rows(class_id, both(where, [{field: portion}]), options(limit=limit))
            size.learn(page)
            return page

        def cut_off(portion: list[int | str], limit: int) -> bool:
            if all_visible or not self._gateway.hidden_rows_count():
                return False
            return more_than(limit, self._gateway, class_id, both(where, [{field: portion}]), field)

        def read_one(value: int | str) -> Iterator[Page]:
            condition = both(where, [{field: [value]}])
            for records in self.pages(class_id, condition, key=self._key(class_id), select=select, concurrency=1):
                yield Page([record.to_wire()["__p"] for record in records], 0)

        def fetch(portion: list[int | str]) -> list[Page]:
            return list(
                by_keys(ask, portion, size)
                if unique or field == known.primary
                else in_halves(ask, portion, size, cut_off, read_one)
            )

        lists: Iterable[list[int | str]] = portions(values, room, self._longest)
        if isinstance(values, Sized) and len(values) <= LARGEST_LIST:
            lists = list(lists)
        for pages in self._gateway.map(fetch, lists):
            yield from pages

    def _longest(self, count: int) -> int:
        """How many values a list may have that has so many: fewer where the server looks up each row by itself.

        It takes a millisecond for each, so that a long list would leave its other processes idle at the end. Of a short
        list nobody has to know.
        """
        known = count >= LIST_OF_SLOW_ROWS
        return LARGEST_LIST if known and not self._gateway.hidden_rows_count() else LIST_OF_SLOW_ROWS

    def _key(self, class_id: str) -> str:
        primary = self._gateway.idl(class_id)[class_id].primary
        if not primary:
            raise DataError(
                "{name} has no primary key to read it by", code="class-without-key", values={"name": class_id}
            )
        return primary

    def _stretches(
        self,
        class_id: str,
        where: Where | None,
        key: str,
        bounds: tuple[int | None, int | None],
        concurrency: int,
        hidden: HiddenKeys | None,
    ) -> list[Stretch]:
        """Return the stretches of keys to walk: one, or as many as may be under way at once."""
        low, high = bounds
        if concurrency == 1:
            return [Stretch(low, high, inclusive=True)]
        low = self._edge(class_id, where, key, "asc", bounds) if low is None else low
        high = self._edge(class_id, where, key, "desc", bounds) if high is None and low is not None else high
        if low is None or high is None:
            # Nothing is there, or the row at one end is hidden.
            return hidden.rest_of(Stretch(*bounds, inclusive=True)) if hidden is not None else []
        if low > high:
            return []
        return stretches(low, high, concurrency)

    def _edge(
        self, class_id: str, where: Where | None, key: str, direction: str, bounds: tuple[int | None, int | None]
    ) -> int | None:
        """Return the lowest or highest key that matches, None where nothing does."""
        condition = Stretch(*bounds, inclusive=True).condition(key)
        order = [{"class": class_id, "field": key, "direction": direction}]
        found = self.search(class_id, both(where, condition or anything(key)), select=[key], order_by=order, limit=1)
        value = found[0][key] if found else None
        if value is not None and not isinstance(value, int):
            raise DataError(
                "{name}.{key} is not a whole number",
                advice="read these rows with a concurrency of 1",
                code="key-not-a-number",
                values={"name": class_id, "key": key},
            )
        return value

    def _options(self, class_id: str, *, select: Several[str] | None = None, **options: Any) -> dict[str, Any]:
        """Return a search's options in pcrud's form; a ``select`` always names the primary key.

        Without it releases before 3.16 answer 500 as soon as there is a row (``3.12/releases-019``).
        """
        if select is not None:
            primary = self._gateway.idl(class_id)[class_id].primary
            select = list(dict.fromkeys([*select, primary] if primary else select))
        return _options(class_id, select=select, **options)

    def _rows(self, class_id: str, where: Where, options: Mapping[str, Any], *, apart: bool = False) -> Page:
        """The rows that an answer has, held against the question; raises DataError where they don't fit it."""
        result = self._call(f"search.{class_id}.atomic", where, options, apart=apart)
        if not isinstance(result.value, list):
            raise DataError(
                "a search for {name} gave something else than a list", code="rows-not-a-list", values={"name": class_id}
            )
        fleshed = options.get("flesh_fields", {}).get(class_id, ())
        known = self._gateway.idl(class_id)[class_id]
        question = RowQuestion(
            known,
            where,
            select=options.get("select", {}).get(class_id),
            limit=options["limit"],
            order_by=options.get("order_by"),
            joined="join" in options,
            fleshed=fleshed,
        )
        rows = question.answer(result.value)
        self._check_fleshed(known, rows, fleshed)
        return Page(rows, result.size)

    def _check_fleshed(self, known: Class, rows: list[list[Any]], names: Several[str]) -> None:
        """Hold the objects in rows' fields against the classes that their links lead to."""
        for field in [known.field(name) for name in names if name in known.positions]:  # others are ignored (pcrud-164)
            if field.link is not None and not field.link.through:
                values = [row[field.position] for row in rows if len(row) > field.position]
                found = [one for value in values for one in (value if isinstance(value, list) else [value])]
                objects = [one for one in found if isinstance(one, dict)]
                # One library is the home of many.
                leads_to = self._gateway.idl(field.link.class_id)[field.link.class_id]
                RowQuestion(leads_to, {}, joined=True).answer(objects)

    def _records(self, class_id: str, rows: list[list[Any]], *, nested: bool = False) -> list[Record]:
        """Turn rows into records; ``nested`` where there may be others inside, whose classes have to be got first."""
        if nested:
            self._gateway.decode(rows)
        idl = self._gateway.idl(class_id)
        return [Record(idl[class_id], values, idl) for values in rows]

    def _call(self, name: str, *parameters: Any, expect: Any = "one", apart: bool = False) -> Result:
        return self._gateway.call(
            self.SERVICE, f"{self.SERVICE}.{name}", TOKEN, *parameters, expect=expect, apart=apart
        )


def _refuse_other_types(
    class_id: object, where: object | None, select: object | None = None, limit: object | None = None
) -> None:
    """Raises ArgumentError: before anything is asked, where an argument is of another type than is documented."""
    arguments.text("class_id", class_id)
    if where is not None:
        arguments.condition("where", where)
    if select is not None:
        arguments.texts("names of fields", select)
    arguments.whole_or_none("limit", limit)


def _options(class_id: str, *, order_by: Any, **options: Any) -> dict[str, Any]:
    """Return a search's options in pcrud's form, without those that aren't given."""
    if isinstance(order_by, str) or (isinstance(order_by, list | tuple) and all(isinstance(f, str) for f in order_by)):
        order_by = {class_id: order_by}
    if options.get("select") is not None:
        options["select"] = {class_id: list(options["select"])}
    # Every search has a limit: without one the server takes its rows a hundred at a time (20,000: 3.4 s, not 1.2 s).
    options["order_by"] = order_by
    return {name: value for name, value in options.items() if value is not None}
