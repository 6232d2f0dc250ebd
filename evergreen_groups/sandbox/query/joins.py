"""JOIN clauses (``searchJOIN``): by field and foreign key, or by the IDL's links where these aren't given."""

from __future__ import annotations

from typing import Any

from evergreen_groups.sandbox.query import where
from evergreen_groups.sandbox.query.frames import (
    Frame,
    MalformedError,
    QueryError,
    Source,
    UnjoinableError,
    check_comparable,
)

_TYPES = {"left": "LEFT JOIN", "right": "RIGHT JOIN", "full": "FULL JOIN"}


def joins(frame: Frame, left: Source, node: Any) -> str:
    """The JOIN clauses for what ``node`` joins to a class; the classes come into the frame's scope.

    Raises:
        UnjoinableError: the real service can't build the join.
        QueryError: its database refuses it.
    """
    if isinstance(node, str | dict):
        node = [node]
    if not isinstance(node, list):
        raise UnjoinableError("a join is a name, a hash or a list")
    parts = []
    for entry in node:
        named = {entry: None} if isinstance(entry, str) else entry
        if isinstance(named, dict):
            parts += [_join(frame, left, alias, options or {}) for alias, options in named.items()]
    return "".join(parts)


def _text(options: Any, key: str) -> str | None:
    value = options.get(key) if isinstance(options, dict) else None
    return value if isinstance(value, str) else None


def _join(frame: Frame, left: Source, alias: str, options: Any) -> str:
    try:
        right = frame.add(alias, _text(options, "class") or alias)
    except QueryError as problem:
        raise UnjoinableError(str(problem)) from problem
    key, field = _keys(left, right, _text(options, "fkey"), _text(options, "field"))
    here, there = right.column(field), left.column(key)
    check_comparable(here.kind, there.kind)
    on = f"{here.sql} = {there.sql}"
    given = options.get("filter") if isinstance(options, dict) else None
    if given is not None:
        word = "OR" if (_text(options, "filter_op") or "").lower() == "or" else "AND"
        on = f"{on} {word} {_filter(frame, right, given)}"
    word = _TYPES.get((_text(options, "type") or "").lower(), "JOIN")
    below = options.get("join") if isinstance(options, dict) else None
    further = joins(frame, right, below) if below is not None else ""
    return f" {word} {right.known.id} AS {right.quoted} ON ({on}){further}"


def _filter(frame: Frame, right: Source, node: Any) -> str:
    try:
        return where.boolean(where.condition(frame, right, node)).sql
    except MalformedError as problem:
        raise UnjoinableError(str(problem)) from problem


def _keys(left: Source, right: Source, key: str | None, field: str | None) -> tuple[str, str]:
    """The left class's and the right class's field to join by."""
    if key is not None and field is not None:
        return key, field
    if field is not None:
        link = right.known.links.get(field)
        if link and link.reltype != "has_many" and link.class_id == left.known.id:
            return link.key, field
    elif key is not None:
        link = left.known.links.get(key)
        if link and link.reltype != "has_many" and link.class_id == right.known.id:
            return key, link.key
    else:
        return _linked(left, right)
    raise UnjoinableError("no link to join by")


def _linked(left: Source, right: Source) -> tuple[str, str]:
    for link in left.known.links.values():
        if link.class_id == right.known.id and link.reltype != "has_many":
            return link.field, link.key
    for link in right.known.links.values():
        if link.class_id == left.known.id and link.reltype != "has_many":
            return link.key, link.field
    raise UnjoinableError("no link to join by")
