"""What a recalculation of penalties could do for members of whom the rule and the ILS say different things."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from evergreen_groups.groups import StandingDifference

if TYPE_CHECKING:
    from evergreen_groups.desk.details import GroupDetails
    from evergreen_groups.groups import Member, Standing
    from evergreen_groups.ils import PenaltyKinds
    from evergreen_groups.policy import Decision


class Obstacle(Enum):
    """Why a recalculation would change nothing."""

    BELOW_THRESHOLD = "below-threshold"
    """The rule's limit is lower than the threshold that the ILS goes by."""
    REACHES_THRESHOLD = "reaches-threshold"
    """The ILS blocks from less than the rule, or where its threshold is just reached."""
    BLOCKS_NOTHING = "blocks-nothing"
    """What the ILS sets for fines at the member's home library is a mere note."""
    SET_BY_STAFF = "set-by-staff"
    """Staff have set a block, and a recalculation might remove it, so none is asked for."""


@dataclass(frozen=True, slots=True)
class RecalculationProspect:
    """What can be expected for one member: nothing where there is an ``obstacle``.

    ``decision`` is what the ILS's own threshold comes to; None where the account may not see it, and then anything may
    come of it.
    """

    obstacle: Obstacle | None
    decision: Decision | None

    @property
    def may_change(self) -> bool:
        """Whether a block could be set or lifted, as far as is known."""
        return self.obstacle is None


def prospects_of(details: GroupDetails, decisions: Mapping[int, Decision]) -> dict[int, RecalculationProspect]:
    """Those of the visible members, by id, of whom the rule and the ILS say different things.

    ``decisions`` are those by the ILS's own thresholds, without those whose threshold isn't visible.
    """
    return {
        member.id: RecalculationProspect(
            _obstacle(member, standing, details.kinds, decisions.get(member.id)), decisions.get(member.id)
        )
        for member in details.group.members
        if (standing := details.standing(member)).difference is not None
    }


def _obstacle(member: Member, standing: Standing, kinds: PenaltyKinds, decision: Decision | None) -> Obstacle | None:
    home_library = member.patron.home_library.id
    if any(penalty.by_staff for penalty in standing.blocks_for_fines):
        return Obstacle.SET_BY_STAFF
    if standing.difference is StandingDifference.NOT_YET_BLOCKED:
        if not kinds.blocking_for_fines_at(home_library):
            return Obstacle.BLOCKS_NOTHING
        return Obstacle.BELOW_THRESHOLD if decision is not None and not decision.over_limit else None
    return Obstacle.REACHES_THRESHOLD if decision is not None and decision.over_limit else None
