"""One field's condition: ``{"usrgroup": …}`` with whatever may stand on the right (``searchPredicate``)."""

from __future__ import annotations

from typing import Any

from evergreen_groups.sandbox.query import calls
from evergreen_groups.sandbox.query.frames import (
    NUMBERS,
    Expression,
    Frame,
    MalformedError,
    QueryError,
    Source,
    check_comparable,
    kind_of,
)
from evergreen_groups.sandbox.query.literals import field_value

_COMPARISONS = {"=": "=", "<>": "<>", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_CALCULATIONS = ("+", "*", "&")
_DISTINCT = {"is distinct from": "IS NOT", "is not distinct from": "IS"}
_PATTERNS = {
    "like": "pg_like({}, {})",
    "~~": "pg_like({}, {})",
    "startwith": "pg_like({}, {} || '%')",
    "!~~": "NOT pg_like({}, {})",
    "ilike": "pg_ilike({}, {})",
    "~~*": "pg_ilike({}, {})",
    "!~~*": "NOT pg_ilike({}, {})",
    "~": "pg_regex({}, {})",
    "!~": "NOT pg_regex({}, {})",
    "~*": "pg_iregex({}, {})",
    "!~*": "NOT pg_iregex({}, {})",
    "similar to": "pg_similar({}, {})",
    "^@": "pg_starts({}, {})",
}


def predicate(frame: Frame, source: Source, name: str, node: Any) -> Expression:
    """The condition that ``node`` puts on a field.

    Raises:
        QueryError: as the real service or its database would refuse it.
    """
    item = source.known.by_name.get(name)
    if item is None:
        raise MalformedError(f"no field {name} in {source.known.id}")
    field_kind = kind_of(source.known.id, item)
    if isinstance(node, list):
        return _in(frame, source, name, node, negated=False)
    if isinstance(node, dict):
        if len(node) != 1:
            raise MalformedError("one operator for a field")
        ((operator, operand),) = node.items()
        return _operator(frame, source, name, operator, operand)
    column = source.column(name)
    return _compare(column, "=", field_value(node, field_kind, column.kind))


def _operator(frame: Frame, source: Source, name: str, operator: str, operand: Any) -> Expression:
    word = operator.lower()
    if word == "between":
        return _between(source, name, operand)
    if word in ("in", "not in"):
        return _in(frame, source, name, operand, negated=word == "not in")
    column = source.column(name)
    if isinstance(operand, list):
        return _compare(column, word, calls.value_call(operand, column.kind, volatile=frame.volatile))
    if isinstance(operand, dict):
        return _transformed(frame, source, name, word, operand)
    if operand is None or isinstance(operand, bool):
        _check_operator(word)
        return _compare(column, "=" if word == "=" else "is not", None)
    return _compare(column, word, field_value(operand, _field_kind(source, name), _operand_kind(column, word)))


def _field_kind(source: Source, name: str) -> str:
    return kind_of(source.known.id, source.known.by_name[name])


def _check_operator(word: str) -> None:
    if any(character.isspace() for character in word) and word not in ("similar to", *_DISTINCT):
        raise MalformedError(f"no operator {word}")
    if ";" in word:
        raise MalformedError(f"no operator {word}")


def _operand_kind(left: Expression, word: str) -> str:
    if word in _PATTERNS and left.kind != "text":
        raise QueryError(f"{word} of {left.kind}")
    return left.kind


def _compare(left: Expression, word: str, right: str | None) -> Expression:
    """A comparison with a literal, or with null where there is none."""
    if right is None:
        sql = f"{left.sql} IS {'' if word == '=' else 'NOT '}NULL"
    elif word in _PATTERNS:
        _operand_kind(left, word)
        sql = _PATTERNS[word].format(left.sql, right)
    else:
        _check_operator(word)
        sign = _COMPARISONS.get(word) or _DISTINCT.get(word)
        if sign is None:
            raise QueryError(f"no operator {word}")
        sql = f"{_compared(left)} {sign} {right}"
    return Expression(sql, "bool", left.aggregate, left.columns)


def _compared(expression: Expression) -> str:
    """An expression as it is compared: intervals by their length in seconds."""
    return f"pg_interval({expression.sql})" if expression.kind == "interval" else expression.sql


def _between(source: Source, name: str, operand: Any) -> Expression:
    left = calls.field_transform(source, name, operand)
    span = operand.get("value", operand) if isinstance(operand, dict) else operand
    if not isinstance(span, list) or len(span) != 2:
        raise MalformedError("between takes two values")
    low, high = (field_value(value, _field_kind(source, name), left.kind) for value in span)
    if (low is None or high is None) and _field_kind(source, name) not in ("integer", "bigint"):
        raise MalformedError("between takes two values")
    return Expression(
        f"{_compared(left)} BETWEEN {low or 'NULL'} AND {high or 'NULL'}", "bool", left.aggregate, left.columns
    )


def _in(frame: Frame, source: Source, name: str, operand: Any, *, negated: bool) -> Expression:
    left = calls.field_transform(source, name, operand)
    among = operand.get("value", operand) if isinstance(operand, dict) else operand
    if isinstance(among, dict):
        from evergreen_groups.sandbox.query import subqueries  # a query holds conditions, and a condition queries

        inner, kinds = subqueries.subquery(frame, among)
        if len(kinds) != 1:
            raise QueryError("a subquery of one column was expected")
        check_comparable(left.kind, kinds[0])
        left = Expression(left.sql, "text", left.aggregate, left.columns) if left.kind == "interval" else left
    elif isinstance(among, list) and among:
        values = [field_value(value, _field_kind(source, name), left.kind) for value in among]
        if None in values:
            raise MalformedError("a list holds numbers and texts")
        inner = ", ".join(value for value in values if value is not None)
    else:
        raise MalformedError("a list was expected")
    sql = f"{_compared(left)} {'NOT ' if negated else ''}IN ({inner})"
    return Expression(sql, "bool", left.aggregate, left.columns)


def _transformed(frame: Frame, source: Source, name: str, word: str, node: dict[str, Any]) -> Expression:
    _check_operator(word)
    left = calls.field_transform(source, name, node)
    value = node.get("value")
    if "value" not in node or isinstance(value, dict):
        from evergreen_groups.sandbox.query import where  # a value may be a condition, and a condition holds values

        right = where.condition(frame, source, node if "value" not in node else value)
        if word in _CALCULATIONS:
            return _calculated(left, word, right)
        return _compare_expressions(left, word, right)
    if isinstance(value, list):
        return _compare(left, word, calls.value_call(value, left.kind, volatile=frame.volatile))
    if word in _CALCULATIONS:
        return _calculated(left, word, Expression(_number(value, _field_kind(source, name), left.kind), "numeric"))
    literal = field_value(value, _field_kind(source, name), left.kind)
    if literal is None:
        raise MalformedError("null can't be compared with a transformed field")
    return _compare(left, word, literal)


def _number(value: Any, field_kind: str, kind: str) -> str:
    """A number to calculate with, in its own unit whatever it meets."""
    literal = field_value(value, field_kind, "numeric" if kind == "money" else kind)
    if literal is None:
        raise MalformedError("null can't be calculated with")
    return literal


def _calculated(left: Expression, word: str, right: Expression) -> Expression:
    """A number, and no condition, which another may be compared with."""
    if left.kind not in NUMBERS or right.kind not in NUMBERS:
        raise QueryError(f"{left.kind} {word} {right.kind}")
    whole = ("integer", "bigint")
    if word == "&" and (left.kind not in whole or right.kind not in (*whole, "numeric")):
        raise QueryError(f"{left.kind} {word} {right.kind}")
    sides = [f"({it.sql}) / 100.0" if it.kind == "money" else f"({it.sql})" for it in (left, right)]
    kind = left.kind if word == "&" else "numeric"
    columns = left.columns | right.columns
    return Expression(f"({sides[0]} {word} {sides[1]})", kind, left.aggregate or right.aggregate, columns)


def _compare_expressions(left: Expression, word: str, right: Expression) -> Expression:
    check_comparable(left.kind, right.kind)
    left_sql, right_sql = left.sql, right.sql
    if "money" in (left.kind, right.kind) and left.kind != right.kind:
        left_sql = left_sql if left.kind == "money" else f"({left_sql}) * 100"
        right_sql = right_sql if right.kind == "money" else f"({right_sql}) * 100"
    compared = _compare(Expression(left_sql, left.kind), word, f"({_compared(Expression(right_sql, right.kind))})")
    return Expression(f"({compared.sql})", "bool", left.aggregate or right.aggregate, left.columns | right.columns)
