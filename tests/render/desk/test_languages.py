"""What the desk says where no page of the tests comes to: each reason, warning and remark in another language."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from evergreen_groups.changes import GROUP, PENALTIES, PlanWarning, StepReason, StepState
from evergreen_groups.changes import reasons as step_reasons
from evergreen_groups.errors import EventError, PlanError
from evergreen_groups.gateway import Gateway
from evergreen_groups.ils import CirculationKind, ItemOut, ReadyHold
from evergreen_groups.language import Language, use_language
from evergreen_groups.language.language import PSEUDO
from evergreen_groups.message import Message
from evergreen_groups.render import isolated, sentence
from evergreen_groups.render.desk import outcome as outcomes
from evergreen_groups.render.desk import slip, standing, statement
from evergreen_groups.render.desk.statement import ItemLine
from evergreen_groups.render.plans import WARNINGS, GroupNames, describe_warning

LEAD = "master_account"
NAME = "Ó Néill, Zoë"
DATA = {"Ó", "Néill", "Zoë", "BR1", "UPDATE_USER", "DATABASE_UPDATE_FAILED", "STAFF_CHR", "email"}


@pytest.fixture(autouse=True)
def another_language() -> Iterator[None]:
    with use_language(Language(PSEUDO)):
        yield


def latin(text: str) -> set[str]:
    """The words in Latin letters that aren't data of the tests."""
    return set(re.findall(r"[^\W\d]*[A-Za-z][\w]*", text)) - DATA


def step(state: StepState, field: str = GROUP, reason: StepReason | None = None, **values: Any) -> Any:
    known = {"patron": 7, "before": 1001, "after": 1002, "value": 1002, "permission": None, **values}
    return SimpleNamespace(state=state, field=field, reason=reason or StepReason(), **known)


LACKS = StepReason(Message("the account lacks {permission}"), "permission-missing", permission="UPDATE_USER")
EVENT = EventError("no", textcode="DATABASE_UPDATE_FAILED")
REASONS = [
    *(one for one in vars(step_reasons).values() if isinstance(one, StepReason) and one.code),
    step_reasons.refusal(Gateway("https://ils.example.org"), EVENT),
    StepReason("two answers", "ils-not-understood"),
    StepReason(Message("another user moved the patron to group {group}"), "moved-meanwhile", group=1002),
    StepReason(),
]
DONE = [
    StepReason(),
    step_reasons.CHANGED_AGAIN,
    StepReason(Message("Evergreen also changed {fields}"), "also-changed", fields="email"),
    *step_reasons.BLOCKED.values(),
]
OPEN = [
    step_reasons.may_come_in(datetime(2026, 8, 1, 9, 5, tzinfo=UTC)),
    step_reasons.UNREADABLE,
    step_reasons.HIDDEN_WHILE_OPEN,
    StepReason(),
]


GROUPS = GroupNames(1001, {1002: NAME})


def described(one: Any, **how: bool) -> str:
    line = outcomes.describe_step(one, {7: NAME}, {4: "BR1"}, GROUPS, **how)
    return f"{line.who}: {line.text} {line.advice}"


@pytest.mark.parametrize("reason", REASONS, ids=lambda reason: reason.code)
def test_why_a_step_is_not_done(reason: StepReason) -> None:
    for approved in (False, True):
        assert latin(described(step(StepState.FAILED, reason=reason), approved=approved)) == set()


@pytest.mark.parametrize("org_unit", [4, None])
@pytest.mark.parametrize("approved", [True, False])
def test_a_missing_permission(org_unit: int | None, approved: bool) -> None:
    refused = step(StepState.FAILED, reason=LACKS, permission="UPDATE_USER", org_unit=org_unit)
    assert latin(described(refused, approved=approved)) == set()


@pytest.mark.parametrize("reason", DONE, ids=lambda reason: reason.code)
@pytest.mark.parametrize("field", [GROUP, LEAD, PENALTIES])
@pytest.mark.parametrize("after", [None, 0, 1, 1001, 1002])
def test_what_is_done(reason: StepReason, field: str, after: int | None) -> None:
    assert latin(described(step(StepState.DONE, field, reason, after=after))) == set()


@pytest.mark.parametrize("state", StepState)
@pytest.mark.parametrize("field", [GROUP, LEAD, PENALTIES])
def test_what_was_done_before(state: StepState, field: str) -> None:
    for after in (None, 0, 1002):
        assert latin(outcomes._past_change(step(state, field, after=after, value=after), GROUPS)) == set()


@pytest.mark.parametrize("under_way", [True, False])
@pytest.mark.parametrize("reason", OPEN, ids=lambda reason: reason.code)
def test_what_is_not_certain(under_way: bool, reason: StepReason) -> None:
    for state in (StepState.SENDING, StepState.PLANNED):
        assert latin(described(step(state, reason=reason), under_way=under_way)) == set()


@pytest.mark.parametrize("code", WARNINGS)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_warnings(code: str, count: int) -> None:
    names = dict.fromkeys(("name", "owner", "borrower"), NAME)
    counted = {"count": count, "most": 2} if "{count}" in WARNINGS[code] or WARNINGS[code].plural else {}
    warning = PlanWarning(code, {**names, "names": (NAME, NAME), "group": 1004, **counted})
    assert latin(sentence(describe_warning(warning))) == set()


@pytest.mark.parametrize("by_staff", [True, False])
@pytest.mark.parametrize("since", [None, datetime(2026, 8, 1, tzinfo=UTC)])
@pytest.mark.parametrize("staff", [{}, {9: NAME}])
def test_a_block(by_staff: bool, since: datetime | None, staff: dict[int, str]) -> None:
    penalty = cast("Any", SimpleNamespace)(
        kind=SimpleNamespace(name="STAFF_CHR", label=""),
        org_unit=SimpleNamespace(shortname="BR1"),
        set_date=since,
        by_staff=by_staff,
        staff=9,
    )
    assert latin(standing._block(penalty, staff, "").detail) == set()


@pytest.mark.parametrize("kind", CirculationKind)
@pytest.mark.parametrize("due", [date(2026, 8, 1), None])
def test_items_of_a_statement(kind: CirculationKind, due: date | None) -> None:
    item = ItemLine(due, kind, 0, "BR1", "")
    for count in (1, 2, 5):
        assert latin(statement._sentence_of(item, count)) == set()
    assert latin(item.state) == set()


@pytest.mark.parametrize("kind", CirculationKind)
@pytest.mark.parametrize("day", [datetime(2026, 8, 1, tzinfo=UTC), datetime(2039, 8, 1, tzinfo=UTC), None])
def test_lines_of_a_slip(kind: CirculationKind, day: datetime | None) -> None:
    group: Any = SimpleNamespace(at=datetime(2026, 12, 1, tzinfo=UTC), org_units=())
    member: Any = SimpleNamespace(titles=None, patron=SimpleNamespace(name=NAME))
    hold = slip._hold(group, member, ReadyHold(1, 2, 3, 4, day))
    for renewals in (0, 1, 5):
        item = slip._item(group, member, ItemOut(1, 2, 3, 4, day, kind, renewals=renewals))
        assert latin(f"{item.when} {item.renewals} {hold.when}") == set()


@pytest.mark.parametrize("status", [*outcomes._PROBLEM_TITLES, 400, 502])
def test_problems(status: int) -> None:
    error = PlanError("two barcodes belong to the same patron", advice="name each patron once", code="twice")
    values = outcomes.describe_failure(status, error)
    assert latin(f"{values['title']} {values['text']} {values['advice']}") == set()


def test_what_an_earlier_release_wrote_is_said_as_it_stands() -> None:
    said = "the record was changed by somebody else, 3 times"
    with use_language(Language()):
        text, advice = outcomes.explain_step(step(StepState.FAILED, reason=StepReason(said)), {}, approved=False)
        assert outcomes.explain_step(step(StepState.FAILED), {}, approved=False)[0] == "Evergreen reported an error"
    assert (text, advice) == (said, "Check the group, then make the change if it's still needed.")


def test_a_missing_permission_is_the_supervisors_if_one_approved() -> None:
    missing = step(StepState.FAILED, reason=LACKS, permission="UPDATE_USER", org_unit=4)
    with use_language(Language()):
        text, _advice = outcomes.explain_step(missing, {4: "BR1"}, approved=True)
    assert text == "the supervisor's login lacks the permission UPDATE_USER at BR1"


class TestNames:
    def test_against_the_direction_they_keep_their_own(self) -> None:
        assert isolated(NAME) == f"\u2068{NAME}\u2069"
        assert isolated("דוד") == "דוד"
        with use_language(Language()):
            assert isolated("דוד") == "\u2068דוד\u2069"
            assert isolated(NAME) == NAME

    def test_nothing_in_them_turns_what_follows(self) -> None:
        assert isolated("\u202eevil") == "\u2068evil\u2069"
