"""Who gets which libraries' groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from evergreen_groups.org_units import OrgUnits

EVERYTHING = "*"
"""The name among the recipients that stands for the whole report."""


def addressed(
    recipients: Iterable[tuple[str, tuple[str, ...]]], org_units: OrgUnits
) -> Mapping[tuple[str, ...], tuple[str, ...]]:
    """Say which addresses get the report of which libraries and systems (short names; none: the whole report).

    An address that stands at several names is there once, with all of them but those below another.

    Raises:
        ConfigurationError: there is no org unit of such a name.
    """
    wanted: dict[str, set[int]] = {}
    for name, addresses in recipients:
        org_unit = org_units.root if name == EVERYTHING else org_units.find(name)
        for address in addresses:
            wanted.setdefault(address, set()).add(org_unit.id)
    parts: dict[tuple[str, ...], list[str]] = {}
    for address, ids in wanted.items():
        parts.setdefault(_names(ids, org_units), []).append(address)
    return {part: tuple(addresses) for part, addresses in parts.items()}


def _names(ids: set[int], org_units: OrgUnits) -> tuple[str, ...]:
    """The short names of those org units that aren't below another of them; none where the root is one of them."""
    if org_units.root.id in ids:
        return ()
    tops = [id for id in ids if not ids.intersection(org_units.upwards(id)[1:])]
    return tuple(sorted(org_units.shortname(id) for id in tops))
