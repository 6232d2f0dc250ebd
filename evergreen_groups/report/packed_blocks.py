"""Blocks for fines, packed: of a report of a hundred thousand members half may be blocked."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from evergreen_groups.report.places import Places

if TYPE_CHECKING:
    from datetime import datetime

    from evergreen_groups.ils import OrgUnit, Penalty, PenaltyKind


class PackedBlocks(Mapping[int, "tuple[Penalty, ...]"]):
    """The penalties of patrons by their ids, each made anew when it is looked at; they take a quarter of the room."""

    def __init__(self, penalties: Iterable[Penalty] = ()) -> None:
        """``penalties`` come a patron after the other."""
        from evergreen_groups.ils import Penalty  # with it comes the gateway, which --help needn't load

        self._make = Penalty
        self._patrons = array("q")
        self._starts = array("q")  # where each one's penalties begin
        self._ids = array("q")
        self._kinds: list[PenaltyKind] = []
        self._org_units: list[OrgUnit] = []
        self._staff: list[int | None] = []
        self._set_dates: list[datetime | None] = []
        for penalty in penalties:
            if not self._patrons or self._patrons[-1] != penalty.patron:
                self._patrons.append(penalty.patron)
                self._starts.append(len(self._ids))
            self._ids.append(penalty.id)
            self._kinds.append(penalty.kind)
            self._org_units.append(penalty.org_unit)
            self._staff.append(penalty.staff)
            self._set_dates.append(penalty.set_date)
        self._starts.append(len(self._ids))
        self._places = Places(self._patrons)

    def __len__(self) -> int:
        return len(self._patrons)

    def __iter__(self) -> Iterator[int]:
        return iter(self._patrons)

    def __contains__(self, patron: object) -> bool:
        return isinstance(patron, int) and self._places.of(patron) is not None

    def __getitem__(self, patron: int) -> tuple[Penalty, ...]:
        place = self._places.of(patron)
        if place is None:
            raise KeyError(patron)
        start, end = self._starts[place], self._starts[place + 1]
        ids, kinds, org_units, staff, dates = self._ids, self._kinds, self._org_units, self._staff, self._set_dates
        return tuple(
            [self._make(ids[at], patron, kinds[at], org_units[at], staff[at], dates[at]) for at in range(start, end)]
        )
