"""Whom we have changed so recently that a copy of the ILS's database may not have it yet."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from evergreen_groups.changes import clock
from evergreen_groups.changes.journal_step import PENALTIES

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.state import State

COPIED_WITHIN = timedelta(minutes=15)
"""How far behind a copy may be; one that is further behind has stopped, and its site has other troubles."""


@dataclass(frozen=True, slots=True)
class RecentlyChanged:
    """The ``patrons`` (ids) of the last changes; of those ``recalculated``, penalties may be others by now."""

    patrons: frozenset[int] = frozenset()
    recalculated: frozenset[int] = frozenset()


def recently_changed(gateway: Gateway, state: State) -> RecentlyChanged:
    """Whom the journal in ``state`` names; nobody at a site whose plain reads don't come from copies.

    Raises:
        StateError: the journal can't be read.
    """
    if not gateway.reads_copies or not state.database.is_there:
        return RecentlyChanged()
    from sqlalchemy import select  # takes long to import

    from evergreen_groups.state import schema

    steps = schema.steps
    query = select(steps.c.patron, steps.c.field).where(
        steps.c.gateway == gateway.url, steps.c.touched_at >= clock.now() - COPIED_WITHIN
    )
    with state.database.reading() as connection:
        found = connection.execute(query).all()
    return RecentlyChanged(
        frozenset(row.patron for row in found), frozenset(row.patron for row in found if row.field == PENALTIES)
    )
