"""The outcome of a change, patron by patron, in a clerk's words and with advice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from evergreen_groups.changes import GROUP, PENALTIES, StepState
from evergreen_groups.language import (
    clock_time,
    describe_advice,
    describe_problem,
    gettext,
    ngettext,
    pgettext,
)
from evergreen_groups.message import Message
from evergreen_groups.render import isolated, printable, sentence
from evergreen_groups.render.plans import describe_reason

if TYPE_CHECKING:
    from evergreen_groups.changes import Change, JournalEntry, JournalStep, StepReason
    from evergreen_groups.errors import EvergreenGroupsError

_LOOK_FIRST = Message("Look at the list before you try again: somebody else may have changed this meanwhile.")
_RELOAD = Message("Show the group again and look; then do it once more if it is still wanted.")
_WAIT = Message("It will be looked at again by itself. Don't repeat it.")
_LATER = Message("Try once more in a moment. If it stays like this, the staff client itself will not work either.")
_ONCE_MORE = Message("Try once more in a moment. If it happens again, tell whoever runs the system.")
_LOG_IN = Message("Log in to the staff client, then do what is left once more.")
_APPROVE_AGAIN = Message("Have it approved once more, or do what is left yourself.")
_REPORT = Message("Look at the patron's record. If it happens again, tell whoever runs the system.")
_HIDDEN_FROM_SUPERVISOR = Message("the supervisor's login can't see this patron any more")
_APPROVAL_ENDED = Message("the supervisor's approval had ended before this was reached")


@dataclass(frozen=True, slots=True)
class ClerkReason:
    """Why a step wasn't done, phrased to follow *not changed:*, and what to do.

    Constants hold untranslated messages; functions return instances with translated text.
    """

    text: str
    advice: str


_BY_CODE = {
    "changed-meanwhile": ClerkReason(Message("somebody else changed this patron's record at the same moment"), _RELOAD),
    "lead-changed-meanwhile": ClerkReason(
        Message("somebody else has changed meanwhile whether this patron is group lead"), _RELOAD
    ),
    "hidden-meanwhile": ClerkReason(
        Message("your login can't see this patron any more"),
        Message(
            "The home library or the login's permissions (VIEW_USER) may have changed. Nothing is left to do here."
        ),
    ),
    "deleted-meanwhile": ClerkReason(
        Message("the patron's record has been deleted meanwhile"),
        Message("If the record shouldn't be deleted, have it restored first."),
    ),
    "session-ended": ClerkReason(
        Message("your session in the staff client had ended before this was reached"), _LOG_IN
    ),
    "ils-unreachable": ClerkReason(Message("Evergreen could not be reached; nothing was sent"), _LATER),
    "no-time": ClerkReason(
        Message("it took longer than the time that this service gives it; nothing was changed"), _ONCE_MORE
    ),
    "ils-failed": ClerkReason(Message("Evergreen failed while it worked on this"), _REPORT),
    "ils-not-understood": ClerkReason(Message("Evergreen's answer can't be trusted to be whole"), _LATER),
    "never-came-in": ClerkReason(Message("it was sent and never arrived"), Message("It is safe to do it once more.")),
    "so-by-somebody": ClerkReason(
        Message("it is as you wanted it, but somebody else has changed the record since, perhaps in this very way"),
        Message("Nothing is left to do; undoing this change doesn't take it back."),
    ),
    "so-already": ClerkReason(Message("somebody else had done it already"), Message("Nothing is left to do.")),
    "stays-last": ClerkReason(
        Message("somebody else of the group could not be moved, and whoever goes last stays until then"),
        Message("Mend what is said of the others, then do what is left once more."),
    ),
    "taken-over": ClerkReason(Message("it had no clear answer and was sent once more by a later change"), _LOOK_FIRST),
    "block-by-staff": ClerkReason(
        Message("a block of theirs was set by staff, and recalculating might remove it"),
        Message("If the block should go, remove it in the patron's own Messages."),
    ),
    "block-by-staff-gone": ClerkReason(
        Message("a block that staff had set is gone"),
        Message("Look at the patron's Messages, and set it again if it should stand."),
    ),
}


def explain_step(step: JournalStep, libraries: Mapping[int, str], *, approved: bool) -> ClerkReason:
    """Explain why a step wasn't done.

    ``libraries`` has the short names of org units by id. If the change was ``approved``, the missing permission or the
    ended session is the supervisor's.
    """
    reason = step.reason
    if step.refusal is not None:
        text = _missing_permission(
            step.refusal.permission, libraries.get(step.refusal.org_unit or 0), approved=approved
        )
        return ClerkReason(text, gettext("Somebody who has it can do it, or approve it here."))
    if reason.code == "session-ended" and approved:
        return ClerkReason(gettext(_APPROVAL_ENDED), gettext(_APPROVE_AGAIN))
    if reason.code == "hidden-meanwhile" and approved:
        return ClerkReason(gettext(_HIDDEN_FROM_SUPERVISOR), gettext(_BY_CODE[reason.code].advice))
    if reason.code in _WITH_VALUES:
        return _WITH_VALUES[reason.code](reason)
    known = _BY_CODE.get(reason.code)
    if known is not None:
        return ClerkReason(gettext(known.text), gettext(known.advice))
    return ClerkReason(describe_reason(reason).rstrip(".") or gettext("Evergreen refused"), gettext(_LOOK_FIRST))


def _missing_permission(permission: str, library: str | None, *, approved: bool) -> str:
    if library is None and approved:
        return gettext("the supervisor's login lacks the permission {permission}", permission=permission)
    if library is None:
        return gettext("your login lacks the permission {permission}", permission=permission)
    if approved:
        text = Message("the supervisor's login lacks the permission {permission} at {library}")
        return gettext(text, permission=permission, library=printable(library))
    text = Message("your login lacks the permission {permission} at {library}")
    return gettext(text, permission=permission, library=printable(library))


def explain_open_step(step: JournalStep) -> ClerkReason:
    """Explain that the outcome of a sent step isn't known yet."""
    if step.reason.code == "not-certain-hidden":
        text = Message("sent; your login can't see this patron any more, so whether it arrived can't be told here.")
        return ClerkReason(gettext(text), gettext(_WAIT))
    until = _clock(step.reason)
    if until:
        text = Message("sent; whether it arrived isn't certain yet (it will be by {time}).")
        return ClerkReason(gettext(text, time=until), gettext(_WAIT))
    return ClerkReason(gettext("sent; whether it arrived isn't certain yet."), gettext(_WAIT))


def remark_about_done(reason: StepReason) -> str:
    """Return what to check even though the step was done; usually empty."""
    match reason.code:
        case "also-changed":
            text = Message("Evergreen has changed other fields of the record too ({fields}): look at it.")
            return gettext(text, fields=reason.values["fields"])
        case "changed-again" | "came-in-late" | "another-answer":
            return gettext("Somebody else has changed the same record at about that time: look at it.")
        case _:
            return ""


def explain_recalculation(reason: StepReason) -> str:
    """Say what a recalculation changed. Evergreen applies its own thresholds, which may differ from the limit."""
    return gettext(_RECALCULATED.get(reason.code, _BY_THRESHOLDS))


_RECALCULATED = {
    "blocked-now": Message("blocked in Evergreen now"),
    "still-blocked": Message("recalculated by the thresholds that are set in Evergreen: still blocked there"),
    "block-lifted": Message("not blocked in Evergreen any more"),
    "still-not-blocked": Message("recalculated by the thresholds that are set in Evergreen: still not blocked there"),
}
_BY_THRESHOLDS = Message("penalties recalculated by the thresholds that are set in Evergreen")


def _moved(reason: StepReason) -> ClerkReason:
    text = Message("somebody else has moved the patron to group {group} meanwhile")
    return ClerkReason(gettext(text, group=reason.values["group"]), gettext(_RELOAD))


def _refused(reason: StepReason) -> ClerkReason:
    return ClerkReason(gettext("Evergreen refused it ({event})", event=reason.values["event"]), gettext(_REPORT))


def _waits(reason: StepReason) -> ClerkReason:
    until = _clock(reason)
    if not until:
        return ClerkReason(
            gettext("an earlier change of this patron may still arrive"),
            gettext("It is looked at by itself. Try again later."),
        )
    return ClerkReason(
        gettext("an earlier change of this patron may still arrive until {time}", time=until),
        gettext("It is looked at by itself. Try again after {time}.", time=until),
    )


_WITH_VALUES: Mapping[str, Callable[[StepReason], ClerkReason]] = {
    "moved-meanwhile": _moved,
    "ils-refused": _refused,
    "waits-for-earlier": _waits,
}


def _clock(reason: StepReason) -> str:
    until = reason.values.get("until")
    return clock_time(datetime.fromisoformat(until)) if isinstance(until, str) else ""


_TITLES = {
    "done": Message("Done", context="a change"),
    "problem": Message("Not done", context="a change"),
    "warning": Message("Not all done", context="a change"),
    "note": Message("Under way", context="a change"),
}
_UNDER_WAY = {
    StepState.SENDING: Message("being changed", context="a change"),
    StepState.PLANNED: Message("waits", context="a change"),
}


@dataclass(frozen=True, slots=True)
class OutcomeLine:
    """The outcome of one step: the patron, the text and the advice. With ``names_patron``, the text names the patron
    already.
    """

    who: str
    text: str
    advice: str = ""
    names_patron: bool = False
    done: bool = False


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """The part of a change that was refused for lack of a permission, as a request that a supervisor may approve."""

    action: str
    patrons: tuple[int, ...]
    target: int | None
    approve: bool = True
    change: None = None  # as in the form of a change


@dataclass(frozen=True, slots=True)
class OutcomeView:
    """The box above the list. ``kind`` selects its look: done, problem, warning, or note while the change is under way.

    ``undoes`` says that the change undid another, so that undoing it means redoing that one; it is false for a redo.
    ``patrons`` (ids) and
    ``groups`` (numbers) tell the staff client's panel what to refresh. ``key`` identifies a request to undo, so that
    its outcome can be asked for again.
    """

    entry: str
    kind: str
    heading: str
    lines: tuple[OutcomeLine, ...]
    under_way: bool
    undoes: bool
    count: int
    ended: int
    may_undo: bool
    key: str
    patrons: tuple[int, ...]
    groups: tuple[int, ...]
    refused: ApprovalRequest | None

    @property
    def has_details(self) -> bool:
        """Whether the lines say more than the heading."""
        return len(self.lines) > 1 or self.kind != "done" or any(line.advice for line in self.lines)

    @property
    def undone_lines(self) -> tuple[OutcomeLine, ...]:
        """The steps that weren't done and may need attention."""
        return tuple(line for line in self.lines if not line.done)

    @property
    def done_lines(self) -> tuple[OutcomeLine, ...]:
        """The steps that were done."""
        return tuple(line for line in self.lines if line.done)

    @property
    def title(self) -> str:
        """The outcome without a name, because page titles stay in the browser's history."""
        return gettext(_TITLES[self.kind])


def outcome_view(
    change: Change,
    patrons: Mapping[int, str],
    libraries: Mapping[int, str],
    *,
    this_group: int,
    may_undo: bool,
    may_approve: bool,
    undoes: bool,
    key: str,
) -> OutcomeView:
    """Return the view of a change.

    ``patrons`` has the names of visible patrons by id, and ``libraries`` the short names of org units by id.
    ``this_group`` is the number of the page's group.
    """
    entry, under_way, hidden = change.entry, change.is_under_way, change.hidden_step_count
    approved = entry.operator.approved_by is not None
    lines = tuple(
        describe_step(step, patrons, libraries, this_group, under_way=under_way, approved=approved)
        for step in entry.steps
    )
    if hidden:
        lines += (OutcomeLine("", _describe_hidden(hidden), names_patron=True),)
    states = [step.state for step in entry.steps]
    done = states.count(StepState.DONE)
    return OutcomeView(
        entry=entry.id,
        kind=_kind(states, under_way),
        heading=_heading(entry, lines, done, under_way=under_way, undoes=undoes),
        lines=lines,
        under_way=under_way,
        undoes=undoes,
        count=len(states),
        ended=sum(state not in (StepState.PLANNED, StepState.SENDING) for state in states),
        may_undo=may_undo and not under_way and any(map(_can_be_undone, entry.steps)),
        key=key,
        patrons=tuple(dict.fromkeys(step.patron for step in entry.steps)),
        groups=tuple(sorted(_groups(entry))),
        refused=approval_request(entry, this_group) if may_approve and not under_way else None,
    )


def approval_request(entry: JournalEntry, this_group: int) -> ApprovalRequest | None:
    """Return what a supervisor may approve: the first refused step, with all refused or unsent steps of the same kind.

    For a move to a group other than the page's, a patron who arrived there identifies the target. If none did, the
    supervisor is asked for a card.
    """
    first = next((step for step in entry.steps if _wants_approval(entry, step)), None)
    if first is None:
        return None
    same = [step for step in entry.steps if (step.field, step.after) == (first.field, first.after)]
    patrons = tuple(step.patron for step in same if _wants_approval(entry, step) or step.state is StepState.PLANNED)
    there = next((step.patron for step in same if step.state is StepState.DONE), None)
    if first.field == PENALTIES:
        return ApprovalRequest("recalculate", patrons, None)
    if first.field != GROUP:
        return ApprovalRequest("lead" if first.after else "no-lead", patrons, None)
    if first.after is None:
        return ApprovalRequest("remove", patrons, None)
    return (
        ApprovalRequest("join", patrons, None) if first.after == this_group else ApprovalRequest("move", patrons, there)
    )


def _wants_approval(entry: JournalEntry, step: JournalStep) -> bool:
    """Whether a permission was missing, or the approving supervisor's session had ended."""
    ended = step.reason.code == "session-ended" and step.state is not StepState.DONE
    return step.refusal is not None or (ended and entry.operator.approved_by is not None)


def _kind(states: list[StepState], under_way: bool) -> str:
    if under_way:
        return "note"
    if all(state.is_as_planned for state in states):
        return "done"
    return "warning" if StepState.DONE in states or StepState.SENDING in states else "problem"


def _heading(entry: JournalEntry, lines: tuple[OutcomeLine, ...], done: int, *, under_way: bool, undoes: bool) -> str:
    if under_way:
        return gettext("Changes are being made")
    if done == len(entry.steps):
        return _all_done(lines, done, undoes=undoes)
    if any(step.state is StepState.SENDING for step in entry.steps):
        return gettext("It isn't certain yet whether everything arrived")
    if all(line.done for line in lines) and not done:
        return gettext("Nothing was left to change")
    if not done:
        return gettext("Nothing was changed")
    return gettext("Changes done: {done:,} of {all:,}", done=done, all=len(entry.steps))


def _all_done(lines: tuple[OutcomeLine, ...], done: int, *, undoes: bool) -> str:
    if done == 1:
        text = (
            lines[0].text
            if lines[0].names_patron
            else gettext("{name}: {text}", name=isolated(lines[0].who), text=lines[0].text)
        )
        return gettext("Undone: {text}", text=text) if undoes else gettext("Done: {text}", text=text)
    if undoes:
        return ngettext("Undone: {count} change", "Undone: all {count} changes", done)
    return ngettext("Done: {count} change", "Done: all {count} changes", done)


def _describe_hidden(count: int) -> str:
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
    """Describe the outcome of a step. ``approved``: a supervisor approved the change."""
    who = patrons.get(step.patron) or gettext("A patron whom your login can't see")
    if step.state is StepState.DONE:
        if step.field == PENALTIES:
            return OutcomeLine(who, explain_recalculation(step.reason), done=True)
        text = _done(step, isolated(who), this_group)
        return OutcomeLine(who, text, remark_about_done(step.reason), names_patron=True, done=True)
    if under_way and step.state in _UNDER_WAY:
        return OutcomeLine(who, gettext(_UNDER_WAY[step.state]))
    if step.state is StepState.SENDING:
        unclear = explain_open_step(step)
        return OutcomeLine(who, unclear.text, unclear.advice)
    if step.state is StepState.PLANNED:
        return OutcomeLine(who, gettext("not begun."), gettext("Look at the list, then do what is left once more."))
    why = explain_step(step, libraries, approved=approved)
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
    # Penalties follow from fines and thresholds, so a recalculation has no state to go back to.
    return step.state is StepState.DONE and step.field != PENALTIES


def _groups(entry: JournalEntry) -> set[int]:
    moves = [step for step in entry.steps if step.field == GROUP]
    return {number for step in moves for number in (step.before, step.after, step.value) if number is not None}


_PROBLEM_TITLES = {
    401: Message("Your session has ended"),
    403: Message("Not allowed"),
    404: Message("No such patron"),
    409: Message("Something has changed meanwhile"),
    429: Message("Too many requests"),
    503: Message("Not available just now"),
    504: Message("The ILS did not answer in time"),
}
_TEXTS = {
    401: Message("Nothing is shown or changed without a session in the staff client."),
    404: Message("There is no such patron, or your login may not see them."),
}
_ADVICE = {
    401: Message("Log in to the staff client, then show the group again."),
    404: Message(
        "Deleted patrons are not shown. Whether your login sees a patron depends on VIEW_USER at the home library."
    ),
    429: Message("Wait a little, then show the group again."),
    502: Message("Show the group again. If it stays like this, whoever runs this service finds more in its log."),
    503: Message("Wait a little, then show the group again. The staff client's own page works without this service."),
    504: Message("Show the group again."),
}
_OTHER = Message("That didn't work")


def describe_failure(status: int, error: EvergreenGroupsError) -> dict[str, object]:
    """Return the values for the template of an error page."""
    return {
        "title": gettext(_PROBLEM_TITLES.get(status, _OTHER)),
        "text": gettext(_TEXTS[status]) if status in _TEXTS else sentence(describe_problem(error)),
        "advice": sentence(describe_advice(error)) or (gettext(_ADVICE[status]) if status in _ADVICE else ""),
        "log_in": status == 401,
    }


_ACTIONS = {
    "move": Message("moved", context="what was done"),
    "remove": Message("removed from the group", context="what was done"),
    "merge": Message("groups merged", context="what was done"),
    "lead": Message("group lead changed", context="what was done"),
    "batch": Message("changes from a file", context="what was done"),
    "undo": Message("undone", context="what was done"),
    "redo": Message("redone", context="what was done"),
    "recalculate": Message("penalties recalculated", context="what was done"),
}
# DONE has no entry: the change alone is shown.
_STATES = {
    StepState.PLANNED: Message("{change} (not begun)"),
    StepState.SENDING: Message("{change} (not certain yet)"),
    StepState.UNCHANGED: Message("{change} (unchanged)"),
    StepState.NOT_DONE: Message("{change} (not done)"),
    StepState.FAILED: Message("{change} (refused)"),
}


@dataclass(frozen=True, slots=True)
class PastEntry:
    """A journal entry as shown on a page. ``hidden`` counts its changes to patrons who aren't visible."""

    id: str
    at: datetime
    what: str
    by: str
    lines: tuple[OutcomeLine, ...]
    hidden: int
    may_undo: bool
    undoes: bool
    key: str


def past_entry(
    entry: JournalEntry,
    patrons: Mapping[int, str],
    *,
    by: str,
    hidden: int = 0,
    may_undo: bool = False,
    undoes: bool = False,
    key: str = "",
) -> PastEntry:
    """Return the view of an entry. ``patrons`` has the names of visible patrons by id; ``hidden`` counts further steps
    that were left out of ``entry``. ``undoes`` is false for a redo.
    """
    action = "redo" if entry.undoes and not undoes else entry.action
    seen = [step for step in entry.steps if step.patron in patrons]
    return PastEntry(
        id=entry.id,
        at=entry.at,
        what=gettext(_ACTIONS[action]) if action in _ACTIONS else action,
        by=by,
        lines=tuple(OutcomeLine(patrons[step.patron], _past_change(step)) for step in seen),
        hidden=hidden + len(entry.steps) - len(seen),
        may_undo=may_undo and any(map(_can_be_undone, entry.steps)),
        undoes=undoes,
        key=key,
    )


def _past_change(step: JournalStep) -> str:
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
