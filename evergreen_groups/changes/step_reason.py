"""Why a step is as it is: the journal's sentence, and what a page for a clerk makes one of its own from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from evergreen_groups.errors import (
    DataError,
    EventError,
    EvergreenGroupsError,
    LoginRefusedError,
    NoSessionError,
    PermissionDeniedError,
    TimedOutError,
    TransportError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


class StepReason(str):
    """The journal's sentence about a step, empty where there is nothing to say.

    ``code`` names the case for whoever makes words of their own of it, and ``values`` are what it is about: numbers of
    groups, a moment (ISO 8601), the name of an event or of fields, and nothing of a patron. The code is empty in what
    releases before this one wrote.
    """

    __slots__ = ("code", "values")

    code: str
    values: Mapping[str, object]

    def __new__(cls, text: str = "", code: str = "", **values: object) -> Self:
        """Make it of the sentence."""
        made = super().__new__(cls, text)
        made.code, made.values = code, values
        return made

    def followed_by(self, text: str) -> StepReason:
        """The same with more behind it."""
        return StepReason(f"{self}{text}", self.code, **self.values)


NO_REASON = StepReason()
HIDDEN_MEANWHILE = StepReason("the account can't see this patron any more", "hidden-meanwhile")
DELETED_MEANWHILE = StepReason("the account has been deleted meanwhile", "deleted-meanwhile")
NO_CONNECTION = StepReason("the ILS could not be reached", "ils-unreachable")
NO_TIME = StepReason("there was no answer in the time for it, and nothing was changed", "no-time")
NEVER_CAME_IN = StepReason("it never came in", "never-came-in")
NOTHING_CAME = StepReason("it never came in, or changed nothing", "never-came-in")
REFUSED_FOR_ANOTHER = StepReason(
    "somebody else changed the record first, so the ILS refuses this change", "changed-meanwhile"
)
CHANGED_BY_ANOTHER = StepReason("the record was changed by somebody else", "changed-meanwhile")
UNREADABLE = StepReason("it was sent, and what came of it can't be read", "not-certain")
UNREADABLE_IN_TIME = StepReason(
    "it was sent, and the time for it was up before it was known what came of it; that is looked up again by itself",
    "not-certain",
)
OLD_COPY = StepReason("what was read back is older than the change", "not-certain")
HIDDEN_NOW = StepReason("sent, but the account can't see this patron any more", "not-certain-hidden")
HIDDEN_OPEN = StepReason("the account can't see this patron; whoever can looks again", "not-certain-hidden")
SO_ALREADY = StepReason("it was so already", "so-already")
STAYS_LAST = StepReason("stays until everybody else of the group has moved; the same command carries on", "stays-last")
NOT_BEGUN = StepReason("not begun", "not-begun")
TAKEN_OVER = StepReason("no clear answer came, and a later run sends the same change again", "taken-over")
BLOCK_BY_STAFF = StepReason("a block of theirs was set by staff, and a recalculation might remove it", "block-by-staff")
BLOCK_BY_STAFF_GONE = StepReason(
    "a block that was set by staff is gone; look at the patron's record", "block-by-staff-gone"
)
FOUND_DONE = StepReason("found done after an interruption", "found-done")


def may_come_in(until: datetime, before: str = "") -> StepReason:
    """A request may still come in until then; ``before`` begins the sentence."""
    text = f"it may still come in until {until.astimezone():%H:%M}, and the next run looks again"
    return StepReason(before + text, "not-certain", until=until.isoformat(timespec="seconds"))


def no_clear_answer(until: datetime) -> StepReason:
    """The same after an answer that was neither yes nor no."""
    return may_come_in(until, "no clear answer came and nothing was changed so far; ")


def unreadable(error: EvergreenGroupsError) -> StepReason:
    """What came of a request that was sent isn't known: the error came before that could be looked up."""
    return UNREADABLE_IN_TIME if isinstance(error, TimedOutError) else UNREADABLE


def refused(error: EvergreenGroupsError, library: str = "") -> StepReason:
    """Why the ILS refused something; ``library`` says where a permission is missing."""
    match error:
        case PermissionDeniedError():
            return StepReason(f"the account lacks {error.permission}{library}", "permission-missing")
        case NoSessionError() | LoginRefusedError():
            return StepReason(error.textcode, "session-ended")
        case DataError():
            return StepReason(error.problem, "ils-not-understood")
        case TransportError():
            return NO_TIME if isinstance(error, TimedOutError) else NO_CONNECTION
        case EventError():
            return StepReason(error.textcode, "ils-refused", event=error.textcode)
        case _:
            return StepReason("the method failed on the server", "ils-failed")
