"""Which language somebody reads, by what their browser, the staff client or the terminal says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from evergreen_groups.language.catalogue import catalogue_for
from evergreen_groups.language.language import Language

if TYPE_CHECKING:
    from datetime import tzinfo

_TAG = re.compile(r"[A-Za-z]{2,3}([-_]([A-Za-z]{2}|[0-9]{3})(?![A-Za-z0-9]))?")
_LONGEST_HEADER = 500


def tag_of(text: str) -> str | None:
    """A tag as this package writes it (``fr-CA``), of ``fr-ca``, ``fr_CA.UTF-8``, and so on; None of others."""
    found = _TAG.match(text)
    if found is None or (found.end() < len(text) and text[found.end()] not in ".@-_"):
        return None
    language, _, region = found[0].replace("_", "-").partition("-")
    tag = f"{language.lower()}-{region.upper()}" if region else language.lower()
    return tag if _exists(tag) else None


def first_known(tags: Iterable[str]) -> str | None:
    """The first of these tags that there are texts for."""
    found = (tag_of(text) for text in tags)
    return next((tag for tag in found if tag is not None and catalogue_for(tag) is not None), None)


def accepted(header: str) -> list[str]:
    """The tags of an ``Accept-Language`` header, the best first (RFC 9110, 12.5.4)."""
    weighed = []
    for part in header[:_LONGEST_HEADER].split(","):
        tag, _, parameter = part.strip().partition(";")
        weight = _weight(parameter)
        if tag.strip() and tag.strip() != "*" and weight > 0:
            weighed.append((-weight, tag.strip()))
    return [tag for _weight, tag in sorted(weighed, key=lambda pair: pair[0])]


def of_terminal(environment: Mapping[str, str]) -> str | None:
    """The tag that the locale's variables name, as gettext reads them; None where they name none (``C``, ``POSIX``)."""
    locale = next(filter(None, map(environment.get, ("LC_ALL", "LC_MESSAGES", "LANG"))), "")
    preferred = environment.get("LANGUAGE", "").split(":") if tag_of(locale) else []
    return first_known([*filter(None, preferred), locale])


def timezone_of(name: str) -> tzinfo | None:
    """The time zone of a name in the IANA database, such as ``America/Toronto``; None where there is none."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # a path, or the name of a directory
        return None


def _weight(parameter: str) -> float:
    name, _, value = parameter.strip().partition("=")
    if not name:
        return 1.0
    try:
        return float(value) if name.strip() == "q" else 1.0
    except ValueError:
        return 0.0


def _exists(tag: str) -> bool:
    # Those with texts need no look into CLDR, which takes a short command longer than the rest of it.
    if catalogue_for(tag) is not None:
        return True
    try:
        Language(tag).locale  # noqa: B018 - looked up only to see whether it is there
    except ValueError:
        return False
    return True
