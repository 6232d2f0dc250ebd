"""JSON as it goes over the wire: numbers with a point stay exact."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from json.encoder import encode_basestring_ascii
from typing import Any, NoReturn, Protocol, runtime_checkable

_SURROGATES = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[dD][89a-fA-F][0-9a-fA-F]{2}|\\.", re.DOTALL
)
"""A pair of surrogates, a single one, or another escape; only the second is six characters long."""
_ONE_ESCAPE = 6


@runtime_checkable
class Encodable(Protocol):
    """Something that knows its own wire form, as :class:`~evergreen_groups.gateway.record.Record` does."""

    def to_wire(self, *, full: bool = False) -> dict[str, Any]:
        """Return plain JSON values."""


def loads(text: str) -> Any:
    """Decode JSON; numbers with a point or an exponent become ``Decimal``, never ``float``.

    Raises ValueError, also for NaN and infinities, which are not JSON, and for nesting that is too deep.
    """
    text = _without_halves(text)
    try:
        # Some amounts are JSON numbers. As floats, 0.10 and 0.20 wouldn't add up to the 0.30 that the ILS says
        # (patrons-063).
        return json.loads(text, parse_float=Decimal, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def dumps(value: object) -> str:
    """Encode a value as one ASCII JSON text without blanks.

    ``Decimal`` becomes a number of the same digits; a record is written with all its fields and flags, as methods
    that store it need it. Raises TypeError for what JSON doesn't know, and ValueError for NaN and infinities.

    >>> dumps({"balance_owed": {">=": Decimal("25.00")}})
    '{"balance_owed":{">=":25.00}}'
    """
    # By exact type: questions are made of these, and to look what something is like takes many times as long.
    return _WRITERS.get(type(value), _unusual)(value)


def _unusual(value: object) -> str:
    match value:
        case str():
            return _text(value)
        case None | int() | float():
            return json.dumps(value, allow_nan=False)
        case Decimal():
            if not value.is_finite():
                raise ValueError("JSON knows no NaN and no infinity")
            return str(value)
        case Mapping():
            return _object(value)
        case list() | tuple():
            return _array(value)
        case Encodable():
            return dumps(value.to_wire(full=True))
        case _:
            raise TypeError(f"{type(value).__name__} can't be written as JSON")


def _without_halves(text: str) -> str:
    """JSON in which half a pair of surrogates is U+FFFD: no letter, it can be written to no file and no terminal."""
    if "\\ud" not in text and "\\uD" not in text:
        return text
    return _SURROGATES.sub(lambda found: "\\ufffd" if len(found[0]) == _ONE_ESCAPE else found[0], text)


def _text(value: str) -> str:
    return _without_halves(encode_basestring_ascii(value))


def _object(value: Mapping[Any, object]) -> str:
    # A key that isn't a text is refused by what writes it, with TypeError.
    return "{" + ",".join([f"{encode_basestring_ascii(key)}:{dumps(item)}" for key, item in value.items()]) + "}"


def _array(value: list[Any] | tuple[Any, ...]) -> str:
    # Most of what is sent is lists of ids, thousands of them.
    write = str if set(map(type, value)) == {int} else dumps
    return "[" + ",".join(map(write, value)) + "]"


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_WRITERS: dict[type, Callable[[Any], str]] = {str: _text, int: str, dict: _object, list: _array}
