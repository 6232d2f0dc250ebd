"""Drafts of what somebody asks for, whatever it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evergreen_groups.changes.plans import Action, Draft
from evergreen_groups.groups import decide_where_visible

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import datetime

    from evergreen_groups.changes.journal_step import JournalEntry
    from evergreen_groups.changes.plan_request import PlanRequest
    from evergreen_groups.changes.planner import Planner
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.limits import ReferenceData


class Drafter:
    """Drafts at one gateway."""

    def __init__(self, gateway: Gateway, planner: Planner, reference: ReferenceData) -> None:
        self._gateway = gateway
        self._planner = planner
        self._reference = reference

    def draft(
        self, request: PlanRequest, to_undo: Callable[[str], tuple[JournalEntry, datetime, Collection[int]]]
    ) -> tuple[Draft, frozenset[int]]:
        """The draft for a request that says all it needs, and, for a recalculation, whom the rule has over the limit.

        ``to_undo`` gives the change with a number, where it may be taken back, what time it is, and whom later changes
        move (ids).

        Raises:
            PlanError: it can't be done.
        """
        match request.action:
            case Action.MOVE if request.target is not None:
                return self._planner.move(
                    request.patrons, request.target, active_cards=request.active_cards
                ), frozenset()
            case Action.MERGE if request.target is not None:
                draft = self._planner.merge(request.patrons[0], request.target, active_cards=request.active_cards)
                return draft, frozenset()
            case Action.REMOVE:
                return self._planner.remove(request.patrons, lead=request.lead), frozenset()
            case Action.LEAD:
                return self._planner.lead(request.patrons, off=request.off), frozenset()
            case Action.RECALCULATE:
                return self._recalculation(request)
            case _:
                return self._planner.undo(*to_undo(request.change or "")), frozenset()

    def _recalculation(self, request: PlanRequest) -> tuple[Draft, frozenset[int]]:
        draft, own_fines = self._planner.recalculate(request.patrons)
        limits = self._reference.limits(self._gateway)
        decisions = decide_where_visible(self._gateway, limits, [step.member.patron for step in draft.steps], own_fines)
        return draft, frozenset(id for id, decision in decisions.items() if decision.over_limit)
