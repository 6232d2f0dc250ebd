"""Runs over a bad network: each is exactly right, or ends with a documented error.

Reads are right, nothing is written twice or by mistake, and the journal is true. A number determines each run;
``tests/bench/faults.py --only reading --seed N --runs 1`` repeats one. The judges of the runs notice what is wrong:
foreign writes, wrong numbers, and errors in the wrong form.
"""

from collections.abc import Iterator
from contextlib import closing

import pytest
from faults.one_run import SUBJECTS, Runner
from faults.reading import is_shown_as_incomplete
from faults.verdict import Ending, Judgement, judge_form
from faults.world import NEW, CommandResult, Stores, World
from support.conversation import differences

from evergreen_groups.sandbox import Sandbox

RUNS = {"pages": 200, "reading": 600, "writing": 400}
PARTS = 4
FEW_RUNS = 4
ONE_IN = 5
"""Plain pytest tries only one in so many commands and pages, because each is first run without faults."""


@pytest.fixture(scope="module", params=sorted(SUBJECTS))
def runner(request: pytest.FixtureRequest) -> Iterator[tuple[Runner, int]]:
    """What makes runs of a subject, and how many to make."""
    with closing(World()) as world:
        yield Runner(world, SUBJECTS[request.param]), RUNS[request.param]


def wrong(runner: Runner, seeds: range) -> list[str]:
    """Return what went wrong in some runs, with the numbers to repeat them."""
    return [str(verdict) for verdict in map(runner.run, seeds) if not verdict.ending.is_well]


@pytest.mark.parametrize("subject", sorted(SUBJECTS))
def test_a_run_with_faults_is_right_or_ends_in_an_error(subject: str) -> None:
    """The bench doesn't know these numbers, because it chooses from all commands and pages."""
    with closing(World()) as world:
        assert wrong(Runner(world, SUBJECTS[subject][::ONE_IN]), range(FEW_RUNS)) == []


@pytest.mark.long
@pytest.mark.parametrize("part", range(PARTS))
def test_many_more_runs_with_faults(runner: tuple[Runner, int], part: int) -> None:
    maker, runs = runner
    assert wrong(maker, range(part, runs, PARTS)) == []


def test_changes_are_distinguished_from_foreign_writes(sandbox: Sandbox) -> None:
    store = sandbox._store
    before = Stores.of(sandbox)
    with store.transaction():
        store.update("au", 1052, {"usrgroup": store.next_value("actor.usr_usrgroup_seq")})
        store.update("au", 1053, {"usrgroup": 1002, "day_phone": "555-0199"})
    after = Stores.of(sandbox)
    assert after.changes_since(before) == {(1052, "usrgroup"): NEW, (1053, "usrgroup"): 1002}
    assert any("au 1053: day_phone" in text for text in after.foreign_since(before))
    assert after.next_group == before.next_group + 1


def test_only_marked_documents_are_incomplete() -> None:
    group = {"group": 1, "group_fines": "30.00", "complete": True}
    right = {"groups": [group]}
    less = {**group, "group_fines": "20.00"}
    assert not is_shown_as_incomplete(right, {"groups": [less]}, 7)
    assert not is_shown_as_incomplete(right, {"groups": []}, 7)
    assert not is_shown_as_incomplete(right, {"groups": [{**less, "complete": False}]}, 0)
    assert is_shown_as_incomplete(right, {"groups": [{**less, "complete": False}]}, 7)
    assert not is_shown_as_incomplete({"complete": True}, {"complete": False}, 0)
    assert [*differences(right, {"groups": [less]})] == ['.groups[0].group_fines: "30.00" expected, "20.00" came']


def test_an_incomplete_document_is_true_about_its_members() -> None:
    def document(owed: str, hidden: int) -> dict[str, object]:
        members = [{"id": 1, "own_fines": owed, "over_limit": False}]
        return {"hidden_members": {"count": hidden, "fines": "0.00"}, "members": members}

    right = document("3.00", 1)
    assert is_shown_as_incomplete(right, document("3.00", 2), 0)
    assert is_shown_as_incomplete(right, {**document("3.00", 2), "members": []}, 0)
    assert not is_shown_as_incomplete(right, document("2.00", 2), 0)
    assert not is_shown_as_incomplete(right, document("3.00", 0), 0)


def test_an_error_has_one_form() -> None:
    def ending(ran: CommandResult) -> Ending:
        judgement = Judgement()
        judge_form(ran, judgement, endings=frozenset({0}))
        return judgement.ending

    assert ending(CommandResult(0, "{}", "", 0.1)) is Ending.RIGHT
    assert ending(CommandResult(4, "", "evergreen-groups: no answer\n", 0.1)) is Ending.ERROR
    assert ending(CommandResult(4, "", "", 0.1)) is Ending.BAD_ERROR
    assert ending(CommandResult(4, "", "something else\n", 0.1)) is Ending.BAD_ERROR
    assert ending(CommandResult(3, "", "evergreen-groups: no such setting\n", 0.1)) is Ending.BAD_ERROR
    assert ending(CommandResult(1, "", "evergreen-groups: unforeseen\n", 0.1, "Traceback …")) is Ending.TRACEBACK
    assert ending(CommandResult(0, "{}", "", 100.0)) is Ending.SLOW
