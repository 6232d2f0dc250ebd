"""Taking a change back: which of its steps still stand, and so can be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from evergreen_groups.changes.journal_step import PENALTIES, JournalEntry, StepState
from evergreen_groups.changes.plans import GROUP
from evergreen_groups.errors import PlanError
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from evergreen_groups.changes.journal_step import JournalStep
    from evergreen_groups.gateway import Record


_NOT_DONE = {
    StepState.PLANNED: Message("{name}: that change was only planned"),
    StepState.SENDING: Message("{name}: that change isn't known to be done"),
    StepState.NOT_DONE: Message("{name}: that change was not done"),
    StepState.FAILED: Message("{name}: that change failed"),
}
_DELETED = Message("{name} has been deleted since")
_IN_ANOTHER_GROUP = Message("{name} has been changed since and is now in group {group}")
_LEAD_NOW = Message("{name} has been changed since and is now a group lead")
_NO_LEAD_NOW = Message("{name} has been changed since and is now no group lead")


@dataclass(frozen=True, slots=True)
class StepBack:
    """A step that can be taken back: by setting the ``field`` of a patron (an id) to what it was ``before``.

    ``now`` is what it is.
    """

    patron: int
    field: str
    now: int
    before: int


@dataclass(frozen=True, slots=True)
class NoStepBack:
    """A step that can't be: why, as a text with the patron's ``{name}`` in it."""

    patron: int
    text: Message
    values: Mapping[str, object] = field(default_factory=dict)

    def described(self, name: str) -> Message:
        """Why, about a patron of this name."""
        return Message(self.text.text, values={**self.values, "name": name})


def refuse_what_is_final(entry: JournalEntry) -> None:
    """Refuse what can't be taken back as a whole.

    Raises:
        PlanError: the entry is a recalculation of penalties, or part of it isn't kept any more.
    """
    if entry.missing_step_count:
        raise PlanError(
            "entry {entry} can't be taken back as a whole: {missing} of its {count} changes aren't kept any more",
            advice="change back manually what is to be as it was; `journal {entry}` shows the rest",
            code="entry-partly-forgotten",
            values={
                "entry": entry.id,
                "missing": entry.missing_step_count,
                "count": len(entry.steps) + entry.missing_step_count,
            },
        )
    if any(step.field == PENALTIES for step in entry.steps):
        raise PlanError(
            "a recalculation can't be taken back: the ILS decides which penalties there are",
            code="recalculation-final",
        )


def steps_back(entry: JournalEntry, records: Mapping[int, Record]) -> Iterator[StepBack | NoStepBack]:
    """What becomes of each step of those patrons whom the account sees, the last first, as one goes back.

    ``records`` are theirs, by id, as they are where changes are written. Of others nothing is said, not even their ids:
    the change may be another's.
    """
    for step in reversed(entry.steps):
        record = records.get(step.patron)
        if record is None:
            continue
        if step.state is not StepState.DONE:
            yield NoStepBack(step.patron, _NOT_DONE[step.state])
        elif record.deleted:
            yield NoStepBack(step.patron, _DELETED)
        else:
            yield from _one_back(step, record)


def _one_back(step: JournalStep, record: Record) -> Iterator[StepBack | NoStepBack]:
    # Taken back only where the ILS still has what was put there: a later change is somebody else's.
    now = int(record.usrgroup) if step.field == GROUP else int(bool(record.master_account))
    if now != step.value:
        if step.field == GROUP:
            yield NoStepBack(step.patron, _IN_ANOTHER_GROUP, {"group": now})
        else:
            yield NoStepBack(step.patron, _LEAD_NOW if now else _NO_LEAD_NOW)
    elif now != step.before:
        yield StepBack(step.patron, step.field, now, step.before)
