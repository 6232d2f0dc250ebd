"""Reasons for the state of a step: the sentence for the journal, and a code for pages with their own wording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
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
from evergreen_groups.ils import OrgUnits
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway

_SEPARATOR = "; "
_TIMES = ("until",)


class StepReason(str):
    """The journal's sentence about a step; empty if there is nothing to say.

    ``code`` identifies the reason for callers with their own wording; reasons from older releases have none.
    ``values`` fill in the texts: group numbers, a time (ISO 8601), the name of an event or of fields, but no patron
    data. ``texts`` are the messages, as in the catalogs, that make up the sentence.
    >>> reason = StepReason(Message("moved meanwhile, to group {group}"), "moved-meanwhile", group=7)
    >>> reason.followed_by(Message("tries: {count}"), count=3)
    'moved meanwhile, to group 7; tries: 3'
    """

    __slots__ = ("code", "texts", "values")

    code: str
    texts: tuple[str, ...]
    values: Mapping[str, object]

    def __new__(cls, texts: str | Sequence[str] = (), code: str = "", **values: object) -> Self:
        """Make a reason from one text or several."""
        given = tuple(filter(None, (texts,) if isinstance(texts, str) else texts))
        made = super().__new__(cls, _SEPARATOR.join(_messages(given, values)))
        made.texts, made.code, made.values = given, code, values
        return made

    @property
    def messages(self) -> list[Message]:
        """The texts with their values, for translation where they are shown."""
        return _messages(self.texts, self.values)

    def followed_by(self, text: str, **values: object) -> StepReason:
        """Return the reason with another text after it."""
        return StepReason((*self.texts, text), self.code, **{**self.values, **values})

    def preceded_by(self, *texts: str, **values: object) -> StepReason:
        """Return the reason with more texts before it."""
        return StepReason((*texts, *self.texts), self.code, **{**self.values, **values})


def _messages(texts: Sequence[str], values: Mapping[str, object]) -> list[Message]:
    shown = dict(values)
    for name in _TIMES:  # stored as text
        if isinstance(time := shown.get(name), str):
            shown[name] = datetime.fromisoformat(time)
    return [_message(text, shown) for text in texts]


def _message(text: str, values: Mapping[str, object]) -> Message:
    try:
        return Message(text, values=values)
    except (LookupError, ValueError):  # braces in a text from Evergreen or from an older release
        return Message(text)


NO_REASON = StepReason()
NO_LONGER_VISIBLE = StepReason(Message("the account can't see this patron any more"), "hidden-meanwhile")
DELETED_SINCE = StepReason(Message("the account has been deleted meanwhile"), "deleted-meanwhile")
NO_CONNECTION = StepReason(Message("the ILS could not be reached"), "ils-unreachable")
TIMED_OUT = StepReason(Message("there was no answer in the time for it, and nothing was changed"), "no-time")
NEVER_ARRIVED = StepReason(Message("it never came in"), "never-came-in")
NO_EFFECT = StepReason(Message("it never came in, or changed nothing"), "never-came-in")
OVERTAKEN = StepReason(
    Message("somebody else changed the record first, so the ILS refuses this change"), "changed-meanwhile"
)
CHANGED_BY_ANOTHER = StepReason(Message("the record was changed by somebody else"), "changed-meanwhile")
UNREADABLE = StepReason(Message("it was sent, and what came of it can't be read"), "not-certain")
NOT_READ_IN_TIME = StepReason(
    Message(
        "it was sent, and the time for it was up before it was known what came of it; that is looked up again by itself"
    ),
    "not-certain",
)
STALE_READ = StepReason(Message("what was read back is older than the change"), "not-certain")
HIDDEN_AFTER_SENDING = StepReason(Message("sent, but the account can't see this patron any more"), "not-certain-hidden")
HIDDEN_WHILE_OPEN = StepReason(
    Message("the account can't see this patron; whoever can looks again"),
    "not-certain-hidden",
)
ALREADY_SET = StepReason(Message("it was so already"), "so-already")
WAITS_FOR_OTHERS = StepReason(
    Message("stays until everybody else of the group has moved; the same command carries on"), "stays-last"
)
NOT_STARTED = StepReason(Message("not begun"), "not-begun")
TAKEN_OVER = StepReason(
    Message("no clear answer came, and a later run sends the same change again"),
    "taken-over",
)
BLOCK_BY_STAFF = StepReason(
    Message("a block of theirs was set by staff, and a recalculation might remove it"), "block-by-staff"
)
BLOCK_BY_STAFF_GONE = StepReason(
    Message("a block that was set by staff is gone; look at the patron's record"), "block-by-staff-gone"
)
FOUND_DONE = StepReason(Message("found done after an interruption"), "found-done")


def may_come_in(until: datetime) -> StepReason:
    """Return the reason for an open step: the request may still arrive until then."""
    return StepReason(
        Message("it may still come in until {until:time}, and the next run looks again"),
        "not-certain",
        until=until.isoformat(timespec="seconds"),
    )


def no_clear_answer(until: datetime) -> StepReason:
    """Return the reason for an open step whose answer said neither yes nor no."""
    return may_come_in(until).preceded_by(Message("no clear answer came and nothing was changed so far"))


def unreadable(error: EvergreenGroupsError) -> StepReason:
    """Return the reason for an open step whose outcome couldn't be read because of ``error``."""
    return NOT_READ_IN_TIME if isinstance(error, TimedOutError) else UNREADABLE


def refusal(gateway: Gateway, error: EvergreenGroupsError) -> StepReason:
    """Return why Evergreen refused. Names the library at which a permission is missing."""
    match error:
        case PermissionDeniedError():
            values: dict[str, object] = {"permission": error.permission}
            text = Message("the account lacks {permission}")
            if library := OrgUnits.shortname_for_message(gateway, error.org_unit):
                text = Message("the account lacks {permission} at {library}")
                values["library"] = library
            elif error.org_unit is not None:
                text = Message("the account lacks {permission} at org unit {org_unit}")
                values["org_unit"] = error.org_unit
            return StepReason(text, "permission-missing", **values)
        case NoSessionError() | LoginRefusedError():
            return StepReason(error.textcode, "session-ended")
        case DataError():
            return StepReason(error.problem, "ils-not-understood")
        case TransportError():
            return TIMED_OUT if isinstance(error, TimedOutError) else NO_CONNECTION
        case EventError():
            return StepReason(error.textcode, "ils-refused", event=error.textcode)
        case _:
            return StepReason(Message("the method failed on the server"), "ils-failed")
