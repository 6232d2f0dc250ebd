"""The addresses of what is told of a family: a member's bills and items, and the statement to take home."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evergreen_groups.desk import Titles, make_statement
from evergreen_groups.language import catalogue_for, current_language, gettext, languages, own_name, pgettext
from evergreen_groups.render import desk as pages
from evergreen_groups.web import ProblemError, requests, service
from evergreen_groups.web.desk_pages.answers import html
from evergreen_groups.web.desk_pages.routes import blueprint, clerk

if TYPE_CHECKING:
    from flask import Response

__all__ = ["blueprint"]

_GROUP = "/patrons/<patron>/group"


@blueprint.get(f"{_GROUP}/members/<member>")
def member(patron: str, member: str) -> Response:
    """What a member owes for, and has out: a page of its own, of which the script takes a part into the list."""
    with clerk(patron) as asked:
        id = requests.record_id(member)
        titles = Titles(service.service().settings.desk.titles)
        found = asked.client.bills.of_user(asked.patron, member=id, titles=titles)
        theirs = found.member(id)
        counts = None if theirs.items.complete else asked.client.bills.items_counted(theirs)
        affairs = pages.member_affairs(found, theirs, counts)
        return html(
            "member.html",
            title=gettext("{name}: bills and items", name=affairs.name),
            form_token=asked.form_token,
            group=found.group,
            member=affairs,
        )


@blueprint.get(f"{_GROUP}/statement")
def statement(patron: str) -> Response:
    """The sheet for whoever stands at the desk, to be printed."""
    settings = service.service().settings.statement
    with clerk(patron) as asked:
        if not settings.page:
            raise ProblemError(404, "Statements are not made here: see page in [statement].", code="no-statement")
        found = asked.client.bills.of_user(asked.patron, titles=Titles(settings.titles))
        return html(
            "statement.html",
            title=pgettext("a sheet", "Statement"),
            form_token=asked.form_token,
            sheet=pages.statement_page(make_statement(found, asked.patron, settings), settings),
            # A parent may read another language than the clerk: the address can name it.
            languages=[(tag, own_name(tag)) for tag in languages()],
            shown_in=catalogue_for(current_language().tag),
        )
