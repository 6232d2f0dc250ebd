"""Who gets which libraries' groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from evergreen_groups.org_units import OrgUnits

EVERYTHING = "*"
"""The name among the recipients that stands for the whole report."""


def addressed(
    recipients: Iterable[tuple[str, tuple[str, ...]]], org_units: OrgUnits
) -> Mapping[frozenset[str] | None, tuple[str, ...]]:
    """Say which addresses get which libraries (short names; None: the whole report), each address once.

    An address that stands at several names gets the libraries of all of them; whoever gets a system gets everything
    below it.

    Raises:
        ConfigurationError: there is no org unit of such a name.
    """
    wanted: dict[str, set[str] | None] = {}
    for name, addresses in recipients:
        libraries = None if name == EVERYTHING else _libraries(name, org_units)
        for address in addresses:
            known = wanted.get(address, set())
            wanted[address] = None if libraries is None or known is None else known | libraries
    parts: dict[frozenset[str] | None, list[str]] = {}
    for address, shortnames in wanted.items():
        parts.setdefault(None if shortnames is None else frozenset(shortnames), []).append(address)
    return {part: tuple(addresses) for part, addresses in parts.items()}


def _libraries(name: str, org_units: OrgUnits) -> set[str]:
    return {org_units.shortname(id) for id in org_units.named([name])}
