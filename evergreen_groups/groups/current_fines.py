"""What members of groups owe where that is written, for sites whose plain reads come from copies."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from evergreen_groups.errors import PermissionDeniedError
from evergreen_groups.groups.hidden_members import read_balances
from evergreen_groups.ils import read_fines_of

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway


def put_fines_right(
    gateway: Gateway, groups: Sequence[int], patrons: Collection[int], read: Callable[[], Mapping[int, Decimal]]
) -> Mapping[int, Decimal]:
    """What ``patrons`` (ids) of some groups owe where that is written; ``read`` gives what pcrud says.

    Where plain reads come from copies of the database, one call beside that, and one for each patron of whom the two
    say different things. Else, and where the session may not know, it is what was read.
    """
    if not groups or not gateway.reads_copies:
        return read()
    readers: tuple[Callable[[], Any], ...] = (read, lambda: _balances(gateway, groups))
    fines, now = gateway.map(lambda read: read(), readers)
    found = {**fines}
    doubtful = [] if now is None else sorted(id for id in patrons if fines.get(id) != now.get(id))
    owed_now = gateway.map(lambda id: _owed_by(gateway, id, fines.get(id)), doubtful)
    for id, owed in zip(doubtful, owed_now, strict=True):
        found.pop(id, None)
        if owed is not None:
            found[id] = owed
    return found


def _balances(gateway: Gateway, groups: Sequence[int]) -> Mapping[int, Decimal] | None:
    try:
        return read_balances(gateway, *groups, current=True)
    except PermissionDeniedError:
        return None


def _owed_by(gateway: Gateway, id: int, read: Decimal | None) -> Decimal | None:
    # An answer about one says whose it is, which a list of groups' balances doesn't.
    try:
        return read_fines_of(gateway, id, current=True)
    except PermissionDeniedError:
        return read
