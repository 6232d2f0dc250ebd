"""Conditions: hashes and lists of fields, ``-and``, ``-or``, ``-not``, ``-exists`` and ``+alias`` (``searchWHERE``)."""

from __future__ import annotations

from typing import Any

from evergreen_groups.sandbox.query import predicates
from evergreen_groups.sandbox.query.frames import Expression, Frame, MalformedError, QueryError, Source


def condition(frame: Frame, source: Source, node: Any, joiner: str = "AND") -> Expression:
    """A condition on a class; its parts are joined by ``joiner``, those of nested lists and their hashes too.

    A single ``{"+alias": "field"}`` is the field itself, so that it can stand as a value.

    Raises:
        QueryError: as the real service or its database would refuse it.
    """
    if isinstance(node, list) and node:
        parts = [_in_brackets(condition(frame, source, item, joiner)) for item in node]
    elif isinstance(node, dict) and node:
        parts = [_part(frame, source, key, value) for key, value in node.items()]
    else:
        raise MalformedError("an empty condition")
    return _joined(parts, joiner)


def boolean(expression: Expression) -> Expression:
    """Insist on something true or false.

    Raises:
        QueryError: the expression is of another type.
    """
    if expression.kind != "bool":
        raise QueryError("not true or false")
    return expression


def _joined(parts: list[Expression], joiner: str) -> Expression:
    if len(parts) == 1:
        return parts[0]
    return Expression(
        f" {joiner} ".join(boolean(part).sql for part in parts),
        "bool",
        any(part.aggregate for part in parts),
        frozenset[tuple[str, str]]().union(*(part.columns for part in parts)),
    )


def _in_brackets(inner: Expression, word: str = "") -> Expression:
    kind = boolean(inner).kind if word else inner.kind
    return Expression(f"{word}({inner.sql})", kind, inner.aggregate, inner.columns)


def _part(frame: Frame, source: Source, key: str, value: Any) -> Expression:
    if key.startswith("+"):
        return _of_alias(frame.find(key[1:]), frame, value)
    if not key.startswith("-"):
        return predicates.predicate(frame, source, key, value)
    word = key.lower()
    if word in ("-or", "-and"):
        return _in_brackets(condition(frame, source, value, word[1:].upper()))
    if word == "-not":
        return _in_brackets(condition(frame, source, value), "NOT ")
    if word in ("-exists", "-not-exists"):
        from evergreen_groups.sandbox.query import subqueries  # a query holds conditions, and a condition queries

        inner, _ = subqueries.subquery(frame, value)
        return Expression(f"{'NOT ' if word == '-not-exists' else ''}EXISTS ({inner})", "bool")
    raise MalformedError(f"no operator {key}")


def _of_alias(source: Source, frame: Frame, value: Any) -> Expression:
    if isinstance(value, str):
        if value not in source.known.by_name:
            raise MalformedError(f"no field {value}")
        return source.column(value)
    return _in_brackets(condition(frame, source, value))
