"""Fieldmapper objects as records with named fields and real types, decoded from the arrays on the wire."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from functools import cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any

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


CHECK_PROXY = Message("check any proxy in between: it may have mixed up answers")


def wrong_value(class_id: str, name: str, what: str) -> DataError:
    """Return the error for a field's value that isn't ``what``."""
    return unreadable("field-broken", f"{class_id}.{name} has a wrong value, expected {what}")


def whole_number(value: Any) -> int | None:
    """Return a whole number given as a number or text; None for anything else, including booleans."""
    if isinstance(value, str) and len(value) <= _MOST_DIGITS and _INTEGER.fullmatch(value):
        return int(value)
    return value if type(value) is int else None


def finite_number(value: Any) -> Decimal | None:
    """Return a number given as a number or text; None for anything else, including booleans, NaN and infinities.

    >>> finite_number("7.50"), finite_number(True), finite_number("1_0"), finite_number("NaN")
    (Decimal('7.50'), None, None, None)
    """
    # Python accepts True, "1_0" and digits of any script as numbers.
    if isinstance(value, bool) or (isinstance(value, str) and not _NUMBER.fullmatch(value)):
        return None
    try:
        number = Decimal(value)
    except (InvalidOperation, TypeError, ValueError):
        return None
    return number if number.is_finite() else None


def _decode_text(value: Any, class_id: str, name: str) -> str:
    if isinstance(value, dict | list):
        raise wrong_value(class_id, name, "text")
    return value if isinstance(value, str) else str(value)


# Ids are numbers from pcrud, and text from usergroup.new (usergroup-new-001), patron search (patrons-085) and full_path
# (settings-034). A link may lead to a text key with leading zeros, which stays text.
def _decode_id(value: Any, class_id: str, name: str) -> Any:
    number = whole_number(value)
    if number is None and (not isinstance(value, str) or _INTEGER.fullmatch(value)):
        raise wrong_value(class_id, name, "an id")
    return value if number is None else number


def _decode_integer(value: Any, class_id: str, name: str) -> int:
    number = whole_number(value)
    if number is None:
        raise wrong_value(class_id, name, "a whole number")
    return number


def _decode_number(value: Any, class_id: str, name: str) -> Decimal:
    number = finite_number(value)
    if number is None:
        raise wrong_value(class_id, name, "a number")
    return number


def _decode_money(value: Any, class_id: str, name: str) -> Decimal:
    try:
        # "0.0" is an open circulation without bills (groups-026), "0.00" a paid one (groups-008). Both are the same
        # amount.
        return _decode_number(value, class_id, name).quantize(_CENT)
    except InvalidOperation:
        raise wrong_value(class_id, name, "an amount") from None


def _decode_boolean(value: Any, class_id: str, name: str) -> bool:
    if isinstance(value, str | int):
        if value in TRUE:
            return True
        if value in FALSE:
            return False
    raise wrong_value(class_id, name, "a boolean")


def decode_date(value: Any, class_id: str, name: str) -> date | None:
    """Decode a timestamp or a date. If Python can't hold it, return ``UNKNOWN`` or, for a date, None."""
    try:
        if _DATE.fullmatch(value):
            return date.fromisoformat(value)
        moment = datetime.fromisoformat(value)
    except TypeError:
        raise wrong_value(class_id, name, "a time") from None
    except ValueError:
        if not _ODD_DATE.fullmatch(value):
            raise wrong_value(class_id, name, "a time") from None
        return UNKNOWN if "T" in value or "infinity" in value else None
    offset = moment.utcoffset()
    if offset is None:
        raise wrong_value(class_id, name, "a time with a time zone")
    return moment.replace(tzinfo=_zone(offset))


@cache
def _zone(offset: timedelta) -> timezone:
    """Return a shared time zone per offset from UTC; a report has 100,000 timestamps."""
    return timezone(offset)


Decoder = Callable[[Any, str, str], Any]
"""It takes the wire value, the class's id and the field's name."""

_DECODERS: dict[str, Decoder] = {
    "text": _decode_text,
    "interval": _decode_text,
    "int": _decode_integer,
    "number": _decode_number,
    "float": _decode_number,
    "money": _decode_money,
    "bool": _decode_boolean,
    "timestamp": decode_date,
}
"""Decoders by datatype; ids and links (``id``, ``link``, ``org_unit``) use :func:`_decode_id`."""

_NOTHING: frozenset[type] = frozenset({type(None)})
_TEXT, _WHOLE = _NOTHING | {str}, _NOTHING | {int}
_UNDECODED: dict[Decoder, frozenset[type]] = {_decode_text: _TEXT, _decode_id: _WHOLE, _decode_integer: _WHOLE}
"""For each decoder, the types of wire values that it returns unchanged."""


def decoder_of(datatype: str) -> Decoder:
    return _DECODERS.get(datatype, _decode_id)


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
        value = self.raw(name)
        if value is None:
            return None
        return _decode_field(value, self._class, name, self._idl)

    def __getitem__(self, name: str) -> Any:
        if name not in self._class.positions:
            raise KeyError(name)
        return getattr(self, name) if name not in _OWN_NAMES else Record.__getattr__(self, name)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._class.positions]

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("records can't be changed; use replace()")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("records can't be changed; use replace()")

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
            self.raw(name)  # raise AttributeError for unknown names
            position = self._class.positions[name]
            values.extend([None] * (position + 1 - len(values)))
            values[position] = _encode(value, self._class.datatypes[name])
        return Record(self._class, values, self._idl)

    def to_wire(self, *, full: bool = False, changed: bool = False) -> dict[str, Any]:
        """Return the record in wire form.

        By default, return the values as they came, with the changes of ``replace``. ``full`` pads the record and nested
        objects to all fields and the three flags, because methods that store an object write nothing
        without them (``patron-update-odd-031``). ``changed`` also sets the flag that makes methods store the record
        (``patron-update-odd-014``), but not the flags of nested objects. Raises DataError if the flag would overwrite a
        field that the IDL doesn't know.
        """
        known, values = self._class, list(self._values)
        if full or changed:
            values = _filled(values, known, self._idl)
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


_OWN_NAMES = frozenset(name for name in dir(Record) if not name.startswith("_"))


def decode(value: Any, idl: Idl) -> Any:
    """Return ``value`` with every fieldmapper object as a Record. Raises DataError for a class that ``idl`` lacks."""
    if isinstance(value, list):
        return [decode(item, idl) for item in value]
    if not isinstance(value, dict):
        return value
    if not is_object(value):
        return {key: decode(item, idl) for key, item in value.items()}
    return Record(idl[value["__c"]], value["__p"], idl)


def _decode_field(value: Any, known: Class, name: str, idl: Idl) -> Any:
    """Return a field's value, decoded by its datatype, or as records if the field is a link to objects."""
    if type(value) not in _CONTAINERS:
        return decoder_of(known.datatypes[name])(value, known.id, name)
    # Only links hold objects (even an amount: circ.billing_total). A hash or a list in any other field is an error.
    items: list[Any] = value if isinstance(value, list) else [value]
    position = known.positions[name]
    is_link = position < len(known.fields) and known.fields[position].link is not None  # flags come after the fields
    if not is_link or not all(map(is_object, items)):
        raise wrong_value(known.id, name, "a value of its datatype")
    records = [Record(idl[item["__c"]], item["__p"], idl) for item in items]
    return records if isinstance(value, list) else records[0]


def is_object(value: object) -> bool:
    """Return whether a wire value is a fieldmapper object."""
    if not isinstance(value, dict) or len(value) != 2:
        return False
    return isinstance(value.get("__c"), str) and isinstance(value.get("__p"), list)


def class_ids(value: Any) -> set[str]:
    """Return the classes of all fieldmapper objects in a wire value, including nested ones."""
    found: set[str] = set()
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            if not _CONTAINERS.isdisjoint(map(type, item)):  # most values are plain
                waiting += [inner for inner in item if type(inner) in _CONTAINERS]
        elif is_object(item):
            found.add(item["__c"])
            waiting.append(item["__p"])
        elif isinstance(item, dict):
            waiting += item.values()
    return found


_CONTAINERS = {dict, list}


def _filled(values: list[Any], known: Class, idl: Idl) -> list[Any]:
    """Return an object's values padded to all fields and flags, with nested objects padded as well."""
    filled = [_filled_inside(value, idl) for value in values]
    return filled + [None] * (len(known.positions) - len(filled))


def _filled_inside(value: Any, idl: Idl) -> Any:
    if isinstance(value, list):
        return [_filled_inside(item, idl) for item in value]
    if isinstance(value, dict) and is_object(value):
        return {"__c": value["__c"], "__p": _filled(value["__p"], idl[value["__c"]], idl)}
    return value


def values_of_rows(rows: list[Any], class_id: str) -> list[list[Any]]:
    """Return the values of each row. Raises DataError if a row isn't an object of the class."""
    try:
        values = list(map(_values, rows))
        # The class of something that isn't an object may be unhashable.
        if set(map(_class_id, rows)) <= {class_id} and set(map(type, values)) <= {list}:
            return values
    except (TypeError, KeyError):
        pass
    raise unreadable("rows-of-another-class", f"expected {class_id} rows")


def unrequested_rows() -> DataError:
    """Return the error for rows that don't match the search."""
    return unreadable("rows-not-asked-for", "rows that don't match the search", advice=CHECK_PROXY)


def columns(records: Iterable[Record], *names: str) -> Iterator[tuple[Any, ...]]:
    """Yield the fields ``names`` of each record, several times as fast as reading them one by one.

    All records must be of one class. Raises AttributeError for an unknown field, and DataError as reading does.
    """
    records = list(records)
    if not records:
        return iter(())
    known = records[0]
    return ColumnReader(known._class, names, known._idl).read([record._values for record in records])


class ColumnReader:
    """Reads fields of one class column by column: types alone show that most values need no decoding."""

    def __init__(self, known: Class, names: Iterable[str], idl: Idl, statistics: Statistics | None = None) -> None:
        """``statistics`` records dates that can't be read."""
        self._statistics = statistics
        self._class = known
        self._idl = idl
        self._fields = [known.field(name) for name in names]
        self._longest = max([field.position for field in self._fields], default=-1) + 1

    def read(self, rows: Iterable[list[Any]]) -> Iterator[tuple[Any, ...]]:
        """Yield the fields of each object."""
        rows = list(rows)
        if min(map(len, rows), default=0) < self._longest:
            rows = [values + [None] * (self._longest - len(values)) for values in rows]
        return zip(*[self._decoded(field, rows) for field in self._fields], strict=True)

    def _decoded(self, field: Field, rows: list[list[Any]]) -> list[Any]:
        """Return one field of these rows, decoded."""
        values, decoder, name = list(map(itemgetter(field.position), rows)), decoder_of(field.datatype), field.name
        if _UNDECODED.get(decoder, _NOTHING).issuperset(map(type, values)):
            return values
        kinds = set(map(type, values))
        if kinds <= _TEXT:
            table = {value: decoder(value, self._class.id, name) for value in set(values) if value is not None}
            if decoder is decode_date and self._statistics is not None:
                odd = {sent for sent, read in table.items() if read is None or read is UNKNOWN}
                key = self._class.positions[self._class.primary]
                for value, row in zip(values, rows, strict=True) if odd else ():
                    if value in odd:
                        number = row[key] if key < len(row) else None
                        self._statistics.unreadable_date(self._class.id, number, name)
            return list(map(table.get, values))  # columns repeat few values: "t" and "f", 0.00
        if kinds.isdisjoint(_CONTAINERS):
            return [None if value is None else decoder(value, self._class.id, name) for value in values]
        return [None if value is None else _decode_field(value, self._class, name, self._idl) for value in values]


_class_id, _values = itemgetter("__c"), itemgetter("__p")
