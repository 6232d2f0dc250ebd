"""Standing penalties (``ausp``) in force for patrons, and the kinds that there are of them (``csp``)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from evergreen_groups.errors import DataError
from evergreen_groups.ils.thresholds import PATRON_EXCEEDS_FINES, read_fines_penalties
from evergreen_groups.odd_dates import known

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.ils.org_units import OrgUnit, OrgUnits


@dataclass(frozen=True, slots=True)
class PenaltyKind:
    """A kind of penalty; ``blocks`` names what it blocks (``CIRC``, ``HOLD``), nothing for a mere note."""

    id: int
    name: str
    blocks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Penalty:
    """A standing penalty in force for the patron with the id ``patron``.

    ``staff`` is the id of the staff user who set it, None where the ILS did itself.
    """

    id: int
    patron: int
    kind: PenaltyKind
    org_unit: OrgUnit
    staff: int | None
    set_date: datetime | None

    @property
    def by_staff(self) -> bool:
        """Whether staff set it, and not the ILS itself."""
        return self.staff is not None


class PenaltyRow(NamedTuple):
    """A standing penalty in force as its row has it: ``kind``, ``org_unit`` and ``staff`` (who set it) are ids.

    It is no :class:`Penalty` yet, because the kinds stand in another table (``csp``). Changes compare rows before and
    after, and have no need of it.
    """

    id: int
    patron: int
    kind: int
    org_unit: int
    staff: int | None
    set_date: datetime | None


class PenaltyKinds:
    """The kinds of penalties that an ILS has, and which of them it sets for fines."""

    def __init__(self, kinds: Collection[PenaltyKind], fines_penalties: Mapping[int, int]) -> None:
        """``fines_penalties`` is what :func:`read_fines_penalties` gives: a kind's id for each org unit."""
        self._by_id = {kind.id: kind for kind in kinds}
        self.fines_penalties = fines_penalties
        # The stock one stays among them: a patron of a library with its own may still hold it from before
        # (penalties-update-013).
        self.for_fines = frozenset({PATRON_EXCEEDS_FINES, *fines_penalties.values()})
        """The ids of those for fines: the stock one, and those that a setting puts in its place."""

    @classmethod
    def read(
        cls, gateway: Gateway, org_units: OrgUnits, fines_penalties: Mapping[int, int] | None = None
    ) -> PenaltyKinds:
        """Read them in three calls side by side, or in two where ``fines_penalties`` are known."""
        fields = ("id", "name", "block_list")
        readers: tuple[Callable[[], Any], ...] = (
            # csp is served to every staff account (pcrud-089).
            lambda: gateway.pcrud.all_columns("csp", fields),
            lambda: read_fines_penalties(gateway, org_units) if fines_penalties is None else fines_penalties,
        )
        rows, for_fines = gateway.map(lambda read: read(), readers)
        return cls(
            [PenaltyKind(id, name, tuple(blocks.split("|")) if blocks else ()) for id, name, blocks in rows], for_fines
        )

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, kind: object) -> bool:
        """Whether there is a kind with this id."""
        return kind in self._by_id

    def for_fines_at(self, home_library: int) -> frozenset[int]:
        """The ids of the kinds that stand for the fines of patrons with this home library.

        One that another library has in place of the stock one may stand for something else here, such as overdue items:
        seven settings name penalties, each at any org unit. A recalculation that names ``PATRON_EXCEEDS_FINES`` sets
        and removes these alone (``OpenILS/Utils/Penalty.pm`` lets both ids through; ``penalties-update-022``).
        """
        return frozenset({PATRON_EXCEEDS_FINES, self.fines_penalties.get(home_library, PATRON_EXCEEDS_FINES)})

    def set_for_fines_at(self, home_library: int) -> PenaltyKind:
        """The kind that the ILS sets for the fines of patrons with this home library.

        Raises:
            DataError: the ILS's settings name one that isn't among its kinds.
        """
        return self._kind(self.fines_penalties.get(home_library, PATRON_EXCEEDS_FINES))

    def is_for_fines(self, kind: PenaltyKind, home_library: int) -> bool:
        """Whether a kind stands for the fines of patrons with this home library."""
        return kind.id in self.for_fines_at(home_library)

    def blocks_for_fines(self, kind: PenaltyKind, home_library: int) -> bool:
        """Whether a kind blocks patrons with this home library for their fines; a mere note blocks nobody."""
        return bool(kind.blocks) and self.is_for_fines(kind, home_library)

    def blocking_for_fines_at(self, home_library: int) -> frozenset[int]:
        """The ids of those that do."""
        kinds = (self._by_id.get(id) for id in self.for_fines_at(home_library))
        return frozenset(kind.id for kind in kinds if kind is not None and kind.blocks)

    def sets_block_for_fines_at(self, home_library: int) -> bool:
        """Whether the kind that the ILS sets for the fines of patrons with this home library blocks, and is no note."""
        kind = self.fines_penalties.get(home_library, PATRON_EXCEEDS_FINES)
        return kind in self.blocking_for_fines_at(home_library)

    @property
    def blocking_for_fines_anywhere(self) -> frozenset[int]:
        """The ids of those that block for fines at some home library."""
        return frozenset(id for id in self.for_fines if self._by_id.get(id) is None or self._by_id[id].blocks)

    @property
    def blocking_for_fines_everywhere(self) -> frozenset[int]:
        """The ids of those that block for fines whatever the home library."""
        homes = self.fines_penalties
        return frozenset(
            id
            for id in self.for_fines
            if id in self._by_id and all(self.blocks_for_fines(self._by_id[id], home) for home in homes)
        )

    def in_force(self, gateway: Gateway, org_units: OrgUnits, patrons: Collection[int]) -> dict[int, list[Penalty]]:
        """The penalties of each of these patrons that haven't been archived, by patron's id, in the order of theirs.

        Raises:
            DataError: one is of a kind, or at an org unit, that the ILS didn't list.
        """
        return self.by_patron(rows_in_force(gateway, patrons), org_units, patrons)

    def by_patron(
        self, rows: Iterable[PenaltyRow], org_units: OrgUnits, patrons: Collection[int]
    ) -> dict[int, list[Penalty]]:
        """The penalties that these rows are, as :meth:`in_force` gives them; raises what that does."""
        found: dict[int, list[Penalty]] = {patron: [] for patron in patrons}
        for id, patron, kind, org_unit, staff, set_date in sorted(rows, key=itemgetter(0)):
            penalty = Penalty(id, patron, self._kind(kind), org_units.unit(org_unit), staff, set_date)
            found[patron].append(penalty)
        return found

    def _kind(self, kind: int) -> PenaltyKind:
        try:
            return self._by_id[kind]
        except KeyError:
            # What it blocks isn't known, and nothing may pass for a mere note.
            raise DataError(
                "the ILS names a kind of penalty {id} that isn't among its kinds",
                advice="try again: it may have been added just now",
                code="penalty-kind-missing",
                values={"id": kind},
            ) from None


PENALTY_FIELDS = ("id", "usr", "standing_penalty", "org_unit", "staff", "set_date", "stop_date")
"""The fields of an ``ausp`` that tell whether it is in force, and what it is then."""


def rows_in_force(
    gateway: Gateway, patrons: Collection[int], *, kinds: Sequence[int] | None = None, all_visible: bool = False
) -> Iterator[PenaltyRow]:
    """The rows of the penalties of these patrons that haven't been archived; ``kinds`` (ids) narrows them.

    ``all_visible`` says that the account has VIEW_USER at the home library of each.
    """
    where = None if kinds is None else {"standing_penalty": list(kinds)}
    for batch in gateway.pcrud.columns_by_values(
        "ausp", PENALTY_FIELDS, "usr", sorted(patrons), where=where, all_visible=all_visible
    ):
        yield from not_archived(batch)


def not_archived(rows: Iterable[tuple[Any, ...]]) -> Iterator[PenaltyRow]:
    """Those of the rows, in ``PENALTY_FIELDS``, that are in force."""
    now = datetime.now(UTC)
    for *row, stop_date in rows:
        # pcrud sends archived ones too, fleshed or not (pcrud-072, pcrud-168).
        if not_stopped(stop_date, now):
            row[-1] = known(row[-1])
            yield PenaltyRow(*row)


def not_stopped(stop_date: datetime | None, now: datetime) -> bool:
    """Whether a penalty with this end is in force; one that ends at infinity comes as one of 1970."""
    stop_date = known(stop_date)
    return stop_date is None or stop_date > now


def set_by_ils(rows: Collection[PenaltyRow]) -> int:
    """How many of the penalties the ILS has set itself."""
    return sum(row.staff is None for row in rows)
