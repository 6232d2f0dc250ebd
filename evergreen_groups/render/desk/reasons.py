"""Why something wasn't done, for a clerk: a sentence, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evergreen_groups.changes import JournalStep, StepReason

_LOOK_FIRST = "Look at the list before you try again: somebody else may have changed this meanwhile."
_RELOAD = "Show the group again and look; then do it once more if it is still wanted."
_WAIT = "It will be looked at again by itself. Don't repeat it."
_LATER = "Try once more in a moment. If it stays like this, the staff client itself will not work either."
_ONCE_MORE = "Try once more in a moment. If it happens again, tell whoever runs the system."
_LOG_IN = "Log in to the staff client, then do what is left once more."
_APPROVE_AGAIN = "Have it approved once more, or do what is left yourself."
_REPORT = "Look at the patron's record. If it happens again, tell whoever runs the system."
_APPROVAL_ENDED = "the supervisor's approval had ended before this was reached"


@dataclass(frozen=True, slots=True)
class ClerkReason:
    """Why a step isn't done, in words that go on after *not changed:*, and what to do."""

    text: str
    advice: str


_BY_CODE = {
    "changed-meanwhile": ClerkReason("somebody else changed this patron's record at the same moment", _RELOAD),
    "lead-changed-meanwhile": ClerkReason(
        "somebody else has changed meanwhile whether this patron is group lead", _RELOAD
    ),
    "hidden-meanwhile": ClerkReason(
        "your login can't see this patron any more",
        "The home library may have been changed, or your permissions (VIEW_USER). Nothing is left to do here.",
    ),
    "deleted-meanwhile": ClerkReason(
        "the patron's record has been deleted meanwhile", "If it shouldn't be, have it restored first."
    ),
    "session-ended": ClerkReason("your session in the staff client had ended before this was reached", _LOG_IN),
    "ils-unreachable": ClerkReason("Evergreen could not be reached; nothing was sent", _LATER),
    "no-time": ClerkReason("it took longer than the time that this service gives it; nothing was changed", _ONCE_MORE),
    "ils-failed": ClerkReason("Evergreen failed while it worked on this", _REPORT),
    "ils-not-understood": ClerkReason("Evergreen's answer can't be trusted to be whole", _LATER),
    "never-came-in": ClerkReason("it was sent and never arrived", "It is safe to do it once more."),
    "so-by-somebody": ClerkReason(
        "it is as you wanted it, but somebody else has changed the record since, perhaps in this very way",
        "Nothing is left to do; Undo doesn't take it back.",
    ),
    "so-already": ClerkReason("somebody else had done it already", "Nothing is left to do."),
    "stays-last": ClerkReason(
        "somebody else of the group could not be moved, and whoever goes last stays until then",
        "Mend what is said of the others, then do what is left once more.",
    ),
    "taken-over": ClerkReason("it had no clear answer and was sent once more by a later change", _LOOK_FIRST),
    "block-by-staff": ClerkReason(
        "a block of theirs was set by staff, and recalculating might remove it",
        "If the block should go, remove it in the patron's own Messages.",
    ),
    "block-by-staff-gone": ClerkReason(
        "a block that staff had set is gone", "Look at the patron's Messages, and set it again if it should stand."
    ),
}


def explain(step: JournalStep, libraries: Mapping[int, str], *, approved: bool) -> ClerkReason:
    """Say why a step wasn't done.

    ``libraries`` are the short names of org units by id. ``approved`` says that a supervisor did it for the clerk, who
    then is the one whose permission is missing, or whose session has ended.
    """
    reason = step.reason
    if step.refusal is not None:
        place = libraries.get(step.refusal.org_unit or 0)
        whose = "the supervisor's login" if approved else "your login"
        text = f"{whose} lacks the permission {step.refusal.permission}{f' at {place}' if place else ''}"
        return ClerkReason(text, "Somebody who has it can do it, or approve it here.")
    if reason.code == "session-ended" and approved:
        return ClerkReason(_APPROVAL_ENDED, _APPROVE_AGAIN)
    if reason.code in _WITH_VALUES:
        return _WITH_VALUES[reason.code](reason)
    return _BY_CODE.get(reason.code) or ClerkReason(reason.rstrip(".") or "Evergreen refused", _LOOK_FIRST)


def explain_uncertain(step: JournalStep) -> ClerkReason:
    """Say what isn't known yet of a step that was sent."""
    if step.reason.code == "not-certain-hidden":
        return ClerkReason(
            "sent; your login can't see this patron any more, so whether it arrived can't be told here", _WAIT
        )
    until = _clock(step.reason)
    known = f" (it will be by {until})" if until else ""
    return ClerkReason(f"sent; whether it arrived isn't certain yet{known}", _WAIT)


def remark_about_done(reason: StepReason) -> str:
    """Say what there is to look at though a step was done; empty where there is nothing."""
    match reason.code:
        case "also-changed":
            return f"Evergreen has changed other fields of the record too ({reason.values['fields']}): look at it."
        case "changed-again" | "came-in-late" | "another-answer":
            return "Somebody else has changed the same record at about that time: look at it."
        case _:
            return ""


def explain_recalculation(reason: StepReason) -> str:
    """Say what a recalculation has changed: by Evergreen's thresholds, which may be others than the rule's limit."""
    return _RECALCULATED.get(reason.code, "penalties recalculated by the thresholds that are set in Evergreen")


_RECALCULATED = {
    "blocked-now": "blocked in Evergreen now",
    "still-blocked": "recalculated; still blocked in Evergreen, by the thresholds that are set there",
    "block-lifted": "not blocked in Evergreen any more",
    "still-not-blocked": "recalculated; still not blocked in Evergreen, by the thresholds that are set there",
}


def _moved(reason: StepReason) -> ClerkReason:
    return ClerkReason(f"somebody else has moved them to group {reason.values['group']} meanwhile", _RELOAD)


def _refused(reason: StepReason) -> ClerkReason:
    return ClerkReason(f"Evergreen refused it ({reason.values['event']})", _REPORT)


def _waits(reason: StepReason) -> ClerkReason:
    until = _clock(reason)
    text = f"an earlier change of this patron may still arrive{f' until {until}' if until else ''}"
    return ClerkReason(text, f"It is looked at by itself. Try again {f'after {until}' if until else 'later'}.")


_WITH_VALUES: Mapping[str, Callable[[StepReason], ClerkReason]] = {
    "moved-meanwhile": _moved,
    "ils-refused": _refused,
    "waits-for-earlier": _waits,
}


def _clock(reason: StepReason) -> str:
    until = reason.values.get("until")
    return f"{datetime.fromisoformat(until).astimezone():%H:%M}" if isinstance(until, str) else ""
