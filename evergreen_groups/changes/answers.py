"""What the answer to a write says: yes, no, or neither, in which case the record is read back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evergreen_groups.errors import (
    EventError,
    LoginRefusedError,
    RequestTooLargeError,
    ServiceNotFoundError,
    TransportError,
)
from evergreen_groups.gateway import whole_number

if TYPE_CHECKING:
    from evergreen_groups.errors import GatewayError
    from evergreen_groups.gateway import Record

_NOES = frozenset({"NO_SESSION", "PERM_FAILURE", "XACT_COLLISION", "DATABASE_UPDATE_FAILED"})


class UnclearAnswer(Exception):  # noqa: N818 - nobody is told of it: the record is read back instead
    """A write was answered with neither yes nor no."""


@dataclass(frozen=True, slots=True)
class Written:
    """What an update's answer says of the record as it was written: the mark of this very write, and the value."""

    last_xact_id: str
    value: int


def is_no(error: GatewayError) -> bool:
    """Whether an error says that nothing was written.

    Of events that's a closed list: those that ``OpenILS/Application/Actor.pm`` (``update_patron``,
    ``update_penalties``) and ``Actor/UserGroups.pm`` (``reset_group``) give before they commit. Any other may come
    after: ``update_patron`` reads the patron again when it has committed, and gives the event of that, such as
    ``DATABASE_QUERY_FAILED`` or ``ACTOR_USER_NOT_FOUND``.

    A login that is refused is one that was to renew the session, which had ended before anything was done.
    """
    if isinstance(error, LoginRefusedError | RequestTooLargeError):
        return True
    return isinstance(error, EventError) and error.textcode in _NOES


def never_left(error: GatewayError) -> bool:
    """Whether the request hasn't left this machine.

    What the gateway says of a missing service it may also say of one that is stopped in the middle of its work.
    """
    return isinstance(error, TransportError) and not (error.sent or isinstance(error, ServiceNotFoundError))


def group_number(answer: Any) -> int:
    """The number of a new group, which comes as a text (``usergroup-new-001``).

    Raises:
        UnclearAnswer: it's something else.
    """
    number = whole_number(answer)
    if number is None or number < 0:
        raise UnclearAnswer
    return number


def written(answer: Any, record: Record, field: str) -> Written:
    """What the patron that an update gives back says of the write (``xact-collision-002``).

    Raises:
        UnclearAnswer: it's something else, or the record as it was before.
    """
    positions = record._class.positions
    try:
        values = answer["__p"]
        mark, value = values[positions["last_xact_id"]], values[positions[field]]
        is_theirs = answer["__c"] == record.class_id and str(values[positions["id"]]) == str(record.id)
        if is_theirs and isinstance(mark, str) and mark not in ("", record.last_xact_id):
            return Written(mark, _number(value))
    except (TypeError, KeyError, IndexError, ValueError):
        pass
    raise UnclearAnswer


def _number(value: Any) -> int:
    """The number of a group, or 1 and 0 for yes and no."""
    return int({"t": 1, "f": 0}.get(value, value) if isinstance(value, str) else value)
