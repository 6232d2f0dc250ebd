"""Taking a change back: which of its steps still stand, and so can be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen_groups.changes.journal_step import PENALTIES, JournalEntry, StepState
from evergreen_groups.changes.plans import GROUP
from evergreen_groups.errors import PlanError

if TYPE_CHECKING:
    from evergreen_groups.changes.journal_step import JournalStep
    from evergreen_groups.gateway import Record


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
    """A step that can't be: why, in words that go after the patron's name."""

    patron: int
    reason: str


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
            state = "isn't known to be done" if step.state is StepState.SENDING else f"was {step.state.value}"
            yield NoStepBack(step.patron, f": that change {state}")
        else:
            yield from _one_back(step, record)


def _one_back(step: JournalStep, record: Record) -> Iterator[StepBack | NoStepBack]:
    # Taken back only where the ILS still has what was put there: a later change is somebody else's.
    now = int(record.usrgroup) if step.field == GROUP else int(bool(record.master_account))
    if now != step.value:
        what = f"in group {now}" if step.field == GROUP else ("a group lead" if now else "no group lead")
        yield NoStepBack(step.patron, f" has been changed since and is now {what}")
    elif now != step.before:
        yield StepBack(step.patron, step.field, now, step.before)
