"""Searches through open-ils.pcrud, the service that reads rows that the account may see.

A proxy may mix up answers, and a service may die halfway through one. Sums are made of rows, so every answer is checked
before its rows are used: no duplicates, no missing fields, no rows that don't match. The checks run on whole columns,
because a report reads thousands of rows.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import KW_ONLY, dataclass, replace
from functools import partial
from itertools import pairwise
from operator import ge, gt, itemgetter, le, lt
from typing import TYPE_CHECKING, Any

from evergreen_groups import arguments
from evergreen_groups.batches import batched_by_size
from evergreen_groups.errors import DataError, EvergreenGroupsError, MethodNotFoundError, ServerError, unreadable
from evergreen_groups.gateway import call as wire
from evergreen_groups.gateway.call import PCRUD, REQUEST_LIMIT, GatewayKind, percent_encoded
from evergreen_groups.gateway.record import (
    CHECK_PROXY,
    FALSE,
    TRUE,
    ColumnReader,
    Record,
    class_ids,
    unrequested_rows,
    values_of_rows,
    whole_number,
)
from evergreen_groups.gateway.sender import TOKEN
from evergreen_groups.threads import begin

if TYPE_CHECKING:
    from evergreen_groups.arguments import Several
    from evergreen_groups.gateway.answer import Expect, Result
    from evergreen_groups.gateway.gateway import Gateway
    from evergreen_groups.gateway.idl import Class

NEVER_NULL: Mapping[str, frozenset[str]] = {
    name: frozenset(fields.split())
    for name, fields in {
        "au": "id usrgroup home_ou profile master_account active barred juvenile deleted",
        "ac": "id usr barcode active",
        "aou": "id shortname name",
        "aua": "id usr",
        "ausp": "id usr standing_penalty org_unit",
        "cbt": "id name owner",
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


@dataclass
class RowCheck:
    """A check of one search's rows.

    At most ``limit`` rows must meet the condition ``where`` and have the fields of ``select`` (None: all). ``joined``
    allows duplicates, which a join to other classes may produce. ``fleshed`` names the fields that hold objects.
    """

    known: Class
    where: Mapping[str, Any]
    _: KW_ONLY
    select: Iterable[str] | None = None
    limit: int | None = None
    order_by: Any = None
    joined: bool = False
    fleshed: Several[str] = ()

    def __post_init__(self) -> None:
        columns = self.known.columns
        self.fields = columns if self.select is None else columns.intersection(self.select)

    def apply(self, rows: list[Any]) -> list[list[Any]]:
        """Return the values of each row, or raise DataError if they aren't what was asked for."""
        values = values_of_rows(rows, self.known.id)
        if not values:
            return values
        if self.limit is not None and len(values) > self.limit:
            raise unrequested_rows()
        self._refuse_incomplete(values)
        self._refuse_duplicates(values)
        for field, test in _conditions(self.where):
            if field in self.fields and field not in self.fleshed:
                self._check_condition(field, test, values)
        self._refuse_wrong_order(values)
        return values

    def _column(self, field: str, values: list[list[Any]]) -> Iterator[Any]:
        return map(itemgetter(self.known.positions[field]), values)

    def _refuse_incomplete(self, values: list[list[Any]]) -> None:
        # Rows end at the last selected field, null or not (pcrud-001 and all others).
        due = max(map(self.known.positions.__getitem__, self.fields), default=-1) + 1
        if min(map(len, values)) < due:
            raise unreadable(
                "row-cut-short", f"{self.known.id} row with fewer fields than requested", advice=CHECK_PROXY
            )
        for field in NEVER_NULL.get(self.known.id, frozenset()) & self.fields:
            if None in self._column(field, values):
                raise unreadable("field-missing", f"{self.known.id}.{field} is null", advice=CHECK_PROXY)

    def _refuse_duplicates(self, values: list[list[Any]]) -> None:
        key = self.known.primary
        if key not in self.fields or key in self.fleshed:
            return
        keys = list(self._column(key, values))
        if not set(map(type, keys)) <= {int, str}:
            raise unreadable("row-without-key", f"{self.known.id} row without its key", advice=CHECK_PROXY)
        if len(set(keys)) < len(keys) and not self.joined:
            raise unreadable("row-twice", f"duplicate {self.known.id} row", advice=CHECK_PROXY)

    def _check_condition(self, field: str, test: Any, values: list[list[Any]]) -> None:
        known = self.known.field(field)
        if known.datatype == "bool" and isinstance(test, str):
            right = TRUE if test in TRUE else FALSE
            found = self._column(field, values)
            if not all(value in right for value in {it if isinstance(it, str | int) else None for it in found}):
                raise unrequested_rows()
        elif known.datatype in _IDS or (known.datatype == "text" and not known.translated):
            _check_values(test, list(self._column(field, values)))

    def _refuse_wrong_order(self, values: list[list[Any]]) -> None:
        """Refuse rows out of order: the next page starts after the last row of this one."""
        columns = [list(self._column(field, values)) for field in _ascending(self.order_by, self.known)]
        if columns and all(set(map(type, column)) == {int} for column in columns):
            keys = list(zip(*columns, strict=True))
            if any(map(gt, keys, keys[1:])):
                raise unreadable(
                    "rows-in-another-order", f"{self.known.id} rows not in the requested order", advice=CHECK_PROXY
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


def _ascending(order_by: Any, known: Class) -> list[str]:
    """Return the fields that rows ascend by; empty for any other order."""
    if isinstance(order_by, Mapping):
        order_by = order_by.get(known.id) if set(order_by) == {known.id} else None
    if isinstance(order_by, str):
        order_by = [order_by]
    fields: list[Any] = []
    for part in order_by if isinstance(order_by, list | tuple) else ():
        if isinstance(part, Mapping):
            is_plain = part.keys() <= {"class", "field", "direction"} and part.get("class") == known.id
            fields.append(part.get("field") if is_plain and part.get("direction", "asc") == "asc" else None)
        else:
            fields.append(part)
    return fields if all(isinstance(field, str) for field in fields) else []


def primary_key(known: Class) -> str:
    """Return the name of a class's primary key. Raises DataError if there is none."""
    if not known.primary:
        raise unreadable("class-without-key", f"class {known.id} has no primary key")
    return known.primary


# Evergreen got stuck on answers of about 10 MB (20,000 whole au rows): the caller gets 408 after 60 s.
TARGET_BYTES = 1024 * 1024
LARGEST_PAGE = 5000  # rows; more would save few calls and delay the first row
# 3,000 ids of seven digits make 24 kB of a form, and leave the rest of REQUEST_LIMIT to the query.
LARGEST_LIST = 3000
# The same before 3.16, where the server checks permission row by row: 3,000 cards took 3 seconds.
LIST_OF_SLOW_ROWS = 1500
_SMALLEST_PAGE = 10


@dataclass(frozen=True, slots=True)
class Page:
    """Rows in wire form, with the size of their answer in bytes."""

    rows: list[list[Any]]
    size: int


def next_limit(page: Page, limit: int) -> int:
    """Return how many rows to ask for after a page: about ``TARGET_BYTES``, and at most four times as many."""
    if not page.rows:
        return limit
    wanted = TARGET_BYTES * len(page.rows) // page.size
    return max(_SMALLEST_PAGE, min(wanted, max(limit, LARGEST_PAGE), max(limit, 4 * len(page.rows))))


def fitting_rows(known: Class, select: Sequence[str] | None) -> int:
    """Return how many rows make about ``TARGET_BYTES``, before the first answer.

    Recorded rows take about 15 bytes per sent field, and 5 per null in place of a field that isn't sent (``pcrud-001``,
    ``pcrud-007``).
    """
    sent = [field.position for field in known.fields if (field.name in select if select else not field.virtual)]
    return min(TARGET_BYTES // (30 + 15 * len(sent) + 5 * max(sent, default=0)), LARGEST_PAGE)


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

    def rest_after(self, key: Any) -> list[KeyRange]:
        """Return what remains of the range after a key, as a list of one range or none."""
        return [] if self.high is not None and key >= self.high else [replace(self, after=key, inclusive=False)]

    def contains(self, key: Any) -> bool:
        """Return whether a key is in the range."""
        if not isinstance(key, int):  # the server sorts other keys by its own collation
            return key is not None
        above = self.after is None or key > self.after or (self.inclusive and key == self.after)
        return above and (self.high is None or key <= self.high)

    def condition(self, key: str) -> list[dict[str, Any]]:
        """Return the range as conditions for a WHERE clause."""
        # Don't use offsets: the server reads all rows that an offset skips, and rows added or deleted in between would
        # shift later pages.
        above = [] if self.after is None else [{key: {">=" if self.inclusive else ">": self.after}}]
        return above + ([] if self.high is None else [{key: {"<=": self.high}}])


def encoded_length(value: object) -> int:
    """Return the size of a value in a form, in bytes."""
    return len(str(value)) if type(value) is int else len(percent_encoded(wire.dumps(value)))


def all_of(where: Mapping[str, Any] | None, conditions: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a WHERE clause that combines ``where`` and ``conditions`` with AND."""
    parts = ([dict(where)] if where else []) + conditions
    return parts[0] if len(parts) == 1 else {"-and": parts}


Where = Mapping[str, Any]
"""A condition in Evergreen's JSON query form, such as ``{"usrgroup": 6001, "deleted": "f"}``."""

MOST_ROWS = 20_000  # per answer; nearly every site has fewer org units, profiles, penalty types and thresholds

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
        _refuse_other_types(class_id, where, select, limit)
        options = {"own_connection": own_connection, "flesh": flesh, "flesh_fields": flesh_fields, "join": join}
        search = RowSearch(self._gateway, class_id, select=select, order_by=order_by, offset=offset, **options)
        return self._records(class_id, search.page(where, limit).rows)

    def search_columns(
        self, class_id: str, names: Several[str], where: Where, *, order_by: Any = None, limit: int = 1000
    ) -> list[tuple[Any, ...]]:
        """Return the fields ``names`` of the rows that :meth:`search` would return, without making records."""
        _refuse_other_types(class_id, where, names, limit)
        search = RowSearch(self._gateway, class_id, select=names, order_by=order_by)
        return list(self._columns(class_id, names).read(search.page(where, limit).rows))

    def all_columns(self, class_id: str, names: Several[str]) -> list[tuple[Any, ...]]:
        """Return the fields ``names`` of all rows of a small class whose primary key is a whole number ``id``.

        Reads the rows and, in parallel, their ids in reverse order; if the two agree, no row is missing. Suits classes
        of which an account sees either every row or none. Raises DataError if rows are missing.
        """
        wanted = ("id", *arguments.texts("names", names))
        arguments.text("class_id", class_id)
        descending = [{"class": class_id, "field": "id", "direction": "desc"}]
        for _ in range(_TRIES):  # a row may be added or deleted between the two calls
            rows, ids = self._gateway.in_parallel(
                lambda: _whole(partial(self.search_columns, class_id, wanted, order_by="id"), ">", itemgetter(0)),
                lambda: _whole(partial(self.id_list, class_id, order_by=descending), "<", int),
            )
            if [row[0] for row in rows] == ids[::-1]:
                return [row[1:] for row in rows]
        raise unreadable("rows-missing", f"{class_id} rows are missing, compared with their ids", advice=CHECK_PROXY)

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
        _refuse_other_types(class_id, where, limit=limit)
        options = RowSearch(self._gateway, class_id, order_by=order_by).options(limit)
        found = self._call(f"id_list.{class_id}.atomic", where, options).value
        ids = list(map(whole_number, found)) if isinstance(found, list) else [None]
        if None in ids or len(set(ids)) < len(ids) or len(ids) > limit:
            raise unreadable("ids-broken", f"invalid or duplicate {class_id} ids")
        return [id for id in ids if id is not None]

    def count(self, class_id: str, where: Where) -> int:
        """Return the number of matching rows that the account may see."""
        # Neither count nor retrieve has an .atomic form (pcrud-100, pcrud-113), and count is missing before 3.16
        # (3.12/releases-059).
        _refuse_other_types(class_id, where)
        count = self._call(f"count.{class_id}", where).value
        if not re.fullmatch(r"\d{1,18}", str(count), re.ASCII):
            raise unreadable("count-broken", f"{class_id} count is not a number")
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
        connection; use it if finding nothing is likely, because an empty answer doesn't show what it belongs to. Raises
        DataError if rows don't match, or hidden rows may be in the way of keys that aren't whole numbers.
        """
        _refuse_other_types(class_id, {} if where is None else where, select)
        options = {"own_connection": own_connection, "flesh": flesh, "flesh_fields": flesh_fields, "join": join}
        rows = RowsByKey(
            self._gateway, class_id, where, key, (low, high), select=select, all_visible=all_visible, **options
        )
        for page in rows.pages(page_size, concurrency or self._gateway.concurrency):
            yield self._records(class_id, page.rows)

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
        for page in self._by_values(class_id, field, values, where, select, order_by=order_by, unique=unique):
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
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the fields ``names`` of each row that :meth:`by_values` would yield, without making records.

        ``all_visible`` promises that the account may see all rows with these values. Before 3.16 this saves one call
        per list, which checks whether hidden rows crowded out others.
        """
        reader = self._columns(class_id, names)
        for page in self._by_values(class_id, field, values, where, names, all_visible=all_visible):
            yield from reader.read(page.rows)

    def checked(self, class_id: str, rows: list[Any], where: Where) -> list[Record]:
        """Turn whole rows that another service's method returned into records, checked like the rows of a search.

        Raises DataError if a row is of another class, incomplete, duplicated, or doesn't match ``where``.
        """
        return self._records(class_id, RowCheck(self._class(class_id), where).apply(rows))

    def _by_values(
        self,
        class_id: str,
        field: str,
        values: Iterable[int | str],
        where: Where | None,
        select: Several[str] | None,
        **options: Any,
    ) -> Iterator[Page]:
        _refuse_other_types(class_id, {} if where is None else where, select)
        if isinstance(values, str | bytes) or not isinstance(values, Iterable):
            raise arguments.wrong("values", values, "several values, such as a list of them")
        return RowsByValues(self._gateway, class_id, field, where, select, **options).pages(values)

    def _class(self, class_id: str) -> Class:
        return self._gateway.idl(class_id)[class_id]

    def _records(self, class_id: str, rows: list[list[Any]]) -> list[Record]:
        idl = self._gateway.idl(class_id)
        return [Record(idl[class_id], values, idl) for values in rows]

    def _columns(self, class_id: str, names: Several[str]) -> ColumnReader:
        idl = self._gateway.idl(class_id)
        return ColumnReader(idl[class_id], names, idl, self._gateway.statistics)

    def _call(self, name: str, *parameters: Any, expect: Expect = "one") -> Result:
        return self._gateway.call(PCRUD, f"{PCRUD}.{name}", TOKEN, *parameters, expect=expect)


def _whole(read: Callable[..., list[Any]], operator: str, key_of: Callable[[Any], int]) -> list[Any]:
    """Return everything that ``read`` returns for a condition and a limit, page by page in the order of the ids."""
    found: list[Any] = []
    # A condition that holds for all rows, because pcrud refuses an empty one (pcrud-159).
    condition: dict[str, Any] = {"id": {"<>": None}}
    while True:
        page = read(where=condition, limit=MOST_ROWS)
        found.extend(page)
        if len(page) < MOST_ROWS:
            return found
        condition = {"id": {operator: key_of(page[-1])}}


def _refuse_other_types(class_id: object, where: object, select: object | None = None, limit: object = 0) -> None:
    """Raise ArgumentError for a wrong argument, before any call is made."""
    arguments.text("class_id", class_id)
    arguments.condition("where", where)
    if select is not None:
        arguments.texts("select", select)
    arguments.integer("limit", limit, least=0)


class RowSearch:
    """A search of a class, without its condition and limit; further ``options`` are those of :meth:`Pcrud.search`."""

    def __init__(
        self,
        gateway: Gateway,
        class_id: str,
        *,
        select: Several[str] | None = None,
        order_by: Any = None,
        own_connection: bool = False,
        **options: Any,
    ) -> None:
        self._gateway = gateway
        self._class_id = class_id
        self._own_connection = own_connection
        if select is not None:
            # Without the primary key, releases before 3.16 answer 500 if there is a row (3.12/releases-019).
            primary = gateway.idl(class_id)[class_id].primary
            options["select"] = {class_id: list(dict.fromkeys([*select, primary] if primary else select))}
        if isinstance(order_by, str) or (
            isinstance(order_by, list | tuple) and all(isinstance(field, str) for field in order_by)
        ):
            order_by = {class_id: order_by}
        options["order_by"] = order_by
        self._options = {name: value for name, value in options.items() if value is not None}

    def options(self, limit: int) -> dict[str, Any]:
        """Return the search's options in pcrud's form, omitting unset ones."""
        # Without a limit the server fetches a hundred rows at a time (20,000 rows: 3.4 s instead of 1.2 s).
        return {**self._options, "limit": limit}

    def page(self, where: Where, limit: int) -> Page:
        """Return the values of at most ``limit`` rows. Raises DataError if the rows don't match the search."""
        class_id, options = self._class_id, self._options
        try:
            result = self._gateway.call(
                PCRUD,
                f"{PCRUD}.search.{class_id}.atomic",
                TOKEN,
                where,
                self.options(limit),
                own_connection=self._own_connection,
            )
        except (MethodNotFoundError, ServerError):
            self._refuse_unknown_names(where)
            raise
        if not isinstance(result.value, list):
            raise unreadable("rows-not-a-list", f"{class_id} rows: expected a list")
        fleshed = options.get("flesh_fields", {}).get(class_id, ())
        select, order = options.get("select", {}).get(class_id), options.get("order_by")
        known, joined = self._gateway.idl(class_id)[class_id], "join" in options
        if "*" in fleshed:
            fleshed = [field.name for field in known.fields if field.link is not None]
        check = RowCheck(known, where, select=select, limit=limit, order_by=order, joined=joined, fleshed=fleshed)
        rows = check.apply(result.value)
        self._check_fleshed(known, rows, fleshed)
        return Page(rows, result.size)

    def _refuse_unknown_names(self, where: Where) -> None:
        """Raise DataError for a class that doesn't exist, and ArgumentError for a field; Evergreen says neither."""
        from difflib import get_close_matches  # imported late: needed only for mistakes

        try:
            known = self._gateway.idl(self._class_id)[self._class_id]
        except EvergreenGroupsError as error:
            if error.code == "no-such-class":
                raise
            return
        order = self._options.get("order_by", {})
        ordered = order.get(self._class_id, ()) if isinstance(order, dict) else ()
        for name in (*where, *((ordered,) if isinstance(ordered, str) else ordered)):
            if isinstance(name, str) and not name.startswith(("-", "+")) and name not in known.positions:
                nearest = get_close_matches(name, known.positions, 1)
                # A name that isn't like any field may be a value in the wrong place, so it may be patron data.
                given = f"{name}: did you mean {nearest[0]}?" if nearest else "another text"
                raise arguments.wrong("search", name, f"names of fields of {known.id}", given)

    def _check_fleshed(self, known: Class, rows: list[list[Any]], names: Several[str]) -> None:
        """Check fleshed objects against the classes that their fields link to, and load all nested classes."""
        for field in [known.field(name) for name in names if name in known.positions]:  # others are ignored (pcrud-164)
            values = [row[field.position] for row in rows if len(row) > field.position]
            found = [one for value in values for one in (value if isinstance(value, list) else [value])]
            objects: list[Any] = [one for one in found if isinstance(one, dict)]
            if objects and field.link is not None and not field.link.through:
                # Allow duplicates: one library is the home of many patrons.
                leads_to = self._gateway.idl(field.link.class_id)[field.link.class_id]
                objects = RowCheck(leads_to, {}, joined=True).apply(objects)  # their values, of a class known now
            self._gateway.idl(*class_ids(objects))


_LARGEST_KEY = 2**63 - 1  # PostgreSQL's bigint


def holds(gateway: Gateway, condition: Mapping[str, Any], *, own_connection: bool = False) -> bool:
    """Return whether a condition made of subqueries holds (``-exists`` and ``-not-exists``).

    Subqueries aren't filtered by permission (``pcrud-141``). They are attached to a search for the root org unit, which
    every account may see. A row means yes, but doesn't say to which question: if several follow one another, ask with
    ``own_connection``.
    """
    where = {"parent_ou": None, **condition}
    return bool(gateway.pcrud.search("aou", where, select=["id"], limit=1, own_connection=own_connection))


def rows_beyond(number: int, source: Any, where: Mapping[str, Any], field: str) -> dict[str, Any]:
    """Return a subquery for the rows of a class, or of a ``from``, after the first ``number``, hidden ones included."""
    class_id = source if isinstance(source, str) else next(iter(source))
    found = {"select": {class_id: [field]}, "from": source, "where": where}
    return {**found, "limit": 1, "offset": number} if number else found


_FIRST_PAGE = 1000
_FIRST_FLESHED = 100  # rows; the size of fleshed ones is unpredictable


class RowsByKey:
    """The rows that meet a condition, by ascending ``key``, as described in :meth:`Pcrud.pages`."""

    def __init__(
        self,
        gateway: Gateway,
        class_id: str,
        where: Where | None,
        key: str,
        bounds: tuple[int | None, int | None] = (None, None),
        *,
        select: Several[str] | None = None,
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
        self._position = gateway.idl(class_id)[class_id].field(key).position
        self._search = RowSearch(gateway, class_id, select=select, order_by=key, **options)
        self._first = _FIRST_FLESHED if options.get("flesh") else _FIRST_PAGE
        self._source: Any = {class_id: options["join"]} if options.get("join") is not None else class_id
        self._all_visible = all_visible

    def pages(self, page_size: int | None, concurrency: int) -> Iterator[Page]:
        """Yield pages, with ``page_size`` rows at first and up to ``concurrency`` key ranges in parallel.

        They come as they arrive, and the next ones are fetched while the caller works on one.
        """
        waiting = deque((part, page_size or self._first) for part in self._key_ranges(concurrency))
        under_way: set[Future[tuple[Page, int, list[KeyRange]]]] = set()
        while waiting or under_way:
            while waiting and len(under_way) < concurrency:
                under_way.add(begin(partial(self._read, *waiting.popleft())))
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                page, limit, rest = future.result()
                under_way.update(begin(partial(self._read, key_range, limit)) for key_range in rest)
                if page.rows:
                    yield page

    def _read(self, key_range: KeyRange, limit: int) -> tuple[Page, int, list[KeyRange]]:
        """Return a range's first page, how many rows to ask for next, and what remains of the range, if anything."""
        # A window has at least as many keys as rows, so its page is complete however many rows are hidden.
        part = key_range
        if key_range.in_windows:
            part = KeyRange(key_range.after, min(key_range.after + limit, key_range.high))
        page = self._search.page(self._condition(part), limit)
        keys = [row[self._position] for row in page.rows]
        # Only the keys are checked here; RowCheck has checked the rest.
        if not all(map(part.contains, keys)):
            raise unrequested_rows()
        if key_range.in_windows:
            rest = key_range.rest_after(part.high)
        elif len(keys) >= limit:
            rest = key_range.rest_after(keys[-1])
        else:
            rest = self._remaining(KeyRange(keys[-1], key_range.high) if keys else key_range)
        return page, next_limit(page, limit), rest

    def _condition(self, key_range: KeyRange) -> dict[str, Any]:
        return all_of(self._where, key_range.condition(self._key) or self._any_row())

    def _any_row(self) -> list[dict[str, Any]]:
        """Return a condition that holds for all rows (``audit-015``); pcrud refuses an empty one (``pcrud-159``)."""
        return [{self._key: {"<>": None}}]

    def _key_ranges(self, concurrency: int) -> list[KeyRange]:
        low, high = self._bounds
        if concurrency == 1:
            return [KeyRange(low, high, inclusive=True)]
        low = self._edge("asc") if low is None else low
        high = self._edge("desc") if high is None and low is not None else high
        if low is None or high is None:
            # No rows, or the row at one end is hidden.
            return self._remaining(KeyRange(*self._bounds, inclusive=True))
        if low > high:
            return []
        count = min(concurrency, high - low + 1)
        edges = [low - 1 + (high - low + 1) * part // count for part in range(count + 1)]
        return [KeyRange(after, upto) for after, upto in pairwise(edges)]

    def _edge(self, direction: str) -> int | None:
        """Return the lowest or highest matching key, None without matching rows."""
        class_id, key = self._class_id, self._key
        condition = self._condition(KeyRange(*self._bounds, inclusive=True))
        order = [{"class": class_id, "field": key, "direction": direction}]
        found = self._gateway.pcrud.search(class_id, condition, select=[key], order_by=order, limit=1)
        value = found[0][key] if found else None
        if value is not None and not isinstance(value, int):
            raise unreadable("key-not-a-number", f"{class_id}.{key} is not an integer; read with concurrency=1")
        return value

    def _remaining(self, key_range: KeyRange) -> list[KeyRange]:
        """Return the rest after a page that hidden rows may have made short, as a range to read in windows.

        Return nothing if the page was the last. Raises DataError if more rows exist, and the keys aren't whole numbers.
        """
        if self._all_visible or not self._gateway.counts_hidden_rows():
            return []
        if not self._exists(key_range.condition(self._key)):
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
        where = all_of(self._where, conditions or self._any_row())
        return holds(self._gateway, {"-exists": rows_beyond(0, self._source, where, self._key)})

    def _not_walkable(self) -> DataError:
        return unreadable(
            "hidden-rows-in-the-way",
            f"can't skip hidden rows by {self._key}; order by primary key, or limit the libraries",
        )


# Answers of this multiple of the usual size are still far from getting stuck, and searches by several values rarely
# fill them.
LIMIT_FACTOR = 4
_USUAL_ROWS = 2001
_ENVELOPE = 600  # bytes of a form without its parameters, rounded up generously


@dataclass
class RowsByValues:
    """The rows whose ``field`` is among some values, as described in :meth:`Pcrud.by_values`."""

    gateway: Gateway
    class_id: str
    field: str
    where: Where | None
    select: Several[str] | None
    order_by: Any = None
    unique: bool = False
    all_visible: bool = False

    def __post_init__(self) -> None:
        self._class = known = self.gateway.idl(self.class_id)[self.class_id]
        self._unique = self.unique or self.field == known.primary
        order = self.order_by or known.primary or None
        self._search = RowSearch(self.gateway, self.class_id, select=self.select, order_by=order)
        self._fitting = fitting_rows(known, None if self.select is None else list(self.select))

    def pages(self, values: Iterable[int | str]) -> Iterator[Page]:
        """Yield pages in the order of the values, which are taken as needed."""
        fixed = encoded_length([self._condition([]), self._search.options(10 * LARGEST_PAGE)])
        room = REQUEST_LIMIT - _ENVELOPE - len(self.class_id) - fixed
        lists: Iterable[list[int | str]] = batched_by_size(
            values, room, lambda value: encoded_length(value) + len(","), self._longest
        )
        if isinstance(values, Sized) and len(values) <= LARGEST_LIST:
            lists = list(lists)
        if isinstance(lists, list) and len(lists) == 1:
            yield from self._read(lists[0])
            return
        for pages in self.gateway.map(lambda batch: list(self._read(batch)), lists):
            yield from pages

    def _longest(self, count: int) -> int:
        """Return how long a list with ``count`` values may become; the server isn't asked about short lists.

        Where it checks permission row by row, it takes a millisecond per row, so a long list would leave its other
        processes idle at the end.
        """
        known = count >= LIST_OF_SLOW_ROWS
        longest = LARGEST_LIST if known and not self.gateway.counts_hidden_rows() else LIST_OF_SLOW_ROWS
        return min(longest, self._fitting) if self._unique else longest

    def _read(self, batch: list[int | str]) -> Iterator[Page]:
        """Yield the rows with these values, halving the list until every answer is complete."""
        # No two rows share a key, so hidden rows crowd out none.
        limit = len(batch) if self._unique else max(LIMIT_FACTOR * min(self._fitting, _USUAL_ROWS), len(batch) + 1)
        page = self._search.page(self._condition(batch), limit)
        if self._unique or (len(page.rows) < limit and not self._cut_off(batch, limit)):
            if page.rows:
                yield page
        elif len(batch) > 1:
            middle = len(batch) // 2
            yield from self._read(batch[:middle])
            yield from self._read(batch[middle:])
        else:  # more rows with one value than fit an answer
            key, condition = primary_key(self._class), self._condition(batch)
            yield from RowsByKey(self.gateway, self.class_id, condition, key, select=self.select).pages(None, 1)

    def _cut_off(self, batch: list[int | str], limit: int) -> bool:
        """Return whether an answer with fewer rows than ``limit`` may be incomplete."""
        if self.all_visible or not self.gateway.counts_hidden_rows():
            return False
        more = rows_beyond(limit, self.class_id, self._condition(batch), self.field)
        return holds(self.gateway, {"-exists": more})

    def _condition(self, batch: list[int | str]) -> dict[str, Any]:
        return all_of(self.where, [{self.field: batch}])
