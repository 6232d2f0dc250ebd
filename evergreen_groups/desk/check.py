"""Who is blocked, by the rule and in the ILS: the answer for one patron, or for everybody of a group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from evergreen_groups.errors import not_in_sight
from evergreen_groups.groups import MembershipReader, Person
from evergreen_groups.ils import PATRON_EXCEEDS_FINES, OrgUnits, PenaltyRow, read_fines_penalties, rows_in_force
from evergreen_groups.limits import Limits, ResolvedLimit, decide_all

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway, Record
    from evergreen_groups.policy import Decision
    from evergreen_groups.settings import PolicySettings

_MOST_PENALTIES = 10_000


@dataclass(frozen=True, slots=True)
class RecordedPenalty:
    """A penalty that the ILS holds against somebody now (``ausp``), with the name of its kind (``csp``).

    ``library`` is a short name; ``for_fines`` says that it is the one for own fines at the patron's home library;
    ``by_hand`` that staff set it; ``blocks`` names what it blocks (``CIRC``, ``HOLD``), nothing for a mere note.
    """

    name: str
    library: str
    for_fines: bool
    by_hand: bool
    blocks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PatronCheck:
    """One patron: own fines, limit, decision, and what the ILS has recorded.

    ``own_fines`` are those of everywhere; those that the limit counts are ``decision.own_balance``.
    """

    id: int
    name: str
    barcode: str | None
    library: str
    own_fines: Decimal
    limit: ResolvedLimit
    decision: Decision
    recorded: tuple[RecordedPenalty, ...]

    @property
    def differences(self) -> tuple[str, ...]:
        """Where the ILS blocks otherwise than the rule does, a sentence for each."""
        return tuple(self._differences())

    def _differences(self) -> Iterator[str]:
        for_fines = [penalty for penalty in self.recorded if penalty.for_fines and penalty.blocks]
        if self.decision.blocked and not for_fines:
            yield "Not blocked for fines in the ILS."
        if not self.decision.blocked:
            for penalty in for_fines:
                yield f"Blocked in the ILS: {penalty.name} at {penalty.library}{_hand(penalty)}."
        for penalty in self.recorded:
            if penalty.blocks and not penalty.for_fines:
                yield f"Blocked in the ILS for something else: {penalty.name} at {penalty.library}{_hand(penalty)}."


@dataclass(frozen=True, slots=True)
class GroupCheck:
    """Patrons of one group. ``group_fines`` is what the whole group owes, for information only: it blocks nobody.

    ``hidden_fines`` is what members out of sight owe, as far as it is told (None: it isn't), and in ``group_fines``.
    ``whole_group`` says that everybody of the group was to be checked.
    """

    group: int
    gateway: str
    patrons: tuple[PatronCheck, ...]
    whole_group: bool
    hidden_count: int
    hidden_fines: Decimal | None
    group_fines: Decimal

    @property
    def blocked(self) -> bool:
        """Whether one of the patrons is blocked by the rule."""
        return any(patron.decision.blocked for patron in self.patrons)

    @property
    def complete(self) -> bool:
        """Whether everybody who was to be checked is in sight."""
        return not (self.whole_group and self.hidden_count)


class Checker:
    """Checks patrons, a few calls a time, however large their group is."""

    def __init__(self, gateway: Gateway, settings: PolicySettings) -> None:
        self._gateway = gateway
        self._settings = settings
        self._reader = MembershipReader(gateway)

    def of_barcode(self, barcode: str, *, all_members: bool = False) -> GroupCheck:
        """Check the patron with this barcode, or everybody of that patron's group.

        Raises:
            NotFoundError: no patron in sight has it.
            ConfigurationError: a limit names a profile or library that isn't there.
        """
        found = self._reader.by_barcodes([barcode])
        if barcode not in found:
            raise not_in_sight("no patron in sight has this barcode", code="no-patron-with-barcode")
        return self._check(found[barcode].person, all_members)

    def of_user(self, id: int, *, all_members: bool = False) -> GroupCheck:
        """Check the patron with this id, or everybody of that patron's group; raises what :meth:`of_barcode` does."""
        found = self._reader.by_ids([id])
        if id not in found:
            raise not_in_sight("no patron in sight has this id", code="no-patron-with-id")
        return self._check(found[id], all_members)

    def _check(self, person: Person, all_members: bool) -> GroupCheck:
        membership = self._reader.groups([person.group])[person.group]
        people = membership.members if all_members else (person,)
        return GroupCheck(
            group=person.group,
            gateway=self._gateway.url,
            patrons=tuple(self._patrons(people)),
            whole_group=all_members,
            hidden_count=len(membership.hidden_ids),
            hidden_fines=membership.hidden_fines,
            group_fines=membership.total,
        )

    def _patrons(self, people: Sequence[Person]) -> Iterator[PatronCheck]:
        org_units = OrgUnits.read(self._gateway)
        penalties = read_fines_penalties(self._gateway, org_units)
        limits = Limits.read(self._gateway, self._settings, org_units, penalties)
        decided = decide_all(self._gateway, limits, people)
        recorded = self._recorded(people, penalties, org_units)
        for person in people:
            yield PatronCheck(
                id=person.id,
                name=person.name,
                barcode=person.barcode,
                library=org_units.shortname(person.home_library),
                own_fines=person.own_fines,
                limit=decided[person.id].limit,
                decision=decided[person.id].decision,
                recorded=tuple(recorded[person.id]),
            )

    def _recorded(
        self, people: Sequence[Person], penalties: Mapping[int, int], org_units: OrgUnits
    ) -> dict[int, list[RecordedPenalty]]:
        """The penalties in force of each patron, in the order in which they were set."""
        kinds = {
            kind.id: kind for kind in self._gateway.pcrud.search("csp", {"id": {"<>": None}}, limit=_MOST_PENALTIES)
        }
        for_fines = {
            person.id: frozenset({PATRON_EXCEEDS_FINES, penalties.get(person.home_library, PATRON_EXCEEDS_FINES)})
            for person in people
        }
        recorded: dict[int, list[RecordedPenalty]] = {person.id: [] for person in people}
        for row in sorted(rows_in_force(self._gateway, recorded), key=lambda row: row.id):
            recorded[row.patron].append(_penalty(row, kinds.get(row.penalty), for_fines[row.patron], org_units))
        return recorded


def _penalty(row: PenaltyRow, kind: Record | None, for_fines: frozenset[int], org_units: OrgUnits) -> RecordedPenalty:
    return RecordedPenalty(
        name=kind.name if kind else f"#{row.penalty}",
        library=org_units.shortname(row.org_unit),
        for_fines=row.penalty in for_fines,
        by_hand=row.staff is not None,
        blocks=tuple(str(kind.block_list).split("|")) if kind and kind.block_list else (),
    )


def _hand(penalty: RecordedPenalty) -> str:
    return ", set by hand" if penalty.by_hand else ""
