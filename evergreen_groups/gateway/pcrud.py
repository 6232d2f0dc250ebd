"""Searches through open-ils.pcrud, the service that reads rows that the account may see.

A proxy may mix up answers, and a service may die halfway through one. Sums are made of rows, so every answer is checked
before its rows are used: no duplicates, no missing fields, no rows that don't match. The checks run on whole columns,
because a report reads thousands of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import FIRST_COMPLETED, wait
from functools import partial
from itertools import pairwise
from operator import ge, gt, itemgetter, le, lt
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, Unpack

from evergreen_groups import arguments
from evergreen_groups.batches import batched_by_size
from evergreen_groups.errors import GatewayError, MethodNotFoundError, ServerError, unreadable
from evergreen_groups.gateway import call as wire
from evergreen_groups.gateway import record as wire_values
from evergreen_groups.gateway.call import PCRUD, GatewayKind
from evergreen_groups.gateway.record import Record, Rows, mixed_up, unrequested_rows, whole_number
from evergreen_groups.gateway.sender import TOKEN
from evergreen_groups.threads import begin

if TYPE_CHECKING:
    from evergreen_groups.arguments import Several
    from evergreen_groups.gateway.answer import Expect, Result
    from evergreen_groups.gateway.gateway import Gateway
    from evergreen_groups.gateway.idl import Class, Field

NEVER_NULL: Mapping[str, frozenset[str]] = {
    name: frozenset(fields.split())
    for name, fields in {
        "au": "id usrgroup home_ou profile master_account active barred juvenile deleted",
        "ac": "id usr barcode active",
        "ahr": "id usr pickup_lib",
        "aou": "id shortname name",
        "aua": "id usr",
        "aupw": "id usr name",
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


def checked_values(
    known: Class,
    rows: Any,
    where: Mapping[str, Any],
    *,
    select: Iterable[str] | None = None,
    limit: int | None = None,
    joined: bool = False,
    fleshed: Several[str] = (),
) -> list[list[Any]]:
    """Return the values of each row of an answer, or raise DataError if they aren't what was asked for.

    At most ``limit`` rows must meet the condition ``where`` and have the fields of ``select`` (None: all). ``joined``
    allows duplicates, which a join to other classes may produce. ``fleshed`` names the fields that hold objects.
    """
    values = wire_values.values_of_rows(rows, known.id)
    if limit is not None and len(values) > limit:
        raise unrequested_rows()
    fields = known.columns if select is None else known.columns.intersection(select)
    # Rows end at the last selected field, null or not (pcrud-001 and all others).
    due = max(map(known.positions.__getitem__, fields), default=-1) + 1
    if min(map(len, values), default=due) < due:
        raise mixed_up("row-cut-short", f"{known.id} row with fewer fields than requested")

    def column(field: str) -> list[Any]:
        return list(map(itemgetter(known.positions[field]), values))

    for field in NEVER_NULL.get(known.id, frozenset()) & fields:
        if None in column(field):
            raise mixed_up("field-missing", f"{known.id}.{field} is null")
    plain = fields.difference(fleshed)
    if known.primary in plain:
        _refuse_duplicates(known.id, column(known.primary), joined=joined)
    for field, test in _conditions(where):
        if field in plain and not _meet(known.field(field), test, column(field)):
            raise unrequested_rows()
    return values


def _refuse_duplicates(class_id: str, keys: list[Any], *, joined: bool) -> None:
    if not set(map(type, keys)) <= {int, str}:
        raise mixed_up("row-without-key", f"{class_id} row without its key")
    if len(set(keys)) < len(keys) and not joined:
        raise mixed_up("row-twice", f"duplicate {class_id} row")


def _conditions(where: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the conditions on single fields of the class itself, skipping those on joined classes and OR clauses."""
    for name, test in where.items():
        if name == "-and" and isinstance(test, list | tuple):
            for part in test:
                yield from _conditions(part)
        elif not name.startswith(("-", "+")):
            yield name, test


def _meet(field: Field, test: Any, found: list[Any]) -> bool:
    """Return whether all values of a field meet a condition; True if that can't be told here."""
    if field.datatype == "bool" and isinstance(test, str):
        return all(map((wire_values.TRUE if test in wire_values.TRUE else wire_values.FALSE).__contains__, found))
    if field.datatype not in _IDS and (field.datatype != "text" or field.translated):
        return True
    if isinstance(test, Mapping):
        return all(_compare(operator, bound, found) for operator, bound in test.items())
    # Some methods send numbers as text, or the other way round.
    return set(map(str, found)) <= set(map(str, test if isinstance(test, list | tuple) else [test]))


def _compare(operator: str, bound: Any, found: list[Any]) -> bool:
    if operator == "in" and isinstance(bound, list | tuple):
        return set(map(str, found)) <= set(map(str, bound))
    if operator in _COMPARISONS and type(bound) is int and set(map(type, found)) == {int}:
        return all(_COMPARISONS[operator](value, bound) for value in (min(found), max(found)))
    # No null is above or below a value, and "<>": null excludes it, too.
    return None not in found or not (operator in _COMPARISONS or (operator in ("<>", "!=") and bound is None))


def primary_key(known: Class) -> str:
    """Return the name of a class's primary key. Raises DataError if there is none."""
    if not known.primary:
        raise unreadable("class-without-key", f"class {known.id} has no primary key")
    return known.primary


def encoded_length(value: object) -> int:
    """Return the size of a value in a form, in bytes."""
    return len(str(value)) if type(value) is int else len(wire.percent_encoded(wire.dumps(value)))


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

    def search(
        self,
        class_id: str,
        where: Where,
        *,
        order_by: Any = None,
        limit: int = 1000,
        offset: int | None = None,
        **options: Unpack[SearchOptions],
    ) -> list[Record]:
        """Return at most ``limit`` rows of a class. Order by a field, several, or in one of pcrud's own forms."""
        search = RowSearch(self._gateway, class_id, where, order_by=order_by, offset=offset, **options)
        return search.page(limit).records()

    def search_columns(
        self, class_id: str, names: Several[str], where: Where, *, order_by: Any = None, limit: int = 1000
    ) -> list[tuple[Any, ...]]:
        """Return the fields ``names`` of the rows that :meth:`search` would return, without making records."""
        search = RowSearch(self._gateway, class_id, where, select=arguments.texts("names", names), order_by=order_by)
        return list(search.page(limit).columns(names))

    def all_columns(self, class_id: str, names: Several[str]) -> list[tuple[Any, ...]]:
        """Return the fields ``names`` of all rows of a small class whose primary key is a whole number ``id``.

        Reads the rows and, in parallel, the last ids in reverse order; if the two agree, no row is missing. Suits
        classes of which an account sees either every row or none. Raises DataError if rows are missing.
        """
        wanted = ("id", *arguments.texts("names", names))
        descending = [{"class": class_id, "field": "id", "direction": "desc"}]
        rows = RowsByKey(self._gateway, class_id, {}, "id", MOST_ROWS, select=wanted, all_visible=True)
        any_row = {"id": {"<>": None}}  # pcrud refuses an empty condition (pcrud-159)
        for _ in range(_TRIES):  # a row may be added or deleted between the two calls
            found, ids = self._gateway.in_parallel(
                lambda: [row for page in rows.pages() for row in page.columns(wanted)],
                lambda: self.id_list(class_id, any_row, order_by=descending, limit=MOST_ROWS),
            )
            if [row[0] for row in found[-MOST_ROWS:]] == ids[::-1]:
                return [row[1:] for row in found]
        raise mixed_up("rows-missing", f"{class_id} rows are missing, compared with their ids")

    def retrieve(self, class_id: str, id: int | str) -> Record | None:
        """Return the row with a primary key, None if it is missing or hidden (``pcrud-105``)."""
        arguments.text("class_id", class_id)
        if not isinstance(id, str):
            arguments.integer("id", id, "a key, as int or a text")
        # With the Rust gateway an empty payload may be a truncated answer, so search: an empty list is a definite
        # answer.
        if self._gateway.kind is GatewayKind.RUST:
            found = self.search(class_id, {primary_key(self._gateway.idl(class_id)[class_id]): id}, limit=1)
            return found[0] if found else None
        value = self._call(f"retrieve.{class_id}", id, expect="optional").value
        if value is None:
            return None
        key = self._gateway.idl(class_id)[class_id].primary
        return self.checked(class_id, [value], {key: id} if key else {})[0]

    def id_list(self, class_id: str, where: Where, *, order_by: Any = None, limit: int = 1000) -> list[int]:
        """Return the primary keys of at most ``limit`` rows."""
        options = RowSearch(self._gateway, class_id, where, order_by=order_by).form(limit)
        found = self._call(f"id_list.{class_id}.atomic", where, options).value
        ids = list(map(whole_number, found)) if isinstance(found, list) else [None]
        if None in ids or len(set(ids)) < len(ids) or len(ids) > limit:
            raise unreadable("ids-broken", f"invalid or duplicate {class_id} ids")
        return [id for id in ids if id is not None]

    def count(self, class_id: str, where: Where) -> int:
        """Return the number of matching rows that the account may see."""
        # Neither count nor retrieve has an .atomic form (pcrud-100, pcrud-113), and count is missing before 3.16
        # (3.12/releases-059).
        arguments.text("class_id", class_id)
        arguments.condition("where", where)
        count = whole_number(self._call(f"count.{class_id}", where).value)
        if count is None or count < 0:
            raise unreadable("count-broken", f"{class_id} count is not a number")
        return count

    def pages(
        self,
        class_id: str,
        where: Where | None = None,
        *,
        key: str = "id",
        low: int | None = None,
        high: int | None = None,
        page_size: int | None = None,
        concurrency: int | None = None,
        **options: Unpack[SearchOptions],
    ) -> Iterator[list[Record]]:
        """Yield all rows, page by page, by ascending ``key``, which must be an indexed field without duplicates.

        With a ``concurrency`` over 1 (default: the gateway's), whole-number keys from ``low`` to ``high`` (default:
        looked up) are split into as many ranges, which are read in parallel. Pages are in order within each range only.
        A page has at most ``page_size`` rows (default: 1,000, or 100 if fleshed). Make it smaller if rows take more
        than 1 kB, because Evergreen gets stuck on answers of about 10 MB.

        Before 3.14, hidden rows count against a page, so a short page isn't always the last. If hidden rows turn up,
        whole-number keys are read in narrow ranges up to the highest key. ``all_visible`` saves asking how the release
        behaves. Raises DataError if rows don't match, or hidden rows may be in the way of keys that aren't whole
        numbers.
        """
        size = page_size or (_FLESHED_PAGE if options.get("flesh") else _PAGE)
        rows = RowsByKey(self._gateway, class_id, {} if where is None else where, key, size, **options)
        for page in rows.pages(low, high, concurrency or self._gateway.concurrency):
            yield page.records()

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
        where = {} if where is None else where
        search = RowSearch(self._gateway, class_id, where, select=select, order_by=order_by)
        for page in search.by_values(field, values, unique=unique):
            yield page.records()

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

        ``all_visible`` saves, before 3.16, a call per list that checks whether hidden rows crowded out others.
        """
        where = {} if where is None else where
        search = RowSearch(self._gateway, class_id, where, select=names, all_visible=all_visible)
        for page in search.by_values(field, values):
            yield from page.columns(names)

    def checked(self, class_id: str, rows: list[Any], where: Where) -> list[Record]:
        """Turn whole rows that another service's method returned into records, checked like the rows of a search.

        Raises DataError if a row is of another class, incomplete, duplicated, or doesn't match ``where``.
        """
        idl = self._gateway.idl(class_id)
        return Rows(idl[class_id], idl, checked_values(idl[class_id], rows, where)).records()

    def _call(self, name: str, *parameters: Any, expect: Expect = "one") -> Result:
        return self._gateway.call(PCRUD, f"{PCRUD}.{name}", TOKEN, *parameters, expect=expect)


class SearchOptions(TypedDict, total=False):
    """The options of a search.

    ``select`` names fields of the class itself and must include fields to be fleshed (``pcrud-017``); all others are
    None. ``flesh`` is a depth. ``all_visible`` promises that the condition excludes hidden rows. ``own_connection``
    reads each page over a new connection; use it if finding nothing is likely, because an empty answer doesn't show
    what it belongs to.
    """

    select: Several[str] | None
    flesh: int | None
    flesh_fields: Mapping[str, Several[str]] | None
    join: Any
    all_visible: bool
    own_connection: bool


# 3,000 ids of seven digits make 24 kB of a form, and leave the rest of REQUEST_LIMIT to the query.
LARGEST_LIST = 3000
# The same before 3.16, where the server checks permission row by row: 3,000 cards took 3 seconds.
LIST_OF_SLOW_ROWS = 1500
# Whole rows take up to 1.3 kB, selected fields of them at most half of it. Evergreen got stuck on answers of about
# 10 MB (20,000 whole au rows): the caller gets 408 after 60 s.
_LIST_OF_WHOLE_ROWS = 800
# Answers with this multiple of the rows are still far from getting stuck, and searches by several values rarely fill
# them.
LIMIT_FACTOR = 4
_USUAL_ROWS = 2001
_ENVELOPE = 600  # bytes of a form without its parameters, rounded up generously


class RowSearch:
    """A search for the rows of a class that meet ``where``, with the options of :meth:`Pcrud.search`."""

    def __init__(self, gateway: Gateway, class_id: str, where: Where, **options: Any) -> None:
        arguments.condition("where", where)
        self._gateway = gateway
        self._class_id = arguments.text("class_id", class_id)
        self._where = where
        given = {name: value for name, value in options.items() if value is not None}
        self._all_visible = given.pop("all_visible", False)
        self._own_connection = given.pop("own_connection", False)
        select = given.pop("select", None)
        self._select = None if select is None else arguments.texts("select", select)
        order = given.get("order_by")
        if isinstance(order, str) or (isinstance(order, list | tuple) and all(isinstance(one, str) for one in order)):
            given["order_by"] = {class_id: order}
        self._options = given

    @property
    def _known(self) -> Class:
        return self._gateway.idl(self._class_id)[self._class_id]

    def form(self, limit: int) -> dict[str, Any]:
        """Return the search's options in pcrud's form, omitting unset ones."""
        # Without a limit the server fetches a hundred rows at a time (20,000 rows: 3.4 s instead of 1.2 s).
        options = {**self._options, "limit": arguments.integer("limit", limit, least=0)}
        if self._select is not None:
            # Without the primary key, releases before 3.16 answer 500 if there is a row (3.12/releases-019).
            names = dict.fromkeys((*self._select, self._known.primary))
            options["select"] = {self._class_id: [name for name in names if name]}
        return options

    def page(self, limit: int, *conditions: Where) -> Rows:
        """Return at most ``limit`` of the rows that meet more ``conditions``. Raises DataError for other rows."""
        where, options = all_of(self._where, conditions), self.form(limit)
        method = f"{PCRUD}.search.{self._class_id}.atomic"
        try:
            result = self._gateway.call(PCRUD, method, TOKEN, where, options, own_connection=self._own_connection)
        except (MethodNotFoundError, ServerError):
            self._refuse_unknown_names()
            raise
        known = self._known
        select, joined = options.get("select", {}).get(known.id), "join" in options
        fleshed = options.get("flesh_fields", {}).get(known.id, ())
        if "*" in fleshed:
            fleshed = [field.name for field in known.fields if field.is_link]
        values = checked_values(known, result.value, where, select=select, limit=limit, joined=joined, fleshed=fleshed)
        nested = wire_values.objects_by_class(values) if fleshed else {}
        idl = self._gateway.idl(known.id, *nested)
        for class_id, objects in nested.items():
            checked_values(idl[class_id], objects, {}, joined=True)  # one library is the home of many patrons
        return Rows(known, idl, values, self._gateway.statistics)

    def by_values(self, field: str, values: Iterable[int | str], *, unique: bool = False) -> Iterator[Rows]:
        """Yield pages of the rows whose ``field`` is among ``values``, as described in :meth:`Pcrud.by_values`."""
        if isinstance(values, str | bytes) or not isinstance(values, Iterable):
            raise arguments.wrong("values", values, "several values, such as a list of them")
        primary = self._known.primary
        if primary:
            self._options.setdefault("order_by", {self._class_id: primary})
        unique = unique or field == primary

        def longest(count: int) -> int:
            if unique and self._select is None:
                return _LIST_OF_WHOLE_ROWS
            # The server isn't asked about short lists. Where it checks permission row by row, it takes a millisecond
            # per row, so a long list would leave its other processes idle at the end.
            known = count >= LIST_OF_SLOW_ROWS
            return LARGEST_LIST if known and not self._gateway.counts_hidden_rows() else LIST_OF_SLOW_ROWS

        fixed = encoded_length([all_of(self._where, [{field: []}]), self.form(10 * LARGEST_LIST)])
        room = wire.REQUEST_LIMIT - _ENVELOPE - len(self._class_id) - fixed
        lists = batched_by_size(values, room, lambda value: encoded_length(value) + len(","), longest)
        read = partial(self._with_values, field, unique)
        for pages in self._gateway.map(read, list(lists) if isinstance(values, Sized) else lists):
            yield from pages

    def _with_values(self, field: str, unique: bool, batch: list[int | str]) -> list[Rows]:
        """Return the rows with these values, halving the list until every answer is complete."""
        condition = {field: batch}
        usual = _LIST_OF_WHOLE_ROWS if self._select is None else _USUAL_ROWS
        limit = len(batch) if unique else LIMIT_FACTOR * usual
        page = self.page(limit, condition)
        # No two rows share a unique value, so hidden rows crowd out none.
        if unique or (len(page) < limit and not self._lacks_rows(limit, field, condition)):
            return [page] if page else []
        if len(batch) > 1:
            middle = len(batch) // 2
            return self._with_values(field, unique, batch[:middle]) + self._with_values(field, unique, batch[middle:])
        # More rows with one value than fit an answer.
        where = all_of(self._where, [condition])
        key = primary_key(self._known)
        return list(RowsByKey(self._gateway, self._class_id, where, key, select=self._select).pages())

    def _refuse_unknown_names(self) -> None:
        """Raise DataError for a class that doesn't exist, and ArgumentError for a field; Evergreen says neither."""
        from difflib import get_close_matches  # imported late: needed only for mistakes

        try:
            known = self._known
        except GatewayError:
            return
        order = self._options.get("order_by", {})
        ordered = order.get(known.id, ()) if isinstance(order, dict) else ()
        for name in (*self._where, *((ordered,) if isinstance(ordered, str) else ordered)):
            if isinstance(name, str) and not name.startswith(("-", "+")) and name not in known.positions:
                nearest = get_close_matches(name, known.positions, 1)
                # A name that isn't like any field may be a value in the wrong place, so it may be patron data.
                given = f"{name}: did you mean {nearest[0]}?" if nearest else "another text"
                raise arguments.wrong("search", name, f"names of fields of {known.id}", given)

    def _lacks_rows(self, number: int, field: str, *conditions: Where) -> bool:
        """Return whether hidden rows, beyond ``number``, may have crowded out others."""
        if self._all_visible or not self._gateway.counts_hidden_rows():
            return False
        return self._exceeds(number, field, *conditions)

    def _exceeds(self, number: int, field: str, *conditions: Where) -> bool:
        """Return whether more than ``number`` rows, hidden ones included, meet the conditions."""
        join = self._options.get("join")
        source = self._class_id if join is None else {self._class_id: join}
        beyond = rows_beyond(number, source, all_of(self._where, conditions), field)
        return holds(self._gateway, {"-exists": beyond})


def all_of(where: Where, conditions: Sequence[Where]) -> dict[str, Any]:
    """Return a WHERE clause that combines ``where`` and ``conditions`` with AND."""
    parts = [*([dict(where)] if where else []), *conditions]
    return {"-and": parts} if len(parts) > 1 else dict(*parts)


def holds(gateway: Gateway, condition: Where, *, own_connection: bool = False) -> bool:
    """Return whether a condition made of subqueries holds (``-exists`` and ``-not-exists``).

    Subqueries aren't filtered by permission (``pcrud-141``). They are attached to a search for the root org unit, which
    every account may see. A row means yes, but doesn't say to which question: if several follow one another, ask with
    ``own_connection``.
    """
    where = {"parent_ou": None, **condition}
    return bool(gateway.pcrud.search("aou", where, select=["id"], limit=1, own_connection=own_connection))


def rows_beyond(number: int, source: Any, where: Where, field: str) -> dict[str, Any]:
    """Return a subquery for the rows of a class, or of a ``from``, after the first ``number``, hidden ones included."""
    class_id = source if isinstance(source, str) else next(iter(source))
    found = {"select": {class_id: [field]}, "from": source, "where": where}
    return {**found, "limit": 1, "offset": number} if number else found


_PAGE = 1000
_FLESHED_PAGE = 100  # the size of fleshed rows is unpredictable


class KeyRange(NamedTuple):
    """A range of keys: above ``after``, up to ``high``; None is unbounded.

    ``in_windows`` reads narrow ranges of whole-number keys instead of pages, because a short page may not be the last.
    """

    after: Any
    high: Any
    in_windows: bool = False

    def conditions(self, key: str) -> list[Where]:
        """Return the range as conditions for a WHERE clause."""
        # Don't use offsets: the server reads all rows that an offset skips, and rows added or deleted in between would
        # shift later pages.
        above: list[Where] = [] if self.after is None else [{key: {">": self.after}}]
        below: list[Where] = [] if self.high is None else [{key: {"<=": self.high}}]
        # All rows have a key (audit-015); pcrud refuses an empty condition (pcrud-159).
        return above + below or [{key: {"<>": None}}]


class RowsByKey(RowSearch):
    """The rows of a search by ascending ``key``, as described in :meth:`Pcrud.pages`."""

    def __init__(
        self, gateway: Gateway, class_id: str, where: Where, key: str, page_size: int = _PAGE, **options: Any
    ) -> None:
        if options.get("select") is not None:
            # Fields that aren't selected come as null (pcrud-001), and the next page starts after this key.
            options["select"] = (*arguments.texts("select", options["select"]), key)
        super().__init__(gateway, class_id, where, order_by=key, **options)
        self._key = key
        self._page_size = page_size
        self._position = self._known.field(key).position

    def pages(self, low: int | None = None, high: int | None = None, concurrency: int = 1) -> Iterator[Rows]:
        """Yield pages of up to ``concurrency`` key ranges as they arrive, fetching while the caller works on one."""
        whole = KeyRange(None if low is None else low - 1, high)
        ranges = [whole] if concurrency == 1 else self._split(whole, concurrency)
        under_way = {begin(partial(self._read, part)) for part in ranges}
        while under_way:
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                page, rest = future.result()
                if rest is not None:
                    under_way.add(begin(partial(self._read, rest)))
                if page:
                    yield page

    def _read(self, part: KeyRange) -> tuple[Rows, KeyRange | None]:
        """Return a range's first page, and what remains of the range, if anything."""
        # A window has at least as many keys as rows, so its page is complete however many rows are hidden.
        high = min(part.after + self._page_size, part.high) if part.in_windows else part.high
        page = self.page(self._page_size, *KeyRange(part.after, high).conditions(self._key))
        keys = [values[self._position] for values in page.values]
        # The server sorts other keys by its own collation.
        if set(map(type, keys)) == {int} and any(map(gt, keys, keys[1:])):
            raise mixed_up("rows-in-another-order", f"{self._class_id} rows not in the requested order")
        last = high if part.in_windows else next(reversed(keys), part.after)
        rest = part._replace(after=last)
        if not part.in_windows and len(page) < self._page_size:
            return page, self._hidden_rest(rest)
        return page, None if part.high is not None and last >= part.high else rest

    def _split(self, whole: KeyRange, count: int) -> list[KeyRange]:
        """Split a range of keys into ``count`` of the same width."""
        after = whole.after
        low = self._edge(whole, "asc") if after is None else after + 1
        high = self._edge(whole, "desc") if whole.high is None and low is not None else whole.high
        if low is None or high is None:
            # No rows, or the row at one end is hidden.
            rest = self._hidden_rest(whole)
            return [] if rest is None else [rest]
        width = max(1, -(-(high - low + 1) // count))
        return [KeyRange(*edges) for edges in pairwise([*range(low - 1, high, width), high])]

    def _edge(self, part: KeyRange, direction: str) -> int | None:
        """Return the lowest or highest key, None without visible rows."""
        order = [{"class": self._class_id, "field": self._key, "direction": direction}]
        where = all_of(self._where, part.conditions(self._key))
        found = self._gateway.pcrud.search(self._class_id, where, select=[self._key], order_by=order, limit=1)
        value = found[0][self._key] if found else None
        if not isinstance(value, int | None):
            name = f"{self._class_id}.{self._key}"
            raise unreadable("key-not-a-number", f"{name} is not an integer; read with concurrency=1")
        return value

    def _hidden_rest(self, part: KeyRange) -> KeyRange | None:
        """Return the rest after a page that hidden rows may have made short, as a range to read in windows.

        Return None if the page was the last. Raises DataError if more rows exist, and the keys aren't whole numbers.
        """
        if not self._lacks_rows(0, self._key, *part.conditions(self._key)):
            return None
        after, high = part.after, part.high
        if after is None and not self._has_keys(KeyRange(None, -1)):
            after = -1
        if not isinstance(after, int) or not isinstance(high, int | None):
            raise unreadable(
                "hidden-rows-in-the-way",
                f"can't skip hidden rows by {self._key}; order by primary key, or limit the libraries",
            )
        if high is None:
            # At most about twice as far away as the highest key.
            width = 1024
            while self._has_keys(KeyRange(after + width, None)):
                width *= 2
            high = after + width
        return KeyRange(after, high, in_windows=True)

    def _has_keys(self, part: KeyRange) -> bool:
        return self._exceeds(0, self._key, *part.conditions(self._key))
