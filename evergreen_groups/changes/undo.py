"""Plan to undo a change: move back the patrons who are still where it put them, and explain the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from evergreen_groups.changes import plans
from evergreen_groups.changes.journal import GROUP, PENALTIES, JournalEntry, JournalStep, StepState
from evergreen_groups.changes.outcome_check import has_late_duplicate, value_of
from evergreen_groups.changes.plans import Action, Draft, Step, about_patron
from evergreen_groups.errors import PlanError, not_visible
from evergreen_groups.groups import read_patron
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from datetime import datetime

    from evergreen_groups.changes.journal import Journal
    from evergreen_groups.changes.planner import Planner
    from evergreen_groups.gateway import Gateway, Record

_NOT_CONFIRMED = Message("{name}: not confirmed yet")
_NOT_CHANGED = Message("{name}: nothing was changed")
_UNDONE = Message("{name}: already undone")
_HIDDEN = Message(
    "{count} change to patrons your login can't see", plural="{count} changes to patrons your login can't see"
)


def plan_undo(planner: Planner, journal: Journal, entry: JournalEntry, *, shown: bool = True) -> Draft:
    """Plan to undo a journal entry. A plan that isn't ``shown`` lacks fines and some warnings, which saves two calls.

    Raises:
        NotFoundError: a patron has just become hidden.
        PlanError: the entry is a recalculation of penalties, some of its steps have been deleted, or nothing is left to
            undo.
    """
    if entry.missing_step_count:
        count = len(entry.steps) + entry.missing_step_count
        raise PlanError(
            "change {entry} can't be undone completely: {missing} of its {count} steps were deleted",
            advice="revert the rest manually; `journal {entry}` shows it",
            code="entry-partly-forgotten",
            values={"entry": entry.id, "missing": entry.missing_step_count, "count": count},
        )
    if any(step.field == PENALTIES for step in entry.steps):
        raise PlanError("a recalculation can't be undone", code="recalculation-final")
    gateway, now, changed_since = planner.gateway, journal.now(), journal.changed_since(entry)
    # Read only the groups that the entry names. Patrons who have moved since are in groups that don't matter here.
    moves = [step for step in entry.steps if step.field == GROUP]
    groups = {step.before for step in moves} | {step.value for step in moves if step.value is not None}
    patrons = {step.patron for step in entry.steps}
    basis = planner.basis(patrons, groups, with_fines=shown, with_contacts=shown)
    visible = sorted(id for id in basis.families.cards if isinstance(id, int))
    # Read the patrons' records from the primary: a replica may not have the change that is to be undone. The same goes
    # for the groups and flags of the members, which come from pcrud.
    records, members = {}, {}
    for id, record in zip(visible, gateway.map(partial(read_patron, gateway), visible), strict=True):
        if record is None:  # fail instead of skipping them
            raise not_visible("patron {patron} is no longer visible", code="patron-not-read", values={"patron": id})
        member, group, lead = basis.families.cards[id].member, int(record.usrgroup), bool(record.master_account)
        records[id] = record
        members[id] = replace(member, patron=replace(member.patron, group=group, group_lead=lead))
    reversible: list[JournalStep] = []
    others: list[tuple[int, Message]] = []
    for step in reversed(entry.steps):
        if step.patron not in records:
            continue
        is_moved = (step.patron, GROUP) in changed_since
        obstacle = _obstacle(gateway, step, records[step.patron], now, is_moved=is_moved)
        if obstacle is None:
            reversible.append(step)
            # The earlier steps apply to the record after this undo.
            value = step.before if step.field == GROUP else bool(step.before)
            records[step.patron] = records[step.patron].replace(**{step.field: value})
        else:
            others.append((step.patron, obstacle))
    # Don't name hidden patrons, because the change may be another user's.
    count = sum(step.patron not in records for step in entry.steps)
    hidden = [_HIDDEN.with_values({"count": count})] if count else []
    if not reversible:
        raise _nothing_to_undo(entry, [reason for _patron, reason in others], hidden)
    late = {members[step.patron].patron.group for step in reversible if step.field == GROUP}
    if not late <= basis.families.groups.keys():  # groups that a late duplicate made, which a replica didn't have yet
        basis = planner.basis(patrons, groups | late, with_fines=shown, with_contacts=shown)
    accounts = basis.families.accounts
    steps = [Step.of(members[it.patron], it.field, it.before, accounts[it.patron]) for it in reversible]
    unchanged = [it.with_values({**it.values, "name": members[patron].name}) for patron, it in others]
    return replace(basis.draft(Action.UNDO, steps, [*unchanged, *hidden]), undoes=entry.id)


def _obstacle(gateway: Gateway, step: JournalStep, record: Record, at: datetime, *, is_moved: bool) -> Message | None:
    """Return why a step can't be undone, or None if Evergreen still has the step's value.

    ``is_moved`` says that a later entry moves the patron. If none does, a late duplicate of the step's request may have
    moved them from the group that the step made to a second new one.
    """
    if step.state is not StepState.DONE:
        return about_patron(_NOT_CONFIRMED if step.state is StepState.SENDING else _NOT_CHANGED, step.patron)
    if record.deleted:
        return about_patron(plans.DELETED, step.patron)
    now = value_of(record, step.field) or 0
    if now == step.before:
        return about_patron(_UNDONE, step.patron)
    may_be_late = step.field == GROUP and step.after is None and not is_moved
    if now == step.value or (may_be_late and has_late_duplicate(gateway, step, record, at)):
        return None
    return plans.has_now(step.patron, step.field, now)


def _nothing_to_undo(entry: JournalEntry, found: Sequence[Message], hidden: Sequence[Message]) -> PlanError:
    texts = {reason.text for reason in found}
    if _UNDONE.text in texts and not hidden and texts <= {one.text for one in (_UNDONE, _NOT_CHANGED, _NOT_CONFIRMED)}:
        return PlanError("change {entry} is already undone", code="already-undone", values={"entry": entry.id})
    return PlanError(
        "nothing to undo in change {entry}: {reasons}",
        code="nothing-to-undo",
        values={"entry": entry.id, "reasons": (*found[: plans.MOST_NAMED], *hidden)},
    )
