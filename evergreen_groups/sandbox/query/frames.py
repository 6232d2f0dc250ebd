"""SQL expressions with their types, the classes in scope, and literals."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from evergreen_groups.sandbox.database import BadValueError, interval_seconds, now, timestamp_text, to_storage

if TYPE_CHECKING:
    from evergreen_groups.sandbox.database import IdlClasses, StoredClass, StoredField

# Columns that are bigint in PostgreSQL. Larger literals than the column's type are an error there.
_BIG = {
    ("mbts", "id"),
    ("mobts", "id"),
    ("mbt", "id"),
    ("mg", "id"),
    ("circ", "id"),
    ("circ", "target_copy"),
    ("circ", "parent_circ"),
    ("mb", "id"),
    ("mb", "xact"),
    ("mp", "id"),
    ("mp", "xact"),
}


NUMBERS = ("integer", "bigint", "money", "numeric")
_FAMILIES = (NUMBERS, ("timestamp", "date"), ("bool",), ("text",), ("interval",))


class QueryError(Exception):
    """A query that the real service or PostgreSQL rejects: status 500."""


class MalformedError(QueryError):
    """A query that the service can't translate; PostgreSQL rejects other invalid queries."""


class UnjoinableError(MalformedError):
    """A join that the real service can't build; pcrud then ignores all joins."""


@dataclass(frozen=True)
class Expression:
    """SQL for a value of a ``kind``.

    ``kind`` is a field's kind, ``bigint``, ``numeric`` (a number that isn't money) or ``bool``. Money is in cents.
    ``columns`` are pairs of alias and field for the columns used outside of aggregates.
    """

    sql: str
    kind: str
    aggregate: bool = False
    columns: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True)
class Source:
    """A class in a FROM clause under its alias."""

    alias: str
    idl_class: StoredClass

    @property
    def quoted(self) -> str:
        """The alias as an SQL identifier."""
        return quoted(self.alias)

    def column(self, name: str) -> Expression:
        """Return a field as an expression.

        Raises:
            QueryError: the class has no such column.
        """
        item = self.idl_class.by_name.get(name)
        if item is None or (item.virtual and not item.hidden):
            raise QueryError(f"{self.idl_class.id} has no column {name}")
        columns = frozenset({(self.alias, name)})
        if item.hidden:
            hashed = f"pg_md5(CAST({self.quoted}.{quoted(self.idl_class.primary)} AS TEXT))"
            return Expression("'*'" if item.virtual else hashed, "text", columns=columns)
        return Expression(f"{self.quoted}.{quoted(name)}", kind_of(self.idl_class.id, item), columns=columns)


def quoted(name: str) -> str:
    """Quote a name as an SQL identifier, cut to 63 characters like PostgreSQL's."""
    return '"' + name[:63].replace('"', '""') + '"'


def kind_of(class_id: str, item: StoredField) -> str:
    """Return a field's kind in queries, where 64-bit columns are ``bigint``."""
    return "bigint" if (class_id, item.name) in _BIG else item.kind


@dataclass
class Frame:
    """The scope of one SELECT: its aliased classes in ``sources``, and the enclosing query's scope in ``outer``.

    ``volatile`` allows functions that return another value each time.
    """

    classes: IdlClasses
    outer: Frame | None = None
    volatile: bool = False
    sources: list[Source] = field(default_factory=list)

    def add(self, alias: str | None, class_id: object) -> Source:
        """Add a class to the scope.

        Raises:
            QueryError: the class is unknown, or the alias is taken.
        """
        idl_class = self.classes.get(class_id) if isinstance(class_id, str) else None
        if idl_class is None:
            raise MalformedError(f"no class {class_id}")
        source = Source(alias or idl_class.id, idl_class)
        if self.here(source.alias) is not None:
            raise MalformedError(f"alias {source.alias} twice")
        self.sources.append(source)
        return source

    def here(self, alias: str) -> Source | None:
        """Look up an alias in this SELECT only."""
        return next((source for source in self.sources if source.alias == alias), None)

    def find(self, alias: str) -> Source:
        """Look up an alias in this SELECT, then in enclosing ones.

        Raises:
            QueryError: the alias is unknown.
        """
        frame: Frame | None = self
        while frame is not None:
            source = frame.here(alias)
            if source is not None:
                return source
            frame = frame.outer
        raise MalformedError(f"no alias {alias}")

    def own(self, expression: Expression) -> frozenset[tuple[str, str]]:
        """Return an expression's columns that belong to this SELECT."""
        return frozenset(column for column in expression.columns if self.here(column[0]) is not None)


def check_comparable(left: str, right: str) -> None:
    """Check that PostgreSQL has comparison operators for two kinds.

    Raises:
        QueryError: it has none.
    """
    if not any(left in family and right in family for family in _FAMILIES):
        raise QueryError(f"{left} with {right}")


_RANGES = {"integer": 2**31, "bigint": 2**63}
_SPECIAL_TIMES = {"epoch": "1970-01-01T00:00:00+0000"}
_BOOLEANS = {"true": 1, "yes": 1, "on": 1, "1": 1, "false": 0, "no": 0, "off": 0, "0": 0}


def text_literal(value: str) -> str:
    """Quote a text as an SQL literal."""
    if "\0" in value:
        raise QueryError("a null character")
    return "'" + value.replace("'", "''") + "'"


def _scaled(number: Decimal, kind: str) -> str:
    """Format a number for comparison; money in cents, keeping fractions of a cent."""
    scaled = number * 100 if kind == "money" else number
    return str(int(scaled)) if scaled == scaled.to_integral_value() else repr(float(scaled))


def quoted_value(text: str, kind: str) -> str:
    """Convert a quoted literal as PostgreSQL does: to the type of the other operand.

    Raises:
        QueryError: the text isn't a valid value of the kind.
    """
    if kind in _RANGES:
        if not re.fullmatch(r"\s*[-+]?\d+\s*", text, re.ASCII):
            raise QueryError("not an integer")
        if not -_RANGES[kind] <= int(text) < _RANGES[kind]:
            raise QueryError("integer out of range")
        return str(int(text))
    return _READERS.get(kind, text_literal)(text)


def _quoted_number(text: str, kind: str) -> str:
    try:
        number = Decimal(text.strip().replace("_", "x"))
    except InvalidOperation:
        raise QueryError("not a number") from None
    if not number.is_finite():  # NaN is greater than every number in PostgreSQL
        return "-9e999" if number == Decimal("-Infinity") else "9e999"
    return _scaled(number, kind)


def _quoted_interval(text: str) -> str:
    seconds = interval_seconds(text)
    if seconds is None:
        raise QueryError("not an interval")
    return str(seconds)


def _quoted_boolean(text: str) -> str:
    word = text.strip().lower()
    found = {value for name, value in _BOOLEANS.items() if word and name.startswith(word)}
    if len(found) != 1 or word == "o":
        raise QueryError("not a boolean")
    return str(found.pop())


def _quoted_time(text: str, kind: str) -> str:
    word = text.strip().lower()
    if word in _SPECIAL_TIMES:
        return text_literal(_SPECIAL_TIMES[word])
    if word in ("now", "today"):
        time = timestamp_text(now())
        if kind == "date":
            return text_literal(time[:10])
        return text_literal(f"{time[:10]}T00:00:00+0000" if word == "today" else time)
    try:
        return text_literal(to_storage(kind, text))
    except BadValueError:
        raise QueryError("not a time") from None


_READERS: dict[str, Callable[[str], str]] = {
    "money": lambda text: _quoted_number(text, "money"),
    "numeric": lambda text: _quoted_number(text, "numeric"),
    "bool": _quoted_boolean,
    "interval": _quoted_interval,
    "timestamp": lambda text: _quoted_time(text, "timestamp"),
    "date": lambda text: _quoted_time(text, "date"),
}


def field_value(value: Any, field_kind: str, kind: str) -> str | None:
    """Return a scalar of a query as a literal to compare with a value of ``kind``; None for null and booleans.

    The service writes JSON numbers without quotes if the compared field (``field_kind``) is an integer, and quotes
    everything else; it writes nothing for JSON's true and false (``pcrud-011``).
    """
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int | float) and field_kind in _RANGES:
        if kind not in NUMBERS:
            raise QueryError(f"a number for {kind}")
        return _scaled(Decimal(str(value)), kind)
    if isinstance(value, int | float | str):
        return quoted_value(str(value), kind)
    raise MalformedError("a scalar was expected")
