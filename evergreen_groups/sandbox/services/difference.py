"""One thing in which a release of Evergreen, or a site, differs from the latest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen_groups.sandbox.services.release_numbers import came_before

if TYPE_CHECKING:
    from evergreen_groups.sandbox.database import ClassChange


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is otherwise in older releases, or at some sites.

    ``evidence`` is the id of an exchange that shows it, or a file of Evergreen's source with the release to read it in.
    ``until`` are the first releases without it: the last of them from its beginning, those before it by a patch; none
    where it depends on the ``site`` and not on the release. ``since`` are the first releases with it, in the same way;
    none where it has always been so. ``services`` and ``absent``, the beginnings of names of methods, aren't there;
    ``only`` are names of methods that are there with it alone. ``classes`` is what is otherwise in the IDL.
    """

    name: str
    evidence: str
    until: tuple[str, ...] = ()
    since: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    classes: tuple[ClassChange, ...] = ()

    @property
    def site(self) -> bool:
        """Whether it is the site's affair: its bus, its copies of the database."""
        return not self.until

    def holds_for(self, release: str) -> bool:
        """Whether a release (``"3.12"``, ``"3.15.2"``) behaves so; never for what is the site's affair."""
        return not self.site and came_before(release, self.until) and not came_before(release, self.since)
