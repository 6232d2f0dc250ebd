"""Answers in HTML, and what every one of them has."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, NamedTuple

from flask import Response, g, request, url_for

from evergreen_groups.render import desk as pages
from evergreen_groups.render import template_text

if TYPE_CHECKING:
    from evergreen_groups.web import ProblemError

FILES = {
    "desk.css": "text/css; charset=utf-8",
    "desk.js": "text/javascript; charset=utf-8",
    "colours.js": "text/javascript; charset=utf-8",
    "texts.js": "text/javascript; charset=utf-8",
}
"""The files by name, each with its type; they stand in ``web/static``."""


class PageFile(NamedTuple):
    """A file's content, and a digest of it."""

    content: bytes
    digest: str


@cache
def page_file(name: str) -> PageFile:
    """One of :data:`FILES`."""
    content = resources.files("evergreen_groups.web").joinpath("static", name).read_bytes()
    return PageFile(content, hashlib.sha256(content).hexdigest()[:32])


def addresses(root: str) -> dict[str, str]:
    """The files' addresses as the templates call them; a release has its own, so that none is shown with another's."""
    names = {"style": "desk.css", "script": "desk.js", "colours": "colours.js"}
    return {use: f"{root}/desk/{name}?{page_file(name).digest[:12]}" for use, name in names.items()}


_HEADERS = {
    # Style, scripts and what the script asks come from the service itself; nothing else does, and nothing stands in
    # the page. It may stand in a frame of the staff client, which is the same origin.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'",
    "X-Frame-Options": "SAMEORIGIN",
    # With no-referrer a browser would send a form's Origin as null, even to the same origin.
    "Referrer-Policy": "same-origin",
}


SENT_FORM = "desk_form"
"""Where a request's form is remembered, once it is known to be one of the session."""

_PASSING = (502, 503, 504)
_LOGIN = ("username", "password")
"""A supervisor's login goes to the ILS and nowhere else: it stands in no answer."""


def here() -> pages.DeskLinks:
    """Where the page that is asked for stands."""
    patron = (request.view_args or {}).get("patron", "")
    root = url_for("monitoring.health").removesuffix("/healthz")
    return pages.DeskLinks(
        root,
        int(patron) if patron.isascii() and patron.isdigit() and len(patron) < 11 else 0,
        pages.client_from(request.args.get("client"), request.headers.get("Referer")),
        request.args.get("in") == "tab",
    )


def html(template: str, *, status: int = 200, **values: object) -> Response:
    """A page of a template."""
    place = here()
    values = {"place": place, "assets": addresses(place.root), **values}
    text = template_text(f"desk/{template}", **values)
    return with_headers(Response(text, status=status, content_type="text/html; charset=utf-8"))


def with_headers(response: Response) -> Response:
    """The answer with what the pages' answers have."""
    response.headers.update(_HEADERS)
    return response


def describe_problem(error: ProblemError) -> Response:
    """A page that says what went wrong and what can be done."""
    plain = error.response()
    # What was sent may be sent again as it was: a plan is applied once, whatever became of the answer.
    sent = g.get(SENT_FORM) if error.status in _PASSING else None
    values = pages.describe_failure(error.status, error)
    fields = [(name, value) for name, value in sent.items(multi=True) if name not in _LOGIN] if sent else []
    again = {"again": fields, "address": request.full_path}
    response = html("problem.html", status=error.status, form_token="", **values, **again)
    for name in ("Retry-After", "WWW-Authenticate", "Allow"):
        if name in plain.headers:
            response.headers[name] = plain.headers[name]
    return response
