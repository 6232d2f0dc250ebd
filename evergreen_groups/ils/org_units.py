"""The tree of org units: consortium, systems, branches, sub-libraries (``aou``)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from evergreen_groups.errors import ConfigurationError, DataError, GatewayError
from evergreen_groups.gateway import TOKEN
from evergreen_groups.language import timezone_of

if TYPE_CHECKING:
    from datetime import tzinfo

    from evergreen_groups.gateway import Gateway

_NEAREST = 3
"""How many names are given to whoever has mistyped one."""


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
        self._children: dict[int | None, list[int]] = {}
        for unit in self._by_id.values():
            self._children.setdefault(unit.parent, []).append(unit.id)
        if not self._children.get(None):
            raise DataError(
                "the ILS showed no root org unit",
                advice="check that this is an Evergreen gateway",
                setting="gateway.url",
                code="no-root-org-unit",
            )
        for unit in self._by_id.values():
            if unit.parent is not None:
                self.unit(unit.parent)

    @classmethod
    def read(cls, gateway: Gateway) -> OrgUnits:
        """Read the tree. Org units are public in Evergreen (``pcrud-084``).

        Raises:
            DataError: some are missing.
        """
        # The methods for the tree nest it (settings-030), or send every number as text (settings-034).
        rows = gateway.pcrud.all_columns("aou", ("id", "shortname", "name", "parent_ou"))
        return cls(OrgUnit(*row) for row in rows)

    @property
    def root(self) -> OrgUnit:
        """The consortium."""
        return self._by_id[min(self._children[None])]

    def __iter__(self) -> Iterator[OrgUnit]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, org_id: object) -> bool:
        """Whether there is an org unit with this id."""
        return org_id in self._by_id

    def unit(self, org_id: int) -> OrgUnit:
        """The org unit with this id.

        Raises:
            DataError: it isn't among those that the ILS listed. Who belongs there would be left out of what is asked
                about them, and what counts for them wouldn't be found.
        """
        try:
            return self._by_id[org_id]
        except (KeyError, TypeError):
            raise DataError(
                "the ILS names an org unit {id} that isn't among its org units",
                advice="try again: it may have been added just now",
                code="org-unit-missing",
                values={"id": org_id},
            ) from None

    def shortname(self, org_id: int) -> str:
        """The short name of an org unit; raises what :meth:`unit` does."""
        return self.unit(org_id).shortname

    def with_descendants(self, org_id: int) -> set[int]:
        """The ids of an org unit and of everything below it."""
        found, waiting = set(), [org_id]
        while waiting:
            current = waiting.pop()
            if current not in found:
                found.add(current)
                waiting.extend(self._children.get(current, ()))
        return found

    def upwards(self, org_id: int) -> list[int]:
        """The ids of an org unit and of everything above it, the nearest first; raises what :meth:`unit` does."""
        path: list[int] = []
        current: OrgUnit | None = self.unit(org_id)
        while current is not None and current.id not in path:
            path.append(current.id)
            # A ring of parents, a slip of somebody's in the database, mustn't hang the run.
            current = self.unit(current.parent) if current.parent is not None else None
        return path

    def full_path(self, org_id: int) -> set[int]:
        """The ids above an org unit, its own, and those below (``actor.org_unit_full_path``)."""
        return {*self.upwards(org_id), *self.with_descendants(org_id)}

    def find(self, shortname: str) -> OrgUnit:
        """The org unit with this short name, upper and lower case alike.

        Raises:
            ConfigurationError: there is no such org unit; the message has the three that are called most like it.
        """
        for unit in self:
            if unit.shortname.casefold() == shortname.casefold():
                return unit
        nearest = ", ".join(f"{unit.shortname} ({unit.name})" for unit in self._called_like(shortname))
        raise ConfigurationError(
            'there is no org unit "{name}"',
            advice="the short names that come nearest: {nearest}",
            code="no-such-org-unit",
            values={"name": shortname, "nearest": nearest},
        )

    def _called_like(self, name: str) -> list[OrgUnit]:
        """The three whose short name or name is most like this one, the nearest first."""
        matcher = SequenceMatcher(b=name.casefold())

        def likeness(unit: OrgUnit) -> float:
            found = 0.0
            for text in (unit.shortname.casefold(), unit.name.casefold()):
                matcher.set_seq1(text)
                found = max(found, matcher.ratio(), 1.0 if name and name.casefold() in text else 0.0)
            return found

        return sorted(self, key=lambda unit: (-likeness(unit), unit.shortname))[:_NEAREST]

    def named(self, shortnames: Iterable[str]) -> set[int]:
        """The ids of the org units with these short names and of everything below them.

        Raises:
            ConfigurationError: there is no such org unit; the message has the three that are called most like it.
        """
        return {org_id for name in shortnames for org_id in self.with_descendants(self.find(name).id)}

    def tops_of(self, org_ids: set[int]) -> list[OrgUnit]:
        """The fewest org units that stand, with all below them, for exactly ``org_ids`` where that can be said.

        An org unit of the set of which a descendant isn't in the set is left out in favour of those below it.
        """
        whole = {org for org in org_ids if org in self._by_id and self.with_descendants(org) <= org_ids}
        return sorted(
            (self._by_id[org] for org in whole if self._by_id[org].parent not in whole), key=lambda unit: unit.id
        )


def shortnames_upwards(org_units: Collection[OrgUnit]) -> dict[str, tuple[str, ...]]:
    """For the short name of each org unit those on its way to the root: its own first, the root's last."""
    if not org_units:
        return {}
    tree = OrgUnits(org_units)
    return {unit.shortname: tuple(map(tree.shortname, tree.upwards(unit.id))) for unit in org_units}


def library_name(gateway: Gateway, id: int | None) -> str:
    """Return an org unit's short name for a message; empty where it isn't known or can't be read."""
    if id is None:
        return ""
    try:
        record = gateway.pcrud.retrieve("aou", id)
    except GatewayError:
        record = None
    return str(record.shortname) if record else ""


TIMEZONE = "lib.timezone"
"""The setting: a name in the IANA database, such as ``America/Toronto``, for an org unit and those below it."""

_FOR_ALL = "open-ils.actor.settings.value_for_all_orgs.atomic"


def read_timezones(gateway: Gateway) -> dict[int, tzinfo]:
    """The time zone of each org unit (id) that has one, of its own or from above.

    One call (``desk-006``). pcrud doesn't show settings (``aous`` is for cstore alone), and this one takes no
    permission to see (950.data.seed-values.sql). Where the
    setting has a value that is no time zone's name, an org unit isn't there.

    Raises:
        DataError: the answer isn't what the method gives.
    """
    try:
        answer = gateway.call("open-ils.actor", _FOR_ALL, TOKEN, TIMEZONE).listing()
        values = {int(entry["org_unit"]): entry["summary"]["value"] for entry in answer}
    except (TypeError, KeyError, ValueError):
        raise DataError(
            "the ILS gave no usable values of the setting {name}",
            code="ils-setting-unusable",
            values={"name": TIMEZONE},
        ) from None
    found = {org_unit: timezone_of(value) for org_unit, value in values.items() if isinstance(value, str)}
    return {org_unit: zone for org_unit, zone in found.items() if zone is not None}
