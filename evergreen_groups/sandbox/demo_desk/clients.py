"""What differs between the staff clients of Evergreen's releases, as far as the demo pages have it.

Read in the sources of each release, and written down with their files' names in docs/staff-clients.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from evergreen_groups.sandbox.services import release_numbers


@dataclass(frozen=True, slots=True)
class StaffClients:
    """Both clients of one ``release`` (``"3.12"``, ``"3.15.8"``).

    >>> StaffClients("3.13").summary_is_list, StaffClients("3.14").summary_is_list
    (False, True)
    """

    release: str

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
        return self._has("3.15.9", "3.16.3", "3.17.0")

    @property
    def colours(self) -> bool:
        """Whether the clients have colours by name, and dark ones."""
        return self._has("3.14.0")

    def _has(self, *since: str) -> bool:
        return not release_numbers.came_before(self.release, since)
