"""What became of a change, patron by patron, in words for a clerk, with what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen_groups.changes import GROUP, PENALTIES, StepState
from evergreen_groups.language import gettext, ngettext
from evergreen_groups.message import Message
from evergreen_groups.render import isolated
from evergreen_groups.render.desk.reasons import explain, explain_recalculation, explain_uncertain, remark_about_done

if TYPE_CHECKING:
    from evergreen_groups.changes import Change, JournalEntry, JournalStep

_TITLES = {
    "done": Message("Done", context="a change"),
    "problem": Message("Not done", context="a change"),
    "warning": Message("Not all done", context="a change"),
    "note": Message("Under way", context="a change"),
}
_GOING_ON = {
    StepState.SENDING: Message("being changed", context="a change"),
    StepState.PLANNED: Message("waits", context="a change"),
}


@dataclass(frozen=True, slots=True)
class OutcomeLine:
    """What became of one step: whose, in words, and what to do. ``reads_on``: the words name them already."""

    who: str
    text: str
    advice: str = ""
    reads_on: bool = False
    done: bool = False


@dataclass(frozen=True, slots=True)
class RefusedPart:
    """What of a change was refused for a permission, as a form that a supervisor may approve."""

    action: str
    patrons: tuple[int, ...]
    target: int | None
    approve: bool = True


@dataclass(frozen=True, slots=True)
class OutcomeView:
    """What the box above the list shows. ``kind`` is how it looks: done, problem, warning, or note while under way.

    ``patrons`` and ``groups`` are the ids and numbers that are concerned, for the client's panel; ``key`` is for asking
    for the outcome of an undo again.
    """

    entry: str
    kind: str
    heading: str
    lines: tuple[OutcomeLine, ...]
    under_way: bool
    count: int
    ended: int
    may_undo: bool
    key: str
    patrons: tuple[int, ...]
    groups: tuple[int, ...]
    refused: RefusedPart | None

    @property
    def has_details(self) -> bool:
        """Whether there is more to say than the heading does."""
        return len(self.lines) > 1 or self.kind != "done" or any(line.advice for line in self.lines)

    @property
    def undone_lines(self) -> tuple[OutcomeLine, ...]:
        """What isn't done, and may want somebody's care."""
        return tuple(line for line in self.lines if not line.done)

    @property
    def done_lines(self) -> tuple[OutcomeLine, ...]:
        """What is done."""
        return tuple(line for line in self.lines if line.done)

    @property
    def title(self) -> str:
        """The outcome in a word, without a name: titles of pages stay in the browser's history."""
        return gettext(_TITLES[self.kind])


def outcome_view(
    change: Change,
    patrons: Mapping[int, str],
    libraries: Mapping[int, str],
    *,
    this_group: int,
    may_undo: bool,
    may_approve: bool,
    key: str,
) -> OutcomeView:
    """Make what is shown of a change.

    ``patrons`` are the names of the visible ones by id, ``libraries`` the short names of org units by id,
    ``this_group`` is the number of the page's group.
    """
    entry, under_way, hidden = change.entry, change.is_under_way, change.hidden_step_count
    approved = entry.operator.approved_by is not None
    lines = tuple(
        describe_step(step, patrons, libraries, this_group, under_way=under_way, approved=approved)
        for step in entry.steps
    )
    if hidden:
        lines += (OutcomeLine("", _about_hidden(hidden), reads_on=True),)
    states = [step.state for step in entry.steps]
    done = states.count(StepState.DONE)
    return OutcomeView(
        entry=entry.id,
        kind=_kind(states, under_way),
        heading=_heading(entry, lines, done, under_way),
        lines=lines,
        under_way=under_way,
        count=len(states),
        ended=sum(state not in (StepState.PLANNED, StepState.SENDING) for state in states),
        may_undo=may_undo and not under_way and any(_can_be_undone(step) for step in entry.steps),
        key=key,
        patrons=tuple(dict.fromkeys(step.patron for step in entry.steps)),
        groups=tuple(sorted(_groups(entry))),
        refused=refused_part(entry, this_group) if may_approve and not under_way else None,
    )


def refused_part(entry: JournalEntry, this_group: int) -> RefusedPart | None:
    """What a supervisor may approve of a change: its first refusal, and what was refused or left of the same kind.

    Where others go to another group than the page's, somebody who has come there stands for it; else a card is asked
    for.
    """
    first = next((step for step in entry.steps if _wants_approval(entry, step)), None)
    if first is None:
        return None
    same = [step for step in entry.steps if (step.field, step.after) == (first.field, first.after)]
    patrons = tuple(step.patron for step in same if _wants_approval(entry, step) or step.state is StepState.PLANNED)
    there = next((step.patron for step in same if step.state is StepState.DONE), None)
    if first.field == PENALTIES:
        return RefusedPart("recalculate", patrons, None)
    if first.field != GROUP:
        return RefusedPart("lead" if first.after else "no-lead", patrons, None)
    if first.after is None:
        return RefusedPart("remove", patrons, None)
    return RefusedPart("join", patrons, None) if first.after == this_group else RefusedPart("move", patrons, there)


def _wants_approval(entry: JournalEntry, step: JournalStep) -> bool:
    """Whether a permission was missing, or the session of the supervisor who approved it had ended."""
    ended = step.reason.code == "session-ended" and step.state is not StepState.DONE
    return step.refusal is not None or (ended and entry.operator.approved_by is not None)


def _kind(states: list[StepState], under_way: bool) -> str:
    if under_way:
        return "note"
    if all(state.is_as_planned for state in states):
        return "done"
    return "warning" if StepState.DONE in states or StepState.SENDING in states else "problem"


def _heading(entry: JournalEntry, lines: tuple[OutcomeLine, ...], done: int, under_way: bool) -> str:
    if under_way:
        return gettext("Changes are being made")
    if done == len(entry.steps):
        return _all_done(entry, lines, done)
    if any(step.state is StepState.SENDING for step in entry.steps):
        return gettext("It isn't certain yet whether everything arrived")
    if all(line.done for line in lines) and not done:
        return gettext("Nothing was left to change")
    if not done:
        return gettext("Nothing was changed")
    return gettext("Changes done: {done:,} of {all:,}", done=done, all=len(entry.steps))


def _all_done(entry: JournalEntry, lines: tuple[OutcomeLine, ...], done: int) -> str:
    undone = entry.undoes is not None
    if done == 1:
        text = (
            lines[0].text
            if lines[0].reads_on
            else gettext("{name}: {text}", name=isolated(lines[0].who), text=lines[0].text)
        )
        return gettext("Undone: {text}", text=text) if undone else gettext("Done: {text}", text=text)
    if undone:
        return ngettext("Undone: {count} change", "Undone: all {count} changes", done)
    return ngettext("Done: {count} change", "Done: all {count} changes", done)


def _about_hidden(count: int) -> str:
    return ngettext(
        "{count} change: about patrons whom your login can't see",
        "{count} changes: about patrons whom your login can't see",
        count,
    )


def describe_step(
    step: JournalStep,
    patrons: Mapping[int, str],
    libraries: Mapping[int, str],
    this_group: int,
    *,
    under_way: bool = False,
    approved: bool = False,
) -> OutcomeLine:
    """What became of a step; ``approved``: a supervisor had it done."""
    who = patrons.get(step.patron) or gettext("A patron whom your login can't see")
    if step.state is StepState.DONE:
        if step.field == PENALTIES:
            return OutcomeLine(who, explain_recalculation(step.reason), done=True)
        text = _done(step, isolated(who), this_group)
        return OutcomeLine(who, text, remark_about_done(step.reason), reads_on=True, done=True)
    if under_way and step.state in _GOING_ON:
        return OutcomeLine(who, gettext(_GOING_ON[step.state]))
    if step.state is StepState.SENDING:
        unclear = explain_uncertain(step)
        return OutcomeLine(who, unclear.text, unclear.advice)
    if step.state is StepState.PLANNED:
        return OutcomeLine(who, gettext("not begun."), gettext("Look at the list, then do what is left once more."))
    why = explain(step, libraries, approved=approved)
    text = gettext("not changed: {reason}.", reason=why.text)
    return OutcomeLine(who, text, why.advice, done=step.state is StepState.UNCHANGED)


def _done(step: JournalStep, name: str, this_group: int) -> str:
    if step.field != GROUP:
        if step.after:
            return gettext("{name} is group lead now", name=name)
        return gettext("{name} is no longer group lead", name=name)
    if step.after is None:
        return gettext("{name} is in a group of their own now ({group})", name=name, group=step.value)
    if step.after == this_group:
        return gettext("{name} is in this group now", name=name)
    return gettext("{name} is in group {group} now", name=name, group=step.after)


def _can_be_undone(step: JournalStep) -> bool:
    return step.state is StepState.DONE and step.field != PENALTIES


def _groups(entry: JournalEntry) -> set[int]:
    moves = [step for step in entry.steps if step.field == GROUP]
    return {number for step in moves for number in (step.before, step.after, step.value) if number is not None}
