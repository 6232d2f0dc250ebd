"""Whom we have changed so recently that a copy of the ILS's database may not have it yet."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from evergreen_groups.changes.journal_step import PENALTIES
from evergreen_groups.errors import EvergreenGroupsError

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.state import State

_AT_ONCE = 0.5  # seconds; it takes a millisecond or two
COPIED_WITHIN = timedelta(minutes=15)
"""How far behind a copy may be; one that is further behind has stopped, and its site has other troubles."""


@dataclass(frozen=True, slots=True)
class RecentlyChanged:
    """The ``patrons`` (ids) of the last changes; of those ``recalculated``, penalties may be others by now.

    None: it isn't known, so anybody may be one of them.
    """

    patrons: frozenset[int] | None = frozenset()
    recalculated: frozenset[int] | None = frozenset()


ANYBODY = RecentlyChanged(None, None)


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
        steps.c.gateway == gateway.url, steps.c.touched_at >= state.database.now() - COPIED_WITHIN
    )
    with state.database.reading() as connection:
        found = connection.execute(query).all()
    return RecentlyChanged(
        frozenset(row.patron for row in found), frozenset(row.patron for row in found if row.field == PENALTIES)
    )


def recently_changed_at_once(gateway: Gateway, state: State) -> RecentlyChanged:
    """Whom the journal names, or anybody where it can't be read at once: nobody waits for a server that hangs."""
    if not gateway.reads_copies:
        return RecentlyChanged()
    found = [ANYBODY]

    def read() -> None:
        with suppress(EvergreenGroupsError):
            found.append(recently_changed(gateway, state))

    if state.database.path is not None:  # a file's readers wait for nobody
        read()
    else:
        reading = threading.Thread(target=read, name="state", daemon=True)
        reading.start()
        reading.join(_AT_ONCE)
    return found[-1]
