"""Subqueries: ``{"select", "from", "where", "having", "order_by", "limit", "offset"}`` and their combinations."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from evergreen_groups.sandbox.query import calls, ordering, where
from evergreen_groups.sandbox.query.frames import Expression, Frame, MalformedError, QueryError, Source, quoted
from evergreen_groups.sandbox.query.joins import joins

_COMBINERS = ("union", "intersect", "except")


@dataclass
class _Columns:
    """The SELECT list as it grows. ``grouped`` are the columns that no aggregate was announced for."""

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
    """The SQL of a query and the kinds of its columns.

    Raises:
        QueryError: as the real service or its database would refuse it.
    """
    if not isinstance(node, dict):
        raise MalformedError("a query is a hash")
    if any(node.get(word) is not None for word in _COMBINERS):
        return _combined(outer, node)
    frame = Frame(outer.classes, outer, outer.volatile)
    core, join_sql = _from(frame, node.get("from"))
    columns = _select(frame, core, node.get("select"))
    sql = f"{', '.join(columns.parts)} FROM {core.known.id} AS {core.quoted}{join_sql}{''.join(columns.org_trees)}"
    if node.get("where") is not None:
        condition = where.boolean(where.condition(frame, core, node["where"]))
        if condition.aggregate:
            raise QueryError("aggregates belong into having")
        sql = f"{sql} WHERE {condition.sql}"
    having = None
    if node.get("having") is not None:
        having = where.boolean(where.condition(frame, core, node["having"]))
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
    everything = [item.name for item in core.known.columns]
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
    item = source.known.by_name.get(name) if isinstance(name, str) else None
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
    """A transform of an org unit's id into the org units around it: a join with the closed tree."""
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
    """Add GROUP BY and HAVING, and refuse columns that stand neither in an aggregate nor in the group."""
    any_aggregate = having is not None or any(item.aggregate for item in columns.expressions)
    positions = columns.grouped if columns.announced else []
    if any(columns.expressions[position - 1].aggregate for position in positions):
        raise QueryError("an aggregate in GROUP BY")
    if any_aggregate or positions:
        within = frozenset[tuple[str, str]]().union(
            *(columns.expressions[position - 1].columns for position in positions)
        )
        keys = {source.alias for source in frame.sources if (source.alias, source.known.primary) in within}
        plain = [frame.own(item) for index, item in enumerate(columns.expressions, 1) if index not in positions]
        plain += [frame.own(having)] if having is not None else []
        if any(alias not in keys and (alias, name) not in within for used in plain for alias, name in used):
            raise QueryError("a column outside of GROUP BY")
    if positions:
        sql = f"{sql} GROUP BY {', '.join(map(str, positions))}"
        return f"SELECT {sql} HAVING {having.sql}" if having is not None else f"SELECT {sql}"
    if having is None:
        return f"SELECT {sql}"
    names = ", ".join(quoted(f"column {index}") for index in range(len(columns.parts)))
    head = ", ".join(f"{item.sql} AS {quoted(f'column {index}')}" for index, item in enumerate(columns.expressions))
    rest = sql[len(", ".join(columns.parts)) :]
    return f"SELECT {names} FROM (SELECT {head}, ({having.sql}) AS _matches{rest}) WHERE _matches"


def _order(frame: Frame, node: Any, aliases: list[str]) -> str:
    if node is None:
        return ""
    terms: list[str] = []
    if isinstance(node, list):
        terms = ordering.from_list(frame, node)
    elif isinstance(node, dict):
        for alias, wanted in node.items():
            source = frame.here(alias)
            if source is None or not isinstance(wanted, dict | list):
                raise MalformedError("order_by isn't understood")
            fields = wanted if isinstance(wanted, dict) else {name: {} for name in wanted}
            terms += ordering.in_subquery(frame, source, fields, aliases)
    else:
        raise MalformedError("order_by isn't understood")
    return f" ORDER BY {', '.join(terms)}" if terms else ""


def number(value: Any) -> int | None:
    """LIMIT and OFFSET as C's ``atoi`` reads them: digits at the beginning, else 0; None where nothing is given."""
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
