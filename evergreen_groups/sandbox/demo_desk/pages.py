"""Which page or file answers which address."""

from __future__ import annotations

import re
import secrets
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from evergreen_groups.sandbox.demo_desk.http import ForwardedAnswer

if TYPE_CHECKING:
    from jinja2 import Environment

_STATIC = "/sandbox/desk/"
_TYPES = {"css": "text/css", "js": "text/javascript"}
_CLIENTS = [
    (re.compile(r"/eg2/[A-Za-z]{2}-[A-Za-z]{2}/staff/login"), "login.html"),
    (re.compile(r"/eg2/[A-Za-z]{2}-[A-Za-z]{2}/staff/circ/patron/[^/]+(/.*)?"), "angular.html"),
    (re.compile(r"/eg/staff/circ/patron/[^/]+(/.*)?"), "angularjs.html"),
]


def page(path: str) -> ForwardedAnswer | None:
    """The page or asset at an address of the staff client; none if there is none."""
    if path in ("/", "/eg2/", "/eg/staff/"):
        return ForwardedAnswer(302, None, b"", {"Location": "/eg2/en-US/staff/login"})
    if path.startswith(_STATIC):
        name = path.removeprefix(_STATIC)
        return _file(name) if re.fullmatch(r"[a-z]+\.(css|js)", name) else None
    return next((_page(name) for pattern, name in _CLIENTS if pattern.fullmatch(path)), None)


def _page(name: str) -> ForwardedAnswer:
    # Another name each time, as with each build of the Angular client: nobody can rely on it.
    text = environment().get_template(name).render(scope=f"ng-c{secrets.randbelow(10**10)}")
    return _answer(text.encode(), "text/html")


def _file(name: str) -> ForwardedAnswer | None:
    source = files(__package__).joinpath("static", name)
    return _answer(source.read_bytes(), _TYPES[name.rpartition(".")[2]]) if source.is_file() else None


def _answer(body: bytes, content_type: str) -> ForwardedAnswer:
    return ForwardedAnswer(200, f"{content_type}; charset=utf-8", body, {"Cache-Control": "no-store"})


@cache
def environment() -> Environment:
    """The desk's own templates: the sandbox stands apart from everything that it is used to test."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("evergreen_groups.sandbox.demo_desk"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
