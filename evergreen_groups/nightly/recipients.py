"""Who gets which libraries' groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evergreen_groups.ils import OrgUnits

EVERYTHING = "*"
"""The name among the recipients that stands for the whole report."""


def addressed(
    recipients: Iterable[tuple[str, tuple[str, ...]]], org_units: OrgUnits, listed: Iterable[str] = ()
) -> Mapping[tuple[str, ...], tuple[str, ...]]:
    """Say which addresses get the report of which libraries and systems (short names; none: the whole report).

    An address that stands at several names is there once, however it is capitalised, with all of them but those below
    another. ``listed`` are the libraries that the report is about (none: all): of others it doesn't know every group,
    so an address that stands at those alone isn't there.

    Raises:
        ConfigurationError: there is no org unit of such a name.
    """
    tops = {org_units.find(name).id for name in listed}
    wanted: dict[str, set[int]] = {}
    spelling: dict[str, str] = {}
    for name, addresses in recipients:
        org_unit = org_units.root if name == EVERYTHING else org_units.find(name)
        for address in addresses:
            spelled = spelling.setdefault(address.casefold(), address)
            wanted.setdefault(spelled, set()).add(org_unit.id)
    parts: dict[tuple[str, ...], list[str]] = {}
    for address, ids in wanted.items():
        known = ids if org_units.root.id in ids else set().union(*(_within(id, tops, org_units) for id in ids))
        if known:
            parts.setdefault(_names(known, org_units), []).append(address)
    return {part: tuple(addresses) for part, addresses in parts.items()}


def _within(id: int, tops: set[int], org_units: OrgUnits) -> set[int]:
    """What of an org unit the report is about: all of it, or those of ``tops`` (none: everything) below it."""
    if not tops or tops.intersection(org_units.upwards(id)):
        return {id}
    return {top for top in tops if id in org_units.upwards(top)}


def _names(ids: set[int], org_units: OrgUnits) -> tuple[str, ...]:
    """The short names of those org units that aren't below another of them; none where the root is one of them."""
    if org_units.root.id in ids:
        return ()
    tops = [id for id in ids if not ids.intersection(org_units.upwards(id)[1:])]
    return tuple(sorted(org_units.shortname(id) for id in tops))
