"""What the parts of a query share: SQL expressions with their types, and the classes in scope."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from evergreen_groups.sandbox.database import BadValueError, interval_seconds, now, timestamp_text, to_storage

if TYPE_CHECKING:
    from evergreen_groups.sandbox.database import IdlClasses, StoredClass, StoredField

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
}


NUMBERS = ("integer", "bigint", "money", "numeric")
_FAMILIES = (NUMBERS, ("timestamp", "date"), ("bool",), ("text",), ("interval",))


class QueryError(Exception):
    """A query that the real service refuses, or that PostgreSQL does: status 500."""


class MalformedError(QueryError):
    """A query that the service itself can't make SQL of; the rest of the refusals are the database's."""


class UnjoinableError(MalformedError):
    """A join that the real service can't build; pcrud then goes on without any join."""


@dataclass(frozen=True)
class Expression:
    """A piece of SQL with the kind of its value.

    ``kind`` is a field's kind, ``bigint``, ``numeric`` (a number that isn't money) or ``bool``. Money is a number of
    cents. ``columns`` are those of the query's own classes outside of aggregates, as pairs of alias and field.
    """

    sql: str
    kind: str
    aggregate: bool = False
    columns: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True)
class Source:
    """A class in a FROM clause under its alias."""

    alias: str
    known: StoredClass

    @property
    def quoted(self) -> str:
        """The alias as an SQL identifier."""
        return quoted(self.alias)

    def column(self, name: str) -> Expression:
        """A field as an expression.

        Raises:
            QueryError: the class hasn't such a column.
        """
        item = self.known.by_name.get(name)
        if item is None or (item.virtual and not item.hidden):
            raise QueryError(f"{self.known.id} has no column {name}")
        columns = frozenset({(self.alias, name)})
        if item.hidden:
            hashed = f"pg_md5(CAST({self.quoted}.{quoted(self.known.primary)} AS TEXT))"
            return Expression("'*'" if item.virtual else hashed, "text", columns=columns)
        return Expression(f"{self.quoted}.{quoted(name)}", kind_of(self.known.id, item), columns=columns)


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name[:63].replace('"', '""') + '"'


def kind_of(class_id: str, item: StoredField) -> str:
    """The kind of a field in queries, where 64-bit columns count apart."""
    return "bigint" if (class_id, item.name) in _BIG else item.kind


@dataclass
class Frame:
    """The classes of one SELECT; those of the queries around it are reached over ``outer``.

    ``classes`` are all there are. With ``volatile``, functions may be named that give another value each time.
    """

    classes: IdlClasses
    outer: Frame | None = None
    volatile: bool = False
    sources: list[Source] = field(default_factory=list)

    def add(self, alias: str | None, class_id: object) -> Source:
        """Bring a class into scope.

        Raises:
            QueryError: there is no such class, or the alias is taken.
        """
        known = self.classes.get(class_id) if isinstance(class_id, str) else None
        if known is None:
            raise MalformedError(f"no class {class_id}")
        source = Source(alias or known.id, known)
        if self.here(source.alias) is not None:
            raise MalformedError(f"alias {source.alias} twice")
        self.sources.append(source)
        return source

    def here(self, alias: str) -> Source | None:
        """The class of an alias in this SELECT alone."""
        return next((source for source in self.sources if source.alias == alias), None)

    def find(self, alias: str) -> Source:
        """The class of an alias in this SELECT or one around it.

        Raises:
            QueryError: there is none.
        """
        frame: Frame | None = self
        while frame is not None:
            source = frame.here(alias)
            if source is not None:
                return source
            frame = frame.outer
        raise MalformedError(f"no alias {alias}")

    def own(self, expression: Expression) -> frozenset[tuple[str, str]]:
        """Those of an expression's columns that belong to this SELECT."""
        return frozenset(column for column in expression.columns if self.here(column[0]) is not None)


def check_comparable(left: str, right: str) -> None:
    """Refuse what PostgreSQL has no operator for.

    Raises:
        QueryError: the two kinds can't be compared.
    """
    if not any(left in family and right in family for family in _FAMILIES):
        raise QueryError(f"{left} with {right}")


_RANGES = {"integer": 2**31, "bigint": 2**63}
_SPECIAL_TIMES = {"epoch": "1970-01-01T00:00:00+0000"}
_BOOLEANS = {"true": 1, "yes": 1, "on": 1, "1": 1, "false": 0, "no": 0, "off": 0, "0": 0}


def text_literal(value: str) -> str:
    """A text as an SQL literal."""
    if "\0" in value:
        raise QueryError("a null character")
    return "'" + value.replace("'", "''") + "'"


def number_text(value: int | float) -> str:
    """A JSON number as text."""
    return str(value)


def _scaled(number: Decimal, kind: str) -> str:
    """A number for comparison: money counts in cents, and amounts between two cents stay between them."""
    scaled = number * 100 if kind == "money" else number
    return str(int(scaled)) if scaled == scaled.to_integral_value() else repr(float(scaled))


def raw_number(value: int | float, kind: str) -> str:
    """A number written into the SQL without quotation marks; it is compared by value with any number.

    Raises:
        QueryError: the other side isn't a number.
    """
    if kind not in ("integer", "bigint", "money", "numeric"):
        raise QueryError(f"a number for {kind}")
    return _scaled(Decimal(str(value)), kind)


def quoted_value(text: str, kind: str) -> str:
    """A value written in quotation marks: PostgreSQL reads it as the other side's type.

    Raises:
        QueryError: it can't be read as that type.
    """
    if kind in _RANGES:
        return _quoted_integer(text, _RANGES[kind])
    return _READERS.get(kind, text_literal)(text)


def _quoted_number(text: str, kind: str) -> str:
    try:
        number = Decimal(text.strip().replace("_", "x"))
    except InvalidOperation:
        raise QueryError("not a number") from None
    if not number.is_finite():  # NaN is greater than every number in PostgreSQL
        return "-9e999" if number == Decimal("-Infinity") else "9e999"
    return _scaled(number, kind)


def _quoted_integer(text: str, limit: int) -> str:
    if not re.fullmatch(r"\s*[-+]?\d+\s*", text, re.ASCII):
        raise QueryError("not an integer")
    if not -limit <= int(text) < limit:
        raise QueryError("integer out of range")
    return str(int(text))


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
        moment = timestamp_text(now())
        return text_literal(
            moment[:10] if kind == "date" else f"{moment[:10]}T00:00:00+0000" if word == "today" else moment
        )
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
    """A scalar of a query as a literal to compare with something of ``kind``; None for null and booleans.

    The service writes a JSON number bare when the field it stands beside (``field_kind``) is an integer in the
    database, and everything else in quotation marks; it has no text for JSON's true and false (``pcrud-011``).
    """
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        if field_kind in _RANGES:
            return raw_number(value, kind)
        return quoted_value(number_text(value), kind)
    if isinstance(value, str):
        return quoted_value(value, kind)
    raise MalformedError("a scalar was expected")
