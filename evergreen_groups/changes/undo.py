"""Which steps of a journal entry can be undone, and why the others can't."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from evergreen_groups.changes.journal import GROUP, PENALTIES, JournalEntry, StepState, StoredStep
from evergreen_groups.changes.outcome_check import has_late_duplicate
from evergreen_groups.errors import PlanError, not_visible
from evergreen_groups.groups import read_patron
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from evergreen_groups.changes.journal import JournalStep
    from evergreen_groups.gateway import Gateway, Record

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
class Irreversible:
    """A step that can't be undone. ``text`` says why and contains a placeholder for the patron's ``{name}``."""

    patron: int
    text: Message
    values: Mapping[str, object] = field(default_factory=dict)

    def described(self, name: str) -> Message:
        """Return the reason with the patron's name filled in."""
        return Message(self.text.text, values={**self.values, "name": name})


@dataclass(frozen=True, slots=True)
class Reversals:
    """The ``steps`` that undo an entry, in reverse order, and why the ``others`` can't be undone.

    ``records`` are the visible patrons' records, by id. ``hidden`` has at most one text, with the number of hidden
    patrons. It doesn't name them, because the change may be another user's.
    """

    records: Mapping[int, Record]
    steps: Sequence[StoredStep]
    others: Sequence[Irreversible]
    hidden: Sequence[Message]


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


def find_reversals(
    gateway: Gateway,
    entry: JournalEntry,
    now: datetime,
    moved_since: Collection[int],
    visible: Collection[int] | None = None,
) -> Reversals:
    """Find out how to undo the steps of an entry.

    Read the patrons' records from the primary: a replica may not have the change that is to be undone. ``now`` is the
    time by the state database's clock. ``moved_since`` has the ids of patrons whom later entries move. ``visible`` are
    the patrons (ids) who are known to be visible; the default is to find out.

    Raises:
        NotFoundError: one of ``visible`` has just become hidden.
        PlanError: nothing can be undone. The error gives the reasons, with patrons' ids.
    """
    patrons = sorted({step.patron for step in entry.steps} if visible is None else visible)
    read = zip(patrons, gateway.map(partial(read_patron, gateway), patrons), strict=True)
    records = {id: record for id, record in read if record is not None}
    gone = set(visible or ()) - records.keys()
    if gone:  # fail instead of skipping them
        raise not_visible("patron {patron} can't be read", code="patron-not-read", values={"patron": min(gone)})
    former = dict(records)
    steps: list[StoredStep] = []
    others: list[Irreversible] = []
    for step in reversed(entry.steps):
        if step.patron not in former:
            continue
        record = former[step.patron]
        is_same = step.patron not in moved_since
        found = _irreversible(step, record) or _changed_since(gateway, step, record, now, may_be_late=is_same)
        if found is not None:
            others.append(found)
            continue
        lead = bool(records[step.patron].master_account)
        steps.append(StoredStep(step.patron, step.field, _value(step, record), step.before, lead=lead))
        # The earlier steps apply to the record after this undo.
        value = step.before if step.field == GROUP else bool(step.before)
        former[step.patron] = record.replace(**{step.field: value})
    count = len({step.patron for step in entry.steps} - records.keys())
    text = Message(
        "{count} patron can't be seen by the account",
        plural="{count} patrons can't be seen by the account",
        values={"count": count},
    )
    hidden = [text] if count else []
    if not steps:
        raise _nothing_to_undo(entry, others, hidden)
    return Reversals(records, steps, others, hidden)


def _value(step: JournalStep, record: Record) -> int:
    return int(record.usrgroup) if step.field == GROUP else int(bool(record.master_account))


def _irreversible(step: JournalStep, record: Record) -> Irreversible | None:
    if step.state is not StepState.DONE:
        return Irreversible(step.patron, _NOT_DONE[step.state])
    if record.deleted:
        return Irreversible(step.patron, _DELETED)
    return Irreversible(step.patron, _UNDONE) if _value(step, record) == step.before else None


def _changed_since(
    gateway: Gateway, step: JournalStep, record: Record, at: datetime, *, may_be_late: bool
) -> Irreversible | None:
    """Return why a later change rules out the undo, or None if Evergreen still has the step's value.

    ``may_be_late`` says that a late duplicate of the step's request may have moved the patron from the group that the
    step made to a second new one.
    """
    now = _value(step, record)
    if now == step.value:
        return None
    if step.field != GROUP:
        return Irreversible(step.patron, _LEAD_NOW if now else _NO_LEAD_NOW)
    if step.after is None and may_be_late and has_late_duplicate(gateway, step, record, at):
        return None
    return Irreversible(step.patron, _IN_ANOTHER_GROUP, {"group": now})


def _nothing_to_undo(entry: JournalEntry, found: Sequence[Irreversible], hidden: Sequence[Message]) -> PlanError:
    texts = {step.text.text for step in found}
    if _UNDONE.text in texts and not hidden and texts <= {_UNDONE.text, *(text.text for text in _NOT_DONE.values())}:
        return PlanError("entry {entry} is already undone", code="already-undone", values={"entry": entry.id})
    named = [step.described(Message("patron {patron}", values={"patron": step.patron})) for step in found]
    return PlanError(
        "nothing to undo in entry {entry}: {reasons}",
        code="nothing-to-undo",
        values={"entry": entry.id, "reasons": (*named[:_MOST_NAMED], *hidden)},
    )
