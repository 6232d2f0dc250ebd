"""Desks that change groups, each a staff user with a gateway."""

from evergreen_groups.changes import Action, Changer, Operator, PlanRequest
from evergreen_groups.gateway import Gateway
from evergreen_groups.groups import PatronReference
from evergreen_groups.ils import ReferenceData
from evergreen_groups.settings import PolicySettings
from evergreen_groups.state import State

ONE, ANOTHER = 11, 12
"""Staff users; any numbers do, because they only tell users apart."""


def desk_of(gateway: Gateway, state: State, staff: int = ONE, *, may_undo_others: bool = False) -> Changer:
    operator = Operator("desk", staff=staff, workstation=3)
    reference = ReferenceData(PolicySettings())
    return Changer(gateway, state, operator, reference, may_undo_others=lambda: may_undo_others)


def move(patron: PatronReference, *others: PatronReference, to: PatronReference) -> PlanRequest:
    return PlanRequest(Action.MOVE, (patron, *others), target=to)


def remove(*patrons: PatronReference) -> PlanRequest:
    return PlanRequest(Action.REMOVE, patrons)
