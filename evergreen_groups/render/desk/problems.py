"""What went wrong, for a clerk: a heading, a sentence, and what can be done."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evergreen_groups.errors import EvergreenGroupsError

_TITLES = {
    401: "Your session has ended",
    403: "Not allowed",
    404: "No such patron",
    409: "Something has changed meanwhile",
    429: "Too many requests",
    503: "Not available just now",
    504: "The ILS did not answer in time",
}
_TEXTS = {
    401: "Nothing is shown or changed without a session in the staff client.",
    404: "There is no such patron, or your login may not see them.",
}
_ADVICE = {
    401: "Log in to the staff client, then show the group again.",
    404: "Deleted patrons are not shown. Whether your login sees a patron depends on VIEW_USER at the home library.",
    429: "Wait a little, then show the group again.",
    502: "Show the group again. If it stays like this, whoever runs this service finds more in its log.",
    503: "Wait a little, then show the group again. The staff client's own page works without this service.",
    504: "Show the group again.",
}


def describe_failure(status: int, error: EvergreenGroupsError) -> dict[str, object]:
    """What the page about a problem says, by the names of its template."""
    return {
        "title": _TITLES.get(status, "That didn't work"),
        "text": _TEXTS.get(status, error.problem),
        "advice": error.what_to_do or _ADVICE.get(status, ""),
        "log_in": status == 401,
    }
