"""Which kind an open circulation is of, told by its row as the ILS's own view tells (``ocirccount`` in the IDL)."""

from __future__ import annotations

import re
from datetime import datetime
from enum import Enum

from evergreen_groups.errors import DataError
from evergreen_groups.odd_dates import known

_DAY = 86_400
# As PostgreSQL compares intervals (interval_cmp_value): a month is 30 days, a day is 24 hours.
_SECONDS = {"year": 360 * _DAY, "mon": 30 * _DAY, "day": _DAY}
_PARTS = re.compile(r"(?P<number>[+-]?\d{1,9}) (?P<unit>year|mon|day)s?", re.ASCII)
_TIME = re.compile(r"(?P<sign>[+-]?)(?P<hours>\d{1,9}):(?P<minutes>\d\d):(?P<seconds>\d\d)(?:\.\d+)?", re.ASCII)


class CirculationKind(Enum):
    """The kinds that the ILS counts apart; the values are its own names for them."""

    OUT = "out"
    OVERDUE = "overdue"
    LOST = "lost"
    CLAIMS_RETURNED = "claims_returned"
    LONG_OVERDUE = "long_overdue"


_STOPPED = {
    "LOST": CirculationKind.LOST,
    "CLAIMSRETURNED": CirculationKind.CLAIMS_RETURNED,
    "LONGOVERDUE": CirculationKind.LONG_OVERDUE,
}


def kind_of(
    stop_fines: str | None,
    due_date: datetime | None,
    fine_interval: str | None,
    *,
    finished: bool,
    now: datetime,
) -> CirculationKind | None:
    """The kind of a circulation that hasn't been checked in, None for one that the ILS counts nowhere.

    ``finished`` says that its transaction is: all that was lost with it has been paid. ``now`` is aware.

    >>> from datetime import UTC
    >>> noon, midnight = datetime(2026, 11, 2, 12, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC)
    >>> kind_of(None, midnight, "1 day", finished=False, now=noon)
    <CirculationKind.OUT: 'out'>
    >>> kind_of(None, midnight, "01:00:00", finished=False, now=noon)
    <CirculationKind.OVERDUE: 'overdue'>

    Raises:
        DataError: the fine interval isn't one that PostgreSQL writes.
    """
    stopped = _STOPPED.get(stop_fines or "")
    if stopped is not None:
        # What is claimed to have been returned counts whether anything is owed for it or not.
        return None if finished and stopped is not CirculationKind.CLAIMS_RETURNED else stopped
    if due_date is None or fine_interval is None:
        return None  # a comparison with null is neither true nor false
    if known(due_date) is None:
        return CirculationKind.OUT  # the ILS compares the infinity that it has stored
    if seconds_of(fine_interval) >= _DAY:
        # What is fined by the day is overdue from the day after. The server's 'today' begins by its own clock, which
        # the times that it writes are in.
        late = due_date.date() < now.astimezone(due_date.tzinfo).date()
    else:
        late = due_date < now
    return CirculationKind.OVERDUE if late else CirculationKind.OUT


def seconds_of(interval: str) -> int:
    """How long an interval is, in whole seconds, as PostgreSQL writes and compares them.

    >>> seconds_of("1 day"), seconds_of("23:59:59"), seconds_of("1 mon -1 days +00:00:01")
    (86400, 86399, 2505601)

    Raises:
        DataError: it is none.
    """
    total, rest = 0, interval.strip()
    for part in _PARTS.finditer(interval):
        total += int(part["number"]) * _SECONDS[part["unit"]]
        rest = rest.replace(part.group(), "", 1).strip()
    time = _TIME.fullmatch(rest)
    if time is not None:
        seconds = int(time["hours"]) * 3600 + int(time["minutes"]) * 60 + int(time["seconds"])
        total += -seconds if time["sign"] == "-" else seconds
    elif rest or not interval.strip():
        raise DataError("the ILS gave a fine interval that isn't a length of time", code="interval-broken")
    return total
