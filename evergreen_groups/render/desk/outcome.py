"""The outcome of a change, patron by patron, in a clerk's words and with advice."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from evergreen_groups.changes import GROUP, PENALTIES, Action, StepState
from evergreen_groups.language import describe_advice, describe_problem, gettext, ngettext
from evergreen_groups.message import Message
from evergreen_groups.render import isolated, printable, sentence
from evergreen_groups.render.plans import STATES, GroupNames, describe_change, describe_progress, describe_reason

if TYPE_CHECKING:
    from evergreen_groups.changes import Change, JournalEntry, JournalStep, StepReason
    from evergreen_groups.errors import EvergreenGroupsError

_REPEAT_REST = Message("Check the group, then make the change if it's still needed.")
_WAIT = Message("Don't repeat it: the result will be checked automatically.")
_LATER = Message("Try again in a moment. If it keeps failing, tell your system administrator.")
_CHECK_RECORD = Message("Check the patron's record. If it keeps failing, tell your system administrator.")
_NOTHING_LEFT = Message("Nothing is left to do.")


_ADVICE = {
    "hidden-meanwhile": Message("The home library, or the login's VIEW_USER permission, may have changed."),
    "deleted-meanwhile": Message("if that was a mistake, ask your Evergreen administrator to restore the record"),
    "session-ended": Message("Log in to the staff client, then make the changes that are still missing."),
    "ils-unreachable": _LATER,
    "no-time": _LATER,
    "ils-failed": _CHECK_RECORD,
    "ils-refused": _CHECK_RECORD,
    "ils-not-understood": _LATER,
    "never-came-in": Message("It's safe to try again."),
    "so-by-somebody": _NOTHING_LEFT,
    "so-already": _NOTHING_LEFT,
    "block-by-staff": Message("To remove the block, open the patron's Notes."),
    "block-by-staff-gone": Message("Check the patron's Notes."),
    "waits-for-earlier": "",  # the reason says when to try again
}


def explain_step(step: JournalStep, libraries: Mapping[int, str], *, approved: bool) -> tuple[str, str]:
    """Explain why a step wasn't done, phrased to follow *not changed:*, and say what to do.

    ``libraries`` has the short names of org units by id. If the change was ``approved``, the missing permission or the
    ended session is the supervisor's.
    """
    reason = step.reason
    if step.permission is not None:
        text = describe_reason(reason)
        if library := libraries.get(step.org_unit or 0):
            lacks = Message("your login lacks the permission {permission} at {library}")
            if approved:
                lacks = Message("the supervisor's login lacks the permission {permission} at {library}")
            text = gettext(lacks, permission=step.permission, library=printable(library))
        return text, sentence(gettext("have someone with this permission approve it"))
    if reason.code == "session-ended" and approved:
        text = gettext("the supervisor's session ended before this change")
        return text, sentence(gettext("have it approved again"))
    if reason.code == "ils-not-understood":  # the reason has details for the log
        text = gettext("Evergreen's answer was incomplete")
    else:
        text = gettext(reason.messages[0] if reason.messages else Message("Evergreen reported an error")).rstrip(".")
    return text, sentence(gettext(_ADVICE.get(reason.code, _REPEAT_REST)))


_RECALCULATED = {
    "blocked-now": Message("{name} is now blocked for fines"),
    "still-blocked": Message("{name} is still blocked for fines"),
    "block-lifted": Message("{name} is no longer blocked for fines"),
    "still-not-blocked": Message("{name} still isn't blocked for fines"),
}


# By how the box looks: ``note`` is for a change that is under way.
_TITLES = {
    "done": Message("Done", context="a change"),
    "problem": Message("Not done", context="a change"),
    "warning": Message("Not all done", context="a change"),
    "note": Message("In progress", context="a change"),
}


@dataclass(frozen=True, slots=True)
class OutcomeLine:
    """The outcome of one step for a patron, and advice. With ``names_patron``, the text already has the name.

    ``patron`` is the id of a patron who is visible, to link to, or 0.
    """

    who: str
    text: str
    advice: str = ""
    names_patron: bool = False
    done: bool = False
    patron: int = 0


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """The part of a change that was refused for lack of a permission, as a request that a supervisor may approve."""

    action: str
    patrons: tuple[int, ...]
    target: int | None
    approve: bool = True
    change: None = None  # as in the form of a change


def outcome_view(
    change: Change,
    patrons: Mapping[int, str],
    libraries: Mapping[int, str],
    groups: GroupNames,
    *,
    may_undo: bool,
    may_approve: bool,
    undoes: bool,
    key: str,
) -> dict[str, Any]:
    """Return what the template shows of a change in the box above the list.

    ``patrons`` are the names of visible ones, ``libraries`` short names, both by id. ``undoes`` says that the change
    undid another, so that undoing it means redoing that one; it is false for a redo. ``key`` identifies a request to
    undo, so that its outcome can be asked for again.
    """
    entry, under_way, hidden = change.entry, change.is_under_way, change.hidden_step_count
    approved = entry.operator.approved_by is not None
    states = [step.state for step in entry.steps]
    kind = _kind(states, under_way)
    lines = tuple(
        replace(
            describe_step(step, patrons, libraries, groups, under_way=under_way, approved=approved, undone=undoes),
            patron=step.patron if step.patron in patrons else 0,
        )
        for step in entry.steps
    )
    if hidden:
        text = ngettext(
            "{count} change to patrons your login can't see", "{count} changes to patrons your login can't see", hidden
        )
        lines += (OutcomeLine("", text, names_patron=True),)
    return {
        "entry": entry.id,
        # Without a name, because page titles stay in the browser's history.
        "title": gettext(_TITLES[kind]),
        "kind": kind,
        "heading": _heading(entry, lines, states.count(StepState.DONE), kind=kind, undoes=undoes),
        "lines": lines,
        # Whether the lines say more than the heading.
        "has_details": len(lines) > 1 or kind != "done" or any(line.advice for line in lines),
        "under_way": under_way,
        "undoes": undoes,
        "count": len(states),
        "ended": sum(state not in (StepState.PLANNED, StepState.SENDING) for state in states),
        "may_undo": may_undo and not under_way and any(map(_can_be_undone, entry.steps)),
        "key": key,
        # What the staff client's panel is to refresh.
        "patrons": list(dict.fromkeys(step.patron for step in entry.steps)),
        "groups": sorted(groups_of(entry)),
        "refused": approval_request(entry, groups.this) if may_approve and not under_way else None,
    }


def approval_request(entry: JournalEntry, this_group: int | None) -> ApprovalRequest | None:
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
        action = "recalculate"
    elif first.field != GROUP:
        action = "lead" if first.after else "no-lead"
    elif first.after is None:
        action = "remove"
    else:
        action = "join" if first.after == this_group else "move"
    return ApprovalRequest(action, patrons, there if action == "move" else None)


def _wants_approval(entry: JournalEntry, step: JournalStep) -> bool:
    """Whether a permission was missing, or the approving supervisor's session had ended."""
    ended = step.reason.code == "session-ended" and step.state is not StepState.DONE
    return step.permission is not None or (ended and entry.operator.approved_by is not None)


def _kind(states: list[StepState], under_way: bool) -> str:
    if under_way:
        return "note"
    if all(state.is_as_planned for state in states):
        return "done"
    return "warning" if StepState.DONE in states or StepState.SENDING in states else "problem"


def _heading(entry: JournalEntry, lines: tuple[OutcomeLine, ...], done: int, *, kind: str, undoes: bool) -> str:
    if kind == "note":
        return gettext(_TITLES[kind])
    if done == len(entry.steps):
        return _all_done(entry, lines, undoes=undoes)
    if any(step.state is StepState.SENDING for step in entry.steps):
        return gettext("We don't know yet whether the change went through")
    if all(line.done for line in lines) and not done:
        return gettext("Nothing to do")
    return describe_progress(entry.steps) if done else gettext("Nothing was changed")


def _all_done(entry: JournalEntry, lines: tuple[OutcomeLine, ...], *, undoes: bool) -> str:
    count = len({step.patron for step in entry.steps})
    if len(entry.steps) == 1:
        who, text = isolated(lines[0].who), lines[0].text
        text = text if lines[0].names_patron else gettext("{name}: {text}", name=who, text=text)
    elif any(step.field != GROUP for step in entry.steps):
        text = ngettext("{count} patron changed", "{count} patrons changed", count)
    elif undoes:
        text = ngettext("{count} patron moved back", "{count} patrons moved back", count)
    else:
        text = ngettext("{count} patron moved", "{count} patrons moved", count)
    return gettext("Undone: {text}", text=text) if undoes else gettext("Done: {text}", text=text)


def describe_step(
    step: JournalStep,
    patrons: Mapping[int, str],
    libraries: Mapping[int, str],
    groups: GroupNames,
    *,
    under_way: bool = False,
    approved: bool = False,
    undone: bool = False,
) -> OutcomeLine:
    """Describe the outcome of a step. ``approved``: a supervisor approved the change; ``undone``: it is an undo."""
    who = patrons.get(step.patron) or gettext("a patron you can't see")
    if step.state is StepState.DONE:
        if step.field == PENALTIES:
            return _recalculated(step.reason, who)
        text = _done(step, isolated(who), groups.for_patron(who), undone=undone)
        advice = ""
        if step.reason.code in ("also-changed", "changed-again", "came-in-late", "another-answer"):
            advice = gettext("Check the record: {reason}.", reason=describe_reason(step.reason))
        return OutcomeLine(who, text, advice, names_patron=True, done=True)
    if under_way and step.state in (StepState.SENDING, StepState.PLANNED):
        return OutcomeLine(who, gettext(STATES[step.state]))
    if step.state is StepState.SENDING:
        unclear = describe_reason(step.reason) or gettext(STATES[step.state])
        return OutcomeLine(who, sentence(unclear), gettext(_WAIT))
    if step.state is StepState.PLANNED:
        return OutcomeLine(who, sentence(gettext(STATES[step.state])), gettext(_REPEAT_REST))
    why, advice = explain_step(step, libraries, approved=approved)
    text = gettext("not changed: {reason}.", reason=why)
    return OutcomeLine(who, text, advice, done=step.state is StepState.UNCHANGED)


def _recalculated(reason: StepReason, who: str) -> OutcomeLine:
    """Say what a recalculation changed. Evergreen applies its own thresholds, which may differ from the limit."""
    if reason.code not in _RECALCULATED:
        return OutcomeLine(who, gettext("penalties refreshed"), done=True)
    text = gettext(_RECALCULATED[reason.code], name=isolated(who))
    return OutcomeLine(who, "; ".join((text, *map(gettext, reason.messages[1:]))), names_patron=True, done=True)


def _done(step: JournalStep, name: str, groups: GroupNames, *, undone: bool) -> str:
    if step.field != GROUP:
        text = Message("{name} is now group lead") if step.after else Message("{name} is no longer group lead")
    elif step.after is None:
        text = Message("{name} is now in a new group")
    else:
        text = Message("{name} is back in {group}") if undone else Message("{name} is now in {group}")
    return gettext(text, name=name, group=groups.name(step.after or 0))


def _can_be_undone(step: JournalStep) -> bool:
    # Penalties follow from fines and thresholds, so a recalculation has no state to go back to.
    return step.state is StepState.DONE and step.field != PENALTIES


def groups_of(entry: JournalEntry) -> set[int]:
    moves = [step for step in entry.steps if step.field == GROUP]
    return {number for step in moves for number in (step.before, step.after, step.value) if number is not None}


_PROBLEM_TITLES = {401: Message("Your session has ended"), 403: Message("Not allowed")}
_PROBLEM_ADVICE = dict.fromkeys((429, 500, 502, 503, 504), _LATER)
_OTHER = Message("That didn't work")


def describe_failure(status: int, error: EvergreenGroupsError) -> dict[str, object]:
    """Return the values for the template of an error page."""
    title = gettext(_PROBLEM_TITLES.get(status, _OTHER))
    text = sentence(describe_problem(error)) if status != 401 else ""  # the title says it
    advice = sentence(describe_advice(error) or gettext(_PROBLEM_ADVICE.get(status, "")))
    if not_found := error.code == "not-found":
        title = gettext("Patron not found")
        text = gettext("The patron was deleted, or belongs to a library whose patrons your login can't see.")
        advice = gettext("In the second case, ask your administrator for the permission VIEW_USER at that library.")
    return {"title": title, "text": text, "advice": advice, "log_in": status == 401, "not_found": not_found}


_PAST: Mapping[str, Message] = {
    Action.MOVE.value: Message("Moved", context="a change"),
    Action.REMOVE.value: Message("Removed from the group"),
    Action.MERGE.value: Message("Groups merged"),
    Action.LEAD.value: Message("Group lead changed"),
    Action.BATCH.value: Message("Changed from a file"),
    Action.UNDO.value: Message("Undone", context="a change"),
    Action.RECALCULATE.value: Message("Penalties refreshed"),
}


def past_entry(
    entry: JournalEntry,
    patrons: Mapping[int, str],
    groups: GroupNames,
    *,
    by: str,
    hidden: int,
    may_undo: bool,
    undoes: bool,
    undone: str,
) -> dict[str, object]:
    """Return what the template shows of an entry, with the number of changes to patrons who aren't visible.

    ``patrons`` has the names of visible patrons by id; ``hidden`` counts further steps that were left out of ``entry``.
    ``undoes`` is false for a redo. ``undone`` says who has undone the entry and when, if so.
    """
    redone = Message("Redone", context="a change")
    action = gettext(redone if entry.undoes and not undoes else _PAST.get(entry.action, entry.action))
    seen = [step for step in entry.steps if step.patron in patrons]
    return {
        "id": entry.id,
        "at": entry.at,
        "what": action,
        "by": by,
        "lines": [
            OutcomeLine(name, _past_change(step, groups.for_patron(name)), patron=step.patron)
            for name, step in ((patrons[step.patron], step) for step in seen)
        ],
        "hidden": hidden + len(entry.steps) - len(seen),
        "may_undo": may_undo and any(map(_can_be_undone, entry.steps)),
        "undoes": undoes,
        "undone": undone,
        "key": secrets.token_hex(16),
    }


def _past_change(step: JournalStep, groups: GroupNames) -> str:
    after = groups.this if step.value == groups.this else step.after  # the page's group may have been new then
    change = describe_change(step.field, step.before, after, groups)
    if step.state is StepState.DONE:
        return change
    return gettext("{change} ({state})", change=change, state=gettext(STATES[step.state]))
