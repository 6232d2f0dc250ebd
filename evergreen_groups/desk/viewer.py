"""Who looks at a group, with what their session sees, and what it can count."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from evergreen_groups.groups import GroupViewer, HiddenCirculations, may_ask_about
from evergreen_groups.ils import VIEW_CIRCULATIONS, VIEW_USER, CirculationReader

if TYPE_CHECKING:
    from evergreen_groups.changes import RecentlyChanged
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.limits import ReferenceData


def plain_viewer(gateway: Gateway, reference: ReferenceData, recent: RecentlyChanged) -> GroupViewer:
    """Somebody who asks for the members alone; costs what the session's account and rights do."""
    patrons_at = reference.rights(gateway).at(VIEW_USER)
    everywhere = reference.org_units(gateway).root.id in patrons_at
    group = reference.account(gateway).group
    return GroupViewer(reference.user(gateway), patrons_at, everywhere, group=group, changed=recent.patrons)


def details_viewer(
    gateway: Gateway, reference: ReferenceData, beside: Collection[int], recent: RecentlyChanged
) -> GroupViewer:
    """Somebody who asks for all that a desk shows of a group, and for the names of those ``beside`` it (ids)."""
    plain = plain_viewer(gateway, reference, recent)
    counted_at = reference.rights(gateway).at(VIEW_CIRCULATIONS)
    hidden_at = frozenset(unit.id for unit in reference.org_units(gateway)) - counted_at
    circulations = HiddenCirculations(hidden_at, counted_at)
    return replace(
        plain,
        circulations=circulations if may_ask_about(circulations) else None,
        with_staff=True,
        beside=frozenset(beside),
    )


def circulation_reader(gateway: Gateway, reference: ReferenceData) -> CirculationReader:
    """Counts what patrons have out for whoever looks; reads what their library counts as out where it isn't known."""
    return CirculationReader(
        gateway,
        reference.org_units(gateway),
        reference.circulation_tally(gateway),
        reference.rights(gateway).at(VIEW_CIRCULATIONS),
        reference.user(gateway),
    )
