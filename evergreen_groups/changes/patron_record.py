"""What two states of a patron's record have in common."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING

from evergreen_groups.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evergreen_groups.gateway import Record

# The database writes the first three itself. The search words it makes of the names each time, by its release's rule:
# those of a patron who wasn't written since an upgrade change with any move (3.16/move-fleshed-004).
_ALWAYS_CHANGE = {"last_xact_id", "last_update_time", "name_kw_tsvector", "passwd"}


def is_older(record: Record, other: Record) -> bool:
    """Whether a state of a record is from before another one, as far as the time of its writing tells (in seconds)."""
    written, later = record.last_update_time, other.last_update_time
    differs = record.last_xact_id != other.last_xact_id
    return differs and written is not None and later is not None and bool(written < later)


def value_of(record: Record | None, field_name: str) -> int | None:
    """The number in a field that a step changes, None for a patron whom the account can't see."""
    if record is None:
        return None
    value = record[field_name]
    return None if value is None else int(value)


def fields_but(record: Record, changed: str) -> Iterator[tuple[str, object, object]]:
    """Yield each field that a change of ``changed`` must not touch: its name, its value as sent, and its value decoded.

    Only decoded values can be compared: two gateways behind one address may send a number as text or as a number.
    """
    names = list(record._class.positions)
    for position, value in enumerate(record.to_wire()["__p"]):
        name = names[position] if position < len(names) else f"field {position}"
        if name != changed and name not in _ALWAYS_CHANGE and value is not None:
            yield name, value, _decoded(record, name, value)


def _decoded(record: Record, name: str, value: object) -> object:
    try:
        return record[name]
    except (KeyError, DataError):  # a field the IDL doesn't know, or a value its datatype doesn't allow
        return str(value)


def digest_but(record: Record, changed: str) -> str:
    """Return a digest of these fields: equal for two states that differ in nothing else, and revealing nothing."""
    text = json.dumps(sorted((name, str(value)) for name, _sent, value in fields_but(record, changed)))
    return sha256(text.encode()).hexdigest()
