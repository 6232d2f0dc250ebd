"""What came of promises: the rule, and what is compared in Evergreen."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.circulators import take_away
from support.follow_ups import draft, note_run, record_report, save
from support.payments import CASH, FORGIVEN, WORK, bill, pay, void

from evergreen_groups.follow_up import (
    Agreed,
    Comparison,
    FollowUp,
    FollowUps,
    FollowUpStatus,
    PromiseOutcome,
    What,
    compare_promises,
    record_outcomes,
)
from evergreen_groups.follow_up.entries import promise_outcome
from evergreen_groups.gateway import Gateway
from evergreen_groups.ils import OrgUnits
from evergreen_groups.report import Criteria, build_report
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.state import State

PAID, BROKEN, NOT_OWED, CHECK = PromiseOutcome
ZERO = Decimal("0.00")
AMOUNTS = st.decimals(0, 100, places=2)


@given(AMOUNTS | st.none(), AMOUNTS, AMOUNTS, st.booleans())
def test_the_rule(promised: Decimal | None, paid: Decimal, left: Decimal, all_known: bool) -> None:
    outcome = promise_outcome(promised, paid, left, all_known=all_known)
    as_promised = promised is not None and 0 < paid >= promised
    assert (outcome is PAID) == as_promised
    assert (outcome is CHECK) == (not as_promised and not all_known)
    if outcome is BROKEN:
        assert left > 0
        assert promised is None or paid < promised or paid == 0
    assert (outcome is NOT_OWED) <= (left == 0)
    # More paid never makes it worse.
    more = promise_outcome(promised, paid + 1, left, all_known=all_known)
    assert more in (outcome, PAID)


# --- In Evergreen ---

FAMILY = 1017
"""A patron of the sandbox whose family the report lists."""


class Watched:
    """A family that promised something now, and the nights after the day of the promise."""

    def __init__(self, state: State, sandbox: Sandbox, gateway: Gateway) -> None:
        self.state, self.sandbox, self.gateway = state, sandbox, gateway
        report = record_report(state, gateway.url)
        [group] = [one for one in report.groups if FAMILY in {member.id for member in one.members}]
        self.number, self.owed = group.number, group.known_fines
        self.debtors = {member.id: member.own_fines for member in group.members if member.own_fines > 0}
        self.url = gateway.url

    def found(self) -> FollowUp:
        report = FollowUps(self.state.database, self.url).of_report("")
        assert report is not None
        return report.group(self.number)

    def promise(self, amount: str | None = None, **fields: object) -> None:
        today = self.state.database.now().date()
        made = draft(self.number, What.PROMISED, seen=self.found().seen, pay_by=today, **fields)
        save(self.state, replace(made, amount=None if amount is None else Decimal(amount)), url=self.url)

    def pay(self, amount: Decimal | None = None, kind: str = CASH, *, voided: bool = False) -> None:
        """Pay an amount, or everything."""
        left = self.owed if amount is None else amount
        for id, owed in self.debtors.items():
            if part := min(left, owed):
                left -= part
                at = self.state.database.now() + timedelta(seconds=2)
                pay(self.sandbox, id, str(part), kind, at=at, voided=voided)

    def night(self, days: int = 1) -> tuple[PromiseOutcome | None, Decimal | None, Decimal | None]:
        """Compare ``days`` after the promise, record the outcome, and return it as stored."""
        today = self.state.database.now().date() + timedelta(days)
        store = FollowUps(self.state.database, self.url)
        found = compare_promises(self.gateway, OrgUnits.read(self.gateway), store.due_promises(lambda _: today))
        with self.state.database.writing() as connection:
            record_outcomes(connection, found)
        promise = [one for one in self.found().entries if one.what is What.PROMISED][-1]
        return promise.outcome, promise.paid, promise.forgiven

    def status(self, days: int = 1) -> FollowUpStatus:
        return self.found().status(self.state.database.now().date() + timedelta(days), 30)


@pytest.fixture
def watched(state: State, sandbox: Sandbox, staff: Gateway) -> Watched:
    return Watched(state, sandbox, staff)


def test_paid_in_full_it_is_kept_and_the_family_follows_its_debt(watched: Watched) -> None:
    watched.promise()
    watched.pay()
    assert watched.night(0) == (None, None, None)
    assert watched.status(0) is FollowUpStatus.WAITING
    assert watched.night() == (PAID, watched.owed, ZERO)
    assert watched.found().pending == {}
    assert (watched.status(), watched.status(31)) == (FollowUpStatus.WAITING, FollowUpStatus.TO_DO)


def test_less_is_broken_until_it_is_paid(watched: Watched) -> None:
    watched.promise()
    watched.pay(Decimal("1.00"))
    assert watched.night() == (BROKEN, Decimal("1.00"), ZERO)
    tomorrow = watched.state.database.now().date() + timedelta(1)
    state = watched.found().state(lambda _: tomorrow, 30)
    assert (state.status, state.due, state.is_broken) == (FollowUpStatus.TO_DO, {Agreed.PROMISE}, True)
    watched.debtors = {id: owed - (1 if place == 0 else 0) for place, (id, owed) in enumerate(watched.debtors.items())}
    watched.pay()
    assert watched.night(2)[0] is PAID
    assert watched.found().pending == {}


def test_the_amount_promised_counts(watched: Watched) -> None:
    watched.promise("2.00")
    watched.pay(Decimal("2.00"))
    assert watched.night() == (PAID, Decimal("2.00"), ZERO)


def test_voided_payments_do_not_count_and_those_before_the_promise_neither(watched: Watched) -> None:
    [(debtor, _), *_] = watched.debtors.items()
    pay(watched.sandbox, debtor, "1.00", at=watched.state.database.now() - timedelta(hours=1))
    watched.promise("1.00")
    watched.pay(Decimal("1.00"), voided=True)
    assert watched.night() == (BROKEN, ZERO, ZERO)


@pytest.mark.parametrize("kind", [FORGIVEN, WORK])
def test_forgiven_it_is_no_longer_owed(watched: Watched, kind: str) -> None:
    watched.promise()
    watched.pay(kind=kind)
    assert watched.night() == (NOT_OWED, ZERO, watched.owed)
    assert watched.found().pending == {}


def test_voided_bills_are_no_longer_owed_whatever_was_billed_since(watched: Watched) -> None:
    watched.promise()
    for id in watched.debtors:
        void(watched.sandbox, id)
    bill(watched.sandbox, FAMILY, "7.00", at=watched.state.database.now() + timedelta(seconds=2))
    assert watched.night() == (NOT_OWED, ZERO, ZERO)


def test_without_rights_it_says_check(watched: Watched) -> None:
    watched.promise()
    take_away(watched.sandbox, "VIEW_USER_TRANSACTIONS")
    assert watched.night() == (CHECK, ZERO, ZERO)
    assert watched.status() is FollowUpStatus.TO_DO


def test_a_new_promise_takes_its_place_and_a_corrected_note_leaves_the_outcome(watched: Watched) -> None:
    watched.promise("1.00")
    watched.night()
    [entry] = watched.found().entries
    watched.promise("1.00", corrects=entry.id, note="by cash")
    [entry] = watched.found().entries
    assert (entry.outcome, entry.note) == (BROKEN, "by cash")
    watched.promise("2.00", corrects=entry.original.id)
    [entry] = watched.found().entries
    assert entry.outcome is None
    watched.night()
    watched.promise("3.00")
    assert watched.found().pending[Agreed.PROMISE].entry.amount == Decimal("3.00")


def test_a_family_that_left_the_report_is_compared_too(watched: Watched) -> None:
    watched.promise()
    watched.pay()
    note_run(watched.state, build_report(watched.gateway, Criteria(min_total=Decimal(10_000))))
    [due] = FollowUps(watched.state.database, watched.url).due_promises(lambda _: date(2100, 1, 1))
    assert compare_promises(watched.gateway, OrgUnits.read(watched.gateway), [due]) == {
        due.entry.id: Comparison(PAID, watched.owed, ZERO)
    }


def test_it_takes_at_most_four_calls(watched: Watched) -> None:
    watched.promise()
    watched.pay(Decimal("1.00"))
    bill(watched.sandbox, FAMILY, "7.00", at=watched.state.database.now() + timedelta(seconds=2))
    units = OrgUnits.read(watched.gateway)
    due = FollowUps(watched.state.database, watched.url).due_promises(lambda _: date(2100, 1, 1))
    watched.gateway.idl("mbts", "mp", "mb", "au")
    before = watched.gateway.statistics.calls
    compare_promises(watched.gateway, units, due)
    assert watched.gateway.statistics.calls - before <= 4


@pytest.mark.parametrize(
    ("promised", "paid", "outcome"), [("2.00", "2.00", PAID), ("2.00", "1.00", CHECK), (None, "2.00", CHECK)]
)
def test_hidden_members_may_have_paid(
    watched: Watched, promised: str | None, paid: str, outcome: PromiseOutcome
) -> None:
    watched.promise(promised)
    watched.pay(Decimal(paid))
    [due] = FollowUps(watched.state.database, watched.url).due_promises(lambda _: date(2100, 1, 1))
    hidden = due._replace(complete=False)
    [found] = compare_promises(watched.gateway, OrgUnits.read(watched.gateway), [hidden]).values()
    assert (found.outcome, found.paid) == (outcome, Decimal(paid))
