"""Functions in queries: transforms of a column, and calls in place of a value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from evergreen_groups.sandbox.database import lower, now, timestamp_text, upper
from evergreen_groups.sandbox.query.frames import (
    NUMBERS,
    Expression,
    MalformedError,
    QueryError,
    Source,
    quoted_value,
    text_literal,
)

_SUMS = {"integer": "bigint", "bigint": "numeric", "money": "money", "numeric": "numeric"}
_TEXT_CALLS = {"lower", "upper", "btrim", "ltrim", "rtrim", "initcap", "reverse", "md5", "lowercase", "uppercase"}
_LENGTHS = {"length", "char_length", "character_length", "octet_length", "bit_length"}
_TIMES = ("now", "transaction_timestamp", "statement_timestamp")
_VOLATILE = ("clock_timestamp",)
_NUMBER_CALLS = {"abs", "round", "ceil", "ceiling", "floor"}
_SAFE = {*_TIMES, *_NUMBER_CALLS, "date", "left", "right", "replace", "unaccent_and_squash", "int4"}
_AGGREGATES = ("sum", "avg", "min", "max", "count", "string_agg", "bool_and", "bool_or", "every")
_ORG_TREES = {
    "actor.org_unit_descendants",
    "actor.org_unit_descendants_distance",
    "actor.org_unit_ancestors",
    "actor.org_unit_full_path",
    "actor.org_unit_ancestor_at_depth",
}


def is_org_tree_call(name: object) -> bool:
    """Return whether a transform walks the org tree, which yields rows instead of a value."""
    return name in _ORG_TREES


def is_true(value: Any) -> bool:
    """Return whether the service reads a value as true: JSON's true, the text ``true``, or 1."""
    return value is True or (isinstance(value, str) and value.lower() == "true") or (value == 1 and value is not False)


def field_transform(source: Source, name: str, node: Any) -> Expression:
    """Apply the function that ``node`` names as its ``transform`` to a column.

    Raises:
        QueryError: the column is unknown, pcrud doesn't allow the function, or the function doesn't take the type.
    """
    column = source.column(name)
    function = node.get("transform") if isinstance(node, dict) else None
    if function is None or isinstance(function, bool | list | dict):
        return column
    if not _is_safe(str(function)):
        raise MalformedError(f"{function} isn't let through")
    given = node.get("params")
    if given is not None and not isinstance(given, list):
        raise MalformedError("params must be a list")
    if node.get("result_field") is not None:
        raise QueryError("a function of rows")
    distinct = is_true(node.get("distinct"))
    parameters = [_parameter(item) for item in given or []]
    if str(function) in _AGGREGATES:
        return _aggregate(str(function), column, distinct, parameters)
    if distinct:
        raise QueryError("DISTINCT, but not an aggregate")
    return _plain(str(function), column, parameters)


def _is_safe(function: str) -> bool:
    """Return whether pcrud allows a function; allowed functions that the sandbox lacks count as forbidden."""
    name = function.removeprefix("evergreen.").removeprefix("pg_catalog.")
    return function in _AGGREGATES or function in _ORG_TREES or name in _SAFE or name in _TEXT_CALLS | _LENGTHS


def _parameter(value: Any) -> str | None:
    if value is None or isinstance(value, bool | list | dict):
        return None
    return str(value)


def _aggregate(function: str, column: Expression, distinct: bool, parameters: Sequence[str | None]) -> Expression:
    if column.aggregate or len(parameters) != (function == "string_agg"):
        raise QueryError(f"{function} can't be used so")
    kind = _aggregate_kind(function, column.kind)
    word = "DISTINCT " if distinct else ""
    if function == "string_agg":
        sql = f"string_agg_sorted({word}{column.sql}, {text_literal(parameters[0] or '')})"
    elif function in ("bool_and", "every"):
        sql = f"min({column.sql})"
    elif function == "bool_or":
        sql = f"max({column.sql})"
    else:
        sql = f"{function}({word}{column.sql})"
    return Expression(sql, kind, aggregate=True)


def _aggregate_kind(function: str, kind: str) -> str:
    takes = {
        "count": True,
        "sum": kind in NUMBERS,
        "avg": kind in NUMBERS,
        "min": kind != "bool",
        "max": kind != "bool",
        "string_agg": kind == "text",
    }
    if not takes.get(function, kind == "bool"):
        raise QueryError(f"{function} of {kind}")
    if function == "count":
        return "bigint"
    if function == "sum":
        return _SUMS[kind]
    if function == "avg":
        return "money" if kind == "money" else "numeric"
    return kind


def _plain(function: str, column: Expression, parameters: Sequence[str | None]) -> Expression:
    name = function.removeprefix("evergreen.").removeprefix("pg_catalog.")
    if name in _TEXT_CALLS or name in _LENGTHS or name in ("unaccent_and_squash", "left", "right", "replace"):
        return _text_call(name, column, parameters)
    if name == "date" and column.kind in ("timestamp", "date") and not parameters:
        return Expression(f"substr({column.sql}, 1, 10)", "date", columns=column.columns)
    if name == "int4" and column.kind == "bool" and not parameters:
        return Expression(f"+{column.sql}", "integer", columns=column.columns)
    if name in _NUMBER_CALLS and column.kind in NUMBERS:
        return _number_call(name, column, parameters)
    raise QueryError(f"no function {function} for {column.kind}")


def _text_call(name: str, column: Expression, parameters: Sequence[str | None]) -> Expression:
    counts = {"left": (1,), "right": (1,), "replace": (2,), "btrim": (0, 1), "ltrim": (0, 1), "rtrim": (0, 1)}
    if column.kind != "text" or len(parameters) not in counts.get(name, (0,)):
        raise QueryError(f"{name} of {column.kind}")
    if name in ("left", "right"):
        quoted_value(parameters[0] or "", "integer")
    more = "".join(f", {'NULL' if item is None else text_literal(item)}" for item in parameters)
    kind = "integer" if name in _LENGTHS else "text"
    return Expression(f"pg_{name}({column.sql}{more})", kind, columns=column.columns)


def _number_call(name: str, column: Expression, parameters: Sequence[str | None]) -> Expression:
    if parameters and not (name == "round" and len(parameters) == 1):
        raise QueryError(f"too much for {name}")
    digits = int(quoted_value(parameters[0] or "", "integer")) if parameters else 0
    scale = 100 if column.kind == "money" else 1
    kind = column.kind if column.kind in ("money", "numeric") else "numeric"
    return Expression(f"pg_{name}({column.sql}, {scale}, {digits})", kind, columns=column.columns)


def value_call(node: Sequence[Any], kind: str, *, volatile: bool) -> str:
    """Evaluate a call in place of a value, ``["lower", "ABC"]`` or ``["now"]``, and return an SQL literal of ``kind``.

    ``volatile`` allows functions that return another value each time.

    Raises:
        QueryError: the function isn't supported, or returns another type.
    """
    if not node or not isinstance(node[0], str) or not (_is_safe(node[0]) or (volatile and node[0] in _VOLATILE)):
        raise MalformedError("a function's name was expected")
    name, given = node[0], [_parameter(item) for item in node[1:]]
    if name in (*_TIMES, *_VOLATILE) and not given:
        if kind not in ("timestamp", "date"):
            raise QueryError(f"a time for {kind}")
        return text_literal(timestamp_text(now()))
    call = _VALUE_CALLS.get(name)
    if call is None or kind != "text" or len(given) != 1:
        raise QueryError(f"no function {name} here")
    return "NULL" if given[0] is None else text_literal(call(given[0]))


_VALUE_CALLS: dict[str, Callable[[str], str]] = {
    "lower": lower,
    "upper": upper,
    "evergreen.lowercase": str.lower,
    "evergreen.uppercase": str.upper,
    "btrim": lambda text: text.strip(" "),
    "reverse": lambda text: text[::-1],
}
