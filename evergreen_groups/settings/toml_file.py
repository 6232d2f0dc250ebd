"""A configuration file in TOML: what stands in it, and on which line.

Where something stands is told by the standard library's own parser: a statement ends with the first line that makes it
whole, so the file is taken apart by having its statements parsed one by one. A package that keeps positions would be
one more to install for everybody, and those that there are (tomlkit among them) don't hand them out.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.message import Message, system_reason

Keys = tuple[str | int, ...]
"""The way to something in a document: names of tables and keys, and for an array of tables the number from 0."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value stands: at a line of a file, in a variable of the environment, or nowhere (the default)."""

    path: Path | None = None
    line: int | None = None
    variable: str | None = None

    def __str__(self) -> str:
        """As compilers and editors write it, ``config.toml:12``.

        >>> str(Origin(Path("config.toml"), 12)), str(Origin(variable="LANG"))
        ('config.toml:12', '$LANG')
        """
        if self.variable is not None:
            return f"${self.variable}"
        return f"{self.path}:{self.line}" if self.line is not None else str(self.path or "")


@dataclass(frozen=True)
class TomlFile:
    """A file that was read; ``content`` has its amounts as ``Decimal``."""

    path: Path
    text: str
    content: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> TomlFile:
        """Read a file.

        Raises:
            ConfigurationError: it can't be read, or isn't TOML.
        """
        try:
            text = path.read_text(encoding="utf-8")
            return cls(path, text, tomllib.loads(text, parse_float=Decimal))
        except OSError as error:
            raise ConfigurationError(
                "{path}: cannot be read: {reason}",
                advice="let this user read it",
                code="configuration-unreadable",
                values={"path": path, "reason": system_reason(error)},
            ) from error
        # Of bad syntax, of a number of thousands of digits, of deep nesting.
        except (ValueError, RecursionError) as error:
            reason = error if isinstance(error, ValueError) else Message("nested too deeply")
            raise ConfigurationError(
                "{path}: not valid TOML: {reason}",
                code="configuration-invalid",
                values={"path": path, "reason": reason},
            ) from error

    def origin(self, *keys: str | int) -> Origin:
        """Where something stands; where that isn't there, the table that it would be in."""
        while keys and keys not in self._lines:
            keys = keys[:-1]
        return Origin(self.path, self._lines.get(keys))

    @cached_property
    def _lines(self) -> dict[Keys, int]:
        return lines_of(self.text)


def lines_of(text: str) -> dict[Keys, int]:
    """The lines (from 1) on which the tables and keys of a document begin, each by the way to it.

    >>> lines_of('a = 1\\n\\n[b]\\nc = [\\n 2]\\n[[d]]\\ne.f = 3\\n[[d]]')
    {('a',): 1, ('b',): 3, ('b', 'c'): 4, ('d',): 6, ('d', 0): 6, ('d', 0, 'e'): 7, ('d', 0, 'e', 'f'): 7, ('d', 1): 8}
    """
    found: dict[Keys, int] = {}
    table: Keys = ()
    counts: dict[Keys, int] = {}
    for line, statement, parsed in _statements(text):
        if not statement.startswith("["):
            for keys in _ways(parsed):
                found.setdefault((*table, *keys), line)
            continue
        table = ()
        for key in max(_ways(parsed), key=len):
            found.setdefault(table := (*table, key), line)
            if table in counts:  # a table within the last one of an array
                table = (*table, counts[table])
        if statement.startswith("[["):
            array = table[:-1] if isinstance(table[-1], int) else table
            counts[array] = counts.get(array, -1) + 1
            found[table := (*array, counts[array])] = line
    return found


def _statements(text: str) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """The statements of a document, each with its first line's number, and parsed by itself."""
    first, statement = 0, ""
    for number, line in enumerate(text.split("\n"), 1):
        if not statement:
            first = number
        statement += f"{line}\n"
        try:
            parsed = tomllib.loads(statement)
        except (ValueError, RecursionError):  # it goes on in the next line
            continue
        if parsed:
            yield first, statement.lstrip(), parsed
        statement = ""


def _ways(parsed: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for key, value in parsed.items():
        yield (key,)
        if isinstance(value, dict):
            yield from ((key, *keys) for keys in _ways(value))
