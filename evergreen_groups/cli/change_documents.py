"""The JSON documents of plans and the journal: those of the hooks, with fields only the command line has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from evergreen_groups import hooks
from evergreen_groups.changes import Change, StepState
from evergreen_groups.language import ENGLISH, use_language

if TYPE_CHECKING:
    from evergreen_groups.changes import Draft, JournalEntry
    from evergreen_groups.state import State

_UNDECIDED = (StepState.PLANNED, StepState.SENDING)


def draft_document(draft: Draft) -> dict[str, Any]:
    """Return a plan that wasn't applied."""
    with use_language(ENGLISH):
        return hooks.as_json(draft)


def entry_document(state: State, entry: JournalEntry) -> dict[str, Any]:
    """Return a journal entry with its account, terminal and gateway."""
    with use_language(ENGLISH):
        document = hooks.as_json(_change(state, entry))
    return {
        **document,
        "account": entry.operator.account,
        "command_line": _terminal_user(entry),
        "gateway": entry.gateway,
        "missing_step_count": entry.missing_step_count,
    }


def _terminal_user(entry: JournalEntry) -> dict[str, str | None] | None:
    """Return the terminal user, None for changes made at a desk or by earlier releases."""
    terminal_user = entry.operator.terminal_user
    if terminal_user is None:
        return None
    return {
        "user": terminal_user.user,
        "login_user": terminal_user.login_user,
        "terminal": terminal_user.terminal,
        "host": terminal_user.host,
    }


def entries_document(state: State, entries: Iterable[JournalEntry]) -> dict[str, Any]:
    """Return journal entries in the given order."""
    return {**hooks.as_json([]), "changes": [entry_document(state, entry) for entry in entries]}


def _change(state: State, entry: JournalEntry) -> Change:
    """Return an entry as a change of the caller's own: changes without a staff user's id come from the command line."""
    undecided = {step.patron for step in entry.steps if step.state in _UNDECIDED}
    return Change(
        entry,
        is_under_way=bool(undecided) and state.is_being_changed(entry.gateway, undecided),
        is_own=entry.operator.staff is None,
    )
