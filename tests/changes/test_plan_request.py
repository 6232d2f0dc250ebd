"""A request for a plan must have exactly the fields of its action."""

from __future__ import annotations

import pytest

from evergreen_groups.changes import Action, PlanRequest
from evergreen_groups.changes.plans import MOST_PATRONS
from evergreen_groups.errors import PlanError


def test_how_many_at_once() -> None:
    most = tuple(range(1, MOST_PATRONS + 1))
    PlanRequest(Action.REMOVE, most).checked(MOST_PATRONS)
    with pytest.raises(PlanError, match="more than 1,000 patrons at once"):
        PlanRequest(Action.REMOVE, (*most, 0)).checked(MOST_PATRONS)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (PlanRequest(Action.BATCH), "action"),
        (PlanRequest(Action.UNDO), "change"),
        (PlanRequest(Action.REMOVE, (1,), change="1-k7q4tz"), "change"),
        (PlanRequest(Action.REMOVE), "patrons"),
        (PlanRequest(Action.UNDO, (1,), change="1-k7q4tz"), "patrons"),
        (PlanRequest(Action.MOVE, (1,)), "target"),
        (PlanRequest(Action.REMOVE, (1,), target=2), "target"),
        (PlanRequest(Action.MERGE, (1, 2), target=3), "patrons"),
        (PlanRequest(Action.LEAD, (1,), lead=True), "lead"),
        (PlanRequest(Action.REMOVE, (1,), off=True), "lead"),
        (PlanRequest(Action.REMOVE, (1,), active_cards=True), "active_cards"),
    ],
)
def test_what_is_unclear_is_named(request_: PlanRequest, field: str) -> None:
    with pytest.raises(PlanError, match=f"`{field}`") as caught:
        request_.checked()
    assert caught.value.values["field"] == field


def test_a_missing_target_differs_from_one_too_many() -> None:
    with pytest.raises(PlanError, match=r"^`target` is missing: move and merge need one$"):
        PlanRequest(Action.MERGE, (1,)).checked()
    with pytest.raises(PlanError, match=r"^only move and merge take a `target`$"):
        PlanRequest(Action.LEAD, (1,), target=2).checked()


@pytest.mark.parametrize(
    "request_",
    [
        PlanRequest(Action.MOVE, (1, "2"), target=3, active_cards=True),
        PlanRequest(Action.MERGE, (1,), target="2", active_cards=True),
        PlanRequest(Action.REMOVE, (1, 2), lead=True),
        PlanRequest(Action.LEAD, (1, 2), off=True),
        PlanRequest(Action.RECALCULATE, (1, 2)),
        PlanRequest(Action.UNDO, change="1-k7q4tz"),
    ],
)
def test_what_is_documented_passes(request_: PlanRequest) -> None:
    assert request_.checked() is request_
