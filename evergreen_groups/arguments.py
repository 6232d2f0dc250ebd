"""What the public Python API takes and shows: checks of arguments, and reprs.

Each check returns the value, or raises ArgumentError if its type isn't the documented one, or if it is impossible.
Without the checks, the mistake would surface far from its cause: a string passed as a list of barcodes would be read
letter by letter, ``"40"`` or ``40.0`` passed as an amount would be compared wrongly, an id passed as a string would
match no patron, and ``top=-1`` would drop the last group. mypy reports wrong types before the program runs, with the
help of :class:`Several`.

The messages are for programmers, so they aren't translated.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import fields
from datetime import date
from decimal import Decimal, InvalidOperation
from enum import Enum
from pathlib import Path
from typing import Any, Protocol, TypeVar

from evergreen_groups.errors import ArgumentError

Item_co = TypeVar("Item_co", covariant=True)
Kind = TypeVar("Kind")


class Several(Protocol[Item_co]):
    """A collection of values (a list, tuple or set), but not a single ``str``.

    Type checkers reject a ``str`` here because ``str.__contains__`` accepts only ``str``, not ``object``.
    """

    def __contains__(self, value: object, /) -> bool: ...

    def __iter__(self) -> Iterator[Item_co]: ...

    def __len__(self) -> int: ...


def text(name: str, value: object) -> str:
    """Return a ``str``."""
    return instance(name, value, str, "a text")


def texts(name: str, values: object) -> tuple[str, ...]:
    """Return a collection of ``str`` as a tuple; refuse a single ``str``.

    >>> texts("barcodes", ["20000000001001"])
    ('20000000001001',)
    """
    expected = "several texts, such as a list of them"
    return tuple(instance(name, value, str, expected) for value in _several(name, values, expected))


def references(name: str, values: object) -> tuple[str | int, ...]:
    """Return references to patrons: each a barcode (``str``) or a patron id (``int``)."""
    return tuple(reference(name, value) for value in _several(name, values, "several barcodes or ids"))


def reference(name: str, value: object) -> str | int:
    """Return a reference to a patron: a barcode (``str``) or a patron id (``int``)."""
    return value if isinstance(value, str) else integer(name, value, "a barcode as text, or an id as int")


def integer(name: str, value: object, expected: str = "a whole number, as int", *, least: int | None = None) -> int:
    """Return an ``int``: an id or a group number. Refuse ``bool``, strings of digits, and less than ``least``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong(name, value, expected)
    if least is not None and value < least:
        raise wrong(name, value, f"a whole number of {least} or more", "a lower one")
    return value


def integer_or_none(name: str, value: object, *, least: int | None = None) -> int | None:
    """Return an ``int`` or None."""
    return None if value is None else integer(name, value, least=least)


def integers(name: str, values: object) -> tuple[int, ...]:
    """Return a collection of ``int`` as a tuple."""
    expected = "several whole numbers, as int"
    return tuple(integer(name, value, expected) for value in _several(name, values, expected))


Amount = Decimal | int | str
"""What the public API takes as an amount of money."""


def amount(name: str, value: object) -> Decimal:
    """Return a monetary amount given as ``Decimal``, ``int`` or ``str``: finite, and in whole cents.

    >>> amount("min_total", "40"), amount("min_total", 40)
    (Decimal('40.00'), Decimal('40.00'))
    """
    expected = "an amount of money as Decimal, int or str"
    if isinstance(value, float):
        raise wrong(name, value, f"{expected}, because a float can't hold 0.10 exactly")
    if isinstance(value, bool) or not isinstance(value, Decimal | int | str):
        raise wrong(name, value, expected)
    try:
        given = Decimal(value)
        if given.is_finite() and given == (cents := given.quantize(Decimal("0.01"))):
            return cents
    except InvalidOperation:
        pass
    raise wrong(name, value, f'{expected}, such as "12.50"', "another text" if isinstance(value, str) else "")


def money(name: str, value: object) -> Decimal:
    """Return a monetary amount that is a finite ``Decimal`` already."""
    expected = "an amount of money, as Decimal"
    if not instance(name, value, Decimal, expected).is_finite():
        raise wrong(name, value, f"{expected} and finite")
    return instance(name, value, Decimal)


def seconds(name: str, value: object) -> float:
    """Return a duration as ``int`` or ``float``, in seconds or another unit."""
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise wrong(name, value, "a number of seconds")
    return value


def boolean(name: str, value: object) -> bool:
    """Return a ``bool``. Other types are refused because a string like ``"no"`` is truthy."""
    return instance(name, value, bool, "True or False")


def path(name: str, value: object) -> Path:
    """Return a path given as ``Path`` or ``str``, if a file can have it as its name."""
    found = Path(value) if isinstance(value, str) else instance(name, value, Path, "a path, as Path or str")
    try:
        if b"\0" not in os.fsencode(found):
            return found
    except UnicodeEncodeError:
        pass
    raise wrong(name, value, "a path that a file can have", "another text")


def instance(name: str, value: object, kind: type[Kind], expected: str = "") -> Kind:
    """Return an instance of ``kind``; ``expected`` describes it in the error (default: the class name)."""
    if not isinstance(value, kind):
        raise wrong(name, value, expected or kind.__name__)
    return value


def condition(name: str, value: object) -> None:
    """Check a pcrud query condition. Refuse ``bool`` values: pcrud matches no row with them (``pcrud-011``)."""
    if not isinstance(value, Mapping):
        raise wrong(name, value, "a condition, as a dict")
    for field, wanted in value.items():
        if isinstance(wanted, bool):
            raise wrong(f'{name}["{field}"]', wanted, '"t" or "f"')


def wrong(name: str, value: object, expected: str, given: str = "") -> ArgumentError:
    """Build the error. It names only the type of ``value``, because the value itself may be patron data."""
    return ArgumentError(
        "{name} takes {expected}, not {given}",
        code="wrong-argument",
        values={"name": name, "expected": expected, "given": given or type(value).__name__},
    )


def not_among(name: str, value: object, allowed: Iterable[str]) -> ArgumentError:
    """Build the error for an argument that isn't one of the ``allowed`` strings."""
    expected = f"one of {', '.join(allowed)}"
    return wrong(name, value, expected, "another text" if isinstance(value, str) else "")


_LONGEST_REPR = 120
_HARMLESS = ("action", "code", "entry", "field", "id", "sort", "undoes")
"""Text fields that are never patron data."""


def brief(record: Any) -> str:
    """Return a ``repr`` of a dataclass in one line: numbers, flags, times, and how many there are of anything else.

    Leave out texts, because they may be a patron's name or barcode, and reprs end up in logs.
    """
    names = [each.name for each in fields(record)]
    parts = [type(record).__name__]
    for name in names if "id" in names or not hasattr(record, "id") else ["id", *names]:
        value = getattr(record, name)
        if isinstance(value, Enum):
            parts.append(f"{name}={value.name}")
        elif isinstance(value, int | Decimal | date) or (isinstance(value, str) and name in _HARMLESS):
            parts.append(f"{name}={value}")
        elif isinstance(value, Sized) and not isinstance(value, str):
            parts.append(f"{len(value)} {name}")
    text = " ".join(parts)
    return f"<{text}>" if len(text) <= _LONGEST_REPR - 2 else f"<{text[: _LONGEST_REPR - 3].rpartition(' ')[0]} …>"


def _several(name: str, values: object, expected: str) -> Iterable[object]:
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise wrong(name, values, expected)
    return values
