"""Taking a change back: which of its steps still stand, and so can be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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
    StepState.UNCHANGED: Message("{name}: there was nothing to change"),
    StepState.NOT_DONE: Message("{name}: that change was not done"),
    StepState.FAILED: Message("{name}: that change failed"),
}
_UNDONE = Message("{name}: that change is already undone")
_DELETED = Message("{name} has been deleted since")
_IN_ANOTHER_GROUP = Message("{name} has been changed since and is now in group {group}")
_LEAD_NOW = Message("{name} has been changed since and is now a group lead")
_NO_LEAD_NOW = Message("{name} has been changed since and is now no group lead")
_MOST_NAMED = 10


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


def refuse_nothing(entry: JournalEntry, found: Sequence[StepBack | NoStepBack], hidden: Sequence[Message]) -> None:
    """Refuse to undo an entry of which nothing can be undone.

    ``hidden`` says whom the account can't see, in one sentence or none.

    Raises:
        PlanError: it says why, by patrons' ids.
    """
    if any(isinstance(step, StepBack) for step in found):
        return
    in_place = [step for step in found if isinstance(step, NoStepBack)]
    texts = {step.text.text for step in in_place}
    if _UNDONE.text in texts and not hidden and texts <= {_UNDONE.text, *(text.text for text in _NOT_DONE.values())}:
        raise PlanError("entry {entry} is already undone", code="already-undone", values={"entry": entry.id})
    named = [step.described(Message("patron {patron}", values={"patron": step.patron})) for step in in_place]
    raise PlanError(
        "nothing to undo in entry {entry}: {reasons}",
        code="nothing-to-undo",
        values={"entry": entry.id, "reasons": (*named[:_MOST_NAMED], *hidden)},
    )


def steps_back(
    entry: JournalEntry, records: Mapping[int, Record], is_late_copy: Callable[[JournalStep, Record], bool]
) -> Iterator[StepBack | NoStepBack]:
    """Yield what becomes of each step of the patrons whom the account sees, in reverse order.

    ``records`` are theirs, by id, as they are where changes are written. Nothing is said of other patrons, not even
    their ids: the change may be another user's. ``is_late_copy`` says whether a patron who isn't in the group that a
    step made is in the one that a late copy of its request made.
    """
    former = dict(records)
    for step in reversed(entry.steps):
        record = former.get(step.patron)
        if record is None:
            continue
        found = _one_back(step, record, is_late_copy)
        yield found
        if isinstance(found, StepBack):  # what the step before is compared with
            value = found.before if found.field == GROUP else bool(found.before)
            former[step.patron] = record.replace(**{found.field: value})


def _one_back(
    step: JournalStep, record: Record, is_late_copy: Callable[[JournalStep, Record], bool]
) -> StepBack | NoStepBack:
    if step.state is not StepState.DONE:
        return NoStepBack(step.patron, _NOT_DONE[step.state])
    if record.deleted:
        return NoStepBack(step.patron, _DELETED)
    now = int(record.usrgroup) if step.field == GROUP else int(bool(record.master_account))
    if now == step.before:
        return NoStepBack(step.patron, _UNDONE)
    # Undone only where Evergreen still has what was put there: a later change is somebody else's.
    if now == step.value or (step.field == GROUP and step.after is None and is_late_copy(step, record)):
        return StepBack(step.patron, step.field, now, step.before)
    if step.field == GROUP:
        return NoStepBack(step.patron, _IN_ANOTHER_GROUP, {"group": now})
    return NoStepBack(step.patron, _LEAD_NOW if now else _NO_LEAD_NOW)
