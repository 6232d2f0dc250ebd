"""The journal's memory of what is closed: a run looks at what may be open, however long the journal has become."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from evergreen_groups.changes import PENALTIES, Journal, StepState, clock
from evergreen_groups.changes.journal import CLOSED_AT_ONCE
from evergreen_groups.changes.journal_step import Sending
from evergreen_groups.client import Client
from evergreen_groups.gateway import Gateway

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
        for _ in range(CLOSED_AT_ONCE):
            begin(journal, StepState.SENDING, StepState.DONE)
        costs.append(work(journal))
        journal.none_is_open(HERE)
    assert max(costs) < 1.1 * costs[0]


def test_what_is_begun_after_the_closed_ones_is_found(journal: Journal) -> None:
    for _ in range(CLOSED_AT_ONCE):
        begin(journal, StepState.SENDING, StepState.NOT_DONE)
    journal.none_is_open(HERE)
    begin(journal)
    open_step = begin(journal, StepState.SENDING)
    assert [step.id for step in journal.open_steps(HERE)] == [open_step]


def test_another_gateways_open_steps_are_left_to_its_own_runs(journal: Journal) -> None:
    other = begin(journal, StepState.SENDING, gateway=ELSEWHERE)
    for _ in range(CLOSED_AT_ONCE):
        begin(journal, StepState.SENDING, StepState.DONE)
    journal.none_is_open(HERE)
    assert journal.open_steps(HERE) == []
    assert [step.id for step in journal.open_steps(ELSEWHERE)] == [other]


def test_nothing_is_written_down_for_a_few(journal: Journal) -> None:
    for _ in range(CLOSED_AT_ONCE - 1):
        begin(journal, StepState.DONE)
    journal.none_is_open(HERE)
    assert journal._database.execute("SELECT count(*) FROM settled").fetchone() == (0,)


def test_what_stays_open_is_found_however_long_the_journal_becomes(journal: Journal) -> None:
    (hidden,) = journal.begin(HERE, "groups", "move", [(1012, "usrgroup", 1003, 1002)])
    journal.record_sending(hidden, Sending(datetime.now(UTC), datetime.now(UTC), "seed", "digest"))
    costs = []
    for _ in range(3):
        for _ in range(CLOSED_AT_ONCE):
            begin(journal, StepState.SENDING, StepState.DONE)
        journal.none_is_open(HERE, but=journal.open_steps(HERE))
        costs.append(work(journal))
        (step,) = journal.open_steps(HERE)
        assert (step.id, step.patron, step.sending and step.sending.last_xact_id) == (hidden, 1012, "seed")
    assert max(costs) < 1.1 * costs[0]
    assert journal._database.execute("SELECT count(*) FROM left_open").fetchone() == (1,)
    journal.record(hidden, StepState.NOT_DONE)
    assert journal.open_steps(HERE) == []
    assert journal.open_steps(ELSEWHERE) == []


def test_a_sending_is_written_down_whole(journal: Journal) -> None:
    (id,) = journal.begin(HERE, "groups", "move", [(1012, "usrgroup", 1003, 1002)])
    for last_xact_id in ("first", None):
        at = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
        journal.record_sending(id, Sending(at, at + timedelta(minutes=16), last_xact_id))
        (step,) = journal.open_steps(HERE)
        assert step.sending == Sending(at, at + timedelta(minutes=16), last_xact_id)
        assert step.state is StepState.SENDING


def test_a_step_that_an_older_release_left_open_is_recovered(
    client: Client, admin: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It wrote down no more than that it was sending."""
    with closing(Journal(tmp_path / "state")) as journal:
        for patron, before, after in ((1052, 1015, 1002), (1053, 1015, None), (1001, 1777, 1001)):
            (id,) = journal.begin(client.gateway.url, "groups", "move", [(patron, "usrgroup", before, after)])
            journal.record(id, StepState.SENDING)
        for table in ("sendings", "left_open"):
            journal._database.execute(f"DROP TABLE {table}")
    assert [(step.patron, step.state, step.value) for step in client.moves.recover()] == [(1001, StepState.DONE, 1001)]
    monkeypatch.setattr(clock, "now", lambda: datetime.now(UTC) + timedelta(minutes=30))
    assert {(step.patron, step.state) for step in client.moves.recover()} == {
        (1052, StepState.NOT_DONE),
        (1053, StepState.NOT_DONE),
    }
