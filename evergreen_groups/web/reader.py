"""Who reads a page, and so in which language it is written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from evergreen_groups.language import Language, accepted, first_known
from evergreen_groups.render.desk import client_named

if TYPE_CHECKING:
    from flask import Request

    from evergreen_groups.settings import LanguageSettings

COOKIE = "eg_locale"
"""Where Evergreen remembers the language that somebody has chosen (``EGWeb.pm``, ``locale.service.ts``)."""


def language_of_reader(request: Request, settings: LanguageSettings) -> Language:
    """The language of whoever reads the answer: the first of those that they may want which there are texts for."""
    return settings.language(first_known(_wanted(request)))


def _wanted(request: Request) -> Iterator[str]:
    """What they want, the surest first: asked for, that of the staff client they come from, that of their browser."""
    yield request.args.get("language", "")
    # The Angular client has its language in its address, AngularJS in the cookie alone.
    yield client_named(request.args.get("client"), request.referrer).partition("/")[2]
    yield request.cookies.get(COOKIE, "")
    yield from accepted(request.headers.get("Accept-Language", ""))
