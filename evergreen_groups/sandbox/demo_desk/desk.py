"""Serve small imitations of the staff clients' patron pages, to try and test the panel in.

The pages have the same elements, addresses, cookie and order of events as the real ones, but no code in common. Their
data come from the sandbox's gateway.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from http.client import HTTPConnection, HTTPException
from importlib.resources import files
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from evergreen_groups.language import Language, catalogue, first_available, languages, use_language
from evergreen_groups.sandbox.services import releases

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


@dataclass(frozen=True, slots=True)
class StaffClients:
    """How both staff clients of a ``release`` (``"3.12"``, ``"3.15.8"``) look.

    >>> StaffClients("3.13").summary_is_list, StaffClients("3.14").summary_is_list
    (False, True)
    """

    release: str

    @property
    def summary_is_list(self) -> bool:
        """Whether Angular's patron summary is a definition list; before, it was rows."""
        return self._has("3.14.0")

    @property
    def grid_is_table(self) -> bool:
        """Whether Angular's grids are tables; before, they were ``div`` elements."""
        return self._has("3.13.0")

    @property
    def group_row_goes(self) -> bool:
        """Whether AngularJS removes an empty *Group Fines* row; before, it only hid the row."""
        return self._has("3.15.9", "3.16.3", "3.17.0")

    @property
    def colours(self) -> bool:
        """Whether the clients have named color variables and a dark mode."""
        return self._has("3.14.0")

    def _has(self, *since: str) -> bool:
        return not releases.came_before(self.release, since)


TIMEOUT = 60.0
_ONE_HOP = {"connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
_BY_SERVER = {"date", "server"}


class Forwarder:
    """A reverse proxy for the server at ``url``; the path of ``url`` is ignored."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url).netloc

    def forward(self, request: Request) -> ForwardedAnswer:
        """Return the server's response, or Apache's 503 page if the server can't be reached."""
        connection = HTTPConnection(self._address, timeout=TIMEOUT)
        try:
            connection.request(request.command, request.target, request.body or None, self._headers(request))
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, HTTPException):
            page = files(__package__).joinpath("templates", "unavailable.html").read_bytes()
            return ForwardedAnswer(503, "text/html; charset=iso-8859-1", page)
        finally:
            connection.close()
        headers = {name: value for name, value in answer.headers.items() if name.lower() not in _ONE_HOP | _BY_SERVER}
        content_type = next((headers.pop(name) for name in list(headers) if name.lower() == "content-type"), None)
        return ForwardedAnswer(answer.status, content_type, body, headers)

    @staticmethod
    def _headers(request: Request) -> dict[str, str]:
        passed_on = {name: value for name, value in request.headers.items() if name not in _ONE_HOP}
        forwarded_for = passed_on.pop("x-forwarded-for", "")
        return passed_on | {
            "x-forwarded-for": f"{forwarded_for}, {request.peer}" if forwarded_for else request.peer,
            "x-forwarded-host": request.headers.get("host", ""),
        }


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request: ``target`` is path and query, ``peer`` the client's address; header names are lowercase."""

    command: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    peer: str

    @property
    def path(self) -> str:
        """The path, not decoded."""
        return self.target.partition("?")[0]


@dataclass(frozen=True, slots=True)
class ForwardedAnswer:
    """An HTTP response; without a body if ``content_type`` is None."""

    status: int
    content_type: str | None
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


_STATIC = "/sandbox/desk/"
_TYPES = {"css": "text/css", "js": "text/javascript"}
_CLIENTS = [
    (re.compile(r"/eg2/[A-Za-z]{2}-[A-Za-z]{2}/staff/login"), "login.html"),
    (re.compile(r"/eg2/[A-Za-z]{2}-[A-Za-z]{2}/staff/circ/patron/[^/]+(/.*)?"), "angular.html"),
    (re.compile(r"/eg/staff/circ/patron/[^/]+(/.*)?"), "angularjs.html"),
]


def page(request: Request, clients: StaffClients) -> ForwardedAnswer | None:
    """Return the page or asset of the staff ``clients`` at the requested path, in the request's language, or None."""
    path = request.path
    if path in ("/", "/eg2/", "/eg/staff/"):
        return ForwardedAnswer(302, None, b"", {"Location": "/eg2/en-US/staff/login"})
    if path.startswith(_STATIC):
        name = path.removeprefix(_STATIC)
        source = files(__package__).joinpath("static", name)
        if not re.fullmatch(r"[a-z]+\.(css|js)", name) or not source.is_file():
            return None
        return _answer(source.read_bytes(), _TYPES[name.rpartition(".")[2]])
    template = next((name for pattern, name in _CLIENTS if pattern.fullmatch(path)), None)
    if template == "angular.html" and not clients.summary_is_list:
        template = "angular_rows.html"
    return _page(template, _language(request), clients) if template else None


def _language(request: Request) -> Language:
    """Return the language, which Angular has in the path and AngularJS in a cookie."""
    in_address = re.match(r"/eg2/([A-Za-z]{2}-[A-Za-z]{2})/", request.path)
    in_cookie = re.search(r"(?:^|; )eg_locale=([\w-]+)", request.headers.get("cookie", ""))
    return Language(first_available(found[1] for found in (in_address, in_cookie) if found) or "en-US")


def _page(name: str, language: Language, clients: StaffClients) -> ForwardedAnswer:
    # Random, because the real name changes with each build of the Angular client: the panel mustn't depend on it.
    scope = f"ng-c{secrets.randbelow(10**10)}"
    with use_language(language):
        text = (
            environment()
            .get_template(name)
            .render(scope=scope, language=language, texts=_texts(language), languages=languages(), clients=clients)
        )
    return _answer(text.encode(), "text/html")


def _texts(language: Language) -> Markup:
    """Return the catalog's texts for a JSON script element, with ``<`` escaped so that no text can end the element."""
    from markupsafe import Markup

    return Markup(catalogue.texts_for_scripts(language.tag).decode().replace("<", "\\u003c"))  # noqa: S704


def _answer(body: bytes, content_type: str) -> ForwardedAnswer:
    return ForwardedAnswer(200, f"{content_type}; charset=utf-8", body, {"Cache-Control": "no-store"})


@cache
def environment() -> Environment:
    """Return the template environment; separate from the web package's, which the sandbox is used to test."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from evergreen_groups.language import install_texts

    made = Environment(
        loader=PackageLoader("evergreen_groups.sandbox.demo_desk"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    install_texts(made)
    return made


SERVICE = "/evergreen-groups/"
CLIENTS = {"Angular": "/eg2/en-US/staff/circ/patron/{}/checkout", "AngularJS": "/eg/staff/circ/patron/{}/checkout"}


class DemoDesk:
    """Serves the pages of a release's ``clients`` and proxies to the service at ``service_url``."""

    def __init__(self, service_url: str, clients: StaffClients) -> None:
        self._service = Forwarder(service_url)
        self._clients = clients

    def answer(self, request: Request) -> ForwardedAnswer | None:
        """Return a page, or the service's response; None if the path belongs to neither."""
        if request.path.startswith(SERVICE):
            return self._service.forward(request)
        return page(request, self._clients) if request.command in ("GET", "HEAD") else None
