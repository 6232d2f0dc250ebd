"""Flattened searches: a map from keys to paths over links becomes joins and fleshing, and objects become flat hashes.

Follows ``OpenILS/Application/Flattener.pm``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from evergreen_groups.sandbox.database import IdlClasses, StoredClass, StoredLink, Visibility, to_wire
from evergreen_groups.sandbox.query import Frame, QueryError, subquery
from evergreen_groups.sandbox.services import releases
from evergreen_groups.sandbox.services.pcrud import Reader
from evergreen_groups.sandbox.services.registry import CallContext, Die, EventAnswer, Failure, method, perl_event

FLATTENER = "OpenILS/Application/Flattener.pm"


@dataclass
class MappedColumn:
    """The path of one key of the map, and the key's uses; ``alias`` is the last joined class's."""

    path: list[str]
    sort: bool
    filter: bool
    display: bool
    alias: str | None = None


@dataclass
class FlatMap:
    """A parsed map: its columns by key, and the joins and fleshing they need."""

    classes: IdlClasses
    idl_class: StoredClass
    columns: dict[str, MappedColumn]
    join: dict[str, Any] = field(default_factory=dict)
    flesh: int = 0
    flesh_fields: dict[str, list[str]] = field(default_factory=dict)

    def options(self, span: dict[str, Any]) -> dict[str, Any]:
        """Return options for pcrud; ``span`` has ``sort``, ``limit`` and ``offset``."""
        options: dict[str, Any] = {"join": self.join, "flesh": self.flesh, "flesh_fields": self.flesh_fields}
        options |= {name: span[name] for name in ("limit", "offset") if name in span}
        sort = span.get("sort")
        if sort:
            sort = sort if isinstance(sort, list) else [sort]
            options["order_by"] = [term for entry in sort for term in self._term(entry)]
        return options

    def _term(self, entry: Any) -> list[dict[str, Any]]:
        key, direction = next(iter(entry.items()), ("", "asc")) if isinstance(entry, dict) else (str(entry), "asc")
        column = self.columns.get(key)
        if column is None:
            return []
        return [{"class": column.alias or self.idl_class.id, "field": column.path[-1], "direction": direction}]

    def condition(self, node: Any, *, in_expression: bool = False) -> Any:
        """Return a filter with the map's keys replaced by the fields they lead to."""
        if isinstance(node, list):
            return [self.condition(item, in_expression=in_expression) for item in node]
        if not isinstance(node, dict):
            return node
        expanded: dict[str, Any] = {}
        for key, value in node.items():
            if in_expression or not "a" <= key[:1] <= "z":
                expanded[key] = self.condition(value, in_expression=in_expression)
                continue
            inner, column = self.condition(value, in_expression=True), self.columns.get(key)
            if column is None:
                expanded[key] = inner
            elif column.alias:
                expanded.setdefault(f"+{column.alias}", {})[column.path[-1]] = inner
            else:
                expanded[column.path[-1]] = inner
        return expanded

    def flat(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return an object as a flat hash of the columns to display.

        Raises:
            Die: a path doesn't start with a field.
        """
        for column in self.columns.values():
            if column.display and column.path[0] not in self.idl_class.by_name:
                raise Die(f"No field by the name {column.path[0]} in Fieldmapper::{self.idl_class.fieldmapper}!")
        return {
            key: _value(self.classes, values, column.path) for key, column in self.columns.items() if column.display
        }


def flat_map(classes: IdlClasses, class_id: Any, given: Any) -> FlatMap:
    """Parse a map for a class.

    Raises:
        Die: the class is unknown, or a path uses a field that isn't a link.
    """
    idl_class = classes.get(class_id) if isinstance(class_id, str) else None
    if idl_class is None:
        raise Die(f'Can\'t call method "Identity" on an undefined value at {FLATTENER} line 64.')
    if not isinstance(given, dict):
        raise Die(f"Can't use an undefined value as a HASH reference at {FLATTENER} line 300.")
    prepared = FlatMap(classes, idl_class, {key: _column(value) for key, value in given.items()})
    counts: dict[str, dict[str, int]] = {}
    for column in prepared.columns.values():
        if column.display:
            _add_fleshing(prepared, column)
        if column.filter or column.sort:
            _add_joins(prepared, column, counts)
    return prepared


def _column(value: Any) -> MappedColumn:
    if isinstance(value, dict):
        sort, filtered, display = (bool(value.get(name)) for name in ("sort", "filter", "display"))
        return MappedColumn(str(value.get("path", "")).split("."), sort, filtered, display)
    return MappedColumn(str(value).split("."), sort=True, filter=True, display=True)


def _link(idl_class: StoredClass | None, name: str) -> StoredLink:
    link = idl_class.links.get(name) if idl_class else None
    if link is None:
        raise Die(f"Exception: OpenSRF::EX::ERROR no link '{name}'")
    return link


def _add_fleshing(prepared: FlatMap, column: MappedColumn) -> None:
    idl_class: StoredClass | None = prepared.idl_class
    for step in column.path[:-1]:
        link = _link(idl_class, step)
        names = prepared.flesh_fields.setdefault(idl_class.id if idl_class else "", [])
        if step not in names:
            names.append(step)
        idl_class = prepared.classes.get(link.class_id)
    prepared.flesh = max(prepared.flesh, len(column.path) - 1)


def _add_joins(prepared: FlatMap, column: MappedColumn, counts: dict[str, dict[str, int]]) -> None:
    idl_class: StoredClass | None = prepared.idl_class
    level, trail, primary = prepared.join, "", prepared.idl_class.primary
    for step in column.path[:-1]:
        link = _link(idl_class, step)
        trail += f"__{step}"
        numbers = counts.setdefault(link.class_id, {})
        number = numbers.setdefault(trail, len(numbers) + 1)
        alias = column.alias = f"__{link.class_id}_{number}"
        key = step if link.reltype == "has_a" else primary
        join = level.setdefault(alias, {"type": "left", "class": link.class_id, "fkey": key, "field": link.key})
        idl_class = prepared.classes.get(link.class_id)
        primary = idl_class.primary if idl_class else "id"
        level = join.setdefault("join", {})


def _fields(classes: IdlClasses, value: Any) -> dict[str, Any] | None:
    """Return an object's values by field name; None if it isn't an object."""
    if not isinstance(value, dict) or "__c" not in value:
        return None
    idl_class, values = classes[value["__c"]], value["__p"]
    return {item.name: values[index] if index < len(values) else None for index, item in enumerate(idl_class.fields)}


def _value(classes: IdlClasses, found: dict[str, Any], path: list[str]) -> Any:
    current: list[Any] = [found]
    for step in path[:-1]:
        current = [fields.get(step) for item in current if (fields := _fields(classes, item)) is not None]
        if len(current) == 1 and isinstance(current[0], list):
            return [(_fields(classes, item) or {}).get(path[-1]) for item in current[0]]
        if not current or _fields(classes, current[0]) is None:
            return None
    return (_fields(classes, current[0]) or {}).get(path[-1])


SERVICE = "open-ils.fielder"
_FIELD_SAFE = ("aou", "aout")
_OF_LISTS = ("in", "not in", "between")
_NO_FIELD = re.compile(r"\+\w+|-(?:not-)?exists|-(?:and|or|not)", re.ASCII)


@method(SERVICE, f"{SERVICE}.flattened_search", streaming=True)
def flattened_search(
    context: CallContext,
    token: Any = None,
    class_id: Any = None,
    given: Any = None,
    where: Any = None,
    span: Any = None,
) -> Iterator[dict[str, Any]]:
    """Search a class's rows and return them as flat hashes (``fielder-001``)."""
    session = context.session(token)
    prepared = flat_map(context.classes, class_id, given)
    if not isinstance(where, dict):
        raise Die(f"Can't use an undefined value as a HASH reference at {FLATTENER} line 350.")
    options = prepared.options(span if isinstance(span, dict) else {})
    if not prepared.idl_class.in_pcrud:
        raise Die(f"Method [open-ils.pcrud.search.{class_id}] not found for service open-ils.pcrud")
    reader = Reader(context, Visibility(context.store, session.user_id))
    try:
        for found in reader.objects(prepared.idl_class, prepared.condition(where), options):
            yield prepared.flat(found)
    except Failure as failure:
        raise Die(failure.debug) from failure


def _check(query: Any, fields: Any, *, lists: bool) -> None:
    """Check that a query is a hash and uses no functions.

    Raises:
        EventAnswer: BAD_PARAMS.
    """
    note = ""
    if not query:
        note = "query is required"
    elif not isinstance(query, dict):
        note = "query must be a hash"
    elif _has_function(query, lists=lists):
        note = "query must not use function transforms"
    elif _has_function(fields, lists=lists):
        note = "field list must not use function transforms"
    if note:
        raise EventAnswer(perl_event("BAD_PARAMS", note=note))


def _has_function(node: Any, depth: int = 0, word: str | None = None, hashes: int = 0, *, lists: bool) -> bool:
    """Return whether a query uses a function, or is ten levels deep (``_fielder_fetch_query_is_bad``).

    ``word`` is the key of ``node`` in its parent, and ``hashes`` counts the fields and operators above ``node``. With
    ``lists``, a list below an operator counts as a function with its parameters.
    """
    if depth >= 10 or (isinstance(node, dict) and ("transform" in node or "params" in node)):
        return True
    if isinstance(node, dict):
        inner = ((value, depth + 1, key, hashes + (not _NO_FIELD.fullmatch(key))) for key, value in node.items())
        return any(_has_function(*given, lists=lists) for given in inner)
    if not isinstance(node, list):
        return False
    if lists and depth > 0 and word is not None and (word in _OF_LISTS or hashes > 1):
        return word not in _OF_LISTS
    return any(_has_function(item, depth + 1, lists=lists) for item in node)


def _register_fields(class_id: str) -> None:
    def fetch(context: CallContext, wanted: Any = None) -> Iterator[dict[str, Any]]:
        wanted = wanted if isinstance(wanted, dict) else {}
        query, fields = wanted.get("query"), wanted.get("fields")
        if releases.FIELDER_UNCHECKED not in context.differences:
            _check(query, fields, lists=releases.FIELDER_LISTS not in context.differences)
        elif not query:
            return
        idl_class = context.classes[class_id]
        names = fields or [item.name for item in idl_class.columns]
        names = names if isinstance(names, list) else [names]
        select: dict[str, Any] = {"select": {class_id: names}, "from": class_id, "where": query}
        volatile = releases.FUNCTIONS_UNCHECKED in context.differences
        try:
            sql, kinds = subquery(Frame(context.classes, volatile=volatile), select)
        except QueryError:
            return
        for row in context.store.read().execute(sql):
            values = zip(names, kinds, row, strict=True)
            yield {name: to_wire("integer" if kind == "bigint" else kind, value) for name, kind, value in values}

    register: Callable[..., Any] = method(SERVICE, f"{SERVICE}.{class_id}", streaming=True)
    register(fetch)


for _class_id in _FIELD_SAFE:
    _register_fields(_class_id)
