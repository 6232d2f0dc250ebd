"""Whether a stored plan still fits what the ILS has: asked with the lease held, before anything is written."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from evergreen_groups.changes.plans import GROUP, LEAD
from evergreen_groups.errors import PlanError
from evergreen_groups.groups import read_members, read_patron, require_visible
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from evergreen_groups.changes.stored_plan import StoredPlan
    from evergreen_groups.gateway import Gateway

_State = tuple[int, bool, bool]
"""The number of a patron's group, whether they lead it, and whether they have been deleted."""

_MOST_NAMED = 10
_LEAD_NOW = Message("patron {patron} is a group lead now")
_NO_LEAD_NOW = Message("patron {patron} is no group lead now")


def refuse_what_no_longer_fits(gateway: Gateway, plan: StoredPlan) -> None:
    """Refuse a plan whose patrons are in other groups by now, or leads, or not any more, or whose groups have others.

    One call for the patrons, or one for each where a plain read may be old, and one for each group. What anybody owes
    isn't asked: amounts change all the time, and move nobody.

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


def refuse_hidden_patrons(gateway: Gateway, plan: StoredPlan) -> None:
    """Refuse a plan whose patrons the session of a supervisor, who approves it, may not see.

    One call, and another one for a patron who is hidden.

    Raises:
        PermissionDeniedError: it says which permission is missing, and where.
    """
    for patron in sorted(plan.patrons - _read(gateway, plan.patrons).keys()):
        require_visible(gateway, patron)


def _of_patrons(gateway: Gateway, plan: StoredPlan) -> Iterator[Message]:
    now = _read_written(gateway, plan.patrons) if gateway.reads_copies else _read(gateway, plan.patrons)
    for step in plan.steps:
        if step.patron_id not in now:
            yield Message("patron {patron} can't be seen any more", values={"patron": step.patron_id})
            continue
        group, lead, deleted = now[step.patron_id]
        if step.field == GROUP and group != step.before:
            yield Message("patron {patron} is in group {group} now", values={"patron": step.patron_id, "group": group})
        if lead != step.lead:
            yield Message(_LEAD_NOW if lead else _NO_LEAD_NOW, values={"patron": step.patron_id})
        if deleted:
            yield Message("patron {patron} has been deleted", values={"patron": step.patron_id})


def _read(gateway: Gateway, patrons: Collection[int]) -> dict[int, _State]:
    found = gateway.pcrud.columns_by_values("au", ("id", GROUP, LEAD, "deleted"), "id", sorted(patrons))
    return {id: (group, bool(lead), bool(deleted)) for batch in found for id, group, lead, deleted in batch}


def _read_written(gateway: Gateway, patrons: Collection[int]) -> dict[int, _State]:
    records = gateway.map(partial(read_patron, gateway), sorted(patrons))
    found = (record for record in records if record is not None)
    return {it.id: (int(it.usrgroup), bool(it.master_account), bool(it.deleted)) for it in found}


def _of_groups(gateway: Gateway, plan: StoredPlan) -> Iterator[Message]:
    now = read_members(gateway, [group.number for group in plan.groups])
    for group in plan.groups:
        if now[group.number] != frozenset(group.members):
            yield Message("other patrons are in group {group} now", values={"group": group.number})
