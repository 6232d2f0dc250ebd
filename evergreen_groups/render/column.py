"""A column of a list, declared once for all formats, and JSON objects whose keys are columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from functools import cached_property, partial
from itertools import groupby
from operator import attrgetter
from types import GenericAlias
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar

from msgspec import UNSET, Meta, UnsetType, defstruct

from evergreen_groups import language
from evergreen_groups.language import gettext
from evergreen_groups.render.text import printable
from evergreen_groups.render.wording import NOT_KNOWN
from evergreen_groups.values import Total, plain_amount_or_none

if TYPE_CHECKING:
    from evergreen_groups.message import Message

Row = TypeVar("Row")
Value = str | int | Decimal | date | None
ColumnKind = Literal["text", "words", "flag", "money", "change", "number", "id", "day"]
Mark = Literal["", "blocked", "notable"]

Amount = Annotated[str, Meta(pattern=r"^-?\d+\.\d{2}$")]
Count = Annotated[int, Meta(ge=0)]
Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
_TYPES: Mapping[ColumnKind, Any] = {
    "text": str,
    "words": str,
    "flag": bool,
    "money": Amount | None,
    "change": Amount | None,
    "number": Count,
    "id": int,
    "day": Time | None,
}


@dataclass(frozen=True)
class Column(Generic[Row]):
    """A column. ``value`` is what programs get: text, a number, an amount, a datetime, a truth, or a total.

    ``heading`` is for people; a column without one is for programs only, and one without a ``name`` for people only.
    ``kind`` determines how people read the value, unless ``shown`` returns what they read, and ``mark`` highlights the
    cell: "blocked" (red), "notable" or "". A "flag" is yes or no, a "change" is money with a sign, an "id" a number
    that isn't calculated with, and "words" are text by this program, which may have marks of direction.
    """

    name: str
    value: Callable[[Row], Any]
    heading: Message | None = None
    kind: ColumnKind = "text"
    shown: Callable[[Row], Value] | None = None
    mark: Callable[[Row], Mark] | None = None
    json: Callable[[Row], Any] | None = None
    """Returns the value of the JSON key where it isn't ``value``."""
    type: Any = None
    """The type of the JSON key where ``kind`` doesn't determine it. With ``help``, the key's entry in the schema."""
    help: str = ""
    page: str = ""
    """The column's name in the page, empty for columns that the page doesn't have."""
    cell: tuple[str, Callable[[Row], tuple[Any, ...]]] | None = None
    """The macro of the page's cells where these have more than a text, and its arguments."""
    total: bool = False
    """Whether the value is a :class:`Total`. Programs get its lower bound as well, as ``NAME_at_least``."""
    table: bool = False
    """Whether the table on a wide terminal has the column after those that it always has."""
    least: int | None = None
    """The width down to which a table on a terminal may wrap the column's texts; None: never, as for amounts."""
    mail: int = 0
    """The column's place in the mail, 0 for columns that the mail doesn't have."""
    for_csv: bool = True
    for_json: bool = True
    for_sheet: bool = True
    rank: int = 0
    """People read columns with a lower rank first. Programs get all in the order of the declaration."""
    new: int = 0
    """CSV has columns with a higher number after all others, so that those keep their positions."""
    part: str = ""
    """The part of a row that the functions take, empty for the row itself. Without that part, cells are empty."""

    @property
    def title(self) -> str:
        """The heading in the current language."""
        return gettext(self.heading or "")

    @property
    def is_number(self) -> bool:
        return self.kind not in ("text", "words", "flag", "day")

    @property
    def part_of(self) -> Callable[[Any], Any]:
        """Return the function that returns the column's part of a row."""
        return attrgetter(self.part) if self.part else lambda row: row

    def writer(self, *, short: bool = False) -> Callable[[Any], str]:
        """Return a function that writes values by the kind, in the current language, ``short`` as for narrow cells."""
        if self.kind == "flag":
            # Translated once instead of for each cell.
            return {True: gettext("yes"), False: gettext("no"), None: gettext(NOT_KNOWN)}.__getitem__
        if self.total or self.kind == "money":
            return partial(language.describe_total, short=True) if self.total and short else language.describe_total
        writers: dict[str, Callable[[Any], str]] = {
            "text": printable,
            "words": str,
            "number": language.number,
            "id": str,
            "day": language.day,
            "change": language.describe_difference,
        }
        write = writers[self.kind]
        return lambda value: "" if value is None else write(value)

    def json_keys(self) -> list[Key]:
        """Return the keys of a JSON object: a total has two."""
        value_of, type_ = self.value, self.type or _TYPES[self.kind]
        money = self.kind in ("money", "change")
        if self.total:
            plain = plain_amount_or_none if money else lambda value: value
            least, bound = Amount if money else Count, f"The lower bound of {self.name}."
            return [
                Key(self.name, lambda row: plain(value_of(row).value), type_ | None, self.help),
                Key(f"{self.name}_at_least", lambda row: plain(value_of(row).at_least), least, bound),
            ]
        if self.json is not None:
            value_of = self.json
        elif money:
            return [Key(self.name, lambda row: plain_amount_or_none(value_of(row)), type_, self.help)]
        elif self.kind == "day":
            return [Key(self.name, lambda row: plain_time(value_of(row)), type_, self.help)]
        return [Key(self.name, value_of, type_, self.help)]


def plain_time(moment: datetime | None) -> str | None:
    """Format a timestamp for programs, or return None for None."""
    return None if moment is None else moment.isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a JSON object: a function that returns its value, and its type and description for the schema."""

    name: str
    value: Callable[[Any], Any]
    type: Any
    help: str


def own(name: str, heading: Message | None = None, kind: ColumnKind = "text", **others: Any) -> Column[Any]:
    """Return the column of a row's attribute with the same name."""
    return Column(name, attrgetter(name), heading, kind, **others)


def of_part(part: str, *columns: Column[Row]) -> tuple[Column[Row], ...]:
    """Return columns whose functions take that part of a row."""
    return tuple(replace(column, part=part) for column in columns)


def known(total: Total[int] | Total[Decimal] | Decimal | None) -> Value:
    """Return a total for a cell: a number only if exact, so that sums of the column are right."""
    if isinstance(total, Total):
        return total.at_least if total.exact else language.describe_total(total)
    return language.describe_total(None) if total is None else total


class JSONObject(Generic[Row]):
    """A JSON object whose keys are columns of rows. ``help`` describes it in the schema.

    Of a part that a row doesn't have, the keys are null, or left out if it is among the ``optional`` ones.
    """

    def __init__(self, name: str, *columns: Column[Any], help: str = "", optional: tuple[str, ...] = ()) -> None:
        self._name, self._help, self._optional = name, help, optional
        self._parts = [
            (part, some[0].part_of, [key for column in some for key in column.json_keys()])
            for part, found in groupby((one for one in columns if one.name and one.for_json), lambda one: one.part)
            if (some := list(found))
        ]
        self._readers = [
            (
                part_of,
                [(key.name, key.value) for key in keys],
                {} if part in optional else {key.name: None for key in keys},
            )
            for part, part_of, keys in self._parts
        ]

    def document(self, row: Row) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for part_of, keys, without in self._readers:
            one = part_of(row)
            made.update(without if one is None else {name: value_of(one) for name, value_of in keys})
        return made

    @cached_property
    def type(self) -> Any:
        """The object's type, from which its schema is made."""
        fields = []
        for part, _part_of, keys in self._parts:
            for key in keys:
                described = Annotated[key.type, Meta(description=key.help)] if key.help else key.type
                left_out = part in self._optional
                fields.append((key.name, described | UnsetType, UNSET) if left_out else (key.name, described))
        return defstruct(self._name, fields, namespace={"__doc__": self._help}, kw_only=True)

    @property
    def array(self) -> Any:
        """The type of a list of such objects."""
        return GenericAlias(list, (self.type,))
