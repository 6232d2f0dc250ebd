"""The addresses of what was changed before: by whoever looks, and in a group."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evergreen_groups.language import gettext
from evergreen_groups.web.desk_pages import changing
from evergreen_groups.web.desk_pages.answers import html
from evergreen_groups.web.desk_pages.family import blueprint
from evergreen_groups.web.desk_pages.routes import clerk

if TYPE_CHECKING:
    from flask import Response

__all__ = ["blueprint"]

_GROUP = "/patrons/<patron>/group"


@blueprint.get(f"{_GROUP}/recent")
def recent(patron: str) -> Response:
    """What whoever asks has changed in the last days."""
    with clerk(patron) as asked:
        return html(
            "history.html",
            title=gettext("Recent changes"),
            explanation=gettext("What you have changed on this page in the last seven days."),
            nothing=gettext("You have changed nothing here in the last days."),
            form_token=asked.form_token,
            entries=changing.recent(asked.client, may_change=asked.may_change),
        )


@blueprint.get(f"{_GROUP}/past")
def past(patron: str) -> Response:
    """What is known of who came into the group, left it, or led it."""
    with clerk(patron) as asked:
        group = changing.group_of(asked.client, asked.patron)
        return html(
            "history.html",
            title=gettext("This group's past"),
            explanation=gettext(
                "Group {group}: what was changed on pages like this one or by evergreen-groups, the latest first. "
                "What was changed in the staff client itself isn't known here.",
                group=group,
            ),
            nothing=gettext("Nothing is known of changes to this group."),
            form_token=asked.form_token,
            entries=changing.past(asked.client, group, may_change=asked.may_change),
        )
