"""How Perl takes a value out of JSON: as a condition, a number, a text. The methods' odd results come from that."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from evergreen_groups.sandbox.services.registry import Die

_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)")


def is_true(value: Any) -> bool:
    """Perl's truth: null, false, nought, ``""`` and ``"0"`` are false, all else is true.

    >>> [is_true(value) for value in ("f", "0", "0.0", [], None)]
    [True, False, True, True, False]
    """
    if isinstance(value, list | dict):
        return True
    return bool(value) and value != "0"


def is_true_flag(value: Any) -> bool:
    """The truth of a database's boolean (``AppUtils::is_true``): as in Perl, but ``"f"`` is false."""
    return is_true(value) and str(value).lower() != "f"


def number(value: Any) -> Decimal:
    """The number at the beginning of a value; 0 where there is none.

    >>> number("12abc"), number("abc"), number(None)
    (Decimal('12'), Decimal('0'), Decimal('0'))
    """
    match = _NUMBER.match(text(value))
    return Decimal(match[1]) if match else Decimal(0)


def text(value: Any) -> str:
    """The text of a scalar: null is empty, true is 1, false is 0, numbers as short as they go."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, list | dict):
        return f"{'ARRAY' if isinstance(value, list) else 'HASH'}(0x5581)"
    return str(value)


def as_compared(value: Any) -> Any:
    """A value after ``eq`` or ``ne`` has looked at it: whole numbers have become text, all else is as before."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def items(value: Any) -> list[Any]:
    """What a loop over a value meets: nothing for null, the items of a list.

    Raises:
        Die: it is neither, as under ``use strict``.
    """
    if value is None:
        return []
    if isinstance(value, list):
        return value
    raise Die('Can\'t use that value as an ARRAY reference while "strict refs" in use.')
