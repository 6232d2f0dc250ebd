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

    One call for the patrons and one for each group. What anybody owes isn't asked: amounts change all the
    time, and move nobody.

    Raises:
        PlanError: it no longer fits; it says what is different, by ids.
        GatewayError: the ILS can't be asked.
    """
    if plan.is_recalculation:
        return
    differences = list(dict.fromkeys([*_of_patrons(gateway, plan), *_of_groups(gateway, plan)]))
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
    # Group by group: of all of them together nobody would see who has gone from one to another.
    found = gateway.map(lambda group: read_member_ids(gateway, [group.number]), plan.groups)
    for group, now in zip(plan.groups, found, strict=True):
        if now != frozenset(group.members):
            yield f"other patrons are in group {group.number} now"
