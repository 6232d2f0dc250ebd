"""What differs between the staff clients of Evergreen's releases, as far as the demo pages have it.

Read in the sources of each release, and written down with their files' names in docs/staff-clients.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

NEWEST: Final = "3.17"


@dataclass(frozen=True, slots=True)
class StaffClients:
    """Both clients of one ``release`` (``"3.12"``, which is its first, or ``"3.15.9"``)."""

    release: str = NEWEST

    @property
    def summary_is_list(self) -> bool:
        """Whether Angular's patron summary is a definition list; it was rows."""
        return self._has("3.14.0")

    @property
    def grid_is_table(self) -> bool:
        """Whether Angular's grids are tables; they were made of ``div``."""
        return self._has("3.13.0")

    @property
    def group_row_goes(self) -> bool:
        """Whether AngularJS takes its row *Group Fines* away where it doesn't apply; it only hid it."""
        return self._has("3.15.9", "3.16.3")

    @property
    def colours(self) -> bool:
        """Whether the clients have colours by name, and dark ones."""
        return self._has("3.14.0")

    def _has(self, *since: str) -> bool:
        """Whether it has what came with these releases, each the first of its series that has it."""
        own = _numbers(self.release)
        firsts = [first for first in map(_numbers, since) if first[:2] <= own[:2]]
        return bool(firsts) and own >= max(firsts)


def _numbers(release: str) -> tuple[int, ...]:
    numbers = tuple(map(int, release.split(".")))
    return numbers if len(numbers) > 2 else (*numbers, 0)
