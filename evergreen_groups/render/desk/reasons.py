"""Why something wasn't done, for a clerk: a sentence, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from evergreen_groups.language import clock_time, gettext
from evergreen_groups.message import Message
from evergreen_groups.render import describe_reason, printable

if TYPE_CHECKING:
    from evergreen_groups.changes import JournalStep, StepReason

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
    """Why a step isn't done, in words that go on after *not changed:*, and what to do; in a table, as texts of the
    catalogue.
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


def explain(step: JournalStep, libraries: Mapping[int, str], *, approved: bool) -> ClerkReason:
    """Say why a step wasn't done.

    ``libraries`` are the short names of org units by id. ``approved`` says that a supervisor did it for the clerk, who
    then is the one whose permission is missing, or whose session has ended.
    """
    reason = step.reason
    if step.refusal is not None:
        text = _lacking(step.refusal.permission, libraries.get(step.refusal.org_unit or 0), approved=approved)
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


def _lacking(permission: str, place: str | None, *, approved: bool) -> str:
    if place is None and approved:
        return gettext("the supervisor's login lacks the permission {permission}", permission=permission)
    if place is None:
        return gettext("your login lacks the permission {permission}", permission=permission)
    if approved:
        text = Message("the supervisor's login lacks the permission {permission} at {library}")
        return gettext(text, permission=permission, library=printable(place))
    text = Message("your login lacks the permission {permission} at {library}")
    return gettext(text, permission=permission, library=printable(place))


def explain_uncertain(step: JournalStep) -> ClerkReason:
    """Say in sentences what isn't known yet of a step that was sent."""
    if step.reason.code == "not-certain-hidden":
        text = Message("sent; your login can't see this patron any more, so whether it arrived can't be told here.")
        return ClerkReason(gettext(text), gettext(_WAIT))
    until = _clock(step.reason)
    if until:
        text = Message("sent; whether it arrived isn't certain yet (it will be by {time}).")
        return ClerkReason(gettext(text, time=until), gettext(_WAIT))
    return ClerkReason(gettext("sent; whether it arrived isn't certain yet."), gettext(_WAIT))


def remark_about_done(reason: StepReason) -> str:
    """Say what there is to look at though a step was done; empty where there is nothing."""
    match reason.code:
        case "also-changed":
            text = Message("Evergreen has changed other fields of the record too ({fields}): look at it.")
            return gettext(text, fields=reason.values["fields"])
        case "changed-again" | "came-in-late" | "another-answer":
            return gettext("Somebody else has changed the same record at about that time: look at it.")
        case _:
            return ""


def explain_recalculation(reason: StepReason) -> str:
    """Say what a recalculation has changed: by Evergreen's thresholds, which may be others than the rule's limit."""
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
