"""The releases of Evergreen that tests run on, and the sandbox as each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache

from evergreen_groups.sandbox import Sandbox
from evergreen_groups.sandbox.services import releases
from evergreen_groups.sandbox.services.releases import LATEST_PATCHES

RELEASES = tuple(LATEST_PATCHES)
LATEST = RELEASES[-1]
SHARE = ("3.11", "3.15")
"""What plain pytest tries beside the latest: the oldest, and the last whose pcrud checks row by row."""
NAMES = {one.name for one in releases.TABLE}
"""What the table calls the differences."""


def differences_of(release: str) -> set[str]:
    """The names of what is otherwise in that sandbox than in the latest one.

    Raises:
        ConfigurationError: there is no such release.
    """
    return {one.name for one in releases.differences(release, ())}


@contextmanager
def sandboxes(**options: object) -> Iterator[Callable[[str], Sandbox]]:
    """A running sandbox of each release, made when it is first asked for."""
    with ExitStack() as stack:
        # As they come: pytest's fixtures say what they want.
        yield cache(lambda release: stack.enter_context(Sandbox(release=release, **options)))  # type: ignore[arg-type]
