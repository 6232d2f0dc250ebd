"""Which page or file answers which address."""

from __future__ import annotations

import re
import secrets
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from evergreen_groups.language import Language, first_known, languages, texts_for_scripts, use_language
from evergreen_groups.sandbox.demo_desk.http import ForwardedAnswer

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

    from evergreen_groups.sandbox.demo_desk.clients import StaffClients
    from evergreen_groups.sandbox.demo_desk.http import Request

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
    return Language(first_known(found[1] for found in (in_address, in_cookie) if found) or "en-US")


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
