"""The service open-ils.pcrud: ``search``, ``id_list``, ``retrieve`` and ``count`` for each class."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
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
    """Return the visibility of the account that a token belongs to.

    Raises:
        Failure: 401, there is no session with the token (``pcrud-148``).
    """
    # Without a session, public classes can be read (pcrud-086), but not with a wrong token (pcrud-085).
    if token == "ANONYMOUS":  # noqa: S105 - means no token
        return Visibility(context.store, None)
    session = context.sessions.find(token)
    if session is None:
        shown = token if isinstance(token, str | int | float) and not isinstance(token, bool) else "(null)"
        raise method_exception(f"{SERVICE}: permacrud received a bad auth token: {shown}", 401)
    return Visibility(context.store, session.user_id)


class Reader:
    """Runs searches for one account, including fleshing (``doFieldmapperSearch``)."""

    def __init__(self, context: CallContext, visibility: Visibility) -> None:
        self._connection = context.store.read()
        self._classes = context.classes
        self._visibility = visibility
        self._differences = context.differences

    def objects(self, idl_class: StoredClass, where: Any, options: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the objects that a search finds, fleshed according to the options.

        Raises:
            Failure: 500, the real service would reject the query.
        """
        depth = _flesh_depth(options.get("flesh"))
        fleshing = _flesh_links(idl_class, options.get("flesh_fields")) if depth > 0 else []
        for values in self._rows(idl_class, where, options):
            for link in fleshing:
                self._flesh(idl_class, values, link, options, depth)
            yield {"__c": idl_class.id, "__p": values}

    def count(self, idl_class: StoredClass, where: Any, options: dict[str, Any]) -> int:
        """Return the number of rows that a search finds.

        Raises:
            Failure: 500, the real service would reject the query.
        """
        try:
            sql = count(self._frame(), idl_class, where, options, self._visibility.condition)
            return int(self._connection.execute(sql).fetchone()[0])
        except (QueryError, sqlite3.OperationalError) as problem:
            raise _severe() from problem

    def _frame(self) -> Frame:
        return Frame(self._classes, volatile=releases.FUNCTIONS_UNCHECKED in self._differences)

    def _rows(self, idl_class: StoredClass, where: Any, options: dict[str, Any]) -> list[Values]:
        limit_first = releases.HIDDEN_ROWS_COUNT in self._differences
        one_by_one = releases.KEY_MUST_BE_SELECTED in self._differences and idl_class.is_guarded
        # These releases check permissions row by row after the query. With LIMIT or joins, a condition in the SQL would
        # give other results: it changes which rows the limit counts, and column names may be ambiguous.
        check_later = idl_class.is_guarded and (limit_first or (one_by_one and options.get("join") is not None))
        permission = _everything if check_later else self._visibility.condition
        try:
            found = run_search(self._frame(), idl_class, where, options, permission, limit_first=limit_first)
            if one_by_one and not _has_key(idl_class, found.columns):  # the check fails even for hidden rows
                found = run_search(self._frame(), idl_class, where, options, _everything, limit_first=limit_first)
            rows: Iterator[Any] = iter(self._connection.execute(found.sql))
            if one_by_one:
                rows = _with_key(idl_class, found.columns, rows)
            if check_later:
                rows = self._visible(idl_class, found, list(rows))
            return _wire_rows(idl_class, found.columns, _distinct(idl_class, found, rows) if found.joined else rows)
        except (QueryError, sqlite3.OperationalError) as problem:
            raise _severe() from problem

    def _visible(self, idl_class: StoredClass, found: Search, rows: list[Any]) -> Iterator[Any]:
        """Yield the rows that the account may see."""
        key_index = [item.name for item in found.columns].index(idl_class.primary) if rows else 0
        frame = self._frame()
        core = frame.add(None, idl_class.id)
        key, permission = core.column(idl_class.primary).sql, self._visibility.condition(frame, core)
        among = f"{key} IN (SELECT value FROM json_each(?))"
        sql = f"SELECT {key} FROM {idl_class.id} AS {core.quoted} WHERE {among} AND {permission}"
        visible = {row[0] for row in self._connection.execute(sql, [json.dumps([row[key_index] for row in rows])])}
        return iter([row for row in rows if row[key_index] in visible])

    def _flesh(
        self, idl_class: StoredClass, values: Values, link: StoredLink, options: dict[str, Any], depth: int
    ) -> None:
        """Replace a link field's value with the linked objects."""
        many = link.reltype == "has_many"
        index = idl_class.positions[link.field]
        kid = self._classes.get(link.class_id)
        if kid is None:
            return
        if SERVICE not in kid.controllers:
            _set(values, index, [] if many else None)
            return
        source = idl_class.positions[link.field if link.reltype == "has_a" else idl_class.primary]
        key = values[source] if source < len(values) else None
        if key is None or isinstance(key, dict | list):
            return
        below = {name: options[name] for name in ("flesh_fields", "order_by", "select") if options.get(name)}
        # Permissions apply to linked objects too; archived penalties are included (pcrud-168).
        kids = list(self.objects(kid, {link.key: str(key)}, {**below, "flesh": depth - 1}))
        if many:
            _set(values, index, kids)
        elif kids:
            _set(values, index, kids[0])


def _everything(frame: Frame, core: Source) -> str:  # noqa: ARG001 - signature of a permission
    return EVERYTHING


def _has_key(idl_class: StoredClass, columns: tuple[StoredField, ...]) -> bool:
    return any(item.name == idl_class.primary for item in columns)


def _with_key(idl_class: StoredClass, columns: tuple[StoredField, ...], rows: Iterator[Any]) -> Iterator[Any]:
    """Yield the rows; these releases check permissions by fetching each one again by its primary key.

    Raises:
        Failure: 500, the key isn't selected (``3.12/releases-019``), even if the row is hidden
            (``3.14/releases-041``).
    """
    named = _has_key(idl_class, columns)
    for row in rows:
        if not named:
            raise method_exception(f"{SERVICE}: no object found with primary key {idl_class.primary} of (null)", 500)
        yield row


def _set(values: Values, index: int, value: Any) -> None:
    values.extend([None] * (index + 1 - len(values)))
    values[index] = value


def _wire_rows(idl_class: StoredClass, columns: tuple[StoredField, ...], rows: Iterator[Any]) -> list[Values]:
    """Convert rows to arrays of wire values in the IDL's order, up to the last selected field (``pcrud-001``)."""
    converts = [(idl_class.positions[item.name], TO_WIRE[item.kind]) for item in columns]
    width = max((index for index, _ in converts), default=-1) + 1
    converted = []
    for row in rows:
        values: Values = [None] * width
        for (index, convert), value in zip(converts, row, strict=False):
            values[index] = value if convert is None or value is None else convert(value)
        converted.append(values)
    return converted


def _distinct(idl_class: StoredClass, found: Search, rows: Iterator[Any]) -> Iterator[Any]:
    """Drop rows with a primary key seen before, then apply offset and limit."""
    names, limit, offset = [item.name for item in found.columns], found.limit, found.offset
    key = names.index(idl_class.primary) if idl_class.primary in names else None
    seen = set()
    for row in rows:
        if limit == 0:
            return
        if key is not None and row[key] in seen:  # rows without a key, from a right join, all stay
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


def _flesh_links(idl_class: StoredClass, wanted: Any) -> list[StoredLink]:
    """Return a class's links to flesh; names that aren't links are ignored (``pcrud-164``)."""
    names = wanted.get(idl_class.id) if isinstance(wanted, dict) else None
    if isinstance(names, dict):
        names = list(names.values())
    if not isinstance(names, list):
        return []
    usable = {name: link for name, link in idl_class.links.items() if name in idl_class.by_name}
    asked = usable if names == ["*"] else names
    return [usable[name] for name in asked if isinstance(name, str) and name in usable]


def _options(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _register(class_id: str) -> None:
    def search(
        context: CallContext, token: Any = _MISSING, where: Any = _MISSING, options: Any = None, *_: Any
    ) -> Iterator[Any]:
        yield from _found(context, context.classes[class_id], token, where, options)

    def id_list(
        context: CallContext, token: Any = _MISSING, where: Any = _MISSING, options: Any = None, *_: Any
    ) -> Iterator[Any]:
        unfleshed = {name: value for name, value in _options(options).items() if name not in ("flesh", "flesh_fields")}
        idl_class = context.classes[class_id]
        unfleshed["select"] = {idl_class.id: [idl_class.primary]}
        for item in _found(context, idl_class, token, where, unfleshed):
            yield item["__p"][-1]

    def retrieve(context: CallContext, token: Any = None, key: Any = None, options: Any = None) -> Iterator[Any]:
        idl_class = context.classes[class_id]
        yield from _found(context, idl_class, token, {idl_class.primary: key}, options)

    def count_rows(
        context: CallContext, token: Any = _MISSING, where: Any = _MISSING, options: Any = None, *_: Any
    ) -> Any:
        if where is _MISSING:
            raise method_exception("An unknown server error occurred", 404)
        idl_class = context.classes[class_id]
        return Reader(context, _visibility(context, token)).count(idl_class, where, _options(options))

    method(SERVICE, f"{SERVICE}.search.{class_id}", streaming=True)(search)
    method(SERVICE, f"{SERVICE}.id_list.{class_id}", streaming=True)(id_list)
    # Unlike the others, these two have no .atomic form (pcrud-113, pcrud-100).
    method(SERVICE, f"{SERVICE}.retrieve.{class_id}", streaming=True, atomic=False)(retrieve)
    method(SERVICE, f"{SERVICE}.count.{class_id}")(count_rows)


def _found(
    context: CallContext, idl_class: StoredClass, token: Any, where: Any, options: Any
) -> Iterator[dict[str, Any]]:
    if where is _MISSING:
        raise method_exception("An unknown server error occurred", 404)
    return Reader(context, _visibility(context, token)).objects(idl_class, where, _options(options))


for _idl_class in idl_classes().values():
    if _idl_class.in_pcrud:
        _register(_idl_class.id)
