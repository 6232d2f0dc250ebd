"""The JSON form of a member's standing: own fines against the rule, and the penalties that block them in the ILS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evergreen_groups.money import plain_amount_or_none

if TYPE_CHECKING:
    from evergreen_groups.groups import Member, Standing
    from evergreen_groups.ils import Penalty


def standing_document(standing: Standing) -> dict[str, Any]:
    """A member's own fines against the rule, and the penalties that block them in the ILS; the two are never mixed."""
    return {
        "over_limit": standing.over_limit,
        "blocked_in_evergreen": [_penalty(penalty) for penalty in standing.blocks_for_fines],
        "other_blocks": [_penalty(penalty) for penalty in standing.other_blocks],
        "difference": standing.difference.value if standing.difference else None,
    }


def limit_amount(member: Member) -> str | None:
    """The amount of a member's limit; None for no limit, and for one that the account may not see."""
    limit = member.limit_if_known
    return None if limit is None else plain_amount_or_none(limit.amount)


def _penalty(penalty: Penalty) -> dict[str, Any]:
    return {
        "name": penalty.kind.name,
        "org_unit": penalty.org_unit.shortname,
        "since": penalty.set_date.isoformat(timespec="seconds") if penalty.set_date else None,
        "by_staff": penalty.by_staff,
    }
