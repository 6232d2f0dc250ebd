"""Convert values between wire and database, and register PostgreSQL's functions in SQLite.

The database stores money as cents, booleans as 0 and 1, and timestamps as text in UTC that sorts as PostgreSQL
sorts timestamps: ``-infinity``, ``/0044-03-15…`` (B.C.), ``2026-11-24…``, ``Y020220-05-05…`` (after 9999),
``infinity``.
"""

from __future__ import annotations

import hashlib
import math
import re
import sqlite3
import string
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from functools import lru_cache
from hashlib import md5
from typing import Any

_TRUE, _FALSE = ("t", "true", "y", "yes", "on", "1"), ("f", "false", "n", "no", "off", "0")
_UNITS = {"second": 1, "sec": 1, "minute": 60, "min": 60, "hour": 3600, "day": 86_400, "week": 604_800}
_UNITS |= {"month": 2_592_000, "mon": 2_592_000, "year": 31_104_000}
_TIMESTAMP = re.compile(
    r"(\d{4,6})(-\d\d-\d\d)(?:[T ](\d\d:\d\d)(:\d\d)?(?:\.\d+)?)?\s*(Z|[+-]\d\d(?::?\d\d)?)?( BC)?$"
)
_INFINITIES = ("infinity", "-infinity")
_LAST_YEAR = 294_276  # in PostgreSQL
_CALENDAR = 400  # the calendar repeats after so many years


class BadValueError(ValueError):
    """A value that PostgreSQL would reject for the column's type."""


def now() -> datetime:
    """Return the current time, aware and in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


def timestamp_text(time: datetime) -> str:
    """Format a time as pcrud does: ``2026-11-24T22:24:11+0000``."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S+0000")


def _integer(value: Any) -> int:
    if isinstance(value, bool):
        raise BadValueError("boolean for an integer")
    if isinstance(value, float | Decimal):
        return int(Decimal(value).quantize(Decimal(1), ROUND_HALF_UP))
    try:
        return int(str(value).strip())
    except ValueError:
        raise BadValueError("not an integer") from None


def cents(value: Any) -> int:
    """Convert an amount (text or number) to cents, rounding half up."""
    try:
        return int((Decimal(str(value).strip()) * 100).quantize(Decimal(1), ROUND_HALF_UP))
    except (InvalidOperation, ValueError):
        raise BadValueError("not an amount") from None


def amount_text(value: int) -> str:
    """Format cents as an amount with two decimal places.

    >>> amount_text(-325)
    '-3.25'
    """
    sign = "-" if value < 0 else ""
    return f"{sign}{abs(value) // 100}.{abs(value) % 100:02d}"


def _boolean(value: Any) -> int:
    text = str(value).strip().lower()
    if text in _TRUE:
        return 1
    if text in _FALSE:
        return 0
    raise BadValueError("not a boolean")


def _timestamp(value: Any) -> str:
    text = str(value).strip()
    if text.lower() == "now":
        return timestamp_text(now())
    if text.lower() in _INFINITIES:
        return text.lower()
    match = _TIMESTAMP.match(text)
    if not match or not 0 < int(match[1]) <= _LAST_YEAR:
        raise BadValueError("not a timestamp")
    digits, date, minutes, seconds, zone, before_christ = match.groups()
    year = 1 - int(digits) if before_christ else int(digits)
    offset = "+0000" if zone in (None, "Z") else zone.replace(":", "").ljust(5, "0")
    # Python's datetime has no year 0 and no years after 9999: parse with a year that has the same calendar.
    same_calendar = 2000 + year % _CALENDAR
    normalized = f"{same_calendar}{date}T{minutes or '00:00'}{seconds or ':00'}{offset}"
    try:
        written = timestamp_text(datetime.strptime(normalized, "%Y-%m-%dT%H:%M:%S%z"))
    except ValueError:
        raise BadValueError("not a timestamp") from None
    year += int(written[:4]) - same_calendar
    if year < 1:
        return f"/{1 - year:04d}{written[4:]}"
    return f"{year:04d}{written[4:]}" if year <= 9999 else f"Y{year:06d}{written[4:]}"


def _sent_time(stored: str, infinity: str) -> str:
    """Convert a timestamp or date to the form that pcrud and the Perl methods send."""
    if "0" <= stored < ":":  # an ordinary year
        return stored
    if stored in _INFINITIES:
        return infinity
    if stored.startswith("/"):
        return stored[1:]
    # The database driver reads only four digits of the year; the rest makes month 0 and day 0.
    year = str(int(stored[1:7]))[:4]
    return f"{int(year) - 1:04d}-11-30{stored[13:]}"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def hash_of(key: int) -> str:
    """Return a placeholder for a column that isn't stored (``au.passwd``), always the same for a key."""
    return md5(str(key).encode(), usedforsecurity=False).hexdigest()


def interval_seconds(text: str) -> int | None:
    """Return the seconds of an interval like ``14 days`` or ``1 day 02:00:00``; None if ``text`` isn't one.

    A month counts as 30 days, as when PostgreSQL compares intervals.
    """
    rest, total = text.strip(), 0
    clock = re.search(r"(?:^|\s)(-?)(\d+):(\d\d)(?::(\d\d))?$", rest)
    if clock:
        hours, minutes, seconds = (int(part or 0) for part in clock.groups()[1:])
        total = (hours * 3600 + minutes * 60 + seconds) * (-1 if clock[1] else 1)
        rest = rest[: clock.start()].strip()
    if re.fullmatch(r"-?\d+", rest) and not clock:
        return int(rest)
    if not rest and not clock:
        return None
    for number, unit in (parts := re.findall(r"(-?\d+)\s*([a-z]+)", rest.lower())):
        if unit.rstrip("s") not in _UNITS:
            return None
        total += int(number) * _UNITS[unit.rstrip("s")]
    return total if re.sub(r"-?\d+\s*[a-z]+\s*", "", rest.lower()) == "" and (parts or clock) else None


_TO_STORAGE: dict[str, Callable[[Any], Any]] = {
    "integer": _integer,
    "money": cents,
    "bool": _boolean,
    "timestamp": _timestamp,
    "date": lambda value: _timestamp(value).partition("T")[0],
    "text": _text,
    "interval": _text,
}


def to_storage(kind: str, value: Any) -> Any:
    """Convert a wire value to the database value for a field's kind; null stays null.

    Raises:
        BadValueError: the value doesn't fit the kind.
    """
    return None if value is None else _TO_STORAGE[kind](value)


TO_WIRE: dict[str, Callable[[Any], Any] | None] = {
    "integer": None,
    "money": lambda value: value if isinstance(value, str) else amount_text(value),
    "bool": lambda value: "t" if value else "f",
    "timestamp": lambda stored: _sent_time(stored, "1970-01-01T00:00:00+0000"),
    "date": lambda stored: _sent_time(stored, "1970-01-01"),
    "text": None,
    "interval": None,
}


def to_wire(kind: str, value: Any) -> Any:
    """Convert a database value to the wire value that pcrud sends."""
    convert = TO_WIRE[kind]
    return value if convert is None or value is None else convert(value)


_TO_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_TO_UPPER = str.maketrans(string.ascii_lowercase, string.ascii_uppercase)
_POSIX = {
    "[[:<:]]": r"\b(?=\w)",
    "[[:>:]]": r"\b(?<=\w)",
    "[:alpha:]": "a-zA-Z",
    "[:digit:]": "0-9",
    "[:alnum:]": "a-zA-Z0-9",
    "[:upper:]": "A-Z",
    "[:lower:]": "a-z",
    "[:space:]": r"\s",
    "[:punct:]": re.escape(string.punctuation),
}


def lower(text: str) -> str:
    """Lowercase A to Z only, as PostgreSQL does in the C locale."""
    return text.translate(_TO_LOWER)


def upper(text: str) -> str:
    """Uppercase a to z only."""
    return text.translate(_TO_UPPER)


def _initcap(text: str) -> str:
    return re.sub(r"[A-Za-z0-9]+", lambda word: upper(word[0][:1]) + lower(word[0][1:]), text)


@lru_cache(maxsize=256)
def _like_pattern(pattern: str) -> re.Pattern[str]:
    parts = []
    characters = iter(pattern)
    for character in characters:
        if character == "\\":
            following = next(characters, None)
            if following is None:
                raise ValueError("a pattern that ends in an escape")
            parts.append(re.escape(following))
        else:
            parts.append({"%": ".*", "_": "."}.get(character) or re.escape(character))
    return re.compile("".join(parts), re.DOTALL)


@lru_cache(maxsize=256)
def _regex(pattern: str, flags: int) -> re.Pattern[str]:
    for name, meaning in _POSIX.items():
        pattern = pattern.replace(name, meaning)
    return re.compile(pattern, flags | re.ASCII)


def _similar(value: str, pattern: str) -> bool:
    parts = [{"%": ".*", "_": ".", ".": r"\.", "^": r"\^", "$": r"\$"}.get(item, item) for item in pattern]
    return bool(re.compile("".join(parts), re.DOTALL).fullmatch(value))


_UNLIKE = str.maketrans({"ł": "l", "đ": "d", "ð": "d", "ø": "o", "ß": "ss", "æ": "ae", "œ": "oe", "þ": "th", "ı": "i"})
_SQUASHED = re.compile(rf"[\s{re.escape(string.punctuation)}]")


def squash(text: str) -> str:
    """Normalize a text like PostgreSQL's function ``evergreen.unaccent_and_squash``.

    >>> squash("O'Brien-Ñandú Łukasz")
    'obriennandulukasz'
    """
    lowered = _SQUASHED.sub("", text).lower().translate(_UNLIKE)
    return "".join(sign for sign in unicodedata.normalize("NFKD", lowered) if not unicodedata.combining(sign))


def _strict(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return null for a null argument, like PostgreSQL's STRICT functions."""

    def call(*given: Any) -> Any:
        return None if None in given else function(*given)

    return call


def _right(value: str, count: str) -> str:
    number = int(count)
    return value[-number:] if number else ""


def _rounding(function: Callable[[Decimal], Any]) -> Callable[[Any, int, int], Any]:
    def call(value: Any, scale: int, digits: int) -> Any:
        shift = Decimal(10) ** digits
        rounded = Decimal(function(Decimal(str(value)) / scale * shift)) / shift * scale
        return int(rounded) if rounded == rounded.to_integral_value() else float(rounded)

    return call


_FUNCTIONS: dict[str, tuple[int, Callable[..., Any]]] = {
    "pg_like": (2, _strict(lambda text, pattern: bool(_like_pattern(pattern).fullmatch(text)))),
    "pg_ilike": (2, _strict(lambda text, pattern: bool(_like_pattern(lower(pattern)).fullmatch(lower(text))))),
    "pg_regex": (2, _strict(lambda text, pattern: bool(_regex(pattern, 0).search(text)))),
    "pg_iregex": (2, _strict(lambda text, pattern: bool(_regex(pattern, re.IGNORECASE).search(text)))),
    "pg_similar": (2, _strict(_similar)),
    "pg_starts": (2, _strict(str.startswith)),
    "pg_interval": (1, _strict(interval_seconds)),
    "pg_lower": (1, _strict(lower)),
    "pg_upper": (1, _strict(upper)),
    "pg_lowercase": (1, _strict(str.lower)),
    "pg_uppercase": (1, _strict(str.upper)),
    "pg_initcap": (1, _strict(_initcap)),
    "pg_reverse": (1, _strict(lambda text: text[::-1])),
    "pg_md5": (1, _strict(lambda text: hashlib.md5(text.encode(), usedforsecurity=False).hexdigest())),
    "pg_unaccent_and_squash": (1, _strict(squash)),
    "pg_length": (1, _strict(len)),
    "pg_char_length": (1, _strict(len)),
    "pg_character_length": (1, _strict(len)),
    "pg_octet_length": (1, _strict(lambda text: len(text.encode()))),
    "pg_bit_length": (1, _strict(lambda text: 8 * len(text.encode()))),
    "pg_left": (2, _strict(lambda text, count: text[: int(count)])),
    "pg_right": (2, _strict(_right)),
    "pg_replace": (3, _strict(lambda text, old, new: text.replace(old, new) if old else text)),
    "pg_btrim": (-1, _strict(lambda text, characters=" ": text.strip(characters))),
    "pg_ltrim": (-1, _strict(lambda text, characters=" ": text.lstrip(characters))),
    "pg_rtrim": (-1, _strict(lambda text, characters=" ": text.rstrip(characters))),
    "pg_abs": (3, _strict(lambda value, _scale, _digits: abs(value))),
    "pg_round": (3, _strict(_rounding(lambda value: value.quantize(Decimal(1), ROUND_HALF_UP)))),
    "pg_ceil": (3, _strict(_rounding(math.ceil))),
    "pg_ceiling": (3, _strict(_rounding(math.ceil))),
    "pg_floor": (3, _strict(_rounding(math.floor))),
}


class _StringAggregate:
    def __init__(self) -> None:
        self._parts: list[str] = []
        self._separator = ""

    def step(self, value: str | int | None, separator: str | int | None) -> None:
        self._separator = str(separator)
        if value is not None:
            self._parts.append(str(value))

    def finalize(self) -> str | int | None:
        return self._separator.join(self._parts) if self._parts else None


def register(connection: sqlite3.Connection) -> None:
    """Register PostgreSQL's functions with a connection."""
    for name, (arguments, function) in _FUNCTIONS.items():
        connection.create_function(name, arguments, function, deterministic=True)
    connection.create_aggregate("string_agg_sorted", 2, _StringAggregate)  # type: ignore[arg-type]  # takes two texts
