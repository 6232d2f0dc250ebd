"""The releases of Evergreen that tests run on, and the sandbox as each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache

from evergreen_groups.sandbox import Sandbox
from evergreen_groups.sandbox.services import releases

RELEASES = ("3.11", "3.12", "3.13", "3.14", "3.15", "3.16", "3.17")
LATEST = RELEASES[-1]
SHARE = ("3.11", "3.15")
"""What plain pytest tries beside the latest: the oldest, and the last whose pcrud checks row by row."""
ON_XMPP = ("3.11", "3.12", "3.13", "3.14", "3.15")
"""Those that are tried on the bus that most sites with them have; the others on Redis."""


def site_of(release: str) -> tuple[str, ...]:
    """What is beside the release itself otherwise at the site that it is tried as: names of the table."""
    return (releases.XMPP.name,) if release in ON_XMPP else ()


def sandbox_of(release: str, **options: object) -> Sandbox:
    """A sandbox that isn't running yet, as a site with that release is."""
    return Sandbox(release=release, differences=site_of(release), **options)  # type: ignore[arg-type]  # as they come


def differences_of(release: str) -> set[str]:
    """The names of what is otherwise in that sandbox than in the latest one.

    Raises:
        ConfigurationError: there is no such release.
    """
    return {one.name for one in releases.differences(release, site_of(release))}


@contextmanager
def sandboxes() -> Iterator[Callable[[str], Sandbox]]:
    """A running sandbox of each release, made when it is first asked for."""
    with ExitStack() as stack:
        yield cache(lambda release: stack.enter_context(sandbox_of(release)))
