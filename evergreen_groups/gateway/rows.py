"""Holding the rows of an answer against the question: each once, each whole, and none that wasn't asked for.

An answer may be another question's, or half of one: a proxy mixes them up, a service dies in the middle. Rows are
what sums are made of, so all of this is looked at before anybody sees one, for a whole answer at a time: a report has
thousands of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from operator import ge, gt, itemgetter, le, lt
from typing import TYPE_CHECKING, Any

from evergreen_groups.errors import DataError
from evergreen_groups.gateway.datatypes import FALSE, TRUE
from evergreen_groups.gateway.record import values_of_rows
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from evergreen_groups.gateway.idl import Class

NEVER_NULL: Mapping[str, frozenset[str]] = {
    name: frozenset(fields.split())
    for name, fields in {
        "au": "id usrgroup home_ou profile master_account active barred juvenile deleted",
        "ac": "id usr barcode active",
        "aou": "id shortname name",
        "aua": "id usr",
        "ausp": "id usr standing_penalty org_unit",
        "circ": "id usr circ_lib",
        "csp": "id name",
        "mb": "id xact amount billing_type",
        "mbts": "id usr balance_owed",
        "mobts": "id usr balance_owed xact_start xact_type",
        "mous": "usr balance_owed",
        "pgpt": "id grp org_unit penalty threshold",
        "pgt": "id name",
    }.items()
}
"""Fields by class in which the ILS has no null: its tables don't allow it, and its balances are sums of such columns
(Evergreen's ``005.schema.actors.sql``, ``080.schema.money.sql``; no row that was recorded has one)."""

_IDS = frozenset({"id", "link", "org_unit", "int"})
_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {">": gt, ">=": ge, "<": lt, "<=": le}
_LOOK_AT_PROXY = Message("look at the proxy, where there is one: it may have mixed up answers")


class RowQuestion:
    """One search: what ``where`` asks for of a class, of it the fields of ``select`` (None: all), up to ``limit``.

    ``joined`` says that other classes are joined to it, which may bring a row several times; ``fleshed`` are the fields
    that hold objects.
    """

    def __init__(  # pcrud's own options, by name
        self,
        known: Class,
        where: Mapping[str, Any],
        *,
        select: Iterable[str] | None = None,
        limit: int | None = None,
        order_by: Any = None,
        joined: bool = False,
        fleshed: Sequence[str] = (),
    ) -> None:
        self._class = known
        asked = {field.name for field in known.fields if not field.virtual}
        self._fields = asked if select is None else asked.intersection(select)
        self._where = where
        self._limit = limit
        self._order_by = order_by
        self._joined = joined
        self._fleshed = frozenset(fleshed)

    def answer(self, rows: list[Any]) -> list[list[Any]]:
        """The values of each row of an answer.

        Raises:
            DataError: a row is none of the class's, came twice, isn't whole, or wasn't asked for.
        """
        values = values_of_rows(rows, self._class.id)
        if not values:
            return values
        if self._limit is not None and len(values) > self._limit:
            raise not_asked_for()
        self._refuse_parts(values)
        self._refuse_twice(values)
        for field, test in _conditions(self._where):
            if field in self._fields and field not in self._fleshed:
                self._hold_against(field, test, values)
        self._refuse_other_order(values)
        return values

    def _column(self, field: str, values: list[list[Any]]) -> Iterator[Any]:
        return map(itemgetter(self._class.positions[field]), values)

    def _refuse_parts(self, values: list[list[Any]]) -> None:
        # Real rows end at the last field that was selected, null or not (pcrud-001, and all others).
        due = max((self._class.positions[field] for field in self._fields), default=-1) + 1
        if min(map(len, values)) < due:
            raise DataError(
                "a row of {name} came with fewer fields than were asked for",
                advice=_LOOK_AT_PROXY,
                code="row-cut-short",
                values={"name": self._class.id},
            )
        for field in NEVER_NULL.get(self._class.id, frozenset()) & self._fields:
            if None in self._column(field, values):
                raise missing_field(self._class.id, field)

    def _refuse_twice(self, values: list[list[Any]]) -> None:
        key = self._class.primary
        if key not in self._fields or key in self._fleshed:
            return
        keys = list(self._column(key, values))
        if not set(map(type, keys)) <= {int, str}:
            raise without_key()
        if len(set(keys)) < len(keys) and not self._joined:
            raise DataError(
                "the same row of {name} came twice in one answer",
                advice=_LOOK_AT_PROXY,
                code="row-twice",
                values={"name": self._class.id},
            )

    def _hold_against(self, field: str, test: Any, values: list[list[Any]]) -> None:
        known = self._class.field(field)
        if known.datatype == "bool" and isinstance(test, str):
            right = TRUE if test in TRUE else FALSE
            if not all(value in right for value in set(map(_hashable, self._column(field, values)))):
                raise not_asked_for()
        elif known.datatype in _IDS or (known.datatype == "text" and not known.translated):
            _hold_against(test, list(self._column(field, values)))

    def _refuse_other_order(self, values: list[list[Any]]) -> None:
        """What comes behind a page is asked for by the last row of it, which has to be the last one."""
        fields = _ascending(self._order_by, self._class)
        if not fields or not self._fields.issuperset(fields):
            return
        columns = [list(self._column(field, values)) for field in fields]
        if all(set(map(type, column)) == {int} for column in columns):
            keys = columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))
            if not all(one <= other for one, other in pairwise(keys)):
                raise DataError(
                    "the rows of {name} came in another order than was asked for",
                    advice=_LOOK_AT_PROXY,
                    code="rows-in-another-order",
                    values={"name": self._class.id},
                )


def _conditions(where: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The conditions on single fields that hold for each row: those of the class itself, not of others beside it."""
    for name, test in where.items():
        if name == "-and" and isinstance(test, list | tuple):
            for part in test:
                yield from _conditions(part)
        elif not name.startswith(("-", "+")):
            yield name, test


def _hold_against(test: Any, found: list[Any]) -> None:
    """Raise DataError where one of the values that were found isn't what a condition asks for."""
    if isinstance(test, Mapping):
        for operator, bound in test.items():
            if operator == "in" and isinstance(bound, list | tuple):
                _hold_against(bound, found)
            elif operator in ("<>", "!=") and bound is None and None in found:
                raise not_asked_for()
            elif type(bound) is int and operator in _COMPARISONS and set(map(type, found)) == {int}:
                compare = _COMPARISONS[operator]
                if not all(compare(value, bound) for value in (min(found), max(found))):
                    raise not_asked_for()
        return
    asked = test if isinstance(test, list | tuple) else [test]
    # Numbers come as text from some methods, and the other way round.
    if not set(map(str, found)) <= set(map(str, asked)):
        raise not_asked_for()


def _hashable(value: Any) -> Any:
    return value if isinstance(value, str | int) else None


def _ascending(order_by: Any, known: Class) -> list[str]:
    """The fields by which rows are to ascend, none where they are to come in another order."""
    if isinstance(order_by, Mapping):
        order_by = order_by.get(known.id) if set(order_by) == {known.id} else None
    if isinstance(order_by, str):
        order_by = [order_by]
    parts = order_by if isinstance(order_by, list | tuple) else ()
    fields = [_ascending_field(part, known) if isinstance(part, Mapping) else part for part in parts]
    return fields if all(isinstance(field, str) for field in fields) else []


def _ascending_field(part: Mapping[str, Any], known: Class) -> Any:
    plain = part.get("class") == known.id and part.get("direction", "asc") == "asc" and not set(part) - _PLAIN_ORDER
    return part.get("field") if plain else None


_PLAIN_ORDER = {"class", "field", "direction"}


def not_asked_for() -> DataError:
    """The error for rows that don't fit the question."""
    return DataError("rows came that were not asked for", advice=_LOOK_AT_PROXY, code="rows-not-asked-for")


def without_key() -> DataError:
    """The error for a row without its primary key."""
    return DataError("a row came without its key", advice=_LOOK_AT_PROXY, code="row-without-key")


def primary_key(known: Class) -> str:
    """The field by which rows of a class are told apart. Raises DataError for a class that has none."""
    if not known.primary:
        raise DataError("{name} has no primary key to read it by", code="class-without-key", values={"name": known.id})
    return known.primary


def missing_field(class_id: str, field: str) -> DataError:
    """The error for null where the ILS has none."""
    return DataError(
        "the field {field} of a {name} came empty, which it never is in the ILS",
        advice=_LOOK_AT_PROXY,
        code="field-missing",
        values={"field": field, "name": class_id},
    )
