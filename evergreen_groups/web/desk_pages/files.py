"""The files that the pages need: their style and their scripts."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources
from typing import NamedTuple

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
