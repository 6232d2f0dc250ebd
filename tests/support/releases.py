"""The releases of Evergreen that tests run on, and the sandbox as each of them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache

from evergreen_groups.sandbox import Sandbox
from evergreen_groups.sandbox.services import releases
from evergreen_groups.sandbox.services.releases import LATEST_PATCHES

RELEASES = tuple(LATEST_PATCHES)
LATEST = RELEASES[-1]
SHARE = ("3.11", "3.15")
"""What plain pytest tries besides the latest: the oldest, and the last whose pcrud checks row by row."""
NAMES = {one.name for one in releases.TABLE}
"""The names of the differences in the table."""


def differences_of(release: str) -> set[str]:
    """Return the names of a release's differences from the latest.

    Raises:
        ConfigurationError: the release is unknown.
    """
    return {one.name for one in releases.differences(release, ())}


@contextmanager
def sandboxes(**options: object) -> Iterator[Callable[[str], Sandbox]]:
    """Return running sandboxes by release, each started on first use."""
    with ExitStack() as stack:
        # Untyped, because pytest's fixtures define what they take.
        yield cache(lambda release: stack.enter_context(Sandbox(release=release, **options)))  # type: ignore[arg-type]
