"""Penalties and bills in the sandbox: set by thresholds, by staff, and after billings.

tests/reckoning/test_explanations.py compares recalculations of random consortia with a second computation.
"""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from support.sandbox_caller import Caller, closed

from evergreen_groups.sandbox.data import Contents
from evergreen_groups.sandbox.database import Store, idl_classes
from evergreen_groups.sandbox.services.actor import recalculate
from evergreen_groups.sandbox.services.actor.penalties import calculate, open_circulations

OVERRIDE = "circ.custom_penalty_override.PATRON_EXCEEDS_FINES"


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    opened = Store(Contents(None))
    yield opened
    opened.close()


def set_up(store: Store, profile: int, fines: dict[int, int], thresholds: dict[tuple[int, int], int]) -> None:
    """Add one patron (1001) who owes some cents by library, and fines thresholds by (org unit, profile)."""
    store.reset()
    store.update("au", 1001, {"profile": profile})
    with store.transaction() as connection:
        for deleted in ("pgpt", "ausp", "mg WHERE usr = 1001", "mbts WHERE usr = 1001"):
            connection.execute(f"DELETE FROM {deleted}")
    for (org_unit, group), cents in thresholds.items():
        values = {"grp": group, "org_unit": org_unit, "penalty": 1, "threshold": str(Decimal(cents) / 100)}
        store.insert("pgpt", values)
    for place, cents in fines.items():
        started = "2026-10-01T10:00:00+0000"
        new_id = store.insert("mg", {"usr": 1001, "billing_location": place, "xact_start": started})
        amount = str(Decimal(cents) / 100)
        summary = {"total_owed": amount, "total_paid": "0.00", "balance_owed": amount, "xact_start": started}
        store.insert("mbts", {"id": new_id, "usr": 1001, "xact_type": "grocery", **summary})


def test_a_library_may_have_a_custom_penalty(store: Store) -> None:
    set_up(store, 11, {11: 900}, {(1, 1): 500})
    store.insert("csp", {"id": 101, "name": "NORTH_OWES", "label": "North"})
    store.insert("aous", {"name": OVERRIDE, "org_unit": 2, "value": "101"})
    assert calculate(store, 1001, 11)[1] == []
    store.insert("pgpt", {"grp": 1, "org_unit": 2, "penalty": 101, "threshold": "9.00"})
    stock = store.insert("ausp", {"usr": 1001, "org_unit": 2, "standing_penalty": 1})
    recalculate(store, 1001, 11, ["PATRON_EXCEEDS_OVERDUE_COUNT"])
    assert store.row("ausp", stock) is not None
    recalculate(store, 1001, 11, ["PATRON_EXCEEDS_FINES"])
    assert [(row["org_unit"], row["standing_penalty"]) for row in store.rows("ausp", {"usr": 1001})] == [(2, 101)]


def loan(**changes: Any) -> dict[str, Any]:
    usual = {"usr": 1001, "circ_lib": 11, "fine_interval": "1 day", "due_date": "2031-01-01T23:59:59+0000"}
    return {**usual, "xact_start": "2026-10-01T10:00:00+0000", **changes}


def test_checkouts_by_kind_and_their_thresholds(store: Store) -> None:
    set_up(store, 11, {}, {})
    late = {"due_date": "2026-01-01T23:59:59+0000"}
    ids = [
        store.insert("circ", values)
        for values in (
            loan(),
            loan(**late),
            loan(**late, stop_fines="MAXFINES"),
            loan(**late, stop_fines="LOST"),
            loan(**late, stop_fines="CLAIMSRETURNED"),
            loan(**late, stop_fines="LONGOVERDUE"),
            loan(**late, checkin_time="2026-02-01T10:00:00+0000"),
            loan(**late, stop_fines="LOST", xact_finish="2026-02-01T10:00:00+0000"),
        )
    ]
    assert open_circulations(store, 1001) == {
        "out": ids[:1],
        "overdue": ids[1:3],
        "lost": ids[3:4],
        "claims_returned": ids[4:5],
        "long_overdue": ids[5:6],
    }
    for penalty, count in ((2, 2), (3, 5), (5, 1), (35, 1)):
        for limit, reached in ((count, True), (count + 1, False)):
            row = store.insert("pgpt", {"grp": 1, "org_unit": 1, "penalty": penalty, "threshold": str(limit)})
            assert (calculate(store, 1001, 11)[1] == [(1, penalty)]) is reached
            store.delete("pgpt", row)


def call(caller: Caller, account: str, name: str, *values: Any) -> Any:
    service = ".".join(name.split(".")[:2])
    answer = caller.body(service, name, caller.token(account), *values)
    assert answer["status"] == 200, answer
    return answer["payload"][0]


def summary(caller: Caller, transaction: str) -> dict[str, Any]:
    (row,) = caller.pcrud("admin", "search.mbts.atomic", {"id": transaction})["payload"][0]
    return {item.name: value for item, value in zip(idl_classes()["mbts"].fields, row["__p"], strict=False)}


@pytest.mark.parametrize(
    ("changes", "textcode"),
    [
        ({"xact": 999}, "MONEY_BILLABLE_TRANSACTION_NOT_FOUND"),
        ({"xact": None}, "MONEY_BILLABLE_TRANSACTION_NOT_FOUND"),
        ({"amount": "much"}, "DATABASE_UPDATE_FAILED"),
        ({"amount": "10000"}, "DATABASE_UPDATE_FAILED"),
        ({"btype": None}, "DATABASE_UPDATE_FAILED"),
    ],
)
def test_rejected_bills(caller: Caller, changes: dict[str, Any], textcode: str) -> None:
    bill = closed("mb", **{"xact": 70001, "amount": "1.00", "billing_type": "Misc", "btype": 101, **changes})
    before = summary(caller, "70001")
    assert call(caller, "admin", "open-ils.circ.money.billing.create", bill)["textcode"] == textcode
    assert summary(caller, "70001") == before


def test_a_payment(caller: Caller) -> None:
    method, payment = "open-ils.circ.money.payment", {"userid": 1001, "payment_type": "cash_payment"}
    owed = summary(caller, "70001")["balance_owed"]
    too_much = {**payment, "payments": [[70001, "100.00"]]}
    everything = {**payment, "payments": [[70001, owed]]}
    assert call(caller, "admin", method, too_much, "seed")["textcode"] == "BAD_PARAMS"
    assert call(caller, "admin", method, everything, "another")["textcode"] == "INVALID_USER_XACT_ID"
    made = call(caller, "admin", method, everything, "seed")
    assert len(made["payments"]) == 1
    after = summary(caller, "70001")
    assert (Decimal(after["balance_owed"]), after["last_payment_type"]) == (0, "cash_payment")
    assert after["xact_finish"] is not None
    assert call(caller, "admin", method, everything, "seed")["textcode"] == "INVALID_USER_XACT_ID"
