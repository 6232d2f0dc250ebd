"""How a member stands: over the limit by the rule, blocked in Evergreen by a penalty, and what else there is to know.

The two are never mixed: the rule goes by own fines, a penalty stands in the ILS or doesn't, and where they differ that
is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from evergreen_groups.desk import Obstacle
from evergreen_groups.policy import Comparison
from evergreen_groups.render import price

if TYPE_CHECKING:
    from evergreen_groups.desk import RecalculationProspect
    from evergreen_groups.groups import Member, PatronAccount, Standing
    from evergreen_groups.ils import Penalty
    from evergreen_groups.policy import Limit


class Weight(Enum):
    """How a remark is shown: red is for a block of one's own alone."""

    BLOCK = "block"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing about a member: in a few words, and what more there is to say."""

    weight: Weight
    text: str
    detail: str = ""


def remarks_about(
    member: Member,
    account: PatronAccount,
    standing: Standing,
    staff: Mapping[int, str],
    prospect: RecalculationProspect | None = None,
) -> Iterator[Remark]:
    """What there is to know about a member, the weightiest first; ``staff`` are names of accounts by id.

    ``prospect`` is what a recalculation could do where the rule and the ILS differ.
    """
    stays = "" if prospect is None else _why_it_stays(member, prospect)
    for penalty in standing.blocks_for_fines:
        within = f" Own fines are within the limit now.{stays}" if standing.over_limit is False else ""
        yield Remark(Weight.BLOCK, "Blocked in Evergreen", f"{penalty.kind.name} {_where_from(penalty, staff)}{within}")
    if standing.over_limit:
        not_yet = "" if standing.blocked_for_fines else f", not {'' if stays else 'yet '}blocked in Evergreen"
        detail = f"{describe_own_limit(member.limit)}{'' if standing.blocked_for_fines else stays}"
        yield Remark(Weight.WARNING, f"Over the limit{not_yet}", detail)
    for penalty in standing.other_blocks:
        yield Remark(Weight.BLOCK, f"Blocked: {penalty.kind.name}", _where_from(penalty, staff))
    if member.patron.deleted:
        yield Remark(Weight.BLOCK, "Deleted")
    yield from _account(member, account)
    if standing.over_limit is None:
        yield Remark(Weight.NOTE, "Limit not visible", "Your login may not see the limit that counts here.")


def _account(member: Member, account: PatronAccount) -> Iterator[Remark]:
    if account.barred:
        yield Remark(Weight.BLOCK, "Barred")
    if not account.active and not member.patron.deleted:
        yield Remark(Weight.BLOCK, "Not active")
    if account.expired:
        yield Remark(Weight.WARNING, "Expired")


def _where_from(penalty: Penalty, staff: Mapping[int, str]) -> str:
    by = staff.get(penalty.staff or 0, "staff") if penalty.by_staff else "Evergreen"
    since = f" since {penalty.set_date:%Y-%m-%d}" if penalty.set_date else ""  # the day in the ILS's own time zone
    return f"at {penalty.org_unit.shortname}{since}, set by {by}."


def _why_it_stays(member: Member, prospect: RecalculationProspect) -> str:
    """Why a recalculation would change nothing, as a sentence that goes on; empty where one may."""
    decision = prospect.decision
    threshold = None if decision is None else decision.limit.amount
    match prospect.obstacle:
        case None:
            return ""
        case Obstacle.SET_BY_STAFF:
            return " A block that staff have set is never recalculated: it is removed in the patron's Messages."
        case Obstacle.BLOCKS_NOTHING:
            return " What Evergreen sets for fines at this library blocks nothing."
        case _ if decision is None or threshold is None:
            return " Evergreen has no threshold for this profile and library."
    # Evergreen may count what is owed at some libraries alone.
    counted = f", and counts {price(decision.own_balance)} here" if decision.own_balance != member.own_fines else ""
    return f" Evergreen blocks from {price(threshold)} on{counted}."


def describe_own_limit(limit: Limit) -> str:
    """Say which limit counts for a member."""
    if limit.amount is None:
        return "No limit."
    return f"The limit is {price(limit.amount)}{' or more' if limit.comparison is Comparison.REACHES else ''}."
