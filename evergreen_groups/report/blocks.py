"""The members' blocks for fines according to the ILS."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from evergreen_groups.groups import Group, Standing, StandingDifference
from evergreen_groups.total import Total

if TYPE_CHECKING:
    from datetime import datetime

    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups import Member
    from evergreen_groups.ils import OrgUnit, OrgUnits, Penalty, PenaltyKind, PenaltyKinds, PenaltyRow


class NumberIndex:
    """Binary search for the index of a number in a list of distinct numbers. Uses a tenth of the memory of a dict.

    >>> NumberIndex([30, 10, 20]).position(20)
    2
    """

    def __init__(self, numbers: Sequence[int]) -> None:
        self._index = array("q", sorted(range(len(numbers)), key=numbers.__getitem__))
        self._numbers = array("q", map(numbers.__getitem__, self._index))

    def position(self, number: int) -> int | None:
        """Return the index of a number, None if it isn't in the list."""
        at = bisect_left(self._numbers, number)
        return self._index[at] if at < len(self._numbers) and self._numbers[at] == number else None


class PackedBlocks(Mapping[int, "tuple[Penalty, ...]"]):
    """The penalties of patrons, by patron id, in a quarter of the memory.

    Each penalty is created when it is accessed.
    """

    def __init__(self, penalties: Iterable[Penalty] = ()) -> None:
        """``penalties`` must come patron by patron."""
        from evergreen_groups.ils import Penalty  # imports the gateway, which --help needn't load

        self._penalty = Penalty
        self._patrons = array("q")
        self._starts = array("q")  # where a patron's penalties begin
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
        self._index = NumberIndex(self._patrons)

    def __len__(self) -> int:
        return len(self._patrons)

    def __iter__(self) -> Iterator[int]:
        return iter(self._patrons)

    def __contains__(self, patron: object) -> bool:
        return isinstance(patron, int) and self._index.position(patron) is not None

    def __getitem__(self, patron: int) -> tuple[Penalty, ...]:
        index = self._index.position(patron)
        if index is None:
            raise KeyError(patron)
        # Penalties of one patron are adjacent.
        start, end = self._starts[index], self._starts[index + 1]
        ids, kinds, org_units, staff, dates = self._ids, self._kinds, self._org_units, self._staff, self._set_dates
        return tuple(
            [self._penalty(ids[at], patron, kinds[at], org_units[at], staff[at], dates[at]) for at in range(start, end)]
        )


_WITHOUT_BLOCKS = {over_limit: Standing(over_limit, (), ()) for over_limit in (True, False, None)}


@dataclass(frozen=True, slots=True)
class FinesBlocks:
    """Penalties that block members for fines, by patron id. Patrons without such penalties are left out."""

    penalties: Mapping[int, tuple[Penalty, ...]]
    kinds: PenaltyKinds

    def standing(self, member: Member) -> Standing:
        """Return a member's status by rule, and the blocks for fines. Other blocks weren't read."""
        if member.id not in self.penalties:  # the usual case
            return _WITHOUT_BLOCKS[member.over_limit_if_known]
        return Standing.of(member, self.penalties[member.id], self.kinds)

    def of_members(self, groups: Iterable[Group]) -> FinesBlocks:
        """Keep the blocks of these groups' members."""
        wanted = {member.id for group in groups for member in group.members if member.id in self.penalties}
        blocks = (penalties for id, penalties in self.penalties.items() if id in wanted)
        return FinesBlocks(PackedBlocks(chain.from_iterable(blocks)), self.kinds)


@dataclass(frozen=True, slots=True)
class BlockTotals:
    """How many members are blocked for fines, and for how many that differs from the rule."""

    blocked: Total[int]
    not_yet_blocked: Total[int]
    now_within_limit: Total[int]

    @classmethod
    def of(cls, groups: Iterable[Group], blocks: FinesBlocks) -> BlockTotals:
        """Count the members of these groups."""
        blocked = not_yet = within = 0
        complete = True
        for group in groups:
            complete = complete and group.complete
            for member in group.members:
                # Neither blocked nor over the limit: nothing to count.
                if member.id not in blocks.penalties and not member.over_limit:
                    continue  # the usual case, kept fast
                standing = blocks.standing(member)
                blocked += standing.blocked_for_fines
                not_yet += standing.difference is StandingDifference.NOT_YET_BLOCKED
                within += standing.difference is StandingDifference.NOW_WITHIN_LIMIT
        return cls(Total(blocked, complete), Total(not_yet, complete), Total(within, complete))


def read_block_rows(gateway: Gateway, kinds: PenaltyKinds, patrons: Iterable[int]) -> list[PenaltyRow]:
    """Read the rows of these patrons' blocks for fines, in lists of up to 3,000. Few patrons have any.

    The patrons must be a report's, who were found at home libraries where the account has VIEW_USER.
    """
    from evergreen_groups.ils import rows_in_force  # imports the gateway, which --help needn't load

    wanted = kinds.blocking_for_fines_anywhere
    # If no kind blocks, no patron is blocked. An empty list of kinds would be a server error (pcrud-015).
    return list(rows_in_force(gateway, list(patrons), kinds=sorted(wanted), all_visible=True)) if wanted else []


def blocks_of(rows: Collection[PenaltyRow], kinds: PenaltyKinds, org_units: OrgUnits) -> PackedBlocks:
    """Make blocks of rows, by patron id.

    Raises:
        DataError: a row refers to a kind or an org unit that the ILS didn't list.
    """
    found = kinds.by_patron(rows, org_units, {row.patron for row in rows})
    return PackedBlocks(chain.from_iterable(found.values()))
