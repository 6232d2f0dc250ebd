"""How a member stands: over the limit by the rule, blocked in Evergreen by a penalty, and what else there is to know.

The two are never mixed: the rule goes by own fines, a penalty stands in the ILS or doesn't, and where they differ that
is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from evergreen_groups.policy import Comparison
from evergreen_groups.render import price

if TYPE_CHECKING:
    from evergreen_groups.groups import Member, PatronAccount
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


def standing(
    member: Member, account: PatronAccount | None, fines_blocks: Sequence[Penalty] | None, others: Sequence[Penalty]
) -> Iterator[Remark]:
    """What there is to know about a member, the weightiest first.

    ``fines_blocks`` are the penalties that block for fines, None where they aren't known; ``others`` those that block
    for something else.
    """
    yield from _two_truths(member, fines_blocks)
    for penalty in others:
        yield Remark(Weight.BLOCK, f"Blocked: {penalty.kind.name}", _where_from(penalty))
    if member.patron.deleted:
        yield Remark(Weight.BLOCK, "Deleted")
    if account is not None:
        yield from _account(member, account)


def _two_truths(member: Member, fines_blocks: Sequence[Penalty] | None) -> Iterator[Remark]:
    over = member.decision.over_limit if member.decision is not None else None
    for penalty in fines_blocks or ():
        within = " Own fines are within the limit now." if over is False else ""
        yield Remark(Weight.BLOCK, "Blocked in Evergreen", f"{penalty.kind.name} {_where_from(penalty)}{within}")
    if over:
        if fines_blocks is not None and not fines_blocks:
            yield Remark(
                Weight.WARNING, "Over the limit, not yet blocked in Evergreen", describe_own_limit(member.limit)
            )
        else:
            yield Remark(Weight.WARNING, "Over the limit", describe_own_limit(member.limit))
    elif over is None:
        yield Remark(Weight.NOTE, "Limit not visible", "Your login may not see the limit that counts here.")


def differs(member: Member, fines_blocks: Sequence[Penalty] | None) -> bool:
    """Whether the rule and the ILS differ about a member, so that a recalculation may help."""
    if fines_blocks is None or member.decision is None:
        return False
    return member.over_limit != bool(fines_blocks)


def _account(member: Member, account: PatronAccount) -> Iterator[Remark]:
    if account.barred:
        yield Remark(Weight.BLOCK, "Barred")
    if not account.active and not member.patron.deleted:
        yield Remark(Weight.BLOCK, "Not active")
    if account.expired:
        yield Remark(Weight.WARNING, "Expired")


def _where_from(penalty: Penalty) -> str:
    since = f" since {penalty.set_date.astimezone():%Y-%m-%d}" if penalty.set_date else ""
    return f"at {penalty.org_unit.shortname}{since}, set by {'staff' if penalty.by_staff else 'Evergreen'}."


def describe_own_limit(limit: Limit) -> str:
    """Say which limit counts for a member."""
    if limit.amount is None:
        return "No limit."
    return f"The limit is {price(limit.amount)}{' or more' if limit.comparison is Comparison.REACHES else ''}."
