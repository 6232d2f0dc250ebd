"""Translate conditions (``searchWHERE``), joins, ORDER BY, and whole queries.

A condition is a hash or list of fields, ``-and``, ``-or``, ``-not``, ``-exists`` and ``+alias``. The parts are in one
module because they are recursive: conditions have subqueries, and queries and joins have conditions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from evergreen_groups.sandbox.query import calls
from evergreen_groups.sandbox.query.frames import (
    NUMBERS,
    Expression,
    Frame,
    MalformedError,
    QueryError,
    Source,
    UnjoinableError,
    check_comparable,
    field_value,
    kind_of,
    quoted,
)

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
    """Translate the condition ``node`` on a field.

    Raises:
        QueryError: the real service or PostgreSQL would reject the condition.
    """
    item = source.idl_class.by_name.get(name)
    if item is None:
        raise MalformedError(f"no field {name} in {source.idl_class.id}")
    field_kind = kind_of(source.idl_class.id, item)
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
    return kind_of(source.idl_class.id, source.idl_class.by_name[name])


def _check_operator(word: str) -> None:
    has_space = any(character.isspace() for character in word)
    if ";" in word or (has_space and word not in ("similar to", *_DISTINCT)):
        raise MalformedError(f"no operator {word}")


def _operand_kind(left: Expression, word: str) -> str:
    if word in _PATTERNS and left.kind != "text":
        raise QueryError(f"{word} of {left.kind}")
    return left.kind


def _compare(left: Expression, word: str, right: str | None) -> Expression:
    """Compare with a literal, or with null if ``right`` is None."""
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
    """Return the SQL to compare an expression by; intervals compare by their length in seconds."""
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
        inner, kinds = subquery(frame, among)
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
        right = condition(frame, source, node if "value" not in node else value)
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
    """Return a number to calculate with; money isn't converted to cents."""
    literal = field_value(value, field_kind, "numeric" if kind == "money" else kind)
    if literal is None:
        raise MalformedError("null can't be calculated with")
    return literal


def _calculated(left: Expression, word: str, right: Expression) -> Expression:
    """Calculate with two numbers; the result is a number, for an enclosing comparison."""
    if left.kind not in NUMBERS or right.kind not in NUMBERS:
        raise QueryError(f"{left.kind} {word} {right.kind}")
    whole = ("integer", "bigint")
    if word == "&" and (left.kind not in whole or right.kind not in (*whole, "numeric")):
        raise QueryError(f"{left.kind} {word} {right.kind}")
    sides = [f"({side.sql}) / 100.0" if side.kind == "money" else f"({side.sql})" for side in (left, right)]
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


def condition(frame: Frame, source: Source, node: Any, joiner: str = "AND") -> Expression:
    """Translate a condition on a class; ``joiner`` also applies to nested lists and the hashes in them.

    A single ``{"+alias": "field"}`` gives the field itself, to be used as a value.

    Raises:
        QueryError: the real service or PostgreSQL would reject the condition.
    """
    if isinstance(node, list) and node:
        parts = [_in_brackets(condition(frame, source, item, joiner)) for item in node]
    elif isinstance(node, dict) and node:
        parts = [_part(frame, source, key, value) for key, value in node.items()]
    else:
        raise MalformedError("an empty condition")
    return _joined(parts, joiner)


def boolean(expression: Expression) -> Expression:
    """Return the expression if it is a boolean.

    Raises:
        QueryError: the expression has another type.
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
        named = frame.find(key[1:])
        if not isinstance(value, str):
            return _in_brackets(condition(frame, named, value))
        if value not in named.idl_class.by_name:
            raise MalformedError(f"no field {value}")
        return named.column(value)
    if not key.startswith("-"):
        return predicate(frame, source, key, value)
    word = key.lower()
    if word in ("-or", "-and"):
        return _in_brackets(condition(frame, source, value, word[1:].upper()))
    if word == "-not":
        return _in_brackets(condition(frame, source, value), "NOT ")
    if word in ("-exists", "-not-exists"):
        inner, _ = subquery(frame, value)
        return Expression(f"{'NOT ' if word == '-not-exists' else ''}EXISTS ({inner})", "bool")
    raise MalformedError(f"no operator {key}")


_TYPES = {"left": "LEFT JOIN", "right": "RIGHT JOIN", "full": "FULL JOIN"}


def joins(frame: Frame, left: Source, node: Any) -> str:
    """Return the JOIN clauses of ``node`` and add the joined classes to the frame.

    Raises:
        UnjoinableError: the real service can't build the join.
        QueryError: PostgreSQL would reject the join.
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
        try:
            on = f"{on} {word} {boolean(condition(frame, right, given)).sql}"
        except MalformedError as problem:
            raise UnjoinableError(str(problem)) from problem
    word = _TYPES.get((_text(options, "type") or "").lower(), "JOIN")
    below = options.get("join") if isinstance(options, dict) else None
    further = joins(frame, right, below) if below is not None else ""
    return f" {word} {right.idl_class.id} AS {right.quoted} ON ({on}){further}"


def _keys(left: Source, right: Source, key: str | None, field: str | None) -> tuple[str, str]:
    """Return the fields to join by: the left class's and the right class's."""
    if key is not None and field is not None:
        return key, field
    if field is not None:
        link = right.idl_class.links.get(field)
        if link and link.reltype != "has_many" and link.class_id == left.idl_class.id:
            return link.key, field
    elif key is not None:
        link = left.idl_class.links.get(key)
        if link and link.reltype != "has_many" and link.class_id == right.idl_class.id:
            return key, link.key
    else:
        return _linked(left, right)
    raise UnjoinableError("no link to join by")


def _linked(left: Source, right: Source) -> tuple[str, str]:
    for link in left.idl_class.links.values():
        if link.class_id == right.idl_class.id and link.reltype != "has_many":
            return link.field, link.key
    for link in right.idl_class.links.values():
        if link.class_id == left.idl_class.id and link.reltype != "has_many":
            return link.key, link.field
    raise UnjoinableError("no link to join by")


_TERM = re.compile(
    r'\s*(?:(?P<function>[a-z_.]+)\(\s*)?(?:"?(?P<alias>\w+)"?\.)?"?(?P<column>\w+)"?\s*(?P<close>\))?'
    r"(?:\s+(?P<direction>asc|desc))?(?:\s+nulls\s+(?P<nulls>first|last))?\s*",
    re.IGNORECASE,
)


def _term(source: Source | None, expression: Expression, direction: str | None, nulls: str | None = None) -> str:
    descending = (direction or "").lower().startswith("d")
    if source is not None and expression.sql == source.column(source.idl_class.primary).sql:
        # A primary key is never null. Without NULLS FIRST/LAST, SQLite can use its index.
        return f"{expression.sql} {'DESC' if descending else 'ASC'}"
    # The recorded database sorts by code point (pcrud-027), like SQLite, so no COLLATE is needed.
    nulls = nulls or ("first" if descending else "last")
    return f"{expression.sql} {'DESC' if descending else 'ASC'} NULLS {nulls.upper()}"


def from_list(frame: Frame, node: list[Any]) -> list[str]:
    """Return ORDER BY terms for ``[{"class", "field", "direction", "transform"}]``.

    Source: ``buildOrderByFromArray``.

    Raises:
        QueryError: an entry lacks class or field, or the field doesn't exist.
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
        direction = entry.get("direction")
        terms.append(_term(source, expression, direction if isinstance(direction, str) else None))
    return terms


def from_fields(frame: Frame, source: Source, node: dict[str, Any], selected: Sequence[str]) -> list[str]:
    """Return ORDER BY terms of a search for ``{field: direction}`` or ``{field: {"direction", "transform"}}``.

    ``selected`` are the selected columns of the search's class.

    Raises:
        QueryError: a direction is invalid, or a name is ambiguous.
    """
    terms = []
    for name, how in node.items():
        item = source.idl_class.by_name.get(name)
        # pcrud ignores unknown names here, as in select (pcrud-154); in WHERE it rejects them (pcrud-152).
        if item is None or item.virtual:
            continue
        if isinstance(how, dict):
            terms.append(_detailed(source, name, how))
        else:
            expression = _owner(frame, None, name, selected).column(name)
            terms.append(_term(source, expression, _direction(how)))
    return terms


def in_subquery(frame: Frame, source: Source, node: dict[str, Any], aliases: Sequence[str]) -> list[str]:
    """Return ORDER BY terms of a subquery, where a name refers to a result column before a field.

    Raises:
        QueryError: a field doesn't exist, or a name is ambiguous.
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
    """Return ORDER BY terms for SQL text like ``"family_name, id DESC"``, which pcrud passes to PostgreSQL unchanged.

    A bare name refers to a column in ``selected`` first; a number is a position in ``selected``.

    Raises:
        QueryError: a column doesn't exist, or the SQL isn't supported.
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
        fields = ((source, source.idl_class.by_name.get(name)) for source in frame.sources)
        found = [source for source, item in fields if item is not None and (item.hidden or not item.virtual)]
    if len(found) != 1:
        raise QueryError(f"column {name} isn't there, or ambiguous")
    return found[0]


_COMBINERS = ("union", "intersect", "except")


@dataclass
class _Columns:
    """The SELECT list under construction.

    ``announced`` is set once a column is marked ``aggregate``; ``grouped`` are the positions of columns that aren't.
    """

    parts: list[str] = field(default_factory=list)
    aliases: list[str] = field(default_factory=list)
    expressions: list[Expression] = field(default_factory=list)
    grouped: list[int] = field(default_factory=list)
    announced: bool = False
    org_trees: list[str] = field(default_factory=list)

    def add(self, expression: Expression, alias: str, *, aggregate: bool) -> None:
        self.parts.append(f"{expression.sql} AS {quoted(alias)}")
        self.aliases.append(alias)
        self.expressions.append(expression)
        if aggregate:
            self.announced = True
        else:
            self.grouped.append(len(self.parts))


def subquery(outer: Frame, node: Any) -> tuple[str, list[str]]:
    """Return the SQL of a query and the kinds of its columns.

    Raises:
        QueryError: the real service or PostgreSQL would reject the query.
    """
    if not isinstance(node, dict):
        raise MalformedError("a query is a hash")
    if any(node.get(word) is not None for word in _COMBINERS):
        return _combined(outer, node)
    frame = Frame(outer.classes, outer, outer.volatile)
    core, join_sql = _from(frame, node.get("from"))
    columns = _select(frame, core, node.get("select"))
    sql = f"{', '.join(columns.parts)} FROM {core.idl_class.id} AS {core.quoted}{join_sql}{''.join(columns.org_trees)}"
    if node.get("where") is not None:
        where = boolean(condition(frame, core, node["where"]))
        if where.aggregate:
            raise QueryError("aggregates belong into having")
        sql = f"{sql} WHERE {where.sql}"
    having = None
    if node.get("having") is not None:
        having = boolean(condition(frame, core, node["having"]))
    sql = _grouped(frame, sql, columns, having)
    return f"{sql}{_order(frame, node.get('order_by'), columns.aliases)}{_span(node)}", [
        item.kind for item in columns.expressions
    ]


def _combined(outer: Frame, node: dict[str, Any]) -> tuple[str, list[str]]:
    words = [word for word in _COMBINERS if word in node]
    unknown = set(node) - {*_COMBINERS, "all", "alias", "order_by"}
    queries = node[words[0]]
    if len(words) != 1 or unknown or not isinstance(queries, list) or len(queries) < 2:
        raise MalformedError("malformed combination of queries")
    if (words[0] == "except" and len(queries) > 2) or ("order_by" in node and "alias" not in node):
        raise MalformedError("malformed combination of queries")
    found = [subquery(outer, query) for query in queries]
    kinds = found[0][1]
    if any(len(other) != len(kinds) for _, other in found):
        raise QueryError("queries of another width")
    word = f" {words[0].upper()} {'ALL ' if words[0] == 'union' and calls.is_true(node.get('all')) else ''}"
    return word.join(f"SELECT * FROM ({sql})" for sql, _ in found), kinds


def _from(frame: Frame, node: Any) -> tuple[Source, str]:
    if isinstance(node, str):
        return frame.add(None, node), ""
    if not isinstance(node, dict) or len(node) != 1:
        raise MalformedError("malformed FROM clause")
    ((class_id, joined),) = node.items()
    core = frame.add(None, class_id)
    return core, joins(frame, core, joined)


def _select(frame: Frame, core: Source, node: Any) -> _Columns:
    everything = [item.name for item in core.idl_class.columns]
    if node is None:
        node = {core.alias: everything}
    if not isinstance(node, dict):
        raise MalformedError("malformed SELECT clause")
    columns = _Columns()
    for alias, given in node.items():
        source = frame.here(alias)
        wanted = everything if source is core and given in (None, "*") else given
        if source is None or not isinstance(wanted, list):
            raise MalformedError(f"{alias} can't be selected from")
        for entry in wanted:
            _select_one(columns, source, entry)
    if not columns.parts:
        raise MalformedError("an empty SELECT list")
    return columns


def _select_one(columns: _Columns, source: Source, entry: Any) -> None:
    name = entry.get("column") if isinstance(entry, dict) else entry
    item = source.idl_class.by_name.get(name) if isinstance(name, str) else None
    if item is None or item.virtual:
        raise MalformedError("a selected column isn't defined")
    if not isinstance(entry, dict):
        columns.add(source.column(item.name), item.name, aggregate=False)
        return
    alias = entry.get("alias", entry.get("result_field", item.name))
    if not isinstance(alias, str):
        raise MalformedError("an alias is a text")
    if calls.is_org_tree_call(entry.get("transform")):
        expression = _org_tree(columns, source, entry)
    else:
        expression = calls.field_transform(source, item.name, entry)
    columns.add(expression, alias, aggregate=calls.is_true(entry.get("aggregate")))


def _org_tree(columns: _Columns, source: Source, entry: dict[str, Any]) -> Expression:
    """Translate a walk through the org tree to a join with the SQL function ``org_walk``."""
    given = entry.get("params") or []
    walk = str(entry["transform"]).removeprefix("actor.org_unit_")
    depth = str(given[0]) if len(given) == 1 else None
    takes_depth = {
        "descendants": (0, 1),
        "descendants_distance": (0,),
        "ancestors": (0,),
        "full_path": (0, 1),
        "ancestor_at_depth": (1,),
    }
    if entry.get("result_field") != "id" or len(given) not in takes_depth[walk]:
        raise QueryError("this walk through the org tree isn't known here")
    if depth is not None and not re.fullmatch(r"\d+", depth):
        raise QueryError("a depth is a number")
    alias = quoted(f"org tree {len(columns.org_trees)}")
    start = source.column(str(entry["column"])).sql
    walked = f"json_each(org_walk('{walk}', {start}, {depth if depth is not None else 'NULL'})) AS {alias}"
    columns.org_trees.append(f" JOIN {walked}")
    return Expression(f"{alias}.value", "integer")


def _grouped(frame: Frame, sql: str, columns: _Columns, having: Expression | None) -> str:
    """Add GROUP BY and HAVING.

    Raises:
        QueryError: a column is neither aggregated nor in GROUP BY.
    """
    any_aggregate = having is not None or any(item.aggregate for item in columns.expressions)
    positions = columns.grouped if columns.announced else []
    if any(columns.expressions[position - 1].aggregate for position in positions):
        raise QueryError("an aggregate in GROUP BY")
    if any_aggregate or positions:
        within = frozenset[tuple[str, str]]().union(
            *(columns.expressions[position - 1].columns for position in positions)
        )
        keys = {source.alias for source in frame.sources if (source.alias, source.idl_class.primary) in within}
        plain = [frame.own(item) for index, item in enumerate(columns.expressions, 1) if index not in positions]
        plain += [frame.own(having)] if having is not None else []
        if any(alias not in keys and (alias, name) not in within for used in plain for alias, name in used):
            raise QueryError("a column outside of GROUP BY")
    if positions:
        sql = f"{sql} GROUP BY {', '.join(map(str, positions))}"
        return f"SELECT {sql} HAVING {having.sql}" if having is not None else f"SELECT {sql}"
    if having is None:
        return f"SELECT {sql}"
    # SQLite before 3.39 rejects HAVING without GROUP BY, so an outer query filters the single row.
    names = ", ".join(quoted(f"column {index}") for index in range(len(columns.parts)))
    head = ", ".join(f"{item.sql} AS {quoted(f'column {index}')}" for index, item in enumerate(columns.expressions))
    rest = sql[len(", ".join(columns.parts)) :]
    return f"SELECT {names} FROM (SELECT {head}, ({having.sql}) AS _matches{rest}) WHERE _matches"


def _order(frame: Frame, node: Any, aliases: list[str]) -> str:
    if node is None:
        return ""
    terms: list[str] = []
    if isinstance(node, list):
        terms = from_list(frame, node)
    elif isinstance(node, dict):
        for alias, wanted in node.items():
            source = frame.here(alias)
            if source is None or not isinstance(wanted, dict | list):
                raise MalformedError("order_by isn't understood")
            fields = wanted if isinstance(wanted, dict) else {name: {} for name in wanted}
            terms += in_subquery(frame, source, fields, aliases)
    else:
        raise MalformedError("order_by isn't understood")
    return f" ORDER BY {', '.join(terms)}" if terms else ""


def number(value: Any) -> int | None:
    """Parse LIMIT or OFFSET like C's ``atoi``: leading digits, else 0; None if not given."""
    if value is None or isinstance(value, bool | list | dict):
        return None
    match = re.match(r"\s*[-+]?\d+", str(value))
    return int(match[0]) if match else 0


def _span(node: dict[str, Any]) -> str:
    limit, offset = number(node.get("limit")), number(node.get("offset"))
    if (limit or 0) < 0 or (offset or 0) < 0:
        raise QueryError("a negative LIMIT or OFFSET")
    sql = f" LIMIT {-1 if limit is None else limit}" if limit is not None or offset is not None else ""
    return sql if offset is None else f"{sql} OFFSET {offset}"
