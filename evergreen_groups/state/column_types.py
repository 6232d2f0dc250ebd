"""Types of columns that both engines keep exactly: moments with their time zone, and amounts of money."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, DateTime, Integer, Numeric, Text
from sqlalchemy.types import TypeDecorator

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect
    from sqlalchemy.types import TypeEngine

BIG = BigInteger().with_variant(Integer(), "sqlite")
"""A whole number of 64 bits. SQLite counts up by itself only where the type has this very name."""


class Moment(TypeDecorator[datetime]):
    """An aware ``datetime``; in SQLite a text in UTC, of one width, so that texts sort as moments do."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """PostgreSQL has a type for it."""
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """What is stored."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment without its time zone")
        moment = value.astimezone(UTC)
        return moment.isoformat(timespec="microseconds") if dialect.name == "sqlite" else moment

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """What was stored, in UTC."""
        if value is None:
            return None
        moment = datetime.fromisoformat(value) if dialect.name == "sqlite" else value
        if moment.tzinfo is None:
            raise ValueError("a moment without its time zone")
        return moment.astimezone(UTC)


class Amount(TypeDecorator[Decimal]):
    """An amount of money with two digits behind the point; in SQLite a text, for its numbers are binary fractions."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """PostgreSQL has a type for it."""
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else Numeric(14, 2))

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        """What is stored."""
        return value if value is None or dialect.name != "sqlite" else f"{value:.2f}"

    def process_result_value(self, value: Any, _dialect: Dialect) -> Decimal | None:
        """What was stored."""
        return None if value is None else Decimal(value)
