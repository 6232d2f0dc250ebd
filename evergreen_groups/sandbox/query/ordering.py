"""ORDER BY in all its forms. Nulls come last, as in PostgreSQL, or first where the order is descending."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from evergreen_groups.sandbox.query import calls, predicates
from evergreen_groups.sandbox.query.frames import Expression, Frame, QueryError, Source, quoted

_TERM = re.compile(
    r'\s*(?:(?P<function>[a-z_.]+)\(\s*)?(?:"?(?P<alias>\w+)"?\.)?"?(?P<column>\w+)"?\s*(?P<close>\))?'
    r"(?:\s+(?P<direction>asc|desc))?(?:\s+nulls\s+(?P<nulls>first|last))?\s*",
    re.IGNORECASE,
)


def _term(source: Source | None, expression: Expression, direction: str | None, nulls: str | None = None) -> str:
    descending = (direction or "").lower().startswith("d")
    if source is not None and expression.sql == source.column(source.known.primary).sql:
        return f"{expression.sql} {'DESC' if descending else 'ASC'}"  # never null; so SQLite can walk its index
    # The recorded database sorts by code point (pcrud-027), as SQLite does: no collation is named.
    place = nulls or ("first" if descending else "last")
    return f"{expression.sql} {'DESC' if descending else 'ASC'} NULLS {place.upper()}"


def from_list(frame: Frame, node: list[Any]) -> list[str]:
    """Terms from ``[{"class", "field", "direction", "transform", "compare"}]`` (``buildOrderByFromArray``).

    Raises:
        QueryError: an entry without class or field, or a field that doesn't exist.
    """
    terms = []
    for entry in node:
        if not isinstance(entry, dict):
            raise QueryError("order_by takes hashes in a list")
        alias, field = entry.get("class"), entry.get("field")
        if not isinstance(alias, str) or not isinstance(field, str):
            raise QueryError("order_by needs class and field")
        source = frame.here(alias)
        if source is None:
            continue
        expression = source.column(field)
        if entry.get("transform") is not None:
            expression = calls.field_transform(source, field, entry)
        elif entry.get("compare") is not None:
            expression = predicates.predicate(frame, source, field, entry["compare"])
            expression = Expression(f"({expression.sql})", "bool", columns=expression.columns)
        direction = entry.get("direction")
        terms.append(_term(source, expression, direction if isinstance(direction, str) else None))
    return terms


def from_fields(frame: Frame, source: Source, node: dict[str, Any], selected: Sequence[str]) -> list[str]:
    """Terms from ``{field: direction}`` or ``{field: {"direction", "transform"}}`` of a search.

    ``selected`` are the columns selected of the search's own class. What isn't a field of the class is passed over.

    Raises:
        QueryError: a direction that isn't one, or a name that is ambiguous.
    """
    terms = []
    for name, how in node.items():
        item = source.known.by_name.get(name)
        # pcrud drops what it doesn't know here, as in select (pcrud-154), where a WHERE is refused (pcrud-152).
        if item is None or item.virtual:
            continue
        if isinstance(how, dict):
            terms.append(_detailed(source, name, how))
        else:
            expression = _owner(frame, None, name, selected).column(name)
            terms.append(_term(source, expression, _direction(how)))
    return terms


def in_subquery(frame: Frame, source: Source, node: dict[str, Any], aliases: Sequence[str]) -> list[str]:
    """The same of a subquery, where every name must be a field; a bare one is a column of the result first.

    Raises:
        QueryError: a field that doesn't exist, or a name that is ambiguous.
    """
    terms = []
    for name, how in node.items():
        expression = source.column(name)
        if isinstance(how, dict):
            terms.append(_detailed(source, name, how))
            continue
        if aliases.count(name) > 1:
            raise QueryError(f"column {name} is ambiguous")
        if name in aliases:
            expression = Expression(quoted(name), expression.kind)
        else:
            expression = _owner(frame, None, name, ()).column(name)
        terms.append(_term(None, expression, _direction(how)))
    return terms


def _detailed(source: Source, name: str, how: dict[str, Any]) -> str:
    expression = source.column(name)
    if how.get("transform") is not None:
        expression = calls.field_transform(source, name, how)
    direction = how.get("direction")
    return _term(source, expression, direction if isinstance(direction, str) else None)


def _direction(value: Any) -> str:
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise QueryError("no direction")
    return str(value)


def from_text(frame: Frame, text: str, selected: Sequence[str]) -> list[str]:
    """Terms from SQL text such as ``"family_name, id DESC"``, which pcrud passes on as it is.

    ``selected`` are the columns selected of the search's own class: a bare name is one of them first, and a number is
    one of their places.

    Raises:
        QueryError: a column that doesn't exist, or SQL that isn't understood here.
    """
    terms = []
    source: Source | None
    for part in text.split(","):
        match = _TERM.fullmatch(part)
        if not match or bool(match["function"]) != bool(match["close"]):
            raise QueryError("order_by isn't understood")
        if match["column"].isdigit():
            if not 1 <= int(match["column"]) <= len(selected):
                raise QueryError("no such column")
            source, expression = None, Expression(match["column"], "integer")
        else:
            source = owner = _owner(frame, match["alias"], match["column"], () if match["function"] else selected)
            expression = calls.field_transform(owner, match["column"], {"transform": match["function"]})
        terms.append(_term(source, expression, match["direction"], match["nulls"]))
    return terms


def _owner(frame: Frame, alias: str | None, name: str, selected: Sequence[str]) -> Source:
    if alias is None and name in selected:
        return frame.sources[0]
    if alias is not None:
        found = [source for source in frame.sources if source.alias == alias]
    else:
        found = [source for source in frame.sources if _has(source, name)]
    if len(found) != 1:
        raise QueryError(f"column {name} isn't there, or ambiguous")
    return found[0]


def _has(source: Source, name: str) -> bool:
    item = source.known.by_name.get(name)
    return item is not None and (item.hidden or not item.virtual)
