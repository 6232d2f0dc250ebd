"""How the answer to a write is read: accepted, refused, or unclear."""

from __future__ import annotations

import pytest

from evergreen_groups import errors
from evergreen_groups.changes.outcome_check import (
    ConfirmedWrite,
    UnclearAnswer,
    confirmed_write,
    is_refusal,
    new_group_number,
    was_never_sent,
)
from evergreen_groups.gateway import Gateway, Record

PATRON = 1052


@pytest.mark.parametrize(
    ("error", "no"),
    [
        (errors.LoginRefusedError("no", textcode="LOGIN_FAILED"), True),
        (errors.RequestTooLargeError("no"), True),
        (errors.NoSessionError("no", textcode="NO_SESSION"), True),
        (errors.PermissionDeniedError("no", textcode="PERM_FAILURE"), True),
        (errors.CollisionError("no", textcode="XACT_COLLISION"), True),
        (errors.EventError("no", textcode="DATABASE_UPDATE_FAILED"), True),
        (errors.EventError("no", textcode="DATABASE_QUERY_FAILED"), False),
        (errors.EventError("no", textcode="ACTOR_USER_NOT_FOUND"), False),
        (errors.ServerError("no"), False),
        (errors.MethodNotFoundError("no"), False),
        (errors.TimedOutError("no"), False),
        (errors.UnreachableError("no"), False),
    ],
)
def test_what_says_that_nothing_was_written(error: errors.GatewayError, no: bool) -> None:
    assert is_refusal(error) is no


@pytest.mark.parametrize(
    ("error", "stayed"),
    [
        (errors.UnreachableError("no"), True),
        (errors.UnreachableError("no", sent=True), False),
        (errors.TimedOutError("no", sent=True), False),
        (errors.ServiceNotFoundError("no"), False),
        (errors.ServerError("no"), False),
        (errors.EventError("no", textcode="PERM_FAILURE"), False),
    ],
)
def test_what_has_not_left_this_machine(error: errors.GatewayError, stayed: bool) -> None:
    assert was_never_sent(error) is stayed


@pytest.mark.parametrize(("answer", "number"), [("1100", 1100), (1100, 1100), ("0", 0)])
def test_a_groups_number(answer: object, number: int) -> None:
    assert new_group_number(answer) == number


@pytest.mark.parametrize(
    "answer", [None, "", True, False, -1, "-1", "1.0", 1.0, "x", "٣", "²", [1100], {"1": 1}, " 1", "9" * 5000]
)
def test_what_is_no_groups_number(answer: object) -> None:
    with pytest.raises(UnclearAnswer):
        new_group_number(answer)


@pytest.fixture
def record(admin: Gateway) -> Record:
    found = admin.pcrud.retrieve("au", PATRON)
    assert found is not None
    return found.replace(last_xact_id="before")


def answered(record: Record, **fields: object) -> dict[str, object]:
    return record.replace(**{"last_xact_id": "after", **fields}).to_wire()


@pytest.mark.parametrize(
    ("field", "value", "read"),
    [
        ("usrgroup", 1002, 1002),
        ("usrgroup", "1002", 1002),
        ("master_account", "t", 1),
        ("master_account", "f", 0),
        ("master_account", True, 1),
        ("master_account", 0, 0),
    ],
)
def test_what_an_update_says(record: Record, field: str, value: object, read: int) -> None:
    answer = answered(record)
    answer["__p"][record._class.positions[field]] = value  # type: ignore[index]  # a record's values
    assert confirmed_write(answer, record, field) == ConfirmedWrite("after", read)


@pytest.mark.parametrize(
    "fields",
    [
        {"last_xact_id": "before"},
        {"last_xact_id": ""},
        {"last_xact_id": None},
        {"last_xact_id": 7},
        {"id": 1053},
        {"usrgroup": None},
        {"usrgroup": "x"},
        {"usrgroup": {"__c": "au", "__p": []}},
    ],
)
def test_what_says_nothing_of_it(record: Record, fields: dict[str, object]) -> None:
    answer = answered(record)
    for name, value in fields.items():
        answer["__p"][record._class.positions[name]] = value  # type: ignore[index]  # a record's values
    assert is_unclear(answer, record)


def test_what_is_no_record_of_the_class(record: Record) -> None:
    no_records = [None, "", 7, [], {}, {"__c": "au"}, {"__c": "au", "__p": []}, {"__p": ["x"] * 80}]
    for answer in (*no_records, {"__c": "au", "__p": {}}, {**answered(record), "__c": "ac"}):
        assert is_unclear(answer, record), answer


def is_unclear(answer: object, record: Record) -> bool:
    try:
        confirmed_write(answer, record, "usrgroup")
    except UnclearAnswer:
        return True
    return False
