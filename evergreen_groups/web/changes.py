"""Changes: applied or undone, with a supervisor's approval if needed, and in the background if they are long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evergreen_groups.changes import PlanRun, StoredStep
    from evergreen_groups.web.bodies import Approval
    from evergreen_groups.web.service import DeskRequest

MAX_AWAITED_STEPS = 10
"""Maximum number of steps for which a desk waits. A step takes about three calls."""


def apply_plan(desk: DeskRequest, plan: str, key: str, approval: Approval | None) -> str:
    """Apply a plan, with a supervisor's approval if the request has one. Return the change's id.

    A long change continues in the background. A plan that was already applied needs neither approval nor a thread.
    """
    with desk.service.change_runs.running():
        return _apply_plan(desk, plan, key, approval)


def _apply_plan(desk: DeskRequest, plan: str, key: str, approval: Approval | None) -> str:
    running, found = desk.service, desk.client.changes.find(plan)
    steps = len(found.steps)
    if found.key is not None and steps > MAX_AWAITED_STEPS:
        return desk.client.changes.apply(plan, key, timeout=0.0)
    if found.key is not None or (approval is None and steps <= MAX_AWAITED_STEPS):
        return desk.client.changes.apply(plan, key)
    if approval is None:
        without_deadline = running.client_for(desk.caller, desk.gateway)
        return running.change_runs.begin(lambda: without_deadline.changes.begin(plan, key))
    with ExitStack() as stack:
        # A long change keeps the supervisor's session beyond this block.
        supervisor, user = stack.enter_context(
            running.approvals.approved(running.gateway, desk.client.gateway, desk.caller, approval)
        )
        if steps <= MAX_AWAITED_STEPS:
            with_deadline = supervisor.within(running.settings.serve.timeout)
            return running.client_for(desk.caller, with_deadline, approved_by=user).changes.apply(plan, key)
        client, session = running.client_for(desk.caller, supervisor, approved_by=user), ExitStack()

        @contextmanager
        def begun() -> Iterator[PlanRun[StoredStep]]:
            with session, client.changes.begin(plan, key) as change:
                yield change

        # If the change can't start, this block ends the session. Once started, the thread does.
        return running.change_runs.begin(begun, on_accepted=lambda: session.push(stack.pop_all()))


def undo_change(desk: DeskRequest, change: str, key: str) -> str:
    """Undo a change. Return the id of the new change that does it. A long one continues in the background."""
    change_runs = desk.service.change_runs
    with change_runs.running():
        if len(desk.client.changes.entry(change).steps) <= MAX_AWAITED_STEPS:
            return desk.client.changes.undo(change, key)
        without_deadline = desk.service.client_for(desk.caller, desk.gateway)
        return change_runs.begin(lambda: without_deadline.changes.begin_undo(change, key))
