"""The patrons whose records were changed while many were being read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING

from evergreen_groups.gateway import columns

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups.queries import Query

# Our clock and the database's may differ. A patron too many costs a row, one too few would be counted nowhere.
_CLOCKS_DIFFER = timedelta(minutes=30)
_FIELDS = ("id", "usrgroup")


class ChangedPatrons:
    """Looks up whose records were changed since a moment, this one, and in which groups they are.

    The database itself writes ``last_update_time`` with every change of a patron, a move among them (the trigger
    ``au_update_trig`` in ``Open-ILS/src/sql/Pg/005.schema.actors.sql``).
    """

    def __init__(self, gateway: Gateway, visible: Query) -> None:
        """``visible`` is a condition on patrons (``au``) that names the home libraries the account sees."""
        self._gateway = gateway
        self._visible = visible
        self._since = datetime.now(UTC) - _CLOCKS_DIFFER
        self._known: dict[int, int] = {}

    def groups(self) -> dict[int, int]:
        """The group of each patron who was changed, by id; without those who were told earlier, in the same group."""
        since = self._since.strftime("%Y-%m-%dT%H:%M:%S+0000")
        where = {**self._visible, "last_update_time": {">=": since}}
        pages = self._gateway.pcrud.pages("au", where, select=_FIELDS, concurrency=1, all_visible=True)
        changed = dict(chain.from_iterable(columns(page, *_FIELDS) for page in pages))
        new = {id: group for id, group in changed.items() if self._known.get(id) != group}
        self._known = changed
        return new
