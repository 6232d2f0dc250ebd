"""The tree of permission profiles (``pgt``): Users, Patrons, Juvenile and so on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from evergreen_groups.errors import ConfigurationError

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway


class Profiles:
    """All profiles, by id and by name, with their tree; made of id, name and the id above (None at the root)."""

    def __init__(self, profiles: Iterable[tuple[int, str, int | None]]) -> None:
        found = list(profiles)
        self._names = {id: name for id, name, _parent in found}
        self._parents = {id: parent for id, _name, parent in found}

    @classmethod
    def read(cls, gateway: Gateway) -> Profiles:
        """Read the tree in one call. Any staff account may (``pgt`` asks for STAFF_LOGIN)."""
        # pcrud-082 has them; a patron's session sees none (pcrud-083).
        rows = gateway.pcrud.all_columns("pgt", ("id", "name", "parent"))
        return cls((id, name, parent) for id, name, parent in rows)

    def __iter__(self) -> Iterator[int]:
        """The ids of all profiles."""
        return iter(self._names)

    def name(self, profile: int) -> str:
        """The name of a profile, or ``#ID`` for one that was added after the tree was read."""
        return self._names.get(profile, f"#{profile}")

    def upwards(self, profile: int) -> list[int]:
        """The ids of a profile and of everything above it, the nearest first."""
        path: list[int] = []
        current: int | None = profile
        while current is not None and current in self._parents and current not in path:
            path.append(current)
            current = self._parents[current]
        return path

    def find(self, name: str) -> int:
        """The id of the profile with this name, upper and lower case alike.

        Raises:
            ConfigurationError: there is no such profile; the message lists those there are.
        """
        for id, known in self._names.items():
            if known.casefold() == name.casefold():
                return id
        names = ", ".join(sorted(self._names.values())[:40])
        raise ConfigurationError(
            "there is no profile {name!r}",
            advice="there are {known}",
            code="no-such-profile",
            values={"name": name, "known": names},
        )
