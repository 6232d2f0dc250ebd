"""The journal's memory of what is settled: a run looks at what may be open, however long the journal has become."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from evergreen_groups.changes import PENALTIES, Journal, StepState
from evergreen_groups.changes.journal import SETTLED_AT_ONCE

HERE, ELSEWHERE = "https://ils.example.org", "https://other.example.org"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal(tmp_path)) as journal:
        journal._database.execute("PRAGMA synchronous=OFF")  # for speed: nothing here outlives the test
        yield journal


def begin(journal: Journal, *states: StepState, gateway: str = HERE) -> int:
    """An entry of one step, and how far it went."""
    (step,) = journal.begin(gateway, "groups", "recalculate", [(1001, PENALTIES, 0, None)])
    for state in states:
        journal.record(step, state)
    return step


def work(journal: Journal) -> int:
    """How much SQLite does to find the open steps."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    journal._database.set_progress_handler(count, 1)
    journal.open_steps(HERE)
    journal._database.set_progress_handler(None, 1)
    return steps


def test_a_long_journal_costs_no_more_than_a_short_one(journal: Journal) -> None:
    costs = []
    for _ in range(3):
        for _ in range(SETTLED_AT_ONCE):
            begin(journal, StepState.SENDING, StepState.DONE)
        costs.append(work(journal))
        journal.none_is_open(HERE)
    assert max(costs) < 1.1 * costs[0]


def test_what_is_begun_after_the_settled_ones_is_found(journal: Journal) -> None:
    for _ in range(SETTLED_AT_ONCE):
        begin(journal, StepState.SENDING, StepState.NOT_DONE)
    journal.none_is_open(HERE)
    begin(journal)
    open_step = begin(journal, StepState.SENDING)
    assert [step.id for step in journal.open_steps(HERE)] == [open_step]


def test_another_gateways_open_steps_are_left_to_its_own_runs(journal: Journal) -> None:
    other = begin(journal, StepState.SENDING, gateway=ELSEWHERE)
    for _ in range(SETTLED_AT_ONCE):
        begin(journal, StepState.SENDING, StepState.DONE)
    journal.none_is_open(HERE)
    assert journal.open_steps(HERE) == []
    assert [step.id for step in journal.open_steps(ELSEWHERE)] == [other]


def test_nothing_is_written_down_for_a_few(journal: Journal) -> None:
    for _ in range(SETTLED_AT_ONCE - 1):
        begin(journal, StepState.DONE)
    journal.none_is_open(HERE)
    assert journal._database.execute("SELECT count(*) FROM settled").fetchone() == (0,)
