"""Changes that earlier runs left open, looked up by jobs that change nothing themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evergreen_groups.changes.journal_step import JournalStep
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.state import State


def recover_by_reading(gateway: Gateway, state: State) -> list[JournalStep]:
    """Look up what earlier runs left open, for a job that changes nothing itself; gives the steps that ended.

    Nothing is asked where nothing is open; of patrons whom somebody is changing now, that run looks itself.

    Raises:
        StateError: the journal can't be used.
        GatewayError: the ILS can't be reached, or the session has ended.
    """
    from evergreen_groups.changes.journal import Journal  # with it comes SQLAlchemy, which takes long to import

    if not state.database.is_there or not Journal(state.database).open_steps(gateway.url):
        return []
    from evergreen_groups.changes.journal_step import Operator
    from evergreen_groups.changes.journaled import JournaledChanges  # on most nights nothing is open

    return JournaledChanges(gateway, state, Operator("")).recover()
