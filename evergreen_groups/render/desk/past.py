"""Entries of the journal as the desk reads them: who did what, and when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from evergreen_groups.changes import GROUP, PENALTIES, StepState
from evergreen_groups.render.desk.outcomes import OutcomeLine

if TYPE_CHECKING:
    from evergreen_groups.changes import JournalEntry, JournalStep

_ACTIONS = {
    "move": "moved",
    "remove": "removed from the group",
    "merge": "groups merged",
    "lead": "group lead",
    "batch": "changes from a file",
    "undo": "taken back",
    "recalculate": "penalties recalculated",
}
_STATES = {
    StepState.PLANNED: "not begun",
    StepState.SENDING: "not certain yet",
    StepState.NOT_DONE: "not done",
    StepState.FAILED: "refused",
}


@dataclass(frozen=True, slots=True)
class PastEntry:
    """An entry as a page shows it; ``hidden`` is how many of its changes are about patrons who aren't visible."""

    id: int
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
        what=_ACTIONS.get(entry.action, entry.action),
        by=by,
        lines=tuple(OutcomeLine(patrons[step.patron], _what(step)) for step in seen),
        hidden=hidden + len(entry.steps) - len(seen),
        may_undo=may_undo and any(step.state is StepState.DONE and step.field != PENALTIES for step in entry.steps),
        key=key,
    )


def _what(step: JournalStep) -> str:
    state = _STATES.get(step.state)
    return f"{_change(step)} ({state})" if state else _change(step)


def _change(step: JournalStep) -> str:
    if step.field == PENALTIES:
        return "penalties recalculated"
    if step.field != GROUP:
        return "made group lead" if step.after else "no longer group lead"
    to = step.after if step.after is not None else step.value
    return f"from group {step.before} to {'a group of their own' if to is None else f'group {to}'}"
