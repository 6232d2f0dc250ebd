"""The members' blocks for fines according to the ILS."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen_groups.groups import Group, Standing, StandingDifference
from evergreen_groups.total import Total

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups import Member
    from evergreen_groups.ils import Penalty, PenaltyKinds, PenaltyRow


_WITHOUT_BLOCKS = {over_limit: Standing(over_limit, (), ()) for over_limit in (True, False, None)}


@dataclass(frozen=True, slots=True)
class FinesBlocks:
    """Penalties that block members for fines, by patron id. Patrons without such penalties are left out."""

    penalties: Mapping[int, Sequence[Penalty]]
    kinds: PenaltyKinds

    def standing(self, member: Member) -> Standing:
        """Return a member's status by rule, and the blocks for fines. Other blocks weren't read."""
        if member.id not in self.penalties:  # the usual case
            return _WITHOUT_BLOCKS[member.over_limit_if_known]
        return Standing.of(member, self.penalties[member.id], self.kinds)

    def of_members(self, groups: Iterable[Group]) -> FinesBlocks:
        """Keep the blocks of these groups' members."""
        members = (member.id for group in groups for member in group.members)
        return FinesBlocks({id: self.penalties[id] for id in members if id in self.penalties}, self.kinds)


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
