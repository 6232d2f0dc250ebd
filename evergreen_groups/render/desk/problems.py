"""What went wrong, for a clerk: a heading, a sentence, and what can be done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evergreen_groups.language import describe_advice, describe_problem, gettext
from evergreen_groups.message import Message
from evergreen_groups.render import sentence

if TYPE_CHECKING:
    from evergreen_groups.errors import EvergreenGroupsError

_TITLES = {
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
    """What the page about a problem says, by the names of its template."""
    return {
        "title": gettext(_TITLES.get(status, _OTHER)),
        "text": gettext(_TEXTS[status]) if status in _TEXTS else sentence(describe_problem(error)),
        "advice": sentence(describe_advice(error)) or (gettext(_ADVICE[status]) if status in _ADVICE else ""),
        "log_in": status == 401,
    }
