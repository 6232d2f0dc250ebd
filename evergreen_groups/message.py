"""A text of the catalogue that stands where it isn't shown yet: in a table, or among the values of an error.

And how such a text is filled in for programs and logs, in English: that needs no catalogue and nothing about languages.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from string import Formatter
from types import MappingProxyType
from typing import Self

_NOTHING: Mapping[str, object] = MappingProxyType({})


class Message(str):
    """A text that is translated where it is shown; until then, and for programs, it is the English text itself.

    ``context`` says what a word means that has several meanings, in a word or two; translators see it. ``values`` are
    what the names in braces stand for, ``text`` is the English text before they are filled in. ``plural`` is the text
    for any other number than one of what ``count`` among the values counts.

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
        cls, text: str, *, context: str = "", plural: str = "", values: Mapping[str, object] = _NOTHING
    ) -> Self:
        # In a table there are no values yet.
        count = values["count"] if plural and values else 1
        known = {**values, "count": f"{count:,}"} if plural and values else values
        made = super().__new__(cls, filled(text if count == 1 else plural, known))
        made.text, made.context, made.plural, made.values = text, context, plural, values
        return made

    def with_values(self, values: Mapping[str, object]) -> Self:
        """The same text, of a table, with what the names in it stand for.

        >>> str(Message("{count} lead", plural="{count} leads").with_values({"count": 2}))
        '2 leads'
        """
        if not values and not self.values:
            return self
        return type(self)(self.text, context=self.context, plural=self.plural, values=values)


def system_reason(error: OSError) -> Message:
    """What the operating system says of an error, or the error's kind where it says nothing.

    What it says oftenest is in the catalogue (:data:`SYSTEM_REASONS`). Where this package has raised the error itself,
    its reason is a text of the catalogue already.
    """
    if isinstance(error.strerror, Message):
        return error.strerror
    return Message(error.strerror or type(error).__name__)


def filled(template: str, values: Mapping[str, object]) -> str:
    """A text with its values, in English; where there are none it is taken as it is, braces and all.

    Money stands without its currency, which only the settings know; moments are those of this machine's time zone, and
    ``{until:time}`` is the time of one alone. Several texts (a tuple) stand one after the other.

    >>> from decimal import Decimal
    >>> filled("{count:,} bytes", {"count": 32000}), filled("{owed}", {"owed": Decimal("1234.5")}), filled("{}", {})
    ('32,000 bytes', '1,234.50', '{}')
    """
    if not values:
        return template
    return "".join(
        literal if name is None else literal + _written(_value(name, values), spec)
        for literal, name, spec in _parts(template)
    )


@lru_cache(maxsize=1_000)
def _parts(template: str) -> tuple[tuple[str, str | None, str], ...]:
    """What stands before each name in braces, the name, and how its value is written; a list has few texts, often."""
    parts = []
    for literal, name, spec, conversion in Formatter().parse(template):
        if conversion is not None:  # none of our texts has one: then it's what somebody else has said
            raise ValueError(conversion)
        parts.append((literal, name, spec or ""))
    return tuple(parts)


def _value(name: str, values: Mapping[str, object]) -> object:
    """A value by its name, and nothing of what is in it: what an ILS has said may stand among the texts."""
    if not name.isidentifier():
        raise KeyError(name)
    return values[name]


def _written(value: object, spec: str) -> str:
    return value if type(value) is str and not spec else _in_english(value, spec)


def _in_english(value: object, spec: str) -> str:
    """Money and moments in one form; the rest as Python has it."""
    from datetime import date, datetime
    from decimal import Decimal  # not above: every command begins with this module, and few need it

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


SYSTEM_REASONS = (
    Message("Address already in use"),
    Message("Cannot assign requested address"),
    Message("Connection refused"),
    Message("Connection reset by peer"),
    Message("Connection timed out"),
    Message("Disk quota exceeded"),
    Message("File exists"),
    Message("File name too long"),
    Message("File too large"),
    Message("Input/output error"),
    Message("Is a directory"),
    Message("Name or service not known"),
    Message("Network is unreachable"),
    Message("No locks available"),
    Message("No route to host"),
    Message("No space left on device"),
    Message("No such file or directory"),
    Message("Not a directory"),
    Message("Operation not permitted"),
    Message("Operation not supported"),
    Message("Permission denied"),
    Message("Read-only file system"),
    Message("Temporary failure in name resolution"),
    Message("Too many levels of symbolic links"),
    Message("Too many open files"),
)
"""What the operating system says in English, as far as there are translations."""
