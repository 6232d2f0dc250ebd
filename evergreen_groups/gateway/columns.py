"""Reading the same few fields of many records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from typing import Any

from evergreen_groups.gateway.idl import Class, Idl
from evergreen_groups.gateway.record import AS_IT_COMES, Record, decode, decoder_of


def columns(records: Iterable[Record], *names: str) -> Iterator[tuple[Any, ...]]:
    """Yield the fields ``names`` of each record, decoded as reading them one by one would; several times as fast.

    The records are of one class. Raises AttributeError for a field that it doesn't have, DataError as reading does.
    """
    reader: ColumnReader | None = None
    for record in records:
        if reader is None:
            reader = ColumnReader(record._class, names, record._idl)
        yield reader.read(record._values)


class ColumnReader:
    """Reads fields of one class from objects' values in wire form.

    Most rows have values of the same types: what has to be decoded is worked out once for each set of types.
    """

    def __init__(self, known: Class, names: Iterable[str], idl: Idl) -> None:
        self._names = tuple(names)
        self._class_id = known.id
        self._idl = idl
        positions = [known.field(name).position for name in self._names]
        self._pick: Callable[[list[Any]], tuple[Any, ...]] = (
            itemgetter(*positions) if len(positions) > 1 else lambda values: tuple(values[p] for p in positions)
        )
        self._decoders = [decoder_of(known.datatypes[name]) for name in self._names]
        self._longest = max(positions, default=-1) + 1
        self._to_decode: dict[tuple[type, ...], list[int]] = {}

    def read(self, values: list[Any]) -> tuple[Any, ...]:
        """Return the fields of one object."""
        if len(values) < self._longest:
            values = values + [None] * (self._longest - len(values))
        picked: tuple[Any, ...] = self._pick(values)
        types = tuple(map(type, picked))
        indexes = self._to_decode.get(types)
        if indexes is None:
            indexes = self._to_decode[types] = [index for index, kind in enumerate(types) if self._differs(index, kind)]
        if not indexes:
            return picked
        row = list(picked)
        for index in indexes:
            value = row[index]
            if isinstance(value, dict | list):
                row[index] = decode(value, self._idl)
            else:
                row[index] = self._decoders[index](value, self._class_id, self._names[index])
        return tuple(row)

    def _differs(self, index: int, kind: type) -> bool:
        """Whether a value of this type isn't what reading the field gives."""
        return kind is not type(None) and kind is not AS_IT_COMES.get(self._decoders[index])
