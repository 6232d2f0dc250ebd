"""Entries of the journal as the desk reads them: who did what, and when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from evergreen_groups.changes import GROUP, PENALTIES, StepState
from evergreen_groups.language import gettext, pgettext
from evergreen_groups.message import Message
from evergreen_groups.render.desk.outcomes import OutcomeLine

if TYPE_CHECKING:
    from evergreen_groups.changes import JournalEntry, JournalStep

_ACTIONS = {
    "move": Message("moved", context="what was done"),
    "remove": Message("removed from the group", context="what was done"),
    "merge": Message("groups merged", context="what was done"),
    "lead": Message("group lead changed", context="what was done"),
    "batch": Message("changes from a file", context="what was done"),
    "undo": Message("taken back", context="what was done"),
    "recalculate": Message("penalties recalculated", context="what was done"),
}
# Those that aren't done.
_STATES = {
    StepState.PLANNED: Message("{change} (not begun)"),
    StepState.SENDING: Message("{change} (not certain yet)"),
    StepState.UNCHANGED: Message("{change} (unchanged)"),
    StepState.NOT_DONE: Message("{change} (not done)"),
    StepState.FAILED: Message("{change} (refused)"),
}


@dataclass(frozen=True, slots=True)
class PastEntry:
    """An entry as a page shows it; ``hidden`` is how many of its changes are about patrons who aren't visible."""

    id: str
    at: datetime
    what: str
    by: str
    lines: tuple[OutcomeLine, ...]
    hidden: int
    may_undo: bool
    key: str


def past_entry(
    entry: JournalEntry, patrons: Mapping[int, str], *, by: str, hidden: int = 0, may_undo: bool = False, key: str = ""
) -> PastEntry:
    """Make what is shown of an entry: ``patrons`` are the names of the visible ones by id, ``hidden`` the others."""
    seen = [step for step in entry.steps if step.patron in patrons]
    return PastEntry(
        id=entry.id,
        at=entry.at,
        what=gettext(_ACTIONS[entry.action]) if entry.action in _ACTIONS else entry.action,
        by=by,
        lines=tuple(OutcomeLine(patrons[step.patron], _what(step)) for step in seen),
        hidden=hidden + len(entry.steps) - len(seen),
        may_undo=may_undo and any(step.state is StepState.DONE and step.field != PENALTIES for step in entry.steps),
        key=key,
    )


def _what(step: JournalStep) -> str:
    state = _STATES.get(step.state)
    return gettext(state, change=_change(step)) if state else _change(step)


def _change(step: JournalStep) -> str:
    if step.field == PENALTIES:
        return pgettext("what was done", "penalties recalculated")
    if step.field != GROUP:
        if step.after:
            return pgettext("what was done", "made group lead")
        return pgettext("what was done", "no longer group lead")
    to = step.after if step.after is not None else step.value
    if to is None:
        return gettext("from group {before} to a group of their own", before=step.before)
    return gettext("from group {before} to group {after}", before=step.before, after=to)
