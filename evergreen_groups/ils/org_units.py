"""The trees of org units (``aou``: consortium, systems, branches) and of permission profiles (``pgt``)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

from evergreen_groups.errors import ConfigurationError, DataError, GatewayError, unreadable
from evergreen_groups.gateway import TOKEN
from evergreen_groups.language import catalogue, name_key

if TYPE_CHECKING:
    from datetime import tzinfo

    from evergreen_groups.gateway import Gateway

OBSCURED = "circ.obscure_dob"
"""The library setting that hides birth dates in the staff client."""


@dataclass(frozen=True, slots=True)
class OrgUnit:
    """A consortium, system, branch or sub-library (``aou``)."""

    id: int
    shortname: str
    name: str
    parent: int | None


class OrgUnits:
    """All org units, by id and by short name, with their tree."""

    def __init__(self, units: Iterable[OrgUnit]) -> None:
        self._by_id = {unit.id: unit for unit in units}
        self.ids = frozenset(self._by_id)
        self._children: dict[int | None, list[int]] = {}
        for unit in self:
            self._children.setdefault(unit.parent, []).append(unit.id)
            if unit.parent is not None:
                self.unit(unit.parent)
        if not self._children.get(None):
            raise DataError(
                "Evergreen shows no root org unit",
                advice="check that this is an Evergreen gateway",
                setting="gateway.url",
                code="no-root-org-unit",
            )

    @classmethod
    def read(cls, gateway: Gateway) -> OrgUnits:
        """Read the tree, which is public (``pcrud-084``). Raises DataError if the root or a parent is missing."""
        # Evergreen's methods for the tree nest it (settings-030), or send all numbers as strings (settings-034).
        rows = gateway.pcrud.all_columns("aou", ("id", "shortname", "name", "parent_ou"))
        return cls(OrgUnit(*row) for row in rows)

    @property
    def root(self) -> OrgUnit:
        """The consortium."""
        return self._by_id[min(self._children[None])]  # min: a broken tree may have several roots

    def __iter__(self) -> Iterator[OrgUnit]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, org_id: object) -> bool:
        return org_id in self._by_id

    def unit(self, org_id: int) -> OrgUnit:
        """Return the org unit with this id, or raise DataError: its patrons and limits mustn't be left out silently."""
        if org_id not in self._by_id:
            raise unreadable("org-unit-missing", f"unknown org unit {org_id}", advice="try again later")
        return self._by_id[org_id]

    def shortname(self, org_id: int) -> str:
        return self.unit(org_id).shortname

    def with_descendants(self, org_id: int) -> set[int]:
        """Return the ids of an org unit and of everything below it."""
        found, waiting = set(), [org_id]
        while waiting:
            current = waiting.pop()
            if current not in found:
                found.add(current)
                waiting.extend(self._children.get(current, ()))
        return found

    def upwards(self, org_id: int) -> list[int]:
        """Return the ids of an org unit and its ancestors, nearest first. Raises what :meth:`unit` raises."""
        return _path(org_id, lambda id: self.unit(id).parent)

    def full_path(self, org_id: int) -> set[int]:
        """Return the ids of an org unit, its ancestors and its descendants (``actor.org_unit_full_path``)."""
        return {*self.upwards(org_id), *self.with_descendants(org_id)}

    def find(self, shortname: str) -> OrgUnit:
        """Return the org unit with this short name, ignoring case, or raise ConfigurationError with similar names."""
        for unit in self:
            if unit.shortname.casefold() == shortname.casefold():
                return unit
        wanted = shortname.casefold()

        def similarity(unit: OrgUnit) -> float:
            texts = unit.shortname.casefold(), unit.name.casefold()
            return max(
                1.0 if wanted and wanted in text else SequenceMatcher(None, text, wanted).ratio() for text in texts
            )

        nearest = sorted(self, key=lambda unit: (-similarity(unit), unit.shortname))[:3]
        raise ConfigurationError(
            'there is no org unit "{name}"',
            advice="similar short names: {nearest}",
            code="no-such-org-unit",
            values={"name": shortname, "nearest": ", ".join(f"{unit.shortname} ({unit.name})" for unit in nearest)},
        )

    def named(self, shortnames: Iterable[str]) -> set[int]:
        """Return the ids of the org units with these short names and of everything below. Raises as :meth:`find`."""
        return {org_id for name in shortnames for org_id in self.with_descendants(self.find(name).id)}

    def subtree_roots(self, org_ids: Set[int]) -> list[OrgUnit]:
        """Return the roots of the largest subtrees that ``org_ids`` contains as a whole, sorted by id.

        If there are none, as with a system without its branches, return the org units themselves.
        """
        whole = {unit.id for unit in self if self.with_descendants(unit.id) <= org_ids}
        tops = sorted(id for id in whole if self._by_id[id].parent not in whole)
        return [self._by_id[id] for id in tops] or [unit for unit in self if unit.id in org_ids]

    @staticmethod
    def shortnames_upwards(org_units: Collection[OrgUnit]) -> dict[str, tuple[str, ...]]:
        """Return, by each org unit's short name, the short names on the path to the root, its own included."""
        if not org_units:
            return {}
        tree = OrgUnits(org_units)
        return {unit.shortname: tuple(map(tree.shortname, tree.upwards(unit.id))) for unit in org_units}

    @staticmethod
    def read_setting(gateway: Gateway, name: str) -> dict[int, Any]:
        """Return the values of a library setting by org unit, None where it isn't set. One call. Raises DataError."""
        method = "open-ils.actor.settings.value_for_all_orgs.atomic"
        with suppress(TypeError, KeyError, ValueError):
            answer = gateway.call("open-ils.actor", method, TOKEN, name).listing()
            values = {int(entry["org_unit"]): entry["summary"]["value"] for entry in answer}
            if len(values) == len(answer):
                return values
        raise unusable_setting(name)

    @staticmethod
    def read_timezones(gateway: Gateway) -> dict[int, tzinfo]:
        """Return the time zones of the org units that have a known one, set or inherited. One call (``desk-006``).

        It needs no permission (950.data.seed-values.sql), but pcrud can't read settings. Raises DataError.
        """
        # A name in the IANA database, such as "America/Toronto".
        values = OrgUnits.read_setting(gateway, "lib.timezone").items()
        found = {org_unit: catalogue.timezone_of(value) for org_unit, value in values if isinstance(value, str)}
        return {org_unit: zone for org_unit, zone in found.items() if zone is not None}

    @staticmethod
    def hiding_birth_dates(gateway: Gateway, org_units: Collection[int]) -> frozenset[int]:
        """Return those of these org units (ids) that don't want birth dates on screens: neither is an age then.

        Makes one call, or none without org units. Raises DataError.
        """
        values = OrgUnits.read_setting(gateway, OBSCURED) if org_units else {}
        return frozenset(id for id in org_units if values.get(id, True))

    @staticmethod
    def shortname_for_message(gateway: Gateway, id: int | None) -> str:
        """Return an org unit's short name for a message, or an empty string if it is unknown or can't be read."""
        record = None
        if id is not None:
            with suppress(GatewayError):
                record = gateway.pcrud.retrieve("aou", id)
        return str(record.shortname) if record else ""


def unusable_setting(name: str) -> DataError:
    """Make the error for an answer without the values of a library setting."""
    return unreadable("ils-setting-unusable", f"not the values of {name}")


def _path(start: int, parent_of: Callable[[int], int | None]) -> list[int]:
    path: list[int] = []
    current: int | None = start
    # The second condition ends the loop if a mistake in the database made the parents circular.
    while current is not None and current not in path:
        path.append(current)
        current = parent_of(current)
    return path


class Profiles:
    """The tree of all profiles, a collection of ids, built from triples: id, name, and parent (an id; None: the root).

    ``permissions`` are the application permissions of those profiles that have one of their own, by profile.
    """

    def __init__(
        self, profiles: Iterable[tuple[int, str, int | None]], permissions: Mapping[int, str] | None = None
    ) -> None:
        self._permissions = permissions or {}
        self._by_id = {id: (name, parent) for id, name, parent in profiles}
        for _name, parent in self._by_id.values():
            if parent is not None:
                self._get(parent)

    @classmethod
    def read(cls, gateway: Gateway) -> Profiles:
        """Read the tree. Raises DataError if a profile's parent is missing."""
        # All staff accounts see it (pcrud-082). A patron's session gets an empty list (pcrud-083).
        rows = gateway.pcrud.all_columns("pgt", ("id", "name", "parent", "application_perm"))
        return cls((row[:3] for row in rows), {row[0]: row[3] for row in rows if row[3]})

    def __iter__(self) -> Iterator[int]:
        return iter(self._by_id)

    def __contains__(self, profile: object) -> bool:
        return profile in self._by_id

    def __len__(self) -> int:
        return len(self._by_id)

    def name(self, profile: int) -> str:
        """Return the name of a profile, or raise DataError: the limit of its patrons is unknown."""
        return self._get(profile)[0]

    def upwards(self, profile: int) -> list[int]:
        """Return the ids of a profile and its ancestors, nearest first. Raises what :meth:`name` raises."""
        return _path(profile, lambda id: self._get(id)[1])

    @property
    def permissions(self) -> frozenset[str]:
        """All permissions that changing patrons may require because of their profile."""
        return frozenset(self._permissions.values())

    def permission(self, profile: int) -> str | None:
        """Return the permission that changing patrons of a profile requires: its own, or the nearest ancestor's."""
        return next((self._permissions[id] for id in self.upwards(profile) if id in self._permissions), None)

    def _get(self, profile: int) -> tuple[str, int | None]:
        if profile not in self._by_id:
            raise unreadable("profile-missing", f"unknown profile {profile}", advice="try again later")
        return self._by_id[profile]

    def named(self, names: Iterable[str]) -> frozenset[int]:
        """Return the ids of the profiles with these names and of all below. Raises what :meth:`find` raises."""
        tops = {self.find(name) for name in names}
        return frozenset(id for id in self if tops.intersection(self.upwards(id)))

    def find(self, name: str) -> int:
        """Return the id of the profile with this name, ignoring case, or raise ConfigurationError with all names."""
        for id in self:
            if self.name(id).casefold() == name.casefold():
                return id
        raise ConfigurationError(
            'there is no profile "{name}"',
            advice="known profiles: {known}",
            code="no-such-profile",
            values={"name": name, "known": ", ".join(sorted(map(self.name, self), key=name_key)[:40])},
        )
