"""Build the SELECT for a pcrud search from a condition and options (``buildSELECT``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evergreen_groups.sandbox.query import where
from evergreen_groups.sandbox.query.frames import Frame, QueryError, Source, UnjoinableError

if TYPE_CHECKING:
    from evergreen_groups.sandbox.database import StoredClass, StoredField

_SUMMARIES = ("mbts", "mobts", "mous", "mus")
# Money columns of a summary, with the columns that are null if there was nothing to sum.
_NULL_IF_EMPTY = {
    "total_paid": ("last_payment_ts",),
    "total_owed": ("last_billing_ts",),
    "balance_owed": ("last_billing_ts", "last_payment_ts"),
}

Permission = Callable[[Frame, Source], str]


@dataclass(frozen=True)
class Search:
    """SQL ready to run, with the selected ``columns`` in order.

    A ``joined`` search may return a row more than once. Apply ``limit`` (-1: no limit) and ``offset`` after removing
    duplicates by primary key. In other searches the SQL applies both.
    """

    sql: str
    columns: tuple[StoredField, ...]
    joined: bool
    limit: int
    offset: int


def run_search(
    frame: Frame,
    idl_class: StoredClass,
    condition: Any,
    options: dict[str, Any],
    permission: Permission,
    *,
    limit_first: bool = False,
) -> Search:
    """Build the search for rows that meet a condition and are visible by ``permission``; ``frame`` must be empty.

    With ``limit_first``, limit and offset are applied before duplicates are removed.

    Raises:
        QueryError: the real service or PostgreSQL would reject the query.
    """
    core = frame.add(None, idl_class.id)
    columns = _columns(idl_class, options.get("select"))
    join_sql = _joins(frame, core, options.get("join"))
    wanted = where.boolean(where.condition(frame, core, condition))
    if wanted.aggregate:
        raise QueryError("an aggregate in WHERE")
    terms = _order(frame, options.get("order_by"), [item.name for item in columns]) or [
        f"{core.quoted}._position",
        f"{core.quoted}.{idl_class.primary}",
    ]
    limit, offset = _span(condition, idl_class, options, checked=limit_first)
    names = ", ".join(_shown(core, item) for item in columns) or "NULL"
    # No parentheses around the condition, as in the real service.
    rest = f"FROM {idl_class.id} AS {core.quoted}{join_sql} WHERE {permission(frame, core)} AND {wanted.sql}"
    sql = f"SELECT {names} {rest} ORDER BY {', '.join(terms)}"
    if join_sql and not limit_first:
        return Search(sql, columns, True, limit, offset)
    limited = f"{sql} LIMIT {limit} OFFSET {offset}"
    return Search(limited, columns, True, -1, 0) if join_sql else Search(limited, columns, False, limit, offset)


def count(frame: Frame, idl_class: StoredClass, condition: Any, options: dict[str, Any], permission: Permission) -> str:
    """Build the SQL that counts the rows of a search, each once; ``frame`` must be empty.

    Raises:
        QueryError: the real service or PostgreSQL would reject the query.
    """
    core = frame.add(None, idl_class.id)
    join_sql = _joins(frame, core, options.get("join"))
    wanted = where.boolean(where.condition(frame, core, condition))
    key = core.column(idl_class.primary).sql
    rest = f"FROM {idl_class.id} AS {core.quoted}{join_sql} WHERE {permission(frame, core)} AND {wanted.sql}"
    return f"SELECT count(DISTINCT {key}) {rest}"


def _shown(core: Source, item: StoredField) -> str:
    """Return a column for the SELECT list.

    A summary's sum is ``0.0`` if there was nothing to sum (``groups-026``), else ``0.00`` (``groups-008``).
    """
    column = core.column(item.name).sql
    if core.idl_class.id not in _SUMMARIES or item.name not in _NULL_IF_EMPTY:
        return column
    empty = " AND ".join(f"{core.quoted}.{name} IS NULL" for name in _NULL_IF_EMPTY[item.name])
    return f"CASE WHEN {column} = 0 AND {empty} THEN '0.0' ELSE {column} END"


def _columns(idl_class: StoredClass, selection: Any) -> tuple[StoredField, ...]:
    """Return the selected columns of the class; unknown names are ignored (``pcrud-154``)."""
    if not isinstance(selection, dict) or idl_class.id not in selection:
        return idl_class.columns
    wanted = selection[idl_class.id]
    names = list(wanted.values()) if isinstance(wanted, dict) else wanted if isinstance(wanted, list) else []
    columns = []
    for name in names:
        item = idl_class.by_name.get(name) if isinstance(name, str) else None
        if item is None or item.hidden:
            continue
        if item.virtual:
            raise QueryError("a virtual column selected")
        columns.append(item)
    return tuple(columns)


def _joins(frame: Frame, core: Source, node: Any) -> str:
    """Return the JOIN clauses; nothing at all if one of them can't be built (``pcrud-165``)."""
    if node is None:
        return ""
    trial = Frame(frame.classes, volatile=frame.volatile, sources=[core])
    try:
        sql = where.joins(trial, core, node)
    except UnjoinableError:
        return ""
    frame.sources = trial.sources
    return sql


def _order(frame: Frame, node: Any, selected: list[str]) -> list[str]:
    if isinstance(node, list):
        return where.from_list(frame, node)
    terms: list[str] = []
    for alias, wanted in node.items() if isinstance(node, dict) else ():
        source = frame.here(alias)
        if source is None:
            continue
        if isinstance(wanted, dict):
            terms += where.from_fields(frame, source, wanted, selected)
        elif isinstance(wanted, str):
            # The real service appends the text to earlier terms without a comma, which is a syntax error.
            if terms:
                raise QueryError("a text after other order_by terms")
            return where.from_text(frame, wanted, selected)
    return terms


def _span(condition: Any, idl_class: StoredClass, options: dict[str, Any], *, checked: bool) -> tuple[int, int]:
    """Return limit (-1: none) and offset (default 0); if ``checked``, the database rejects negative ones."""
    limit, offset = where.number(options.get("limit")), where.number(options.get("offset"))
    key = condition.get(idl_class.primary) if isinstance(condition, dict) else None
    by_key = isinstance(condition, dict) and idl_class.primary in condition and not isinstance(key, dict | list)
    if (by_key or checked) and ((limit or 0) < 0 or (offset or 0) < 0):
        raise QueryError("a negative LIMIT or OFFSET")
    return -1 if limit is None or limit < 0 else limit, max(offset or 0, 0)
