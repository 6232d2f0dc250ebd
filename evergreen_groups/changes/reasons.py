"""Reasons for the state of a step: the sentence for the journal, and a code for pages with their own wording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Self

from evergreen_groups import errors
from evergreen_groups.ils import OrgUnits
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway


class StepReason(str):
    """The journal's sentence about the state of a step; empty if there is nothing to say.

    >>> reason = StepReason(Message("moved to group {group}"), "moved-meanwhile", group=7)
    >>> reason.followed_by(Message("tries: {count}"), count=3)
    'moved to group 7; tries: 3'
    """

    __slots__ = ("code", "messages", "texts", "values")

    code: str  # for callers with their own wording; reasons from older releases have none
    texts: tuple[str, ...]  # the messages as in the catalogs
    values: Mapping[str, object]  # group numbers, a time (ISO 8601), the name of an event or of fields; no patron data
    messages: list[Message]  # the texts with their values, for translation where they are shown

    def __new__(cls, texts: str | Sequence[str] = (), code: str = "", **values: object) -> Self:
        """Make a reason from one text or several."""
        given = tuple(filter(None, (texts,) if isinstance(texts, str) else texts))
        shown = {**values, "until": datetime.fromisoformat(str(values["until"]))} if "until" in values else values
        messages = []
        for text in given:
            try:
                messages.append(Message(text, values=shown))
            except (LookupError, ValueError):  # braces in a text from Evergreen or from an older release
                messages.append(Message(text))
        made = super().__new__(cls, "; ".join(messages))
        made.texts, made.code, made.values, made.messages = given, code, values, messages
        return made

    def followed_by(self, text: str, **values: object) -> StepReason:
        """Return the reason with another text after it."""
        return StepReason((*self.texts, text), self.code, **{**self.values, **values})


NO_REASON = StepReason()
NO_LONGER_VISIBLE = StepReason(Message("this patron is no longer visible"), "hidden-meanwhile")
DELETED_SINCE = StepReason(Message("the patron's record was deleted"), "deleted-meanwhile")
NO_CONNECTION = StepReason(Message("Evergreen can't be reached"), "ils-unreachable")
TIMED_OUT = StepReason(Message("Evergreen didn't answer in time"), "no-time")
NEVER_ARRIVED = StepReason(Message("the request never arrived"), "never-came-in")
CHANGED_BY_ANOTHER = StepReason(Message("another user changed this patron's record"), "changed-meanwhile")
CHANGED_AGAIN = StepReason(CHANGED_BY_ANOTHER.texts, "changed-again")
MOVED_BY_ANOTHER = Message("another user moved the patron to group {group}")
UNREADABLE = StepReason(Message("sent, but the result couldn't be read; it will be checked again"), "not-certain")
STALE_READ = StepReason(Message("the record read back is older than the change"), "not-certain")
HIDDEN_WHILE_OPEN = StepReason(Message("sent, but this patron is no longer visible"), "not-certain-hidden")
ALREADY_SET = StepReason(Message("already done"), "so-already")
WAITS_FOR_OTHERS = StepReason(Message("moves last, once everyone else in the group has moved"), "stays-last")
NOT_STARTED = StepReason(Message("not started"), "not-begun")
TAKEN_OVER = StepReason(Message("no clear answer; a later run sent the same change again"), "taken-over")
BLOCK_BY_STAFF = StepReason(Message("staff set a block that recalculating might remove"), "block-by-staff")
BLOCK_BY_STAFF_GONE = StepReason(Message("a block set by staff is gone; set it again if needed"), "block-by-staff-gone")
FOUND_DONE = StepReason(Message("found done after an interruption"), "found-done")

# Of a recalculation: by whether Evergreen blocked the patron for fines before, and blocks them now.
BLOCKED = {
    (True, True): StepReason(Message("still blocked for fines"), "still-blocked"),
    (False, True): StepReason(Message("now blocked for fines"), "blocked-now"),
    (True, False): StepReason(Message("no longer blocked for fines"), "block-lifted"),
    (False, False): StepReason(Message("still not blocked for fines"), "still-not-blocked"),
}
DISAGREEMENTS = {  # why Evergreen may disagree with the rule, by whether it blocks the patron
    True: Message("own fines reach Evergreen's threshold, or the block is from another library's threshold"),
    False: Message(
        "own fines don't reach Evergreen's threshold for this profile and library, or its penalty blocks nothing"
    ),
}


def may_come_in(until: datetime, before: StepReason = NO_REASON) -> StepReason:
    """Return the reason for an open step: the request may still arrive until then. The texts of ``before`` go first."""
    texts = (*before.texts, Message("the result will be known by {until:time}"))
    return StepReason(texts, "not-certain", **before.values, until=until.isoformat(timespec="seconds"))


def changed_by_another(field: str, now: int | None) -> StepReason:
    """Return the reason for a step whose patron another user has moved, or made or unmade a group lead."""
    if field == "usrgroup":
        return StepReason(MOVED_BY_ANOTHER, "moved-meanwhile", group=now)
    return StepReason(CHANGED_BY_ANOTHER.texts, "lead-changed-meanwhile")


def refusal(gateway: Gateway, error: errors.EvergreenGroupsError) -> StepReason:
    """Return why Evergreen refused. Names the library at which a permission is missing."""
    match error:
        case errors.PermissionDeniedError():
            values, text = {"permission": error.permission}, Message("the account lacks {permission}")
            if error.org_unit is not None:
                text = Message("the account lacks {permission} at {library}")
                library = OrgUnits.shortname_for_message(gateway, error.org_unit)
                values["library"] = library or f"org unit {error.org_unit}"
            return StepReason(text, "permission-missing", **values)
        case errors.NoSessionError() | errors.LoginRefusedError():
            return StepReason(Message("the session ended before this change"), "session-ended")
        case errors.DataError():
            return StepReason(error.problem, "ils-not-understood")
        case errors.TransportError():
            return TIMED_OUT if isinstance(error, errors.TimedOutError) else NO_CONNECTION
        case errors.EventError():
            return StepReason(Message("Evergreen refused the change ({event})"), "ils-refused", event=error.textcode)
        case _:
            return StepReason(Message("Evergreen reported an error"), "ils-failed")
