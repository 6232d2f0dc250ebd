"""Fieldmapper objects as records with named fields and real types, decoded from the arrays on the wire."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from functools import cache
from operator import itemgetter
from types import NoneType
from typing import TYPE_CHECKING, Any, NamedTuple

from evergreen_groups.errors import DataError, unreadable
from evergreen_groups.message import Message
from evergreen_groups.values import UNKNOWN

if TYPE_CHECKING:
    from evergreen_groups.gateway.call import Statistics
    from evergreen_groups.gateway.idl import Class, Field, Idl

_CENT = Decimal("0.01")
_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)", re.ASCII)
_MOST_DIGITS = 20  # PostgreSQL's bigint with a sign; int() refuses over 4,300 digits
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
# Years after 9999 or before 1, impossible months and days, infinities.
_ODD_DATE = re.compile(r"[+-]?\d{1,6}-\d\d-\d\d([T ]\d\d:\d\d.*)?( BC)?|-?infinity", re.ASCII)
# pcrud sends "t" and "f" (pcrud-007), full_path "1" (settings-034), other methods send numbers.
TRUE = ("t", "true", "1", 1)
FALSE = ("f", "false", "0", "", 0)


def _encode(value: Any, datatype: str) -> Any:
    """Return the wire form of a field's new value. Raises TypeError for a type that no field holds."""
    if isinstance(value, Record):
        return value.to_wire()
    if isinstance(value, list | tuple):
        return [_encode(item, datatype) for item in value]
    if isinstance(value, bool):
        # Never JSON's booleans: false matches nothing in a condition (pcrud-011).
        return "t" if value else "f"
    if isinstance(value, Decimal):
        return str(value.quantize(_CENT) if datatype == "money" else value)
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise TypeError("a timestamp needs a time zone")
        value = value.strftime("%Y-%m-%dT%H:%M:%S%z")
    elif isinstance(value, date):
        value = value.isoformat()
    if value is not None and not isinstance(value, int | str):
        raise TypeError(f"a field can't hold {type(value).__name__}")
    return value


def whole_number(value: Any) -> int | None:
    """Return a whole number given as a number or text; None for anything else, including booleans."""
    if isinstance(value, str) and len(value) <= _MOST_DIGITS and _INTEGER.fullmatch(value):
        return int(value)
    return value if type(value) is int else None


def finite_number(value: Any) -> Decimal | None:
    """Return a number given as a number or text; None for all else: booleans, NaN, infinities, over 20 digits.

    >>> finite_number("7.50"), finite_number(True), finite_number("1_0"), finite_number("NaN"), finite_number("1e400")
    (Decimal('7.50'), None, None, None, None)
    """
    # Python accepts True, "1_0" and digits of any script as numbers.
    if isinstance(value, bool) or (isinstance(value, str) and not _NUMBER.fullmatch(value)):
        return None
    try:
        number = Decimal(value)
    except (InvalidOperation, TypeError, ValueError):
        return None
    # A threshold of 400 digits would be a limit that nobody exceeds.
    return number if number.is_finite() and number.adjusted() < _MOST_DIGITS else None


# Ids are numbers from pcrud, and text from usergroup.new (usergroup-new-001), patron search (patrons-085) and full_path
# (settings-034). A link may lead to a text key with leading zeros, which stays text.
def _id(value: Any) -> int | str:
    return value if isinstance(value, str) and not _INTEGER.fullmatch(value) else _integer(value)


def _integer(value: Any) -> int:
    number = whole_number(value)
    if number is None:
        raise ValueError("not a whole number")
    return number


def _number(value: Any) -> Decimal:
    number = finite_number(value)
    if number is None:
        raise ValueError("not a number")
    return number


def _money(value: Any) -> Decimal:
    # "0.0" is an open circulation without bills (groups-026), "0.00" a paid one (groups-008). Both are the same amount.
    return _number(value).quantize(_CENT)


def _boolean(value: Any) -> bool:
    if value not in TRUE + FALSE:
        raise ValueError("not a boolean")
    return value in TRUE


def _date(value: str) -> date | None:
    """Decode a timestamp or a date. If Python can't hold it, return ``UNKNOWN`` or, for a date, None."""
    try:
        if _DATE.fullmatch(value):
            return date.fromisoformat(value)
        moment = datetime.fromisoformat(value)
    except ValueError:
        if not _ODD_DATE.fullmatch(value):
            raise
        return UNKNOWN if "T" in value or "infinity" in value else None
    offset = moment.utcoffset()
    if offset is None:
        raise ValueError("no time zone")
    return moment.replace(tzinfo=_zone(offset))


@cache
def _zone(offset: timedelta) -> timezone:
    """Return a shared time zone per offset from UTC; a report has 100,000 timestamps."""
    return timezone(offset)


class _Datatype(NamedTuple):
    """How wire values are decoded, what is ``expected`` of them, and the type of those that stay as they are."""

    decode: Callable[[Any], Any]
    expected: str
    unchanged: type = NoneType


_ID = _Datatype(_id, "an id", int)
_DATATYPES = {
    "text": _Datatype(str, "text", str),
    "interval": _Datatype(str, "text", str),
    "int": _Datatype(_integer, "a whole number", int),
    "number": _Datatype(_number, "a number"),
    "float": _Datatype(_number, "a number"),
    "money": _Datatype(_money, "an amount"),
    "bool": _Datatype(_boolean, "a boolean"),
    "timestamp": _Datatype(_date, "a time with a time zone"),
}
"""All others (``id``, ``link``, ``org_unit``) hold ids."""

_set = object.__setattr__  # Record.__setattr__ refuses


class Record:
    """One object from Evergreen, immutable. Read fields as attributes or items: ``record.usrgroup``, ``record["id"]``.

    Fields are decoded when they are read, by their datatype in the IDL: money is ``Decimal`` with two places, booleans
    are ``bool``, ids and links are ``int`` or, if they aren't whole numbers, text. Timestamps are aware ``datetime``s
    and plain dates ``date``. A fleshed field is a Record or a list of Records. A field that wasn't sent is None. Fields
    that the IDL doesn't know are kept for writing back. Reading raises AttributeError (as an item: KeyError) for an
    unknown field, and DataError for a value that doesn't fit the datatype.
    """

    __slots__ = ("_class", "_idl", "_values")
    _class: Class
    _idl: Idl
    _values: list[Any]

    def __init__(self, known: Class, values: list[Any], idl: Idl) -> None:
        _set(self, "_class", known)
        _set(self, "_values", values)
        _set(self, "_idl", idl)

    @property
    def class_id(self) -> str:
        """The short name of the record's class, for example ``au``."""
        return self._class.id

    def raw(self, name: str) -> Any:
        """Return a field's undecoded value, None if it wasn't sent. Raises AttributeError for an unknown field."""
        position = self._class.positions.get(name)
        if position is None:
            raise AttributeError(f"class {self._class.id} has no field {name}", name=name, obj=self)
        # After a select, an au ends at the last selected field (pcrud-001).
        return self._values[position] if position < len(self._values) else None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return _decoded(self.raw(name), self._class.field(name), self._class, self._idl)

    def __getitem__(self, name: str) -> Any:
        if name not in self._class.positions:
            raise KeyError(name)
        return self.__getattr__(name)  # never the method of the same name

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._class.positions]

    def __setattr__(self, name: str, value: object = None) -> None:
        raise AttributeError("records can't be changed; use replace()")

    __delattr__ = __setattr__

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Record):
            return NotImplemented
        return self._class.id == other._class.id and self._values == other._values

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        primary = self.raw(self._class.primary) if self._class.primary in self._class.positions else None
        return f"Record({self._class.id} {primary if isinstance(primary, int | str) else '?'})"

    def replace(self, **changes: Any) -> Record:
        """Return a copy with other values, in the types that reading returns. Raises AttributeError and TypeError."""
        values = list(self._values)
        for name, value in changes.items():
            field = self._class.field(name)
            values.extend([None] * (field.position + 1 - len(values)))
            values[field.position] = _encode(value, field.datatype)
        return Record(self._class, values, self._idl)

    def to_wire(self, *, full: bool = False, changed: bool = False) -> dict[str, Any]:
        """Return the record in wire form: the values as they came, with the changes of ``replace``.

        ``full`` pads the record and nested objects to all fields and the three flags, because methods that store an
        object write nothing without them (``patron-update-odd-031``). ``changed`` also sets the flag that makes methods
        store the record, but not nested objects. Raises DataError if the flag would overwrite a field that the IDL
        doesn't know.
        """
        known, values = self._class, list(self._values)
        if full or changed:
            values = _padded({"__c": known.id, "__p": values}, self._idl)["__p"]
        if changed:
            flags = values[len(known.fields) :]
            if len(values) > len(known.positions) or not all(flag in (None, *TRUE, *FALSE) for flag in flags):
                raise unreadable(
                    "unknown-fields", f"{known.id} has fields that the IDL lacks, so it can't be marked as changed"
                )
            # The staff client sends 1, too. With 0 or null the answer looks right, but nothing is written
            # (patron-update-odd-014, patron-update-odd-016).
            values[known.positions["ischanged"]] = 1
        return {"__c": known.id, "__p": values}


def decode(value: Any, idl: Idl) -> Any:
    """Return ``value`` with every fieldmapper object as a Record. Raises DataError for a class that ``idl`` lacks."""
    if isinstance(value, list):
        return [decode(item, idl) for item in value]
    if not isinstance(value, dict):
        return value
    if not is_object(value):
        return {key: decode(item, idl) for key, item in value.items()}
    return Record(idl[value["__c"]], value["__p"], idl)


def _decoded(value: Any, field: Field, known: Class, idl: Idl) -> Any:
    """Return a field's value, decoded by its datatype, or as records if the field is a link to objects."""
    if value is None:
        return None
    datatype = _DATATYPES.get(field.datatype, _ID)
    if type(value) not in _CONTAINERS:
        try:
            return datatype.decode(value)
        except (TypeError, ValueError, ArithmeticError):
            raise _wrong_value(known, field) from None
    # Only links hold objects (even an amount: circ.billing_total). A hash or a list in any other field is an error.
    items: list[Any] = value if isinstance(value, list) else [value]
    if not field.is_link or not all(map(is_object, items)):
        raise _wrong_value(known, field)
    records = decode(items, idl)
    return records if isinstance(value, list) else records[0]


def _wrong_value(known: Class, field: Field) -> DataError:
    expected = _DATATYPES.get(field.datatype, _ID).expected
    return unreadable("field-broken", f"{known.id}.{field.name} has a wrong value, expected {expected}")


def is_object(value: object) -> bool:
    """Return whether a wire value is a fieldmapper object."""
    if not isinstance(value, dict) or len(value) != 2:
        return False
    return isinstance(value.get("__c"), str) and isinstance(value.get("__p"), list)


def objects_by_class(value: Any) -> dict[str, list[Any]]:
    """Return all fieldmapper objects in a wire value by class, including nested ones."""
    found: dict[str, list[Any]] = {}
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            if not _CONTAINERS.isdisjoint(map(type, item)):  # most values are plain
                waiting += [inner for inner in item if type(inner) in _CONTAINERS]
        elif is_object(item):
            found.setdefault(item["__c"], []).append(item)
            waiting.append(item["__p"])
        elif isinstance(item, dict):
            waiting += item.values()
    return found


_CONTAINERS = {dict, list}


def _padded(value: Any, idl: Idl) -> Any:
    """Return a wire value whose objects have all fields and flags."""
    if isinstance(value, list):
        return [_padded(item, idl) for item in value]
    if not is_object(value):
        return value
    values = _padded(value["__p"], idl)
    return {"__c": value["__c"], "__p": values + [None] * (len(idl[value["__c"]].positions) - len(values))}


def values_of_rows(rows: Any, class_id: str) -> list[list[Any]]:
    """Return the values of each row of a list. Raises DataError if a row isn't an object of the class."""
    if isinstance(rows, list) and all(is_object(row) and row["__c"] == class_id for row in rows):
        return [row["__p"] for row in rows]
    raise unreadable("rows-of-another-class", f"expected {class_id} rows")


def mixed_up(code: str, detail: str) -> DataError:
    """Return the error for an answer that isn't the one to the question."""
    return unreadable(code, detail, advice=Message("check any proxy in between: it may have mixed up answers"))


def unrequested_rows() -> DataError:
    """Return the error for rows that don't match the search."""
    return mixed_up("rows-not-asked-for", "rows that don't match the search")


def columns(records: Iterable[Record], *names: str) -> Iterator[tuple[Any, ...]]:
    """Yield the fields ``names`` of each record, several times as fast as reading them one by one.

    All records must be of one class. Raises AttributeError for an unknown field, and DataError as reading does.
    """
    records = list(records)
    if not records:
        return iter(())
    known = records[0]
    return Rows(known._class, known._idl, [record._values for record in records]).columns(names)


@dataclass(frozen=True, slots=True, repr=False)
class Rows:
    """Rows of one class, each a list of wire values. ``statistics`` records dates that can't be read."""

    known: Class
    idl: Idl
    values: list[list[Any]]
    statistics: Statistics | None = None

    def __len__(self) -> int:
        return len(self.values)

    def records(self) -> list[Record]:
        """Return the rows as records."""
        return [Record(self.known, values, self.idl) for values in self.values]

    def columns(self, names: Iterable[str]) -> Iterator[tuple[Any, ...]]:
        """Yield the fields ``names`` of each row, decoded column by column: types show that most need no decoding."""
        fields = [self.known.field(name) for name in names]
        longest = max([field.position for field in fields], default=-1) + 1
        rows = self.values
        if min(map(len, rows), default=0) < longest:
            rows = [values + [None] * (longest - len(values)) for values in rows]
        return zip(*[self._column(field, list(map(itemgetter(field.position), rows))) for field in fields], strict=True)

    def _column(self, field: Field, values: list[Any]) -> list[Any]:
        datatype, kinds = _DATATYPES.get(field.datatype, _ID), set(map(type, values))
        if kinds <= {NoneType, datatype.unchanged}:
            return values
        if not kinds <= {NoneType, str}:
            return [_decoded(value, field, self.known, self.idl) for value in values]
        table = {value: _decoded(value, field, self.known, self.idl) for value in set(values)}
        if datatype.decode is _date and self.statistics is not None:
            odd = {sent for sent, read in table.items() if sent is not None and (read is None or read is UNKNOWN)}
            for record in self.records() if odd else ():
                if record.raw(field.name) in odd:
                    self.statistics.unreadable_date(self.known.id, record.raw(self.known.primary), field.name)
        return list(map(table.get, values))  # columns repeat few values: "t" and "f", 0.00
