"""Retention periods, on each engine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, strategies
from hypothesis import settings as hypothesis_settings
from sqlalchemy import delete, select

from evergreen_groups.state import State, prune, schema
from evergreen_groups.state.retention import BATCH_SIZE, MAX_ADVANCE, stored_amounts

pytestmark = pytest.mark.long

NOON = datetime(2026, 8, 14, 12, tzinfo=UTC)
DAYS = {"history": 400, "journal": 730, "events": 90, "follow-ups": 400}


def days_ago(days: float) -> datetime:
    return NOON - timedelta(days=days)


def add_events(state: State, *ages: float) -> None:
    rows = [
        {
            "gateway": "g", "at": days_ago(age), "event": number, "hook": "h", "patron": 7,
            "done": False, "recalculated": False, "reason": "",
        }
        for number, age in enumerate(ages)
    ]  # fmt: skip
    with state.database.writing() as connection:
        connection.execute(schema.events.insert(), rows)


def add_change(state: State, age: float, step_state: str) -> int:
    with state.database.writing() as connection:
        change = {"suffix": "k7q4tz", "gateway": "g", "account": "a", "action": "move", "step_count": 1}
        key = connection.execute(schema.changes.insert().values(**change, at=days_ago(age))).inserted_primary_key
        assert key is not None
        step = {"change": key[0], "gateway": "g", "patron": key[0], "field": "usrgroup", "before": 1}
        connection.execute(schema.steps.insert().values(**step, state=step_state, touched_at=days_ago(age)))
    return int(key[0])


def ages(state: State) -> list[int]:
    with state.database.reading() as connection:
        moments = connection.execute(select(schema.events.c.at).order_by(schema.events.c.at.desc())).scalars()
        return [(NOON - moment).days for moment in moments]


def test_each_kind_has_its_own_life(state: State) -> None:
    add_events(state, 0, 89, 91)
    young, _old = add_change(state, 729, "done"), add_change(state, 731, "done")
    with state.database.writing() as connection:
        connection.execute(schema.series.insert(), [{"id": 1, "gateway": "g", "settings": "{}"}])
        runs = [{"series": 1, "at": days_ago(age), "hidden_libraries": "[]"} for age in (1, 399, 401)]
        connection.execute(schema.runs.insert(), runs)
    assert prune(state.database, DAYS, NOON) == {"history": 1, "journal": 1, "events": 1, "follow-ups": 0}
    assert ages(state) == [0, 89]
    with state.database.reading() as connection:
        assert connection.execute(select(schema.changes.c.id)).scalars().all() == [young]
        assert connection.execute(select(schema.steps.c.change)).scalars().all() == [young]
        amounts = {one.name: (one.rows, one.since) for one in stored_amounts(connection)}
    assert amounts == {
        "history": (2, days_ago(399)),
        "journal": (1, days_ago(729)),
        "events": (2, days_ago(89)),
        "follow-ups": (0, None),
        "mails": (0, None),
    }


def test_plans_go_after_a_week_and_groups_to_keep_after_three_years(state: State) -> None:
    of = {"gateway": "g", "staff": 1}
    with state.database.writing() as connection:
        for id, age in (("young", 6), ("old", 8)):
            plan = {"id": id, "action": "move", "content": "{}", "at": days_ago(age), "expires": days_ago(age)}
            connection.execute(schema.plans.insert(), {**of, **plan})
        for number, age in ((1, 3 * 365 - 1), (2, 3 * 365 + 1)):
            kept = {"gateway": "g", "number": number, "members": "[]", "at": days_ago(age)}
            connection.execute(schema.groups_to_keep.insert(), kept)
    add_events(state, 0)
    prune(state.database, DAYS, NOON)
    with state.database.reading() as connection:
        assert connection.execute(select(schema.plans.c.id)).scalars().all() == ["young"]
        assert connection.execute(select(schema.groups_to_keep.c.number)).scalars().all() == [1]


def test_a_series_without_runs_goes(state: State) -> None:
    with state.database.writing() as connection:
        connection.execute(schema.series.insert(), [{"id": 1, "gateway": "g", "settings": "{}"}])
    prune(state.database, DAYS, NOON)
    with state.database.reading() as connection:
        assert connection.execute(schema.series.select()).all() == []


def test_what_was_decided_about_a_group_is_looked_at_again_after_three_years(state: State) -> None:
    add_events(state, 0)
    with state.database.writing() as connection:
        rows = [{"gateway": "g", "number": age, "at": days_ago(age), "members": "[1]"} for age in (1094, 1096)]
        connection.execute(schema.groups_to_keep.insert(), rows)
    prune(state.database, DAYS, NOON)
    with state.database.reading() as connection:
        assert connection.execute(select(schema.groups_to_keep.c.number)).scalars().all() == [1094]


def test_open_steps_are_never_pruned(state: State) -> None:
    add_events(state, 0)
    old = add_change(state, 3000, "sending")
    add_change(state, 3000, "failed")
    assert prune(state.database, DAYS, NOON)["journal"] == 1
    with state.database.reading() as connection:
        assert connection.execute(select(schema.changes.c.id)).scalars().all() == [old]


def test_it_goes_in_pieces_and_all_of_it(state: State) -> None:
    add_events(state, 0, *[100 + number / 10_000 for number in range(2 * BATCH_SIZE + 1)])
    assert prune(state.database, DAYS, NOON)["events"] == 2 * BATCH_SIZE + 1
    assert ages(state) == [0]


def test_a_clock_that_is_decades_ahead_costs_a_week(state: State, caplog: pytest.LogCaptureFixture) -> None:
    add_events(state, *range(0, 90, 3))
    prune(state.database, DAYS, NOON)
    assert caplog.text == ""
    prune(state.database, DAYS, datetime(2099, 1, 1, tzinfo=UTC))
    assert "the clock says 2099-01-01, more than a week after the last run" in caplog.text
    assert max(ages(state)) == 81
    prune(state.database, DAYS, NOON + timedelta(days=1))
    assert "before the last run on 2026-08-21: set the clock" in caplog.text
    assert max(ages(state)) == 81


def test_the_first_run_believes_no_clock_that_is_far_ahead_of_what_is_there(state: State) -> None:
    add_events(state, 0, 85)
    prune(state.database, DAYS, NOON + timedelta(days=4000))
    assert ages(state) == [0]
    prune(state.database, DAYS, NOON + timedelta(days=4000))
    assert ages(state) == [0]


def test_after_a_long_pause_it_catches_up(state: State) -> None:
    add_events(state, 0)
    prune(state.database, DAYS, NOON)
    later = NOON + timedelta(days=120)
    nights = 0
    while ages(state):
        prune(state.database, DAYS, later + timedelta(days=nights))
        nights += 1
    assert nights == 13  # weeks, because 90 days have to pass


@pytest.mark.parametrize("state", ["sqlite"], indirect=True)
@hypothesis_settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(clocks=strategies.lists(strategies.integers(-2000, 40_000), min_size=1, max_size=6))
def test_no_run_costs_more_than_a_week(state: State, clocks: list[int]) -> None:
    """Regardless of how the clock jumps between runs."""
    with state.database.writing() as connection:
        connection.execute(delete(schema.events))
        connection.execute(delete(schema.retention))
    add_events(state, *range(90))
    prune(state.database, DAYS, NOON)
    for number, days in enumerate(clocks, 1):
        prune(state.database, DAYS, NOON + timedelta(days=days))
        assert len(ages(state)) >= 90 - MAX_ADVANCE.days * number
