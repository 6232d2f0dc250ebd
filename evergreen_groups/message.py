"""Translatable messages that are translated only when they are shown, and their English text for programs and logs.

The English text needs neither catalogues nor the language code, so that errors and ``--help`` stay fast.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from string import Formatter
from types import MappingProxyType
from typing import Any, Protocol, Self

_NO_VALUES: Mapping[str, object] = MappingProxyType({})


class Message(str):
    """A translatable message. As a ``str`` it is the English text; the display code translates it.

    ``text`` is the English template and ``values`` fill its placeholders. ``plural`` is the template to use if the
    value ``count`` isn't 1. ``context`` tells translators in a word or two which meaning of an ambiguous word is meant.

    >>> Message("lost", context="items"), Message("lost", context="items").context
    ('lost', 'items')
    >>> limits = Message("a whole number from {lowest} to {highest}", values={"lowest": 1, "highest": 60})
    >>> str(limits), limits.text
    ('a whole number from 1 to 60', 'a whole number from {lowest} to {highest}')
    >>> str(Message("{count} patron", plural="{count} patrons", values={"count": 1200}))
    '1,200 patrons'
    """

    __slots__ = ("context", "plural", "text", "values")
    context: str
    plural: str
    text: str
    values: Mapping[str, object]

    def __new__(
        cls, text: str, *, context: str = "", plural: str = "", values: Mapping[str, object] = _NO_VALUES
    ) -> Self:
        # A message in a constant has no values yet: with_values adds them later.
        count = values["count"] if plural and values else 1
        known = {**values, "count": f"{count:,}"} if plural and values else values
        made = super().__new__(cls, filled(text if count == 1 else plural, known))
        made.text, made.context, made.plural, made.values = text, context, plural, values
        return made

    def with_values(self, values: Mapping[str, object]) -> Self:
        """Return the same message with other values, for messages in constants.

        >>> str(Message("{count} lead", plural="{count} leads").with_values({"count": 2}))
        '2 leads'
        """
        if not values and not self.values:
            return self
        return type(self)(self.text, context=self.context, plural=self.plural, values=values)


def system_reason(error: OSError) -> Message:
    """Return the operating system's reason for an error, or the name of the error's class if there is no reason.

    The most frequent reasons have translations (:data:`SYSTEM_REASONS`).
    """
    if isinstance(error.strerror, Message):  # raised by this package itself
        return error.strerror
    return Message(error.strerror or type(error).__name__)


def _format_in_english(value: object, spec: str) -> str:
    from datetime import date, datetime  # here, because every command imports this module and few get to this point
    from decimal import Decimal

    if isinstance(value, Decimal) and not spec:
        return f"{value:,.2f}"
    if isinstance(value, datetime) and spec in ("", "time"):
        return f"{value.astimezone():{'%H:%M' if spec else '%Y-%m-%d %H:%M'}}"
    if isinstance(value, date) and not spec:
        return value.isoformat()
    if isinstance(value, tuple) and not spec:
        return "; ".join(map(str, value))
    if isinstance(value, list) and not spec:
        return " and ".join(filter(None, [", ".join(map(str, value[:-1])), *map(str, value[-1:])]))
    return format(value, spec)


def filled(template: str, values: Mapping[str, object], write: Callable[[Any, str], str] = _format_in_english) -> str:
    """Fill the placeholders of a template, in English. Without values, return the template unchanged, braces included.

    Amounts have no currency sign, because only the settings know the currency. Timestamps are in this machine's time
    zone; ``{until:time}`` shows only the time of day. The items of a tuple are joined with semicolons. For another
    language, ``write`` formats a value by the format in its placeholder.

    >>> from decimal import Decimal
    >>> filled("{count:,} bytes", {"count": 32000}), filled("{owed}", {"owed": Decimal("1234.5")}), filled("{}", {})
    ('32,000 bytes', '1,234.50', '{}')
    """
    if not values:
        return template
    parts = []
    for literal, name, spec in _parts(template):
        parts.append(literal)
        if name is not None:
            value = values[name]
            parts.append(value if type(value) is str and not spec else write(value, spec))  # most values are strings
    return "".join(parts)


# A page with thousands of groups fills in the same few texts some 100,000 times, and Formatter would parse each again.
@lru_cache(maxsize=4096)
def _parts(template: str) -> tuple[tuple[str, str | None, str], ...]:
    """Parse a template into triples: literal text, the placeholder's name, its format spec."""
    parts = []
    for literal, name, spec, conversion in Formatter().parse(template):
        # Our own templates have no "!r", attributes or items, so this is text that Evergreen sent.
        if conversion is not None:
            raise ValueError(conversion)
        if name is not None and not name.isidentifier():
            raise KeyError(name)
        parts.append((literal, name, spec or ""))
    return tuple(parts)


class Progress(Protocol):
    """A callback for the progress of a long job."""

    def __call__(self, doing: str, done: int, total: int | None = None) -> None:
        """Report that ``done`` of ``total`` units of the task ``doing`` are finished. ``total`` None: not known yet."""


def silent(doing: str, done: int, total: int | None = None) -> None:
    """Ignore all progress reports."""


SYSTEM_REASONS = (
    Message("Address already in use"),
    Message("Connection refused"),
    Message("Connection reset by peer"),
    Message("Connection timed out"),
    Message("Name or service not known"),
    Message("No space left on device"),
    Message("No such file or directory"),
    Message("Permission denied"),
    Message("Read-only file system"),
    Message("Temporary failure in name resolution"),
)
"""The operating system's reasons that the catalogues translate."""


def own_pip() -> str:
    """Return the command that installs packages into this program's environment."""
    pip = Path(sys.executable).with_name("pip")
    return str(pip) if pip.exists() else f"{sys.executable} -m pip"
