"""The service open-ils.pcrud: ``search``, ``id_list``, ``retrieve`` and ``count`` of each class it offers."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

from evergreen_groups.sandbox.database import (
    EVERYTHING,
    TO_WIRE,
    StoredClass,
    StoredField,
    StoredLink,
    Visibility,
    idl_classes,
)
from evergreen_groups.sandbox.query import Frame, QueryError, Search, Source, count, run_search
from evergreen_groups.sandbox.services import releases
from evergreen_groups.sandbox.services.registry import CallContext, method, method_exception

SERVICE = "open-ils.pcrud"
DEEPEST_FLESH = 100
_MISSING = object()

Values = list[Any]


def _severe() -> Exception:
    return method_exception("Severe query error -- see error log for more details", 500)


def _visibility(context: CallContext, token: Any) -> Visibility:
    """What the holder of a token may see.

    Raises:
        Failure: 401, a token that no session has (``pcrud-148``).
    """
    # Public classes are served to it (pcrud-086), but not to a token that is wrong (pcrud-085).
    if token == "ANONYMOUS":  # noqa: S105 - the word for having no token
        return Visibility(context.store, None)
    session = context.sessions.find(token)
    if session is None:
        shown = token if isinstance(token, str | int | float) and not isinstance(token, bool) else "(null)"
        raise method_exception(f"{SERVICE}: permacrud received a bad auth token: {shown}", 401)
    return Visibility(context.store, session.user_id)


class Reader:
    """Answers searches for one account, fleshing included (``doFieldmapperSearch``)."""

    def __init__(self, context: CallContext, visibility: Visibility) -> None:
        self._connection = context.store.read()
        self._classes = context.classes
        self._visibility = visibility
        self._differences = context.differences

    def objects(self, known: StoredClass, where: Any, options: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The objects that a search finds, fleshed as the options say.

        Raises:
            Failure: 500, a query that the real service refuses.
        """
        depth = _flesh_depth(options.get("flesh"))
        fleshing = _flesh_links(known, options.get("flesh_fields")) if depth > 0 else []
        for values in self._rows(known, where, options):
            for link in fleshing:
                self._flesh(known, values, link, options, depth)
            yield {"__c": known.id, "__p": values}

    def count(self, known: StoredClass, where: Any, options: dict[str, Any]) -> int:
        """How many rows a search finds.

        Raises:
            Failure: 500, a query that the real service refuses.
        """
        try:
            sql = count(self._frame(), known, where, options, self._visibility.condition)
            return int(self._connection.execute(sql).fetchone()[0])
        except (QueryError, sqlite3.OperationalError) as problem:
            raise _severe() from problem

    def _frame(self) -> Frame:
        return Frame(self._classes, volatile=releases.FUNCTIONS_UNCHECKED in self._differences)

    def _rows(self, known: StoredClass, where: Any, options: dict[str, Any]) -> list[Values]:
        limit_first = releases.HIDDEN_ROWS_COUNT in self._differences
        one_by_one = releases.KEY_MUST_BE_SELECTED in self._differences and known.is_guarded
        # A condition in the SQL may be refused where classes are joined, and there is none where rows are checked.
        afterwards = known.is_guarded and (limit_first or (one_by_one and options.get("join") is not None))
        permission = _everything if afterwards else self._visibility.condition
        try:
            found = run_search(self._frame(), known, where, options, permission, limit_first=limit_first)
            if one_by_one and not _has_key(known, found.columns):  # a hidden row is fetched again like any other
                found = run_search(self._frame(), known, where, options, _everything, limit_first=limit_first)
            rows: Iterator[Any] = iter(self._connection.execute(found.sql))
            if one_by_one:
                rows = _with_key(known, found.columns, rows)
            if afterwards:
                rows = self._shown(known, found, list(rows))
            return _placed(known, found.columns, _distinct(known, found, rows) if found.joined else rows)
        except (QueryError, sqlite3.OperationalError) as problem:
            raise _severe() from problem

    def _shown(self, known: StoredClass, found: Search, rows: list[Any]) -> Iterator[Any]:
        """Those of the rows that may be seen."""
        place = [item.name for item in found.columns].index(known.primary) if rows else 0
        frame = self._frame()
        core = frame.add(None, known.id)
        key, permission = core.column(known.primary).sql, self._visibility.condition(frame, core)
        among = f"{key} IN (SELECT value FROM json_each(?))"
        sql = f"SELECT {key} FROM {known.id} AS {core.quoted} WHERE {among} AND {permission}"
        visible = {row[0] for row in self._connection.execute(sql, [json.dumps([row[place] for row in rows])])}
        return iter([row for row in rows if row[place] in visible])

    def _flesh(self, known: StoredClass, values: Values, link: StoredLink, options: dict[str, Any], depth: int) -> None:
        """Put the objects that a link leads to in its field's place."""
        many = link.reltype == "has_many"
        place = known.positions[link.field]
        kid = self._classes.get(link.class_id)
        if kid is None:
            return
        if SERVICE not in kid.controllers:
            _set(values, place, [] if many else None)
            return
        source = known.positions[link.field if link.reltype == "has_a" else known.primary]
        key = values[source] if source < len(values) else None
        if key is None or isinstance(key, dict | list):
            return
        below = {name: options[name] for name in ("flesh_fields", "order_by", "select") if options.get(name)}
        # Filtered by permission as any others, and archived penalties among them (pcrud-168).
        kids = list(self.objects(kid, {link.key: str(key)}, {**below, "flesh": depth - 1}))
        if many:
            _set(values, place, kids)
        elif kids:
            _set(values, place, kids[0])


def _everything(frame: Frame, core: Source) -> str:  # noqa: ARG001 - the interface of a permission
    return EVERYTHING


def _has_key(known: StoredClass, columns: tuple[StoredField, ...]) -> bool:
    return any(item.name == known.primary for item in columns)


def _with_key(known: StoredClass, columns: tuple[StoredField, ...], rows: Iterator[Any]) -> Iterator[Any]:
    """The rows, each of which is fetched again by its key.

    Raises:
        Failure: 500, the key isn't among the columns selected (``3.12/releases-019``); a row that would be hidden does
            as well (``3.14/releases-041``).
    """
    named = _has_key(known, columns)
    for row in rows:
        if not named:
            raise method_exception(f"{SERVICE}: no object found with primary key {known.primary} of (null)", 500)
        yield row


def _set(values: Values, place: int, value: Any) -> None:
    values.extend([None] * (place + 1 - len(values)))
    values[place] = value


def _placed(known: StoredClass, columns: tuple[StoredField, ...], rows: Iterator[Any]) -> list[Values]:
    """Rows as arrays in the IDL's order, up to the last column selected."""
    converts = [(known.positions[item.name], TO_WIRE[item.kind]) for item in columns]
    # Rows end at the last field that was selected (pcrud-001).
    width = max((place for place, _ in converts), default=-1) + 1
    placed = []
    for row in rows:
        values: Values = [None] * width
        for (place, convert), value in zip(converts, row, strict=False):
            values[place] = value if convert is None or value is None else convert(value)
        placed.append(values)
    return placed


def _distinct(known: StoredClass, found: Search, rows: Iterator[Any]) -> Iterator[Any]:
    """Drop rows whose key came before, then count off offset and limit."""
    names, limit, offset = [item.name for item in found.columns], found.limit, found.offset
    key = names.index(known.primary) if known.primary in names else None
    seen = set()
    for row in rows:
        if limit == 0:
            return
        if key is not None and row[key] in seen:  # a right join's rows without a key are all kept
            continue
        if offset > 0:
            offset -= 1
            continue
        limit -= 1
        if key is not None and row[key] is not None:
            seen.add(row[key])
        yield row


def _flesh_depth(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    return DEEPEST_FLESH if value == -1 or value > DEEPEST_FLESH else int(value)


def _flesh_links(known: StoredClass, wanted: Any) -> list[StoredLink]:
    """The links to flesh of a class; names that aren't links are passed over (``pcrud-164``)."""
    names = wanted.get(known.id) if isinstance(wanted, dict) else None
    if isinstance(names, dict):
        names = list(names.values())
    if not isinstance(names, list):
        return []
    usable = {name: link for name, link in known.links.items() if name in known.by_name}
    asked = usable if names == ["*"] else names
    return [usable[name] for name in asked if isinstance(name, str) and name in usable]


def _options(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _register(class_id: str) -> None:
    def searching(context: CallContext, *given: Any) -> Iterator[Any]:
        token, where, options, *_ = (*given, _MISSING, _MISSING, None)[: max(3, len(given))]
        yield from _found(context, context.classes[class_id], token, where, options)

    def listing(context: CallContext, *given: Any) -> Iterator[Any]:
        token, where, options, *_ = (*given, _MISSING, _MISSING, None)[: max(3, len(given))]
        unfleshed = {name: value for name, value in _options(options).items() if name not in ("flesh", "flesh_fields")}
        known = context.classes[class_id]
        unfleshed["select"] = {known.id: [known.primary]}
        for item in _found(context, known, token, where, unfleshed):
            yield item["__p"][-1]

    def retrieving(context: CallContext, token: Any = None, key: Any = None, options: Any = None) -> Iterator[Any]:
        known = context.classes[class_id]
        yield from _found(context, known, token, {known.primary: key}, options)

    def counting(context: CallContext, *given: Any) -> Any:
        token, where, options, *_ = (*given, _MISSING, _MISSING, None)[: max(3, len(given))]
        if where is _MISSING:
            raise method_exception("An unknown server error occurred", 404)
        known = context.classes[class_id]
        return Reader(context, _visibility(context, token)).count(known, where, _options(options))

    functions: dict[str, Callable[..., Any]] = {"search": searching, "id_list": listing}
    for name, function in functions.items():
        method(SERVICE, f"{SERVICE}.{name}.{class_id}", streaming=True)(function)
    # These two alone have no .atomic form (pcrud-113, pcrud-100).
    method(SERVICE, f"{SERVICE}.retrieve.{class_id}", streaming=True, atomic=False)(retrieving)
    method(SERVICE, f"{SERVICE}.count.{class_id}")(counting)


def _found(context: CallContext, known: StoredClass, token: Any, where: Any, options: Any) -> Iterator[dict[str, Any]]:
    if where is _MISSING:
        raise method_exception("An unknown server error occurred", 404)
    return Reader(context, _visibility(context, token)).objects(known, where, _options(options))


for _known in idl_classes().values():
    if _known.in_pcrud:
        _register(_known.id)
