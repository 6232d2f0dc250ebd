"""The tree of permission profiles (``pgt``): Users, Patrons, Juvenile and so on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from evergreen_groups.errors import ConfigurationError, DataError
from evergreen_groups.language import name_key

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway


class Profiles:
    """The tree of all profiles, built from triples: id, name, and the parent's id (None for the root)."""

    def __init__(self, profiles: Iterable[tuple[int, str, int | None]]) -> None:
        found = list(profiles)
        self._names = {id: name for id, name, _parent in found}
        self._parents = {id: parent for id, _name, parent in found}
        for parent in self._parents.values():
            if parent is not None:
                self._known(parent)

    @classmethod
    def read(cls, gateway: Gateway) -> Profiles:
        """Read the tree. All staff accounts may (``pgt`` requires STAFF_LOGIN).

        Raises:
            DataError: a profile's parent is missing.
        """
        # Recorded in pcrud-082. A patron's session gets an empty list (pcrud-083).
        rows = gateway.pcrud.all_columns("pgt", ("id", "name", "parent"))
        return cls((id, name, parent) for id, name, parent in rows)

    def __iter__(self) -> Iterator[int]:
        """Iterate over the ids of all profiles."""
        return iter(self._names)

    def __contains__(self, profile: object) -> bool:
        """Return whether there is a profile with this id."""
        return profile in self._names

    def __len__(self) -> int:
        return len(self._names)

    def name(self, profile: int) -> str:
        """Return the name of a profile.

        Raises:
            DataError: the ILS didn't list the profile, so the limit of its patrons is unknown.
        """
        return self._names[self._known(profile)]

    def upwards(self, profile: int) -> list[int]:
        """Return the ids of a profile and its ancestors, nearest first. Raises what :meth:`name` raises."""
        path: list[int] = []
        current: int | None = self._known(profile)
        while current is not None and current not in path:
            path.append(current)
            current = self._parents[current]
        return path

    def _known(self, profile: int) -> int:
        if profile not in self._names:
            raise DataError(
                "the ILS names a profile {id} that isn't among its profiles",
                advice="try again: it may have been added just now",
                code="profile-missing",
                values={"id": profile},
            )
        return profile

    def named(self, names: Iterable[str]) -> frozenset[int]:
        """Return the ids of the profiles with these names and of all below. Raises what :meth:`find` raises."""
        tops = {self.find(name) for name in names}
        return frozenset(id for id in self if tops.intersection(self.upwards(id)))

    def find(self, name: str) -> int:
        """Return the id of the profile with this name, ignoring case.

        Raises:
            ConfigurationError: no profile has this name. The message lists the profiles.
        """
        for id, known in self._names.items():
            if known.casefold() == name.casefold():
                return id
        names = ", ".join(sorted(self._names.values(), key=name_key)[:40])
        raise ConfigurationError(
            'there is no profile "{name}"',
            advice="there are these profiles: {known}",
            code="no-such-profile",
            values={"name": name, "known": names},
        )
