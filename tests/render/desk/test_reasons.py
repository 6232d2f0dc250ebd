"""Why something wasn't done, as a clerk reads it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from evergreen_groups.changes import JournalStep, StepReason, StepState
from evergreen_groups.changes import reasons as step_reason
from evergreen_groups.changes.journal import Refusal
from evergreen_groups.errors import (
    CollisionError,
    DataError,
    EvergreenGroupsError,
    LoginRefusedError,
    NoSessionError,
    TimedOutError,
)
from evergreen_groups.gateway import Gateway
from evergreen_groups.render.desk.outcome import explain_open_step, explain_step

OPEN = ("not-certain", "not-certain-hidden")
DONE = ("found-done", "not-begun")
"""What is said of steps that aren't left undone."""
LACKS = StepReason("the account lacks {permission}", "permission-missing", permission="UPDATE_USER")
CONSTANTS = [value for value in vars(step_reason).values() if isinstance(value, StepReason) and value.code]
MADE = [
    *(
        step_reason.refusal(Gateway("https://ils.example.org"), error)  # never asked
        for error in (
            NoSessionError("ended", textcode="NO_SESSION"),
            LoginRefusedError("no", textcode="LOGIN_FAILED"),
            CollisionError("no", textcode="XACT_COLLISION"),
            DataError("two answers"),
            TimedOutError("none"),
            EvergreenGroupsError("else"),
        )
    ),
    StepReason("another user moved the patron to group 7", "moved-meanwhile", group=7),
    StepReason("changed meanwhile", "lead-changed-meanwhile"),
    StepReason("in group 7 now, but", "so-by-somebody", value=7),
    StepReason("an earlier change; try again later", "waits-for-earlier"),
]


def step(reason: StepReason, refusal: Refusal | None = None) -> JournalStep:
    return JournalStep(1, 1052, "usrgroup", 1, 2, StepState.NOT_DONE, None, reason, refusal=refusal)


@pytest.mark.parametrize("reason", [one for one in (*CONSTANTS, *MADE) if one.code not in (*OPEN, *DONE)], ids=str)
@pytest.mark.parametrize("approved", [False, True])
def test_each_case_has_its_own_text(reason: StepReason, approved: bool) -> None:
    said = explain_step(step(reason), {}, approved=approved)
    assert said.text[0].islower() or said.text.startswith("Evergreen")
    assert not said.text.endswith(".")
    assert said.advice.endswith(".") or "try again" in said.text
    for jargon in ("NO_SESSION", "LOGIN_FAILED", "journal", "ILS", "the account"):
        assert jargon not in said.text + said.advice


def test_what_an_earlier_release_wrote_is_said_as_it_stands() -> None:
    said = explain_step(step(StepReason("the record was changed by somebody else, 3 times")), {}, approved=False)
    assert said.text == "the record was changed by somebody else, 3 times"
    assert said.advice == "Check the group, then make the change if it's still needed."
    assert explain_step(step(StepReason()), {}, approved=False).text == "Evergreen reported an error"


def test_a_missing_permission_names_itself_its_library_and_whose_it_is() -> None:
    missing = step(LACKS, Refusal("UPDATE_USER", 11))
    own, theirs = (explain_step(missing, {11: "HARBOR"}, approved=approved) for approved in (False, True))
    assert own.text == "your login lacks the permission UPDATE_USER at HARBOR"
    assert theirs.text == "the supervisor's login lacks the permission UPDATE_USER at HARBOR"
    for approved in (False, True):
        assert explain_step(missing, {}, approved=approved).text == "the account lacks UPDATE_USER"


def test_what_is_not_certain_says_until_when_and_not_to_repeat_it() -> None:
    until = datetime(2026, 11, 26, 10, 0, tzinfo=UTC)
    said = explain_open_step(step(step_reason.may_come_in(until)))
    assert f"{until.astimezone():%H:%M}" in said.text
    assert "Don't repeat it" in said.advice
    assert "no longer visible" in explain_open_step(step(step_reason.HIDDEN_WHILE_OPEN)).text
