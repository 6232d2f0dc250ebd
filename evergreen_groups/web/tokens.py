"""The caller's own Evergreen token: from the ``Authorization`` header, or the staff client's cookie."""

from __future__ import annotations

import json
import re
from urllib.parse import unquote

from werkzeug.datastructures import Headers

from evergreen_groups.web.problems import no_session

COOKIE = "eg.auth.token"
"""What both staff clients call it; ``eg.auth.token.oc`` and ``.provisional`` are others."""

_TOKEN = re.compile(r"[0-9A-Za-z_-]{16,128}")


def token_of(headers: Headers) -> str:
    """The token that comes with a request: a Bearer token where there is one, else the cookie's.

    An ``Authorization`` of another scheme is for somebody else, such as a password that Apache asks for. Several
    cookies with different tokens are refused: a host beside this one could have set one of them.

    Raises:
        ProblemError: 401, there is none, or it doesn't look like a token.
    """
    scheme, _, credentials = headers.get("Authorization", "").partition(" ")
    found = {credentials.strip()} if scheme.lower() == "bearer" else set(_in_cookies(headers))
    if len(found) != 1:
        raise no_session()
    token = found.pop()
    if not _TOKEN.fullmatch(token):
        raise no_session()
    return token


def _in_cookies(headers: Headers) -> list[str]:
    pairs = (pair.partition("=") for header in headers.getlist("Cookie") for pair in header.split(";"))
    return [_unpacked(value.strip()) for name, _, value in pairs if name.strip() == COOKIE]


def _unpacked(value: str) -> str:
    """The token in a cookie's value, a JSON text that is percent-encoded; nothing where it is something else."""
    try:
        token = json.loads(unquote(value))
    except (ValueError, RecursionError):
        return ""
    return token if isinstance(token, str) else ""
