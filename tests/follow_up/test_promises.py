"""What came of promises: the rule, and what is compared in Evergreen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.circulators import take_away
from support.debts import owe
from support.follow_ups import draft, note_run, record_report, save
from support.gateways import gateway_of
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

KEPT, BROKEN, NOT_OWED, CHECK = PromiseOutcome
ZERO = Decimal("0.00")
AMOUNTS = st.decimals(0, 100, places=2)


@given(AMOUNTS | st.none(), AMOUNTS, AMOUNTS, st.booleans())
def test_the_rule(promised: Decimal | None, paid: Decimal, left: Decimal, all_known: bool) -> None:
    outcome = promise_outcome(promised, paid, left, all_known=all_known)
    as_promised = promised is not None and 0 < paid >= promised
    assert (outcome is KEPT) == as_promised
    assert (outcome is CHECK) == (not as_promised and not all_known)
    if outcome is BROKEN:
        assert left > 0
        assert promised is None or paid < promised or paid == 0
    assert (outcome is NOT_OWED) <= (left == 0)
    # More paid never makes it worse.
    more = promise_outcome(promised, paid + 1, left, all_known=all_known)
    assert more in (outcome, KEPT)
