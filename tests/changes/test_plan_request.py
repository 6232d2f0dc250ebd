"""A request for a plan must have exactly the fields of its action."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergreen_groups.changes import Action, PlanRequest
from evergreen_groups.changes.plans import MOST_PATRONS, refuse_too_many
from evergreen_groups.errors import PlanError

REQUESTS = st.builds(
    PlanRequest,
    st.sampled_from(Action),
    st.lists(st.one_of(st.integers(1, 99), st.text("0123456789", min_size=1)), max_size=3).map(tuple),
    target=st.one_of(st.none(), st.just("20000000001007"), st.just(7)),
    lead=st.booleans(),
    off=st.booleans(),
    change=st.one_of(st.none(), st.just("2-k7q4tz")),
    active_cards=st.booleans(),
)


def is_documented(request: PlanRequest) -> bool:
    """Check the request against the documented fields of its action."""
    has = {
        name
        for name, given in (
            ("patrons", bool(request.patrons)),
            ("target", request.target is not None),
            ("lead", request.lead),
            ("off", request.off),
            ("change", request.change is not None),
            ("active_cards", request.active_cards),
        )
        if given
    }
    match request.action:
        case Action.MOVE:
            return has - {"active_cards"} == {"patrons", "target"}
        case Action.MERGE:
            return has - {"active_cards"} == {"patrons", "target"} and len(request.patrons) == 1
        case Action.REMOVE:
            return has - {"lead"} == {"patrons"}
        case Action.LEAD:
            return has - {"off"} == {"patrons"}
        case Action.RECALCULATE:
            return has == {"patrons"}
        case Action.UNDO:
            return has == {"change"}
        case Action.BATCH:
            return False


@given(REQUESTS)
def test_exactly_the_documented_ones_pass(request: PlanRequest) -> None:
    if is_documented(request):
        assert request.checked() is request
    else:
        with pytest.raises(PlanError) as caught:
            request.checked()
        assert caught.value.code == "plan-unclear"
        assert caught.value.values["field"] in ("action", "patrons", "target", "lead", "change", "active_cards")


def test_how_many_at_once() -> None:
    most = tuple(range(1, MOST_PATRONS + 1))
    refuse_too_many(PlanRequest(Action.REMOVE, most))
    with pytest.raises(PlanError, match="more than 1,000 patrons at once"):
        refuse_too_many(PlanRequest(Action.REMOVE, (*most, 0)))


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
    ],
)
def test_what_is_unclear_is_named(request_: PlanRequest, field: str) -> None:
    with pytest.raises(PlanError, match=rf"^invalid {field}: ") as caught:
        request_.checked()
    assert caught.value.values["field"] == field
