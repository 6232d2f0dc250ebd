"""PostgreSQL's functions and operators that SQLite lacks, for the sandbox's connections.

They work as in a database with the C locale, the recorded one's: only the letters A to Z have another case.
"""

from __future__ import annotations

import hashlib
import math
import re
import sqlite3
import string
import unicodedata
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from typing import Any

from evergreen_groups.sandbox.database.values import interval_seconds

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
    """The text in small letters, A to Z only."""
    return text.translate(_TO_LOWER)


def upper(text: str) -> str:
    """The text in capital letters, a to z only."""
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
def _similar_pattern(pattern: str) -> re.Pattern[str]:
    parts = [{"%": ".*", "_": ".", ".": r"\.", "^": r"\^", "$": r"\$"}.get(item, item) for item in pattern]
    return re.compile("".join(parts), re.DOTALL)


@lru_cache(maxsize=256)
def _regex(pattern: str, flags: int) -> re.Pattern[str]:
    for name, meaning in _POSIX.items():
        pattern = pattern.replace(name, meaning)
    return re.compile(pattern, flags | re.ASCII)


def _like(value: str | None, pattern: str | None) -> bool | None:
    return None if value is None or pattern is None else bool(_like_pattern(pattern).fullmatch(value))


def _ilike(value: str | None, pattern: str | None) -> bool | None:
    if value is None or pattern is None:
        return None
    return bool(_like_pattern(lower(pattern)).fullmatch(lower(value)))


def _regex_match(flags: int) -> Callable[[str | None, str | None], bool | None]:
    def match(value: str | None, pattern: str | None) -> bool | None:
        return None if value is None or pattern is None else bool(_regex(pattern, flags).search(value))

    return match


def _similar(value: str | None, pattern: str | None) -> bool | None:
    return None if value is None or pattern is None else bool(_similar_pattern(pattern).fullmatch(value))


def _starts(value: str | None, prefix: str | None) -> bool | None:
    return None if value is None or prefix is None else value.startswith(prefix)


def squash(value: str) -> str:
    """Take accents, case and punctuation off a name (``evergreen.unaccent_and_squash``)."""
    plain = "".join(part for part in unicodedata.normalize("NFKD", value) if not unicodedata.combining(part))
    return re.sub(r"[\W_]+", "", plain.lower())


def _strict(function: Callable[..., Any]) -> Callable[..., Any]:
    """Null for null, as most of PostgreSQL's functions give it."""

    def call(*given: Any) -> Any:
        return None if None in given else function(*given)

    return call


def _left(value: str, count: str) -> str:
    return value[: int(count)]


def _right(value: str, count: str) -> str:
    number = int(count)
    return value[-number:] if number > 0 else value[-number:] if number < 0 else ""


def _rounding(function: Callable[[Decimal], Any]) -> Callable[[Any, int, int], Any]:
    def call(value: Any, scale: int, digits: int) -> Any:
        shift = Decimal(10) ** digits
        rounded = Decimal(function(Decimal(str(value)) / scale * shift)) / shift * scale
        return int(rounded) if rounded == rounded.to_integral_value() else float(rounded)

    return call


_FUNCTIONS: dict[str, tuple[int, Callable[..., Any]]] = {
    "pg_like": (2, _like),
    "pg_ilike": (2, _ilike),
    "pg_regex": (2, _regex_match(0)),
    "pg_iregex": (2, _regex_match(re.IGNORECASE)),
    "pg_similar": (2, _similar),
    "pg_starts": (2, _starts),
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
    "pg_left": (2, _strict(_left)),
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
    """Teach a connection PostgreSQL's functions."""
    for name, (arguments, function) in _FUNCTIONS.items():
        connection.create_function(name, arguments, function, deterministic=True)
    connection.create_aggregate("string_agg_sorted", 2, _StringAggregate)  # type: ignore[arg-type]  # takes two texts
