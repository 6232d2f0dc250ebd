"""Whether a stored plan still fits what the ILS has: asked with the lease held, before anything is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evergreen_groups.changes.plans import GROUP, LEAD
from evergreen_groups.errors import PlanError
from evergreen_groups.groups import read_member_ids
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evergreen_groups.changes.stored_plan import StoredPlan
    from evergreen_groups.gateway import Gateway

_MOST_NAMED = 10
_LEAD_NOW = Message("patron {patron} is a group lead now")
_NO_LEAD_NOW = Message("patron {patron} is no group lead now")


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
            values={"differences": tuple(differences[:_MOST_NAMED])},
        )


def _of_patrons(gateway: Gateway, plan: StoredPlan) -> Iterator[Message]:
    fields = ("id", GROUP, LEAD, "deleted")
    found = gateway.pcrud.columns_by_values("au", fields, "id", sorted(plan.patrons))
    now = {id: (group, bool(lead), bool(deleted)) for batch in found for id, group, lead, deleted in batch}
    for step in plan.steps:
        if step.patron_id not in now:
            yield Message("patron {patron} can't be seen any more", values={"patron": step.patron_id})
            continue
        group, lead, deleted = now[step.patron_id]
        if step.field == GROUP and group != step.before:
            yield Message("patron {patron} is in group {group} now", values={"patron": step.patron_id, "group": group})
        if lead != step.lead:
            yield Message(_LEAD_NOW if lead else _NO_LEAD_NOW, values={"patron": step.patron_id})
        if deleted and not step.deleted:
            yield Message("patron {patron} has been deleted", values={"patron": step.patron_id})


def _of_groups(gateway: Gateway, plan: StoredPlan) -> Iterator[Message]:
    # Group by group: of all of them together nobody would see who has gone from one to another.
    found = gateway.map(lambda group: read_member_ids(gateway, [group.number]), plan.groups)
    for group, now in zip(plan.groups, found, strict=True):
        if now != frozenset(group.members):
            yield Message("other patrons are in group {group} now", values={"group": group.number})
