"""The two truths about a member, side by side: own fines against the rule, and the penalties that the ILS has."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evergreen_groups.groups.models import Group, Member
    from evergreen_groups.ils import Penalty, PenaltyKinds
    from evergreen_groups.total import Total


class StandingDifference(Enum):
    """How the two truths may differ; the values are what JSON documents call them."""

    NOT_YET_BLOCKED = "not-yet-blocked"
    """Over the limit, and no penalty for fines blocks the member: the ILS recalculates when something happens."""
    NOW_WITHIN_LIMIT = "now-within-limit"
    """Blocked for fines, and the own fines aren't over the limit, or no longer."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A member's own fines against the rule, and the penalties that block them in the ILS.

    ``over_limit`` is None where the account may not see the limit. ``blocks_for_fines`` are the penalties that block
    the member for fines, ``other_blocks`` those that block for something else; notes block nobody.
    """

    over_limit: bool | None
    blocks_for_fines: tuple[Penalty, ...]
    other_blocks: tuple[Penalty, ...]

    @classmethod
    def of(cls, member: Member, penalties: Collection[Penalty], kinds: PenaltyKinds) -> Standing:
        """That of a member with these penalties in force."""
        return cls.among(member.over_limit_if_known, member.patron.home_library.id, penalties, kinds)

    @classmethod
    def among(
        cls, over_limit: bool | None, home_library: int, penalties: Collection[Penalty], kinds: PenaltyKinds
    ) -> Standing:
        """That of somebody with this home library (id) and these penalties in force."""
        blocking = [penalty for penalty in penalties if penalty.kind.blocks]
        for_fines = tuple(one for one in blocking if kinds.blocks_for_fines(one.kind, home_library))
        others = tuple(one for one in blocking if one not in for_fines)
        return cls(over_limit, for_fines, others)

    @property
    def blocked_for_fines(self) -> bool:
        """Whether the ILS blocks the member for fines."""
        return bool(self.blocks_for_fines)

    @property
    def difference(self) -> StandingDifference | None:
        """How the two truths differ, None where they don't, or where the limit isn't known."""
        if self.over_limit is None or self.over_limit == self.blocked_for_fines:
            return None
        return StandingDifference.NOT_YET_BLOCKED if self.over_limit else StandingDifference.NOW_WITHIN_LIMIT


@dataclass(frozen=True, slots=True)
class StandingTotals:
    """How many members of a group are over the limit, blocked for fines in the ILS, and blocked for anything."""

    over_limit: Total[int]
    blocked_for_fines: Total[int]
    blocked: Total[int]

    @classmethod
    def of(cls, group: Group, standings: Sequence[Standing]) -> StandingTotals:
        """Count over the standings of a group's visible members; a standing that wasn't read makes a lower bound."""
        known = len(standings) == len(group.members)
        for_fines = sum(standing.blocked_for_fines for standing in standings)
        blocked = sum(bool(standing.blocks_for_fines or standing.other_blocks) for standing in standings)
        return cls(group.over_limit_count, group.counted(for_fines, known=known), group.counted(blocked, known=known))
