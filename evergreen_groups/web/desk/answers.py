"""HTML responses, with the headers common to all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Response, g, request, url_for

from evergreen_groups.render import desk as pages
from evergreen_groups.render import template_text
from evergreen_groups.web import static_files

if TYPE_CHECKING:
    from evergreen_groups.web import ProblemError

FILES = {"style": "desk.css", "script": "desk.js", "colours": "colours.js", "texts": "texts.js"}
"""The pages' static files, by their names in templates."""


def addresses(root: str) -> dict[str, str]:
    """Return the static files' URLs. The digest in them forces a reload after an upgrade."""
    return {use: f"{root}/desk/{name}?{static_files.static_file(name).digest[:12]}" for use, name in FILES.items()}


_HEADERS = {
    # Styles, scripts and data come only from this service; no inline code is allowed. The staff client, which has
    # the same origin, may frame the page.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'",
    "X-Frame-Options": "SAMEORIGIN",
    # With no-referrer, browsers would send "Origin: null" with forms, even to the same origin.
    "Referrer-Policy": "same-origin",
}


SENT_FORM = "desk_form"
"""Name in ``flask.g`` of the submitted form, once its token is verified."""

_PASSING = (502, 503, 504)
_LOGIN = ("username", "password")
"""Fields with a supervisor's login, which must not appear in any response."""


def here() -> pages.DeskLinks:
    """Return the root, patron and client of the requested page."""
    patron = (request.view_args or {}).get("patron", "")
    root = url_for("monitoring.health").removesuffix("/healthz")
    return pages.DeskLinks(
        root,
        int(patron) if patron.isascii() and patron.isdigit() and len(patron) < 11 else 0,
        pages.client_from(request.args.get("client"), request.headers.get("Referer")),
        request.args.get("in") == "tab",
    )


def html(template: str, *, status: int = 200, **values: object) -> Response:
    """Render a template into a page."""
    place = here()
    values = {"place": place, "assets": addresses(place.root), **values}
    text = template_text(f"desk/{template}", **values)
    return with_headers(Response(text, status=status, content_type="text/html; charset=utf-8"))


def with_headers(response: Response) -> Response:
    """Add the headers common to the pages."""
    response.headers.update(_HEADERS)
    return response


def describe_problem(error: ProblemError) -> Response:
    """Render a page that says what went wrong and what can be done."""
    # The form can be sent again unchanged: a plan is applied only once, even if the first response was lost.
    sent = g.get(SENT_FORM) if error.status in _PASSING else None
    values = pages.describe_failure(error.status, error)
    fields = [(name, value) for name, value in sent.items(multi=True) if name not in _LOGIN] if sent else []
    again = {"again": fields, "address": request.full_path}
    response = html("problem.html", status=error.status, form_token="", **values, **again)
    response.headers.update(error.headers)
    return response
