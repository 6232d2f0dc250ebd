"""How old something is, where the clock that says so may be wrong."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import date, timedelta
from typing import TypeVar

log = logging.getLogger("evergreen_groups.state")

Moment = TypeVar("Moment", bound=date)  # a datetime is one

LONGEST_PAUSE = timedelta(days=3 * 365)
"""Where more than this lies between two runs, a clock was or is wrong rather than nobody has run anything."""


def believed_since(
    times: Iterable[Moment], now: Moment, what: str, *, longest_pause: timedelta = LONGEST_PAUSE
) -> Moment:
    """The earliest of ``times`` that hangs together with ``now``: nothing before it may be thrown away for its age.

    A clock that is decades ahead for one night would make everything look too old. So a gap of more than
    ``longest_pause`` ends what is believed, and is logged as an error, with ``what`` the times are of. Times after
    ``now`` are passed over.

    >>> believed_since([date(2026, 8, 13), date(2026, 8, 14)], date(2099, 1, 1), "of the reports")
    datetime.date(2099, 1, 1)
    >>> believed_since([date(2026, 8, 13), date(2026, 8, 14)], date(2026, 8, 15), "of the reports")
    datetime.date(2026, 8, 13)
    """
    since = now
    for time in sorted((time for time in times if time <= now), reverse=True):
        if since - time > longest_pause:
            log.error(
                "nothing %s before %s is removed for its age: years lie between that and %s; was a clock wrong?",
                what,
                f"{since:%Y-%m-%d}",
                f"{time:%Y-%m-%d}",
            )
            break
        since = time
    return since
