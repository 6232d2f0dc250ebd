"""The journal of changes, as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TextIO

from rich.cells import cell_len

from evergreen_groups.changes import GROUP, PENALTIES, Action, JournalEntry, JournalStep, Seat, StepState
from evergreen_groups.language import gettext, minute, ngettext
from evergreen_groups.message import Message
from evergreen_groups.render.changes import describe_reason
from evergreen_groups.render.safe_text import printable
from evergreen_groups.render.text_columns import aligned

_ACTIONS = {
    Action.MOVE.value: Message("move", context="action in the journal"),
    Action.REMOVE.value: Message("remove", context="action in the journal"),
    Action.MERGE.value: Message("merge", context="action in the journal"),
    Action.LEAD.value: Message("lead", context="action in the journal"),
    Action.BATCH.value: Message("batch", context="action in the journal"),
    Action.UNDO.value: Message("undo", context="action in the journal"),
    Action.RECALCULATE.value: Message("recalculate", context="action in the journal"),
}
_STATES = {
    StepState.PLANNED: Message("planned", context="step in the journal"),
    StepState.SENDING: Message("sending", context="step in the journal"),
    StepState.DONE: Message("done", context="step in the journal"),
    StepState.UNCHANGED: Message("unchanged", context="step in the journal"),
    StepState.NOT_DONE: Message("not done", context="step in the journal"),
    StepState.FAILED: Message("failed", context="step in the journal"),
}


def write_entries(entries: Iterable[JournalEntry], stream: TextIO) -> None:
    """Write a line for each entry of the journal, or that there is none."""
    found = list(entries)
    if not found:
        stream.write(gettext("No changes yet.") + "\n")
    width = max((cell_len(minute(entry.at)) for entry in found), default=0)
    stream.writelines(f"{_entry_line(entry, width)}\n" for entry in found)


def _entry_line(entry: JournalEntry, width: int = 0) -> str:
    done = sum(step.state is StepState.DONE for step in entry.steps)
    parts = [gettext("changes done: {done:,} of {all:,}", done=done, all=len(entry.steps))]
    if missing := entry.missing_step_count:
        parts.append(ngettext("{count} change not kept any longer", "{count} changes not kept any longer", missing))
    action: str = _ACTIONS.get(entry.action, entry.action)
    if entry.undoes is not None:
        action = Message("{action} of entry {entry}", values={"action": action, "entry": entry.undoes})
    what = gettext("{account}: {action}", account=printable(entry.operator.account), action=action)
    if entry.operator.seat is not None:
        parts.append(_at_a_command_line(entry.operator.seat))
    return f"{entry.id:>12}  {aligned(minute(entry.at), width)}  {', '.join([what, *parts])}"


def _at_a_command_line(seat: Seat) -> str:
    """Who sat where."""
    person, host = printable(seat.user), printable(seat.host)
    if seat.login_user is not None:
        person = gettext("{person} as {user}", person=printable(seat.login_user), user=person)
    if seat.terminal is None:
        return gettext("by {person} on {host}", person=person, host=host)
    return gettext("by {person} at {terminal} on {host}", person=person, terminal=printable(seat.terminal), host=host)


def write_entry(entry: JournalEntry, stream: TextIO) -> None:
    """Write one entry of the journal with its steps."""
    stream.writelines(f"{line}\n" for line in [_entry_line(entry), *map(_journal_step, entry.steps)])


def _journal_step(step: JournalStep) -> str:
    values = {"patron": step.patron, "change": _journal_change(step), "state": gettext(_STATES[step.state])}
    if not step.reason:
        return "       " + gettext("patron {patron}: {change}: {state}", **values)
    reason = describe_reason(step.reason)
    return "       " + gettext("patron {patron}: {change}: {state} ({reason})", reason=reason, **values)


def _journal_change(step: JournalStep) -> str:
    after = step.value if step.value is not None else step.after
    if step.field == PENALTIES:
        if after is None:
            return gettext("penalties set by the ILS: {before}, then not known", before=step.before)
        return gettext("penalties set by the ILS: {before}, then {after}", before=step.before, after=after)
    if step.field == GROUP:
        if after is None:
            return gettext("group {before} to a new one", before=step.before)
        return gettext("group {before} to {after}", before=step.before, after=after)
    return gettext("group lead on") if after else gettext("group lead off")
