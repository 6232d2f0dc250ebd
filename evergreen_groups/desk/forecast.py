"""Whether a recalculation of penalties would help members about whom the rule and Evergreen disagree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from evergreen_groups.errors import DataError, PermissionDeniedError
from evergreen_groups.groups import StandingDifference, decide_by_thresholds
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups import Member, Standing
    from evergreen_groups.ils import Limits, PenaltyKinds, ResolvedLimit
    from evergreen_groups.policy import Decision, Limit


class Obstacle(Enum):
    """Why a recalculation would change nothing. The values appear in JSON documents."""

    BELOW_THRESHOLD = "below-threshold"
    """Over the limit, but below Evergreen's threshold."""
    REACHES_THRESHOLD = "reaches-threshold"
    """Within the limit, but Evergreen's threshold is reached."""
    NO_THRESHOLD = "no-threshold"
    """Without a threshold, Evergreen neither sets nor lifts blocks for fines."""
    BLOCKS_NOTHING = "blocks-nothing"
    """The penalty that Evergreen sets for fines at the member's home library is a note."""
    SET_BY_STAFF = "set-by-staff"
    """Staff set a block. Recalculating might remove it, so it isn't offered."""


@dataclass(frozen=True, slots=True)
class RecalculationForecast:
    """What a recalculation could change for one member: nothing if there is an ``obstacle``.

    ``limit`` is Evergreen's own threshold for the member, None if the account can't see it. ``decision`` compares the
    threshold with the fines that Evergreen counts, None if the account can't see either of them.
    """

    obstacle: Obstacle | None
    limit: Limit | None
    decision: Decision | None

    @property
    def may_change(self) -> bool:
        """Whether a recalculation could set or lift a block, as far as the account can tell."""
        return self.obstacle is None

    @property
    def code(self) -> str:
        """The code for JSON documents: an obstacle, ``may-help`` or ``not-known``."""
        if self.obstacle is not None:
            return self.obstacle.value
        return "may-help" if self.decision is not None else "not-known"

    def explain(self, member: Member) -> Message | None:
        """Explain why a recalculation would change nothing, or that the account can't tell. None if it may help."""
        if self.obstacle in _EXPLANATIONS:
            return _EXPLANATIONS[self.obstacle]
        if self.limit is None or self.decision is None:
            return _THRESHOLD_HIDDEN if self.limit is None else _BILLS_HIDDEN
        if self.obstacle is None:
            return None
        values = {"threshold": self.limit.amount, "owed": self.decision.own_balance}
        if self.decision.own_balance == member.own_fines:
            return Message("Evergreen blocks at {threshold}.", values=values)
        return Message("Evergreen blocks at {threshold} and counts {owed} here.", values=values)


_EXPLANATIONS: Mapping[Obstacle | None, Message] = {
    Obstacle.SET_BY_STAFF: Message("A block set by staff is never recalculated. Remove it in the patron's Messages."),
    Obstacle.BLOCKS_NOTHING: Message("The penalty that Evergreen sets for fines at this library blocks nothing."),
    Obstacle.NO_THRESHOLD: Message("Evergreen has no threshold for this profile and library."),
}
_THRESHOLD_HIDDEN = Message("Evergreen's threshold isn't visible to your login, so recalculating may change nothing.")
_BILLS_HIDDEN = Message(
    "The bills that Evergreen counts aren't visible to your login, so recalculating may change nothing."
)


def read_forecasts(
    gateway: Gateway,
    ils_limits: Callable[[], Limits],
    people: Iterable[tuple[Member, Standing]],
    kinds: PenaltyKinds,
) -> dict[int, RecalculationForecast]:
    """Return the forecasts of members about whom the rule and Evergreen disagree, by id.

    Call ``ils_limits`` for Evergreen's thresholds only if there are any. Read fines only if a threshold counts the
    fines of some libraries only.
    """
    differing = [(member, standing) for member, standing in people if standing.difference is not None]
    if not differing:
        return {}
    seen: Mapping[int, ResolvedLimit]
    decisions: Mapping[int, Decision]
    try:
        seen, decisions = decide_by_thresholds(gateway, ils_limits(), [member for member, _standing in differing])
    except (PermissionDeniedError, DataError):
        seen, decisions = {}, {}  # treat what couldn't be read as unknown
    return {
        member.id: RecalculationForecast(
            _obstacle(member, standing, kinds, limit, decisions.get(member.id)), limit, decisions.get(member.id)
        )
        for member, standing in differing
        for limit in (seen[member.id].limit if member.id in seen else None,)
    }


def _obstacle(
    member: Member, standing: Standing, kinds: PenaltyKinds, limit: Limit | None, decision: Decision | None
) -> Obstacle | None:
    not_yet_blocked = standing.difference is StandingDifference.NOT_YET_BLOCKED
    # The order matters: report the reason that holds whatever the threshold is.
    if any(penalty.by_staff for penalty in standing.blocks_for_fines):
        return Obstacle.SET_BY_STAFF
    if not_yet_blocked and not kinds.sets_block_for_fines_at(member.patron.home_library.id):
        return Obstacle.BLOCKS_NOTHING
    if limit is not None and limit.amount is None:
        return Obstacle.NO_THRESHOLD
    if decision is None or decision.over_limit is not_yet_blocked:
        return None
    return Obstacle.BELOW_THRESHOLD if not_yet_blocked else Obstacle.REACHES_THRESHOLD
