"""Readers that several desk views share: visible fines, penalties from the primary, and viewers for group queries."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from evergreen_groups.changes import PenaltyReader
from evergreen_groups.groups import GroupViewer, HiddenCirculations, can_ask_about
from evergreen_groups.ils import (
    VIEW_CIRCULATIONS,
    VIEW_USER,
    CirculationReader,
    read_fines_of,
    read_own_fines,
)

if TYPE_CHECKING:
    from evergreen_groups.changes import RecentlyChanged
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups import VisiblePatrons
    from evergreen_groups.ils import OrgUnits, PenaltyRow, ReferenceData


def with_primary_penalties(
    gateway: Gateway, org_units: OrgUnits, found: VisiblePatrons, recent: RecentlyChanged
) -> VisiblePatrons:
    """Return a group with the recently recalculated members' penalties from the primary database."""
    return replace(
        found, penalties=tuple(with_recalculated_rows(gateway, org_units, found.penalties, found.ids, recent))
    )


def with_recalculated_rows(
    gateway: Gateway,
    org_units: OrgUnits,
    rows: Iterable[PenaltyRow],
    patrons: Collection[int],
    recent: RecentlyChanged,
) -> list[PenaltyRow]:
    """Return the penalties of ``patrons`` (ids), replacing those of recently recalculated patrons by the primary's."""
    theirs = frozenset(patrons)
    if recent.recalculated is not None:
        theirs &= recent.recalculated
    reader = PenaltyReader(gateway, org_units)
    read = [penalties for penalties in gateway.map(reader.read, sorted(theirs)) if penalties is not None]
    others = (row for row in rows if row.patron not in theirs)
    return [*others, *(row for penalties in read for row in penalties.in_force)]


def read_visible_fines(gateway: Gateway, user: int, patrons: Collection[int]) -> dict[int, Decimal]:
    """Return visible patrons' own fines by id, without those who owe nothing. ``user`` is the session's account."""
    fines = read_own_fines(gateway, patrons)
    # Since 3.15 an account sees its own record without VIEW_USER, but not its own balance in pcrud (pcrud-056).
    if user in patrons and user not in fines:
        owed = read_fines_of(gateway, user)
        return fines if owed is None else {**fines, user: owed}
    return fines


def member_viewer(gateway: Gateway, reference: ReferenceData, recent: RecentlyChanged) -> GroupViewer:
    """Return a viewer that asks for the members only, with the session's account and permissions."""
    patrons_at = reference.rights(gateway).at(VIEW_USER)
    everywhere = reference.org_units(gateway).root.id in patrons_at
    group = reference.account(gateway).group
    return GroupViewer(reference.user(gateway), patrons_at, everywhere, group=group, changed=recent.patrons)


def details_viewer(
    gateway: Gateway, reference: ReferenceData, names_of: Collection[int], recent: RecentlyChanged
) -> GroupViewer:
    """Return a viewer that asks for all that a desk shows of a group, and for the names of ``names_of`` (ids)."""
    plain = member_viewer(gateway, reference, recent)
    counted_at = reference.rights(gateway).at(VIEW_CIRCULATIONS)
    hidden_at = frozenset(unit.id for unit in reference.org_units(gateway)) - counted_at
    circulations = HiddenCirculations(hidden_at, counted_at)
    return replace(
        plain,
        circulations=circulations if can_ask_about(circulations) else None,
        with_staff=True,
        extra_patrons=frozenset(names_of),
    )


def circulation_reader(gateway: Gateway, reference: ReferenceData) -> CirculationReader:
    """Return a reader that counts items out as the session may see them, by the home library's rules for counting."""
    return CirculationReader(
        gateway,
        reference.org_units(gateway),
        reference.circulation_tally(gateway),
        reference.rights(gateway).at(VIEW_CIRCULATIONS),
        reference.user(gateway),
    )
