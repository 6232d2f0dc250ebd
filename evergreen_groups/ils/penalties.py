"""Penalties (``ausp``, ``csp``): the kinds there are, and those in force for patrons."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from evergreen_groups.ils.thresholds import PATRON_EXCEEDS_FINES, read_fines_penalties

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.ils.org_units import OrgUnits


@dataclass(frozen=True, slots=True)
class Block:
    """A penalty in force (``ausp``). ``org_unit`` is a short name; ``by_hand`` says that staff set it."""

    id: int
    penalty: str
    org_unit: str
    by_hand: bool
    set_date: datetime | None


_STOCK = frozenset({PATRON_EXCEEDS_FINES, 2, 3, 4, 5, 30, 35})
"""Evergreen's own penalties that a recalculation sets or removes (``950.data.seed-values.sql``)."""
_MOST_KINDS = 10_000
_ROW = ("id", "usr", "standing_penalty", "org_unit", "staff", "set_date", "stop_date")


class PenaltyRow(NamedTuple):
    """A penalty in force: its kind, where, and who set it (None: the ILS itself)."""

    id: int
    patron: int
    penalty: int
    org_unit: int
    staff: int | None
    set_date: datetime | None


@dataclass(frozen=True, slots=True)
class Penalties:
    """The kinds of penalties: ``names`` by id, those that are ``blocking`` something, and those ``for_fines``."""

    names: Mapping[int, str]
    blocking: frozenset[int]
    for_fines: frozenset[int]

    @classmethod
    def read(cls, gateway: Gateway, org_units: OrgUnits) -> Penalties:
        """Read them in two calls. Those for fines are the stock one and those that a setting puts in its place."""
        fields = ("id", "name", "block_list")
        # csp is served to every staff account (pcrud-089).
        rows = gateway.pcrud.search_columns("csp", fields, {"id": {"<>": None}}, limit=_MOST_KINDS)
        return cls(
            {id: name for id, name, _blocks in rows},
            frozenset(id for id, _name, blocks in rows if blocks),
            # The stock one stays among them: a patron of a library with its own may still hold it from before
            # (penalties-update-013).
            frozenset({PATRON_EXCEEDS_FINES, *read_fines_penalties(gateway, org_units).values()}),
        )

    @property
    def recalculated(self) -> frozenset[int]:
        """Those that a recalculation may set or remove."""
        return self.for_fines | _STOCK

    def block(self, row: PenaltyRow, org_units: OrgUnits) -> Block:
        """Put a penalty into words."""
        name = self.names.get(row.penalty, f"#{row.penalty}")
        return Block(row.id, name, org_units.shortname(row.org_unit), row.staff is not None, row.set_date)


def rows_in_force(gateway: Gateway, patrons: Collection[int]) -> Iterator[PenaltyRow]:
    """The penalties of these patrons that haven't been archived."""
    now = datetime.now(UTC)
    for batch in gateway.pcrud.columns_by_values("ausp", _ROW, "usr", sorted(patrons)):
        for *row, stop_date in batch:
            # pcrud sends archived ones too, fleshed or not (pcrud-072, pcrud-168).
            if stop_date is None or stop_date > now:
                yield PenaltyRow(*row)


def set_by_ils(rows: Collection[PenaltyRow]) -> int:
    """How many of the penalties the ILS has set itself."""
    return sum(row.staff is None for row in rows)
