"""Which file answers which address."""

from __future__ import annotations

import re
import secrets
from importlib.resources import files

from evergreen_groups.sandbox.demo_desk.http import ForwardedAnswer

_STATIC = "/sandbox/desk/"
_TYPES = {"css": "text/css", "html": "text/html", "js": "text/javascript"}
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
    return next((_file(name) for pattern, name in _CLIENTS if pattern.fullmatch(path)), None)


def _file(name: str) -> ForwardedAnswer | None:
    source = files(__package__).joinpath("static", name)
    if not source.is_file():
        return None
    text = source.read_text(encoding="utf-8")
    if name == "angular.html":  # another name each time, as with each build of the client: nobody can rely on it
        text = text.replace("SCOPE", f"ng-c{secrets.randbelow(10**10)}")
    content_type = f"{_TYPES[name.rpartition('.')[2]]}; charset=utf-8"
    return ForwardedAnswer(200, content_type, text.encode(), {"Cache-Control": "no-store"})
