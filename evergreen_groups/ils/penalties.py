"""Standing penalties of patrons (``ausp``) and the kinds of penalties (``csp``)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from evergreen_groups.errors import DataError, unreadable
from evergreen_groups.ils.org_units import OrgUnits, unusable_setting
from evergreen_groups.values import plausible

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.ils.org_units import OrgUnit

PATRON_EXCEEDS_FINES = 1
"""The id of the stock penalty for fines (``csp``)."""


@dataclass(frozen=True, slots=True)
class PenaltyKind:
    """A kind of penalty. ``blocks`` lists the actions it blocks (``CIRC``). ``label`` is the staff client's name."""

    id: int
    name: str
    blocks: tuple[str, ...]
    label: str = ""

    @property
    def is_for_items(self) -> bool:
        """Whether the ILS sets it for too many of the patron's own overdue or lost items."""
        return self.name in {f"PATRON_EXCEEDS_{items}_COUNT" for items in ("OVERDUE", "LONGOVERDUE", "LOST")}


@dataclass(frozen=True, slots=True)
class Penalty:
    """A standing penalty in force for a patron (``patron``, an id).

    ``staff`` is the id of the staff user who set it, or None if the ILS did.
    """

    id: int
    patron: int
    kind: PenaltyKind
    org_unit: OrgUnit
    staff: int | None
    set_date: datetime | None

    @property
    def by_staff(self) -> bool:
        """Whether staff set the penalty, not the ILS."""
        return self.staff is not None


PENALTY_FIELDS = ("id", "usr", "standing_penalty", "org_unit", "staff", "set_date", "stop_date")
"""The fields of ``ausp`` that a :class:`PenaltyRow` needs, and ``stop_date``, which tells if it is in force."""


class PenaltyRow(NamedTuple):
    """A :class:`Penalty` with ids only, built without reading the kinds (``csp``)."""

    id: int
    patron: int
    kind: int
    org_unit: int
    staff: int | None
    set_date: datetime | None

    @staticmethod
    def select_in_force(rows: Iterable[tuple[Any, ...]]) -> Iterator[PenaltyRow]:
        """Yield the penalties in force among rows with the columns ``PENALTY_FIELDS``."""
        now = datetime.now(UTC)
        for id, patron, kind, org_unit, staff, set_date, stop_date in rows:
            # pcrud also returns archived penalties, fleshed or not (pcrud-072, pcrud-168).
            if PenaltyRow.is_in_force(stop_date, now):
                yield PenaltyRow(id, patron, kind, org_unit, staff, plausible(set_date))

    @staticmethod
    def is_in_force(stop_date: datetime | None, now: datetime) -> bool:
        """Return whether a penalty with this ``stop_date`` is in force. Infinity arrives as a date in 1970."""
        stop_date = plausible(stop_date)
        return stop_date is None or stop_date > now

    @staticmethod
    def count_set_by_ils(rows: Collection[PenaltyRow]) -> int:
        """Count the penalties that the ILS set, as opposed to staff."""
        return sum(row.staff is None for row in rows)


def read_fines_penalties(gateway: Gateway, org_units: OrgUnits) -> dict[int, int]:
    """Return the id of each org unit's penalty for fines: the stock one, or that of :attr:`PenaltyKinds.SETTING`.

    One call (``explanation-008``). Raises DataError if a setting's value isn't a penalty id.
    """
    values = OrgUnits.read_setting(gateway, PenaltyKinds.SETTING)
    # The answer lists every org unit, with null for no setting (explanation-008). If one is missing, its penalty is
    # unknown, which isn't the same as the stock one.
    if not values.keys() >= org_units.ids:
        raise unusable_setting(PenaltyKinds.SETTING)
    try:
        # Settings are stored as JSON: a number (settings-001), or a number in quotation marks.
        return {
            id: PATRON_EXCEEDS_FINES if values[id] is None else int(str(values[id]).strip('"')) for id in org_units.ids
        }
    except ValueError:
        raise DataError(
            "the Evergreen setting {name} isn't the id of a penalty",
            advice="correct the setting in Evergreen",
            code="ils-setting-without-penalty",
            values={"name": PenaltyKinds.SETTING},
        ) from None


class PenaltyKinds:
    """All kinds of penalties by id, and which are for fines where: the stock one, unless a setting replaces it."""

    SETTING = "circ.custom_penalty_override.PATRON_EXCEEDS_FINES"
    """The library setting that replaces the stock penalty."""

    def __init__(self, kinds: Collection[PenaltyKind], fines_penalties: Mapping[int, int]) -> None:
        """``fines_penalties`` comes from :func:`read_fines_penalties`: the id of the kind for fines by org unit."""
        self._by_id = {kind.id: kind for kind in kinds}
        self._blocking = frozenset(kind.id for kind in kinds if kind.blocks)
        self.fines_penalties = fines_penalties
        # Always includes the stock kind: patrons of a library that replaced it may still have old ones
        # (penalties-update-013).
        self.for_fines = frozenset({PATRON_EXCEEDS_FINES, *fines_penalties.values()})
        """The ids of all kinds for fines at any library."""

    @classmethod
    def read(
        cls, gateway: Gateway, org_units: OrgUnits, fines_penalties: Mapping[int, int] | None = None
    ) -> PenaltyKinds:
        """Read the kinds in three calls, or in two if ``fines_penalties`` is given."""
        fields = ("id", "name", "block_list", "label")
        rows, for_fines = gateway.in_parallel(
            # All staff accounts may read csp (pcrud-089).
            lambda: gateway.pcrud.all_columns("csp", fields),
            lambda: read_fines_penalties(gateway, org_units) if fines_penalties is None else fines_penalties,
        )
        kinds = [
            PenaltyKind(id, name, tuple(blocks.split("|")) if blocks else (), label or "")
            for id, name, blocks, label in rows
        ]
        return cls(kinds, for_fines)

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, kind: object) -> bool:
        return kind in self._by_id

    def ids_of(self, names: Collection[str]) -> dict[int, str]:
        """Return the names of the kinds with these names, by id."""
        return {kind.id: kind.name for kind in self._by_id.values() if kind.name in names}

    def for_fines_at(self, home_library: int) -> frozenset[int]:
        """Return the ids of the kinds that are for fines of patrons of this home library.

        Another library's replacement may mean something else here. A recalculation for ``PATRON_EXCEEDS_FINES`` sets
        and removes only these kinds (``OpenILS/Utils/Penalty.pm`` accepts both ids; ``penalties-update-022``).
        """
        return frozenset({PATRON_EXCEEDS_FINES, self._set_at(home_library)})

    def set_for_fines_at(self, home_library: int) -> PenaltyKind:
        """Return the kind that the ILS sets for fines of patrons of this home library; DataError if it is unknown."""
        return self._kind(self._set_at(home_library))

    def blocking_for_fines_at(self, home_library: int) -> frozenset[int]:
        """Return the ids of the kinds that block patrons of this home library for fines. Notes don't block."""
        return self.for_fines_at(home_library) & self._blocking

    def sets_block_for_fines_at(self, home_library: int) -> bool:
        """Return whether the kind that the ILS sets for fines at this home library is a block, not a note."""
        return self._set_at(home_library) in self._blocking

    @property
    def blocking_for_fines_anywhere(self) -> frozenset[int]:
        """The ids of the kinds that block for fines at one home library or more. Unknown kinds count as blocking."""
        return frozenset(id for id in self.for_fines if id not in self._by_id or id in self._blocking)

    @property
    def blocking_for_fines_everywhere(self) -> frozenset[int]:
        """The ids of the kinds that block for fines at all home libraries."""
        return self.for_fines.intersection(self._blocking, *map(self.for_fines_at, self.fines_penalties))

    def by_patron(
        self, rows: Iterable[PenaltyRow], org_units: OrgUnits, patrons: Collection[int]
    ) -> dict[int, list[Penalty]]:
        """Return penalties by patron id, sorted by id. Raises DataError for an unknown kind or org unit."""
        found: dict[int, list[Penalty]] = {patron: [] for patron in patrons}
        for id, patron, kind, org_unit, staff, set_date in sorted(rows):
            found[patron].append(Penalty(id, patron, self._kind(kind), org_units.unit(org_unit), staff, set_date))
        return found

    def _set_at(self, home_library: int) -> int:
        return self.fines_penalties.get(home_library, PATRON_EXCEEDS_FINES)

    def _kind(self, kind: int) -> PenaltyKind:
        try:
            return self._by_id[kind]
        except KeyError:
            # Without knowing what the kind blocks, don't treat it as a note.
            raise unreadable("penalty-kind-missing", f"unknown penalty {kind}", advice="try again later") from None


def rows_in_force(
    gateway: Gateway, patrons: Collection[int], *, kinds: Sequence[int] | None = None, all_visible: bool = False
) -> Iterator[PenaltyRow]:
    """Read these patrons' penalties in force. ``all_visible`` promises VIEW_USER at the home library of each."""
    where = None if kinds is None else {"standing_penalty": list(kinds)}
    rows = gateway.pcrud.columns_by_values(
        "ausp", PENALTY_FIELDS, "usr", sorted(patrons), where=where, all_visible=all_visible
    )
    return PenaltyRow.select_in_force(rows)
