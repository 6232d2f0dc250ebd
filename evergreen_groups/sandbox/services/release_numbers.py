"""The numbers of Evergreen's releases, and which of them the sandbox can be."""

from __future__ import annotations

import re

from evergreen_groups.errors import ConfigurationError

LATEST_PATCHES = {"3.11": 7, "3.12": 10, "3.13": 11, "3.14": 12, "3.15": 14, "3.16": 10, "3.17": 4}
"""The releases that it can be, each with the latest patch there was: what a number without one means."""
CURRENT = "3.17"
_FORM = re.compile(r"(\d+\.\d+)(?:\.(\d+))?", re.ASCII)

Numbers = tuple[int, ...]


def release_numbers(release: str) -> Numbers:
    """The three numbers of a release: of ``3.14.10`` its own, of ``3.14`` those of its latest patch.

    >>> release_numbers("3.14.3"), release_numbers("3.14")
    ((3, 14, 3), (3, 14, 12))

    Raises:
        ConfigurationError: it is none that the sandbox can be.
    """
    match = _FORM.fullmatch(release)
    latest = LATEST_PATCHES.get(match[1]) if match else None
    if match is None or latest is None or int(match[2] or 0) > latest:
        raise ConfigurationError(
            "the sandbox can't be Evergreen {release}",
            advice="it can be {known}, and each of them with its patch, as in 3.14.10",
            code="release-unknown",
            values={"release": release, "known": ", ".join(LATEST_PATCHES)},
        )
    return (*_series(match[1]), int(match[2] or latest))


def _series(text: str) -> Numbers:
    return tuple(map(int, text.split(".")))


def came_before(release: str, changed: tuple[str, ...]) -> bool:
    """Whether a release came before a change, of which ``changed`` are the first releases with it; none: never.

    The last of those is the first that had it from its beginning; older releases that were still cared for then may
    have got it with a patch.

    >>> came_before("3.13.8", ("3.13.9", "3.14.4", "3.15.0")), came_before("3.13.9", ("3.13.9", "3.14.4", "3.15.0"))
    (True, False)
    """
    if not changed:
        return False
    numbers = release_numbers(release)
    arrivals = [_series(text) for text in changed]
    of_series = [arrival for arrival in arrivals if arrival[:2] == numbers[:2]]
    return numbers < (of_series or arrivals[-1:])[0]


def ils_version(release: str | None) -> str:
    """What Evergreen says of its version; the latest was recorded from a build of its development.

    >>> ils_version("3.12"), ils_version("3.17"), ils_version("3.17.2")
    ('3-12-10', 'HEAD', '3-17-2')
    """
    if release in (None, CURRENT):
        return "HEAD"
    return "-".join(map(str, release_numbers(release)))
