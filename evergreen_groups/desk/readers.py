"""What the desk's readers share: visible fines, penalties from the primary, and viewers for group queries."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from evergreen_groups.changes import PenaltyReader, RecentlyChanged
from evergreen_groups.groups import GroupViewer, HiddenCirculations, can_ask_about
from evergreen_groups.ils import (
    VIEW_CIRCULATIONS,
    VIEW_USER,
    CirculationReader,
    read_fines_of,
    read_own_fines,
)

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups import VisiblePatrons
    from evergreen_groups.ils import OrgUnits, PenaltyRow, ReferenceData


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
    if not theirs:
        return list(rows)
    reader = PenaltyReader(gateway, org_units)
    read = [penalties for penalties in gateway.map(reader.read, sorted(theirs)) if penalties is not None]
    others = (row for row in rows if row.patron not in theirs)
    return [*others, *(row for penalties in read for row in penalties.in_force)]


class DeskReader:
    """Reads patrons at one gateway, as far as its session may see them."""

    def __init__(
        self, gateway: Gateway, reference: ReferenceData, recent: Callable[[], RecentlyChanged] = RecentlyChanged
    ) -> None:
        """``recent`` returns patrons whose latest changes a replica may not have yet."""
        self._gateway = gateway
        self._reference = reference
        self._recent = recent

    def _member_viewer(self, recent: RecentlyChanged) -> GroupViewer:
        """Return a viewer that asks for the members only, with the session's account and permissions."""
        gateway, reference = self._gateway, self._reference
        patrons_at = reference.rights(gateway).at(VIEW_USER)
        everywhere = reference.org_units(gateway).root.id in patrons_at
        group = reference.account(gateway).group
        return GroupViewer(reference.user(gateway), patrons_at, everywhere, group=group, changed=recent.patrons)

    def _details_viewer(self, names_of: Collection[int], recent: RecentlyChanged) -> GroupViewer:
        """Return a viewer that asks for all that a desk shows of a group, and for the names of ``names_of`` (ids)."""
        plain = self._member_viewer(recent)
        counted_at = self._reference.rights(self._gateway).at(VIEW_CIRCULATIONS)
        hidden_at = frozenset(unit.id for unit in self._reference.org_units(self._gateway)) - counted_at
        circulations = HiddenCirculations(hidden_at, counted_at)
        return replace(
            plain,
            circulations=circulations if can_ask_about(circulations) else None,
            with_staff=True,
            extra_patrons=frozenset(names_of),
        )

    def _with_primary_penalties(
        self, org_units: OrgUnits, found: VisiblePatrons, recent: RecentlyChanged
    ) -> VisiblePatrons:
        """Return a group with the recently recalculated members' penalties from the primary database."""
        rows = with_recalculated_rows(self._gateway, org_units, found.penalties, found.ids, recent)
        return replace(found, penalties=tuple(rows))

    def _visible_fines(self, patrons: Collection[int]) -> dict[int, Decimal]:
        """Return visible patrons' own fines by id, without those who owe nothing."""
        fines, user = read_own_fines(self._gateway, patrons), self._reference.user(self._gateway)
        # Since 3.15 an account sees its own record without VIEW_USER, but not its own balance in pcrud (pcrud-056).
        if user in patrons and user not in fines:
            owed = read_fines_of(self._gateway, user)
            return fines if owed is None else {**fines, user: owed}
        return fines

    def _circulation_reader(self) -> CirculationReader:
        """Return a reader that counts items out as the session may see them, by the home library's rules."""
        gateway, reference = self._gateway, self._reference
        return CirculationReader(
            gateway,
            reference.org_units(gateway),
            reference.circulation_tally(gateway),
            reference.rights(gateway).at(VIEW_CIRCULATIONS),
            reference.user(gateway),
        )
