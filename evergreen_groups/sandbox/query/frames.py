"""What the parts of a query share: SQL expressions with their types, and the classes in scope."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

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
