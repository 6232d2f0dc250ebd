"""Fieldmapper objects as records: named fields and real types on the one side, the wire's arrays on the other."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from functools import cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from evergreen_groups.errors import DataError
from evergreen_groups.message import Message
from evergreen_groups.odd_dates import UNKNOWN

if TYPE_CHECKING:
    from evergreen_groups.gateway.call import Statistics
    from evergreen_groups.gateway.idl import Class, Idl, Link

_CENT = Decimal("0.01")
_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)", re.ASCII)
_MOST_DIGITS = 20  # of PostgreSQL's bigint, with its sign; int() refuses more than 4,300
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
# Years beyond 9999 or before 1, months and days that there aren't, infinities.
_ODD_DATE = re.compile(r"[+-]?\d{1,6}-\d\d-\d\d([T ]\d\d:\d\d.*)?( BC)?|-?infinity", re.ASCII)
# pcrud sends "t" and "f" (pcrud-007), full_path "1" (settings-034), other methods numbers.
TRUE = ("t", "true", "1", 1)
FALSE = ("f", "false", "0", "", 0)


def encode(value: Any, datatype: str) -> Any:
    """Return the wire form of a value of a field. Raises TypeError for a type that no field holds."""
    if isinstance(value, bool):
        # Never JSON's own: false matches nothing in a condition (pcrud-011).
        return "t" if value else "f"
    if isinstance(value, Decimal):
        return str(value.quantize(_CENT) if datatype == "money" else value)
    if isinstance(value, date):
        return _encode_date(value)
    if value is not None and not isinstance(value, int | str):
        raise TypeError(f"a field can't hold {type(value).__name__}")
    return value


def _encode_date(value: date) -> str:
    if not isinstance(value, datetime):
        return value.isoformat()
    if value.tzinfo is None:
        raise TypeError("a timestamp needs a time zone")
    return value.strftime("%Y-%m-%dT%H:%M:%S%z")


def wrong_value(class_id: str, name: str, what: str) -> DataError:
    """The error for a field's value that isn't ``what`` is due."""
    return DataError(
        "the field {field} of class {name} has a wrong value; expected: {what}",
        code="field-broken",
        values={"field": name, "name": class_id, "what": what},
    )


def whole_number(value: Any) -> int | None:
    """A whole number, or the same as text; None for anything else, a truth value among it.

    >>> whole_number("247"), whole_number(True), whole_number("7.0")
    (247, None, None)
    """
    if isinstance(value, str) and len(value) <= _MOST_DIGITS and _INTEGER.fullmatch(value):
        return int(value)
    return value if type(value) is int else None


def finite_number(value: Any) -> Decimal | None:
    """A number, or the same as text; None for anything else, a truth value, NaN and infinities among it.

    >>> finite_number("7.50"), finite_number(True), finite_number("1_0"), finite_number("NaN")
    (Decimal('7.50'), None, None, None)
    """
    # Python takes true for 1, and "1_0", or digits of any script, for numbers.
    if isinstance(value, bool) or (isinstance(value, str) and not _NUMBER.fullmatch(value)):
        return None
    try:
        number = Decimal(value)
    except (InvalidOperation, TypeError, ValueError):
        return None
    return number if number.is_finite() else None


def _decode_text(value: Any, class_id: str, name: str) -> str:
    if isinstance(value, dict | list):
        raise wrong_value(class_id, name, Message("a text"))
    return value if isinstance(value, str) else str(value)


# Ids come as numbers from pcrud, as text from usergroup.new (usergroup-new-001), patron search (patrons-085) and
# full_path (settings-034). A link may lead to a key that is a text, with leading zeros: that stays one.
def _decode_id(value: Any, class_id: str, name: str) -> Any:
    number = whole_number(value)
    if number is None and (not isinstance(value, str) or _INTEGER.fullmatch(value)):
        raise wrong_value(class_id, name, Message("an id"))
    return value if number is None else number


def _decode_integer(value: Any, class_id: str, name: str) -> int:
    number = whole_number(value)
    if number is None:
        raise wrong_value(class_id, name, Message("a whole number"))
    return number


def _decode_number(value: Any, class_id: str, name: str) -> Decimal:
    number = finite_number(value)
    if number is None:
        raise wrong_value(class_id, name, Message("a number"))
    return number


def _decode_money(value: Any, class_id: str, name: str) -> Decimal:
    try:
        # "0.0" is an open circulation without bills (groups-026), "0.00" one that is paid up (groups-008): one amount.
        return _decode_number(value, class_id, name).quantize(_CENT)
    except InvalidOperation:
        raise wrong_value(class_id, name, Message("an amount of money")) from None


def _decode_boolean(value: Any, class_id: str, name: str) -> bool:
    if isinstance(value, str | int):
        if value in TRUE:
            return True
        if value in FALSE:
            return False
    raise wrong_value(class_id, name, Message("a boolean"))


def decode_date(value: Any, class_id: str, name: str) -> date | None:
    """Decode a timestamp or a plain date. One that Python can't hold is ``UNKNOWN``, or None without a time of day."""
    try:
        if _DATE.fullmatch(value):
            return date.fromisoformat(value)
        moment = datetime.fromisoformat(value)
    except TypeError:
        raise wrong_value(class_id, name, Message("a time")) from None
    except ValueError:
        if not _ODD_DATE.fullmatch(value):
            raise wrong_value(class_id, name, Message("a time")) from None
        return UNKNOWN if "T" in value or "infinity" in value else None
    offset = moment.utcoffset()
    if offset is None:
        raise wrong_value(class_id, name, Message("a time with its zone"))
    return moment.replace(tzinfo=_zone(offset))


@cache
def _zone(offset: timedelta) -> timezone:
    """One time zone for all moments with its offset from UTC: reports have them by the 100,000."""
    return timezone(offset)


_DECODERS: dict[str, Callable[[Any, str, str], Any]] = {
    "text": _decode_text,
    "interval": _decode_text,
    "int": _decode_integer,
    "number": _decode_number,
    "float": _decode_number,
    "money": _decode_money,
    "bool": _decode_boolean,
    "timestamp": decode_date,
}
"""How the datatypes are decoded; those of ids and links (``id``, ``link``, ``org_unit``) have :func:`_decode_id`."""

UNDECODED_TYPES: dict[Callable[[Any, str, str], Any], type] = {_decode_text: str, _decode_id: int, _decode_integer: int}
"""The type, by decoder, of wire values that the decoder gives back as they are."""


def decoder_of(datatype: str) -> Callable[[Any, str, str], Any]:
    """Return what decodes a field's wire value, given the value, the class's id and the field's name."""
    return _DECODERS.get(datatype, _decode_id)


_set = object.__setattr__  # records refuse their own


class Record:
    """One object of the ILS, immutable. Fields are attributes, and items too: ``record.usrgroup``, ``record["id"]``.

    A field is decoded when it is read, by the datatype that the IDL gives it: money is ``Decimal`` with two places,
    booleans are ``bool``, ids and links ``int`` where they are whole numbers and text otherwise, timestamps aware
    ``datetime``s and plain dates ``date``. A fleshed field is a Record or a list of them. What wasn't sent is None.
    Fields that the server sent and the IDL doesn't know are kept for writing back. Reading raises AttributeError (as
    item: KeyError) for a field that the class doesn't have, DataError for a value that its datatype doesn't allow.
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
        """The short name of the record's class, such as ``au``."""
        return self._class.id

    def raw(self, name: str) -> Any:
        """Return a field's value as it came, None where it wasn't sent. Raises AttributeError for an unknown field."""
        position = self._class.positions.get(name)
        if position is None:
            raise AttributeError(f"class {self._class.id} has no field {name}")
        # An au with a select ends at the last field selected (pcrud-001).
        return self._values[position] if position < len(self._values) else None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        value = self.raw(name)
        if value is None:
            return None
        return _decode_field(value, self._class, name, self._idl)

    def __getitem__(self, name: str) -> Any:
        if name not in self._class.positions:
            raise KeyError(name)
        return getattr(self, name) if name not in _OWN_NAMES else Record.__getattr__(self, name)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("records can't be changed; use replace()")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("records can't be changed; use replace()")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Record):
            return NotImplemented
        return self._class.id == other._class.id and self._values == other._values

    def __hash__(self) -> int:
        primary = self.raw(self._class.primary) if self._class.primary in self._class.positions else None
        return hash((self._class.id, primary if isinstance(primary, int | str) else None))

    def __repr__(self) -> str:
        primary = self.raw(self._class.primary) if self._class.primary in self._class.positions else None
        return f"Record({self._class.id} {primary if isinstance(primary, int | str) else '?'})"

    def replace(self, **changes: Any) -> Record:
        """Return a copy with other values in some fields, given in the types that reading gives.

        Raises AttributeError for a field that the class doesn't have, TypeError for a value that can't be encoded.
        """
        values = list(self._values)
        for name, value in changes.items():
            self.raw(name)  # refuses unknown names
            position = self._class.positions[name]
            values.extend([None] * (position + 1 - len(values)))
            values[position] = _encode(value, self._class.datatypes[name])
        return Record(self._class, values, self._idl)

    def to_wire(self, *, full: bool = False, changed: bool = False) -> dict[str, Any]:
        """Return the record as it goes over the wire.

        Without options that is what came, value for value, with what ``replace`` put in. ``full`` adds what may have
        been cut off the end, to all fields and the three flags, in nested objects too: methods that store an object
        write nothing without them (``patron-update-odd-031``). ``changed`` also sets the flag that makes them store
        it (``patron-update-odd-014``); nested objects are not marked. Raises DataError where the mark would overwrite
        a field that the IDL doesn't know.
        """
        values: list[Any] = list(self._values)
        if full or changed:
            values = _filled(values, self._class, self._idl)
        if changed:
            _mark_changed(values, self._class)
        return {"__c": self._class.id, "__p": values}


_OWN_NAMES = frozenset(name for name in dir(Record) if not name.startswith("_"))


def decode(value: Any, idl: Idl) -> Any:
    """Return ``value`` with every fieldmapper object in it turned into a Record, also inside lists and hashes.

    Raises DataError for an object of a class that ``idl`` doesn't have.
    """
    if isinstance(value, list):
        return [decode(item, idl) for item in value]
    if not isinstance(value, dict):
        return value
    if not is_object(value):
        return {key: decode(item, idl) for key, item in value.items()}
    return Record(idl[value["__c"]], value["__p"], idl)


def _decode_field(value: Any, known: Class, name: str, idl: Idl) -> Any:
    """Return a field's value decoded: a plain one by its datatype, what a link leads to as records."""
    if not isinstance(value, dict | list):
        return decoder_of(known.datatypes[name])(value, known.id, name)
    # Only a link holds objects (an amount may be one: circ.billing_total); a hash or a list in another field isn't what
    # it should be, and mustn't pass for something.
    items = value if isinstance(value, list) else [value]
    if _link_of(known, name) is None or not all(map(is_object, items)):
        raise wrong_value(known.id, name, Message("a value of its datatype"))
    return decode(value, idl)


def _link_of(known: Class, name: str) -> Link | None:
    position = known.positions[name]
    return known.fields[position].link if position < len(known.fields) else None  # the flags have none


def is_object(value: object) -> bool:
    """Say whether a wire value is a fieldmapper object."""
    return (
        isinstance(value, dict)
        and len(value) == 2
        and isinstance(value.get("__c"), str)
        and isinstance(value.get("__p"), list)
    )


def class_ids(value: Any) -> set[str]:
    """Return the classes of all fieldmapper objects in a wire value, nested ones included."""
    found: set[str] = set()
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            if not _CONTAINERS.isdisjoint(map(type, item)):
                waiting += [inner for inner in item if type(inner) in _CONTAINERS]
        elif is_object(item):
            found.add(item["__c"])
            waiting.append(item["__p"])
        elif isinstance(item, dict):
            waiting += item.values()
    return found


_CONTAINERS = {dict, list}


def _filled(values: list[Any], known: Class, idl: Idl) -> list[Any]:
    """Return an object's values up to the flags, with those of nested objects filled up in the same way."""
    filled = [_filled_inside(value, idl) for value in values]
    return filled + [None] * (len(known.positions) - len(filled))


def _filled_inside(value: Any, idl: Idl) -> Any:
    if isinstance(value, list):
        return [_filled_inside(item, idl) for item in value]
    if isinstance(value, dict) and is_object(value):
        return {"__c": value["__c"], "__p": _filled(value["__p"], idl[value["__c"]], idl)}
    return value


def _mark_changed(values: list[Any], known: Class) -> None:
    """Set the flag that says that an object has changed."""
    flags = values[len(known.fields) :]
    if len(values) > len(known.positions) or not all(flag in (None, *TRUE, *FALSE) for flag in flags):
        raise DataError(
            "a record of {name} came with more fields than the IDL has, and can't be marked as changed",
            code="unknown-fields",
            values={"name": known.id},
        )
    # As the staff client has it. With 0 or null the answer looks right and nothing is written (patron-update-odd-014,
    # patron-update-odd-016).
    values[known.positions["ischanged"]] = 1


def _encode(value: Any, datatype: str) -> Any:
    """Return the wire form of a value that is to be put into a field."""
    if isinstance(value, Record):
        return value.to_wire()
    if isinstance(value, list | tuple):
        return [_encode(item, datatype) for item in value]
    return encode(value, datatype)


def values_of_rows(rows: list[Any], class_id: str) -> list[list[Any]]:
    """Return the values of each row. Raises DataError where one isn't an object of the class."""
    try:
        values = list(map(_values, rows))
        # A class that isn't a text, as of something else than an object, may be no key of a set.
        if set(map(_class_id, rows)) <= {class_id} and set(map(type, values)) <= {list}:
            return values
    except (TypeError, KeyError):
        pass
    raise DataError(
        "a search for {name} gave something else than {name} records",
        code="rows-of-another-class",
        values={"name": class_id},
    )


def columns(records: Iterable[Record], *names: str) -> Iterator[tuple[Any, ...]]:
    """Yield the fields ``names`` of each record, decoded as reading them one by one would; several times as fast.

    The records are of one class. Raises AttributeError for a field that it doesn't have, DataError as reading does.
    """
    records = list(records)
    if not records:
        return iter(())
    known = records[0]
    return ColumnReader(known._class, names, known._idl).read([record._values for record in records])


class ColumnReader:
    """Reads fields of one class from objects' values in wire form, a column after the other.

    Most columns have values of types that reading gives as they are: a look at the types of all of them is enough.
    """

    def __init__(self, known: Class, names: Iterable[str], idl: Idl, statistics: Statistics | None = None) -> None:
        """``statistics`` notes dates that can't be read, each with its record."""
        self._statistics = statistics
        self._names = tuple(names)
        self._class = known
        self._idl = idl
        self._positions = [known.field(name).position for name in self._names]
        self._longest = max(self._positions, default=-1) + 1

    def read(self, rows: Iterable[list[Any]]) -> Iterator[tuple[Any, ...]]:
        """Give the fields of each object."""
        rows = [
            values if len(values) >= self._longest else values + [None] * (self._longest - len(values))
            for values in rows
        ]
        picked = (list(map(itemgetter(position), rows)) for position in self._positions)
        return zip(
            *(self._decoded(name, values, rows) for name, values in zip(self._names, picked, strict=True)), strict=True
        )

    def _decoded(self, name: str, values: list[Any], rows: list[list[Any]]) -> list[Any]:
        """The values of one field of these rows."""
        decoder = decoder_of(self._class.datatypes[name])
        kinds = set(map(type, values))
        if kinds <= {_NONE, UNDECODED_TYPES.get(decoder)}:
            return values
        if kinds <= {_NONE, str}:
            table = {value: decoder(value, self._class.id, name) for value in set(values) if value is not None}
            if decoder is decode_date and (None in table.values() or UNKNOWN in table.values()):
                self._note_unreadable(
                    name, {sent for sent, read in table.items() if read is None or read is UNKNOWN}, rows
                )
            return list(map(table.get, values))  # many are alike: "t" and "f", 0.00
        if kinds.isdisjoint(_CONTAINERS):
            return [None if value is None else decoder(value, self._class.id, name) for value in values]
        return [None if value is None else _decode_field(value, self._class, name, self._idl) for value in values]

    def _note_unreadable(self, name: str, dates: set[str], rows: list[list[Any]]) -> None:
        position, key = self._class.positions[name], self._class.positions[self._class.primary]
        for values in rows if dates and self._statistics is not None else ():
            if values[position] in dates:
                number = values[key] if key < len(values) else None
                self._statistics.unreadable_date(self._class.id, number, name)  # type: ignore[union-attr]


_NONE = type(None)
_class_id, _values = itemgetter("__c"), itemgetter("__p")
