"""Rows in SQL statements: values to be written, and conditions to find them by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evergreen_groups.sandbox.database.values import to_storage

if TYPE_CHECKING:
    from evergreen_groups.sandbox.database.classes import StoredClass


def stored_values(known: StoredClass, values: Mapping[str, Any]) -> dict[str, Any]:
    """A row's values as the database holds them.

    Raises:
        BadValueError: a value doesn't fit its field.
    """
    return {name: to_storage(known.by_name[name].kind, value) for name, value in values.items()}


def where_clause(known: StoredClass, where: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """A WHERE clause for fields that have the values given (a list: one of them; None: null), and its parameters.

    Raises:
        BadValueError: a value doesn't fit its field.
    """
    conditions: list[str] = []
    parameters: list[Any] = []
    for name, value in where.items():
        kind = known.by_name[name].kind
        if value is None:
            conditions.append(f'"{name}" IS NULL')
        elif isinstance(value, Sequence) and not isinstance(value, str):
            conditions.append(f'"{name}" IN ({", ".join("?" * len(value))})')
            parameters.extend(to_storage(kind, item) for item in value)
        else:
            conditions.append(f'"{name}" = ?')
            parameters.append(to_storage(kind, value))
    return (" WHERE " + " AND ".join(conditions) if conditions else ""), parameters
