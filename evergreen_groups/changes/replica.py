"""Allow for replica lag: which patrons have changes so recent that a replica may not have them yet."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import select

from evergreen_groups.changes.journal import PENALTIES
from evergreen_groups.errors import EvergreenGroupsError
from evergreen_groups.state import schema
from evergreen_groups.threads import begin

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.state import State

MAX_REPLICA_LAG = timedelta(minutes=15)
"""The largest replica lag to allow for. A replica further behind has stopped, and its site has bigger problems."""
_TIMEOUT = 0.5  # seconds; a query normally takes a millisecond or two


@dataclass(frozen=True, slots=True)
class RecentlyChanged:
    """Patrons (ids) with recent changes. Of those in ``recalculated``, the penalties may have changed.

    None means unknown: it may be any patron.
    """

    patrons: frozenset[int] | None = frozenset()
    recalculated: frozenset[int] | None = frozenset()


def recently_changed(gateway: Gateway, state: State) -> RecentlyChanged:
    """Return the patrons with recent changes in the journal; none if plain reads never come from a replica."""
    if not gateway.reads_replicas or not state.database.is_there:
        return RecentlyChanged()
    steps, since = schema.steps, state.database.now() - MAX_REPLICA_LAG
    query = select(steps.c.patron, steps.c.field).where(steps.c.gateway == gateway.url, steps.c.touched_at >= since)
    with state.database.reading() as connection:
        found = connection.execute(query).all()
    recalculated = frozenset(row.patron for row in found if row.field == PENALTIES)
    return RecentlyChanged(frozenset(row.patron for row in found), recalculated)


def recently_changed_or_unknown(gateway: Gateway, state: State) -> RecentlyChanged:
    """Return the patrons with recent changes, or any patron if the journal doesn't answer at once.

    A database server that hangs must not hold up the reader.
    """
    if not gateway.reads_replicas:
        return RecentlyChanged()
    try:
        if state.database.path is not None:  # SQLite: readers never wait
            return recently_changed(gateway, state)
        return begin(partial(recently_changed, gateway, state)).result(_TIMEOUT)
    except (EvergreenGroupsError, TimeoutError):
        return RecentlyChanged(None, None)
