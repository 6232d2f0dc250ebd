"""Two small pages in the manner of the staff clients' patron pages, to see and test the panel in.

They have the elements, addresses, cookie and order of events of the real ones (written for this, none of it copied);
what they show comes from the sandbox's gateway.
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

from evergreen_groups.language import Language, first_available, languages, texts_for_scripts, use_language
from evergreen_groups.sandbox.services import releases

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


@dataclass(frozen=True, slots=True)
class StaffClients:
    """Both clients of one ``release`` (``"3.12"``, ``"3.15.8"``).

    >>> StaffClients("3.13").summary_is_list, StaffClients("3.14").summary_is_list
    (False, True)
    """

    release: str

    @property
    def summary_is_list(self) -> bool:
        """Whether Angular's patron summary is a definition list; it was rows."""
        return self._has("3.14.0")

    @property
    def grid_is_table(self) -> bool:
        """Whether Angular's grids are tables; they were made of ``div``."""
        return self._has("3.13.0")

    @property
    def group_row_goes(self) -> bool:
        """Whether AngularJS takes its row *Group Fines* away where it doesn't apply; it only hid it."""
        return self._has("3.15.9", "3.16.3", "3.17.0")

    @property
    def colours(self) -> bool:
        """Whether the clients have colours by name, and dark ones."""
        return self._has("3.14.0")

    def _has(self, *since: str) -> bool:
        return not releases.came_before(self.release, since)


TIMEOUT = 60.0
_ONE_HOP = {"connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
_BY_SERVER = {"date", "server"}


@cache
def _unavailable() -> bytes:
    return files(__package__).joinpath("templates", "unavailable.html").read_bytes()


class Forwarder:
    """Hands requests on to the server at ``url``; only its host and port count."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url).netloc

    def forward(self, request: Request) -> ForwardedAnswer:
        """The server's answer; 503 in HTML, as Apache gives it, where there is none."""
        connection = HTTPConnection(self._address, timeout=TIMEOUT)
        try:
            connection.request(request.command, request.target, request.body or None, self._headers(request))
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, HTTPException):
            return ForwardedAnswer(503, "text/html; charset=iso-8859-1", _unavailable())
        finally:
            connection.close()
        headers = {name: value for name, value in answer.headers.items() if name.lower() not in _ONE_HOP | _BY_SERVER}
        content_type = next((headers.pop(name) for name in list(headers) if name.lower() == "content-type"), None)
        return ForwardedAnswer(answer.status, content_type, body, headers)

    @staticmethod
    def _headers(request: Request) -> dict[str, str]:
        passed_on = {name: value for name, value in request.headers.items() if name not in _ONE_HOP}
        former = passed_on.pop("x-forwarded-for", "")
        return passed_on | {
            "x-forwarded-for": f"{former}, {request.peer}" if former else request.peer,
            "x-forwarded-host": request.headers.get("host", ""),
        }


@dataclass(frozen=True, slots=True)
class Request:
    """A request: ``target`` is path and query as sent, ``peer`` the address of whoever asks.

    The names of ``headers`` are in small letters.
    """

    command: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    peer: str

    @property
    def path(self) -> str:
        """The path, as sent."""
        return self.target.partition("?")[0]


@dataclass(frozen=True, slots=True)
class ForwardedAnswer:
    """An answer; ``content_type`` none: there's no body."""

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
    """The page or asset at an address of the staff ``clients``, in the client's language; none if there is none."""
    path = request.path
    if path in ("/", "/eg2/", "/eg/staff/"):
        return ForwardedAnswer(302, None, b"", {"Location": "/eg2/en-US/staff/login"})
    if path.startswith(_STATIC):
        name = path.removeprefix(_STATIC)
        return _file(name) if re.fullmatch(r"[a-z]+\.(css|js)", name) else None
    template = next((name for pattern, name in _CLIENTS if pattern.fullmatch(path)), None)
    if template == "angular.html" and not clients.summary_is_list:
        template = "angular_rows.html"
    return _page(template, _language(request), clients) if template else None


def _language(request: Request) -> Language:
    """As the real ones: Angular's is in the address, AngularJS's in a cookie."""
    in_address = re.match(r"/eg2/([A-Za-z]{2}-[A-Za-z]{2})/", request.path)
    in_cookie = re.search(r"(?:^|; )eg_locale=([\w-]+)", request.headers.get("cookie", ""))
    return Language(first_available(found[1] for found in (in_address, in_cookie) if found) or "en-US")


def _page(name: str, language: Language, clients: StaffClients) -> ForwardedAnswer:
    # Another name each time, as with each build of the Angular client: nobody can rely on it.
    scope = f"ng-c{secrets.randbelow(10**10)}"
    with use_language(language):
        text = (
            environment()
            .get_template(name)
            .render(scope=scope, language=language, texts=_texts(language), languages=languages(), clients=clients)
        )
    return _answer(text.encode(), "text/html")


def _texts(language: Language) -> Markup:
    """The texts of the catalogue for an element of JSON: there nothing is escaped, and none may end the element."""
    from markupsafe import Markup

    return Markup(texts_for_scripts(language.tag).decode().replace("<", "\\u003c"))  # noqa: S704


def _file(name: str) -> ForwardedAnswer | None:
    source = files(__package__).joinpath("static", name)
    return _answer(source.read_bytes(), _TYPES[name.rpartition(".")[2]]) if source.is_file() else None


def _answer(body: bytes, content_type: str) -> ForwardedAnswer:
    return ForwardedAnswer(200, f"{content_type}; charset=utf-8", body, {"Cache-Control": "no-store"})


@cache
def environment() -> Environment:
    """The desk's own templates: the sandbox stands apart from everything that it is used to test."""
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
CLIENTS = {
    "Angular": "/eg2/en-US/staff/circ/patron/{}/checkout",
    "AngularJS": "/eg/staff/circ/patron/{}/checkout",
}


class DemoDesk:
    """The pages of a release's ``clients``, and the way from them to the service at ``service_url``."""

    def __init__(self, service_url: str, clients: StaffClients) -> None:
        self._service = Forwarder(service_url)
        self._clients = clients

    def answer(self, request: Request) -> ForwardedAnswer | None:
        """Answer a request for a page, or hand it on to the service; none if it's for neither."""
        if request.path.startswith(SERVICE):
            return self._service.forward(request)
        return page(request, self._clients) if request.command in ("GET", "HEAD") else None
