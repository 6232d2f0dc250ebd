"""Whether a stored plan still fits what the ILS has: asked with the lease held, before anything is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evergreen_groups.changes.plans import GROUP, LEAD
from evergreen_groups.errors import PlanError
from evergreen_groups.groups import read_member_ids

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evergreen_groups.changes.stored_plan import StoredPlan
    from evergreen_groups.gateway import Gateway

_MOST_NAMED = 10


def refuse_what_no_longer_fits(gateway: Gateway, plan: StoredPlan) -> None:
    """Refuse a plan whose patrons are in other groups by now, or leads, or not any more, or whose groups have others.

    Two calls at most. What anybody owes isn't asked: amounts change all the time, and move nobody.

    Raises:
        PlanError: it no longer fits; it says what is different, by ids.
        GatewayError: the ILS can't be asked.
    """
    if plan.is_recalculation:
        return
    differences = [*_of_patrons(gateway, plan), *_of_groups(gateway, plan)]
    if differences:
        raise PlanError(
            "the plan no longer fits: {differences}",
            advice="make it again, and look at it",
            code="plan-outdated",
            values={"differences": "; ".join(differences[:_MOST_NAMED])},
        )


def _of_patrons(gateway: Gateway, plan: StoredPlan) -> Iterator[str]:
    fields = ("id", GROUP, LEAD, "deleted")
    found = gateway.pcrud.columns_by_values("au", fields, "id", sorted(plan.patrons))
    now = {id: (group, bool(lead), bool(deleted)) for batch in found for id, group, lead, deleted in batch}
    for step in plan.steps:
        if step.patron_id not in now:
            yield f"patron {step.patron_id} can't be seen any more"
            continue
        group, lead, deleted = now[step.patron_id]
        if step.field == GROUP and group != step.before:
            yield f"patron {step.patron_id} is in group {group} now"
        if lead != step.lead:
            yield f"patron {step.patron_id} is {'a' if lead else 'no'} group lead now"
        if deleted and not step.deleted:
            yield f"patron {step.patron_id} has been deleted"


def _of_groups(gateway: Gateway, plan: StoredPlan) -> Iterator[str]:
    if not plan.groups:
        return
    now = read_member_ids(gateway, sorted(group.number for group in plan.groups))
    expected = {id for group in plan.groups for id in group.members}
    if not expected <= now or len(now) != sum(group.member_count for group in plan.groups):
        numbers = " or ".join(str(group.number) for group in plan.groups)
        yield f"other patrons are in group {numbers} now"
