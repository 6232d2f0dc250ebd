"""Which steps of a journal entry can be undone, and why the others can't."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from evergreen_groups.changes.journal import GROUP, PENALTIES, JournalEntry, StepState
from evergreen_groups.errors import PlanError
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from evergreen_groups.changes.journal import JournalStep
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
class Reversal:
    """A step that can be undone by resetting a field of a patron (id) from ``now`` to ``before``."""

    patron: int
    field: str
    now: int
    before: int


@dataclass(frozen=True, slots=True)
class Irreversible:
    """A step that can't be undone. ``text`` says why and contains a placeholder for the patron's ``{name}``."""

    patron: int
    text: Message
    values: Mapping[str, object] = field(default_factory=dict)

    def described(self, name: str) -> Message:
        """Return the reason with the patron's name filled in."""
        return Message(self.text.text, values={**self.values, "name": name})


def refuse_irreversible(entry: JournalEntry) -> None:
    """Refuse to undo an entry that can't be undone as a whole.

    Raises:
        PlanError: the entry is a recalculation of penalties, or some of its steps have been deleted.
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


def refuse_without_reversals(
    entry: JournalEntry, found: Sequence[Reversal | Irreversible], hidden: Sequence[Message]
) -> None:
    """Refuse to undo an entry if none of its steps can be undone.

    ``hidden`` holds at most one text, about the patrons whom the account can't see.

    Raises:
        PlanError: nothing can be undone. The error gives the reasons, with patrons' ids.
    """
    if any(isinstance(step, Reversal) for step in found):
        return
    in_place = [step for step in found if isinstance(step, Irreversible)]
    texts = {step.text.text for step in in_place}
    if _UNDONE.text in texts and not hidden and texts <= {_UNDONE.text, *(text.text for text in _NOT_DONE.values())}:
        raise PlanError("entry {entry} is already undone", code="already-undone", values={"entry": entry.id})
    named = [step.described(Message("patron {patron}", values={"patron": step.patron})) for step in in_place]
    raise PlanError(
        "nothing to undo in entry {entry}: {reasons}",
        code="nothing-to-undo",
        values={"entry": entry.id, "reasons": (*named[:_MOST_NAMED], *hidden)},
    )


def reversals(
    entry: JournalEntry, records: Mapping[int, Record], is_late_duplicate: Callable[[JournalStep, Record], bool]
) -> Iterator[Reversal | Irreversible]:
    """Yield how to undo each step of the visible patrons, or why not, in reverse order.

    ``records`` are the visible patrons' records from the primary, by id. Steps of hidden patrons yield nothing, not
    even an id, because the change may be another user's. ``is_late_duplicate`` returns whether a late duplicate of a
    step's request has moved its patron from the group that the step made to a second new one.
    """
    former = dict(records)
    for step in reversed(entry.steps):
        record = former.get(step.patron)
        if record is None:
            continue
        found = _reversal(step, record, is_late_duplicate)
        yield found
        if isinstance(found, Reversal):  # the earlier steps apply to the record after this undo
            value = found.before if found.field == GROUP else bool(found.before)
            former[step.patron] = record.replace(**{found.field: value})


def _reversal(
    step: JournalStep, record: Record, is_late_duplicate: Callable[[JournalStep, Record], bool]
) -> Reversal | Irreversible:
    if step.state is not StepState.DONE:
        return Irreversible(step.patron, _NOT_DONE[step.state])
    if record.deleted:
        return Irreversible(step.patron, _DELETED)
    now = int(record.usrgroup) if step.field == GROUP else int(bool(record.master_account))
    if now == step.before:
        return Irreversible(step.patron, _UNDONE)
    # Undo only if Evergreen still has the step's value. Any other value is a later change by another user.
    if now == step.value or (step.field == GROUP and step.after is None and is_late_duplicate(step, record)):
        return Reversal(step.patron, step.field, now, step.before)
    if step.field == GROUP:
        return Irreversible(step.patron, _IN_ANOTHER_GROUP, {"group": now})
    return Irreversible(step.patron, _LEAD_NOW if now else _NO_LEAD_NOW)
