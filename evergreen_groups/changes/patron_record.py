"""A patron's record as it is where changes are written, and what two states of it have in common."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING

from evergreen_groups.errors import DataError, PermissionDeniedError, RecordNotFoundError
from evergreen_groups.gateway import TOKEN, Record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evergreen_groups.gateway import Gateway

_RETRIEVE = "open-ils.actor.user.retrieve.authoritative"
_ALWAYS_CHANGE = {"last_xact_id", "last_update_time", "passwd"}


def read_patron(gateway: Gateway, patron: int) -> Record | None:
    """A patron's record, None for one whom the account can't see, or who isn't there.

    It comes from the database that is written to: where plain reads go to a copy, pcrud may give what was there some
    seconds ago. The form is pcrud's own, unfleshed (``patrons-031``, ``pcrud-102``); a fleshed record never compares
    alike. Releases before 3.14.11 send a digest of the password along, which is dropped here: sent back, it would
    become the password.

    Raises:
        DataError: what came isn't that patron, or is the answer to something else.
    """
    try:
        answer = gateway.call("open-ils.actor", _RETRIEVE, TOKEN, patron).value
    except (RecordNotFoundError, PermissionDeniedError):
        return None
    record = patron_in(gateway, answer, patron)
    if any(isinstance(value, dict | list) for value in record.to_wire()["__p"]):
        raise DataError("the ILS gave the patron in another form than was asked for", code="patron-in-another-form")
    return record.replace(passwd=None)


def patron_in(gateway: Gateway, answer: object, patron: int) -> Record:
    """The record that an answer is to be.

    Raises:
        DataError: it is something else, or somebody else's.
    """
    record = gateway.decode(answer)
    if not isinstance(record, Record) or record.class_id != "au" or record.id != patron:
        raise DataError("the ILS gave something else than the patron asked for", code="not-the-patron")
    return record


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


def fields_but(record: Record, changed: str) -> Iterator[tuple[str, object]]:
    """The fields of a record, with their values as they came, that a change of ``changed`` isn't to touch."""
    names = list(record._class.positions)
    for position, value in enumerate(record.to_wire()["__p"]):
        name = names[position] if position < len(names) else f"field {position}"
        if name != changed and name not in _ALWAYS_CHANGE and value is not None:
            yield name, value


def digest_but(record: Record, changed: str) -> str:
    """A digest of those fields: the same for two states that differ in nothing else. It tells nothing of them."""
    text = json.dumps(sorted(fields_but(record, changed)), default=str)
    return sha256(text.encode()).hexdigest()
