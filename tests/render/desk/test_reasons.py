"""Why something wasn't done, as a clerk reads it."""

from __future__ import annotations

from evergreen_groups.changes import JournalStep, StepReason, StepState
from evergreen_groups.changes.journal import Refusal
from evergreen_groups.render.desk.outcome import explain_step

LACKS = StepReason("the account lacks {permission}", "permission-missing", permission="UPDATE_USER")


def step(reason: StepReason, refusal: Refusal | None = None) -> JournalStep:
    return JournalStep(1, 1052, "usrgroup", 1, 2, StepState.NOT_DONE, None, reason, refusal=refusal)


def test_what_an_earlier_release_wrote_is_said_as_it_stands() -> None:
    text, advice = explain_step(
        step(StepReason("the record was changed by somebody else, 3 times")), {}, approved=False
    )
    assert text == "the record was changed by somebody else, 3 times"
    assert advice == "Check the group, then make the change if it's still needed."
    assert explain_step(step(StepReason()), {}, approved=False)[0] == "Evergreen reported an error"


def test_a_missing_permission_names_itself_its_library_and_whose_it_is() -> None:
    missing = step(LACKS, Refusal("UPDATE_USER", 11))
    own, theirs = (explain_step(missing, {11: "HARBOR"}, approved=approved)[0] for approved in (False, True))
    assert own == "your login lacks the permission UPDATE_USER at HARBOR"
    assert theirs == "the supervisor's login lacks the permission UPDATE_USER at HARBOR"
    for approved in (False, True):
        assert explain_step(missing, {}, approved=approved)[0] == "the account lacks UPDATE_USER"
