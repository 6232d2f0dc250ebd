"""A search of a class's rows: the SELECT that pcrud builds from WHERE and its options (``buildSELECT``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evergreen_groups.sandbox.query import where
from evergreen_groups.sandbox.query import where as ordering
from evergreen_groups.sandbox.query.frames import Frame, QueryError, Source, UnjoinableError
from evergreen_groups.sandbox.query.where import joins, number

if TYPE_CHECKING:
    from evergreen_groups.sandbox.database import StoredClass, StoredField

_SUMMARIES = ("mbts", "mobts", "mous", "mus")
_NEVER = {
    "total_paid": ("last_payment_ts",),
    "total_owed": ("last_billing_ts",),
    "balance_owed": ("last_billing_ts", "last_payment_ts"),
}

Permission = Callable[[Frame, Source], str]


@dataclass(frozen=True)
class Search:
    """A search, ready to run. ``columns`` are the fields that the rows hold, in order.

    A search that is ``joined`` may find a row more than once; then ``limit`` (-1: all) and ``offset`` count what is
    left when those with a key seen before are dropped. In any other they are in the SQL already.
    """

    sql: str
    columns: tuple[StoredField, ...]
    joined: bool
    limit: int
    offset: int


def run_search(
    frame: Frame,
    known: StoredClass,
    condition: Any,
    options: dict[str, Any],
    permission: Permission,
    *,
    limit_first: bool = False,
) -> Search:
    """Build the search for the rows that fulfil a condition and that the permission lets through.

    ``frame`` is an empty one. With ``limit_first``, limit and offset count the rows that are found more than once as
    well.

    Raises:
        QueryError: as the real service or its database would refuse it.
    """
    core = frame.add(None, known.id)
    columns = _columns(known, options.get("select"))
    join_sql = _joins(frame, core, options.get("join"))
    wanted = where.boolean(where.condition(frame, core, condition))
    if wanted.aggregate:
        raise QueryError("an aggregate in WHERE")
    terms = _order(frame, options.get("order_by"), [item.name for item in columns]) or [
        f"{core.quoted}._position",
        f"{core.quoted}.{known.primary}",
    ]
    limit, offset = _span(condition, known, options, checked=limit_first)
    names = ", ".join(_shown(core, item) for item in columns) or "NULL"
    # the condition isn't put in brackets, as little as the real service does
    rest = f"FROM {known.id} AS {core.quoted}{join_sql} WHERE {permission(frame, core)} AND {wanted.sql}"
    sql = f"SELECT {names} {rest} ORDER BY {', '.join(terms)}"
    if join_sql and not limit_first:
        return Search(sql, columns, True, limit, offset)
    limited = f"{sql} LIMIT {limit} OFFSET {offset}"
    return Search(limited, columns, True, -1, 0) if join_sql else Search(limited, columns, False, limit, offset)


def count(frame: Frame, known: StoredClass, condition: Any, options: dict[str, Any], permission: Permission) -> str:
    """The SQL that counts those rows; ``frame`` is an empty one.

    Raises:
        QueryError: as the real service or its database would refuse it.
    """
    core = frame.add(None, known.id)
    join_sql = _joins(frame, core, options.get("join"))
    wanted = where.boolean(where.condition(frame, core, condition))
    key = core.column(known.primary).sql
    rest = f"FROM {known.id} AS {core.quoted}{join_sql} WHERE {permission(frame, core)} AND {wanted.sql}"
    return f"SELECT count(DISTINCT {key}) {rest}"


def _shown(core: Source, item: StoredField) -> str:
    """A column as it is selected.

    A sum of money in a summary is ``0.0`` where there was nothing to sum, ``0.00`` where there was (``groups-026``,
    ``groups-008``).
    """
    column = core.column(item.name).sql
    reasons = _NEVER.get(item.name) if core.known.id in _SUMMARIES else None
    if reasons is None:
        return column
    never = " AND ".join(f"{core.quoted}.{name} IS NULL" for name in reasons)
    return f"CASE WHEN {column} = 0 AND {never} THEN '0.0' ELSE {column} END"


def _columns(known: StoredClass, selection: Any) -> tuple[StoredField, ...]:
    """The columns selected of the class; names that it hasn't are passed over (``pcrud-154``)."""
    if not isinstance(selection, dict) or known.id not in selection:
        return known.columns
    wanted = selection[known.id]
    names = list(wanted.values()) if isinstance(wanted, dict) else wanted if isinstance(wanted, list) else []
    columns = []
    for name in names:
        item = known.by_name.get(name) if isinstance(name, str) else None
        if item is None or item.hidden:
            continue
        if item.virtual:
            raise QueryError("a virtual column selected")
        columns.append(item)
    return tuple(columns)


def _joins(frame: Frame, core: Source, node: Any) -> str:
    """The JOIN clauses; what can't be joined is passed over whole (``pcrud-165``)."""
    if node is None:
        return ""
    trial = Frame(frame.classes, volatile=frame.volatile, sources=[core])
    try:
        sql = joins(trial, core, node)
    except UnjoinableError:
        return ""
    frame.sources = trial.sources
    return sql


def _order(frame: Frame, node: Any, selected: list[str]) -> list[str]:
    if isinstance(node, list):
        return ordering.from_list(frame, node)
    terms: list[str] = []
    for alias, wanted in node.items() if isinstance(node, dict) else ():
        source = frame.here(alias)
        if source is None:
            continue
        if isinstance(wanted, dict):
            terms += ordering.from_fields(frame, source, wanted, selected)
        elif isinstance(wanted, str):
            # a text ends the list; what the loop has collected so far runs straight into it
            if terms:
                raise QueryError("a text after other order_by terms")
            return ordering.from_text(frame, wanted, selected)
    return terms


def _span(condition: Any, known: StoredClass, options: dict[str, Any], *, checked: bool) -> tuple[int, int]:
    """Limit and offset, -1 and 0 where there is none; ``checked`` by the database, it refuses negative ones."""
    limit, offset = number(options.get("limit")), number(options.get("offset"))
    key = condition.get(known.primary) if isinstance(condition, dict) else None
    by_key = isinstance(condition, dict) and known.primary in condition and not isinstance(key, dict | list)
    if (by_key or checked) and ((limit or 0) < 0 or (offset or 0) < 0):
        raise QueryError("a negative LIMIT or OFFSET")
    return -1 if limit is None or limit < 0 else limit, max(offset or 0, 0)
