"""What programs hand in, refused where it comes in when it is of another type than is documented.

A text in place of a list of barcodes would be taken for its letters, ``"40"`` or ``40.0`` in place of an amount would
be compared wrongly or not at all, and an id as text would find nobody: each far from the mistake, or nowhere. mypy says
the same before anything runs; :class:`Several` is how it knows that one text isn't several.

What is said is for whoever writes the program, so it stays English.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Protocol, TypeVar

from evergreen_groups.errors import ArgumentError

Item_co = TypeVar("Item_co", covariant=True)
Kind = TypeVar("Kind")


class Several(Protocol[Item_co]):
    """Several values, such as a list, a tuple or a set of texts; one text isn't that.

    A text can only be asked for a text within it (``str.__contains__``); whatever holds values can be asked for
    anything. By that, type checkers tell them apart.
    """

    def __contains__(self, value: object, /) -> bool: ...

    def __iter__(self) -> Iterator[Item_co]: ...

    def __len__(self) -> int: ...


def text(name: str, value: object) -> str:
    """A text."""
    return instance(name, value, str, "a text")


def texts(name: str, values: object) -> tuple[str, ...]:
    """Several texts, and not one.

    >>> texts("barcodes", ["20000000001001"])
    ('20000000001001',)
    >>> texts("barcodes", "20000000001001")
    Traceback (most recent call last):
    evergreen_groups.errors.ArgumentError: barcodes takes several texts, such as a list of them, not str
    """
    expected = "several texts, such as a list of them"
    return tuple(instance(name, value, str, expected) for value in _several(name, values, expected))


def references(name: str, values: object) -> tuple[str | int, ...]:
    """Several patrons: barcodes as texts, or ids as whole numbers."""
    return tuple(reference(name, value) for value in _several(name, values, "several barcodes or ids"))


def reference(name: str, value: object) -> str | int:
    """A patron: a barcode as text, or an id as whole number."""
    return value if isinstance(value, str) else whole(name, value, "a barcode as text, or an id as int")


def whole(name: str, value: object, expected: str = "a whole number, as int") -> int:
    """A whole number, such as an id or a group's number; a truth value isn't one, and a text of digits neither.

    >>> whole("id", "1036")
    Traceback (most recent call last):
    evergreen_groups.errors.ArgumentError: id takes a whole number, as int, not str
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong(name, value, expected)
    return value


def whole_or_none(name: str, value: object) -> int | None:
    """A whole number, where there is one."""
    return None if value is None else whole(name, value)


def wholes(name: str, values: object) -> tuple[int, ...]:
    """Several whole numbers, such as ids."""
    expected = "several whole numbers, as int"
    return tuple(whole(name, value, expected) for value in _several(name, values, expected))


def money(name: str, value: object) -> Decimal:
    """An amount of money: a finite ``Decimal``. What a float makes of 0.10 is wrong before it comes here.

    >>> money("min_total", "40")
    Traceback (most recent call last):
    evergreen_groups.errors.ArgumentError: min_total takes an amount of money, as Decimal, not str
    """
    expected = "an amount of money, as Decimal"
    if not instance(name, value, Decimal, expected).is_finite():
        raise wrong(name, value, f"{expected} and finite")
    return instance(name, value, Decimal)


def seconds(name: str, value: object) -> float:
    """A number of seconds, or of another unit of time."""
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise wrong(name, value, "a number of seconds")
    return value


def truth(name: str, value: object) -> bool:
    """A truth value; ``"no"`` would be true."""
    return instance(name, value, bool, "True or False")


def instance(name: str, value: object, kind: type[Kind], expected: str = "") -> Kind:
    """An instance of a class; ``expected`` says which in words."""
    if not isinstance(value, kind):
        raise wrong(name, value, expected or kind.__name__)
    return value


def condition(name: str, value: object) -> None:
    """A condition of a query, in which no field is compared with a truth value: that matches nothing (``pcrud-011``).

    >>> condition("where", {"deleted": False})
    Traceback (most recent call last):
    evergreen_groups.errors.ArgumentError: where["deleted"] takes "t" or "f", not bool
    """
    if not isinstance(value, Mapping):
        raise wrong(name, value, "a condition, as a dict")
    for field, wanted in value.items():
        if isinstance(wanted, bool):
            raise wrong(f'{name}["{field}"]', wanted, '"t" or "f"')


def wrong(name: str, value: object, expected: str, given: str = "") -> ArgumentError:
    """The error for an argument. It names the type alone of what was given, which may be about a patron."""
    return ArgumentError(
        "{name} takes {expected}, not {given}",
        code="wrong-argument",
        values={"name": name, "expected": expected, "given": given or type(value).__name__},
    )


def not_among(name: str, value: object, allowed: Iterable[str]) -> ArgumentError:
    """The error for an argument that takes one of a few texts; a text that isn't among them is of the right type."""
    expected = f"one of {', '.join(allowed)}"
    return wrong(name, value, expected, "another text" if isinstance(value, str) else "")


def _several(name: str, values: object, expected: str) -> Iterable[object]:
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise wrong(name, values, expected)
    return values
