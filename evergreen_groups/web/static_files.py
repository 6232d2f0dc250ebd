"""The scripts and style sheets in ``web/static``, and how browsers cache them."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources
from typing import NamedTuple

from flask import Response, request


class StaticFile(NamedTuple):
    """A file's content and a digest of it."""

    content: bytes
    digest: str


@cache
def static_file(name: str) -> StaticFile:
    """Read a file."""
    content = resources.files(__package__).joinpath("static", name).read_bytes()
    return StaticFile(content, digest(content))


def digest(content: bytes) -> str:
    """Return a digest that changes with the content."""
    return hashlib.sha256(content).hexdigest()[:32]


def file_response(name: str) -> Response:
    """Answer with a file."""
    found = static_file(name)
    kind = "css" if name.endswith(".css") else "javascript"
    return revalidated(Response(found.content, content_type=f"text/{kind}; charset=utf-8"), found.digest)


def revalidated(response: Response, etag: str) -> Response:
    """Let browsers cache a response but revalidate it each time (304), so that a new release reaches every desk."""
    response.set_etag(etag)
    response.headers["Cache-Control"] = "no-cache"
    response.make_conditional(request)
    return response
