"""The journal on both engines: plans and steps stored, a commit per record, open steps found quickly."""

from __future__ import annotations

import os
import pwd
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from io import StringIO
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete, event, text
from support.change_ids import change_id, number_of
from support.family_moves import ANOTHERS_CARD, CARD, OTHERS_CARD, UPDATE, lacking, later, only, record_of
from support.fault_proxy import Fault, FaultProxy
from support.gateways import gateway_of
from support.journals import begun

from evergreen_groups.changes import (
    PENALTIES,
    Journal,
    JournalStep,
    Operator,
    StepState,
    TerminalUser,
    recently_changed,
)
from evergreen_groups.changes.journal import Sending, StoredStep
from evergreen_groups.changes.reasons import (
    CHANGED_BY_ANOTHER,
    NO_REASON,
    TAKEN_OVER,
    StepReason,
    may_come_in,
    refusal,
)
from evergreen_groups.client import Client
from evergreen_groups.errors import EventError, NotFoundError, PlanError, StateError
from evergreen_groups.gateway import Gateway
from evergreen_groups.language import Language, gettext, use_language
from evergreen_groups.language.language import PSEUDO
from evergreen_groups.message import Message
from evergreen_groups.render import write_entries
from evergreen_groups.render.plans import describe_reason
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.state import State, schema
from evergreen_groups.state.database import Database

HERE, ELSEWHERE = "https://ils.example.org", "https://other.example.org"
NOON = datetime(2026, 11, 25, 12, 0, 0, 123456, tzinfo=UTC)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
SENDING = Sending(NOON, NOON + timedelta(minutes=16), "seed", "digest")
GROUPS = Operator("groups")
AT_A_DESK = Operator("groups", staff=3, workstation=7, approved_by=9)


@pytest.fixture
def journal(state: State) -> Journal:
    return Journal(state.database)


@pytest.fixture
def client(state: State, sandbox: Sandbox) -> Iterator[Client]:
    """A client on the state, on each engine."""
    with gateway_of(sandbox.url, "consortium_staff") as gateway:
        yield Client(gateway, account="consortium_staff", state=state)


def begin(journal: Journal, *, gateway: str = HERE, patron: int = 1001, field: str = "usrgroup", after: int = 2) -> int:
    """Begin an entry with one step and return the step's id."""
    (step,) = begun(journal, gateway, GROUPS, "move", [StoredStep(patron, field, 1, after)])
    return step


def the_step(journal: Journal, entry: int) -> JournalStep:
    (step,) = journal.entry(change_id(journal, entry)).steps
    return step


@contextmanager
def listening(state: State, **listeners: Callable[..., None]) -> Iterator[None]:
    """Call functions at the events of the state's engine."""
    with state.database.reading() as connection:
        engine = connection.engine
    for name, listener in listeners.items():
        event.listen(engine, name, listener)
    yield
    for name, listener in listeners.items():
        event.remove(engine, name, listener)


@contextmanager
def statements(state: State) -> Iterator[list[tuple[str, Any]]]:
    """Record the statements executed in the block, with their values."""
    seen: list[tuple[str, Any]] = []

    def executed(_connection: Any, _cursor: Any, statement: str, values: Any, _context: Any, _many: bool) -> None:
        if not statement.startswith("BEGIN"):
            seen.append((statement, values))

    with listening(state, before_cursor_execute=executed):
        yield seen


@contextmanager
def commits(state: State) -> Iterator[list[str]]:
    """Record each transaction of the block that writes: the first words of its first statement."""
    done: list[str] = []
    begun: list[str] = []

    def executed(_connection: Any, _cursor: Any, statement: str, _values: Any, _context: Any, _many: bool) -> None:
        if statement.startswith(("INSERT", "UPDATE", "DELETE")):
            begun.append(" ".join(statement.split()[:3]))

    def committed(_connection: Any) -> None:
        done.extend(begun[:1])
        begun.clear()

    with listening(state, before_cursor_execute=executed, commit=committed):
        yield done


def test_a_plan_is_written_down_as_a_whole_and_in_its_order(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Database, "now", lambda _: NOON)
    steps = [StoredStep(patron, "usrgroup", 1, None if patron % 2 else 2) for patron in range(5000, 2500, -1)]
    ids = begun(journal, HERE, AT_A_DESK, "batch", steps)
    assert begun(journal, HERE, GROUPS, "undo", steps[:1], undoes=change_id(journal, 1))[0] > max(ids)
    entry = journal.entry(change_id(journal, 1))
    assert (entry.gateway, entry.operator, entry.at, entry.action) == (HERE, AT_A_DESK, NOON, "batch")
    assert journal.entry(change_id(journal, 2)).operator == GROUPS
    assert [StoredStep(step.patron, step.field, step.before, step.after) for step in entry.steps] == steps
    assert [step.id for step in entry.steps] == ids == sorted(ids)
    assert {step.state for step in entry.steps} == {StepState.PLANNED}
    found = [(number_of(entry.id), number_of(entry.undoes), len(entry.steps)) for entry in journal.entries()]
    assert found == [(2, 1, 1), (1, None, 2500)]


@pytest.mark.parametrize(
    ("terminal_user", "words"),
    [
        (TerminalUser("root", "ils1", "alice", "pts/3"), "by alice as root on ils1 (pts/3)"),
        (TerminalUser("alice", "ils1", None, "pts/3"), "by alice on ils1 (pts/3)"),
        (TerminalUser("evergreen", "ils1"), "by evergreen on ils1"),
    ],
)
def test_who_sat_at_which_terminal(journal: Journal, terminal_user: TerminalUser, words: str) -> None:
    operator = Operator("groups", terminal_user=terminal_user)
    begun(journal, HERE, operator, "move", [StoredStep(1, "usrgroup", 2, 3)])
    [entry] = journal.entries()
    assert entry.operator == operator
    shown = StringIO()
    write_entries([entry], shown)
    assert shown.getvalue().endswith(f"0 of 1 done, {words}\n")


def test_the_terminal_of_this_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of any stream: standard input may be a file."""
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, StringIO())
    assert TerminalUser.current().terminal is None
    main, at_user = os.openpty()
    with open("/dev/null") as nothing, open(at_user, "w") as terminal:  # noqa: PTH123 - a file descriptor
        monkeypatch.setattr(sys, "stdin", nothing)
        assert TerminalUser.current().terminal is None
        monkeypatch.setattr(sys, "stderr", terminal)
        found = TerminalUser.current()
        assert found.terminal == os.ttyname(at_user).removeprefix("/dev/")
    os.close(main)
    assert (found.user, found.host) == (pwd.getpwuid(os.geteuid()).pw_name, socket.gethostname())


@pytest.mark.parametrize(("name", "known"), [("somebody", "somebody"), (pwd.getpwuid(os.geteuid()).pw_name, None)])
def test_who_logged_in_if_somebody_else(monkeypatch: pytest.MonkeyPatch, name: str, known: str | None) -> None:
    monkeypatch.setattr(os, "getlogin", lambda: name)
    assert TerminalUser.current().login_user == known


def test_what_is_begun_is_what_is_stored(journal: Journal) -> None:
    planned = [StoredStep(1001, "usrgroup", 1, 2), StoredStep(1002, PENALTIES, 0, None, due=True)]
    with journal.transactions.writing() as connection:
        entry = journal.begin(connection, HERE, GROUPS, "move", planned)
    assert journal.entries() == [entry]


def test_only_an_entrys_own_patrons_have_been_changed_since(journal: Journal) -> None:
    for patron in (1001, 1001, 1002):
        journal.record(begin(journal, patron=patron), StepState.DONE, value=2)
    assert [journal.changed_since(entry) for entry in journal.entries()] == [set(), set(), {(1001, "usrgroup")}]


def test_other_changes_of_a_member_are_the_groups_until_they_have_been_moved(journal: Journal) -> None:
    journal.record(begin(journal, field="master_account", after=1), StepState.DONE, value=1)
    move = begin(journal, after=7)
    assert [entry.steps[0].field for entry in journal.entries_about(HERE, 9, [1001], 10)] == ["master_account"]
    journal.record(move, StepState.DONE, value=7)
    assert journal.entries_about(HERE, 9, [1001], 10) == []


def test_half_a_plan_is_none(journal: Journal) -> None:
    with pytest.raises(StateError, match="rejected a write"):
        begun(journal, HERE, GROUPS, "move", [StoredStep(1001, "usrgroup", 1, 2), StoredStep(1001, "day_phone", 1, 2)])
    assert journal.entries() == []


def test_a_step_stands_as_it_is_now(journal: Journal) -> None:
    step = begin(journal)
    for last_xact_id in ("first", None):
        sending = Sending(NOON, NOON + timedelta(minutes=16), last_xact_id)
        journal.record_sending(step, sending)
        (found,) = journal.open_steps(HERE)
        assert (found, found.sending) == (the_step(journal, 1), sending)
        assert (found.state, found.value, found.reason) == (StepState.SENDING, None, "")
        journal.record(step, StepState.SENDING, value=1010, reason=StepReason("somebody else moved them"))
        assert (the_step(journal, 1).value, the_step(journal, 1).sending) == (1010, sending)
    journal.record(step, StepState.DONE, value=2)
    found = the_step(journal, 1)
    assert (found.state, found.value, found.reason, found.sending) == (StepState.DONE, 2, "", sending)
    assert journal.open_steps(HERE) == []


def test_a_reason_is_kept_in_english_and_can_be_read_in_other_languages(journal: Journal) -> None:
    step = begin(journal)
    reasons = [
        StepReason(Message("another user moved the patron to group {group}"), "moved-meanwhile", group=7),
        may_come_in(NOON),
        CHANGED_BY_ANOTHER.followed_by(Message("tries: {count}"), count=3),
        StepReason("what an {odd} server says", "ils-refused", event="{x}"),
        StepReason("a reason without a code"),
        NO_REASON,
    ]
    for reason in reasons:
        journal.record(step, StepState.FAILED, reason=reason)
        found = the_step(journal, 1).reason
        assert (found, found.code, found.values) == (reason, reason.code, reason.values)
        assert found.messages == reason.messages
        with use_language(Language(PSEUDO)):
            assert describe_reason(found) == describe_reason(reason)
    with use_language(Language(PSEUDO)):
        said = describe_reason(may_come_in(NOON))
    assert "result" not in said


def test_the_latest_entries_and_those_since_a_time(journal: Journal) -> None:
    for gateway in (HERE, ELSEWHERE, HERE):
        begin(journal, gateway=gateway)
    assert [number_of(entry.id) for entry in journal.entries(most=2)] == [3, 2]
    assert [number_of(entry.id) for entry in journal.entries(HERE, most=1)] == [3]
    assert all(len(entry.steps) == 1 for entry in journal.entries(most=2))
    since = journal.entries()[1].at
    assert [number_of(entry.id) for entry in journal.entries(since=since)] == [3, 2]
    assert journal.entries(since=journal.now() + timedelta(days=1)) == []


def test_since_a_time_means_at_that_very_moment_too(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Database, "now", lambda _: NOON)
    begun(journal, HERE, AT_A_DESK, "move", [StoredStep(1001, "usrgroup", 1, 2)])
    moment = timedelta(microseconds=1)
    for since, count in ((NOON - moment, 1), (NOON, 1), (NOON + moment, 0)):
        assert len(journal.entries(since=since)) == len(journal.entries_of(HERE, 3, since)) == count


def test_entries_are_of_one_gateway_where_it_is_given(journal: Journal) -> None:
    for gateway in (HERE, ELSEWHERE, HERE):
        begin(journal, gateway=gateway)
    assert [(number_of(entry.id), len(entry.steps)) for entry in journal.entries(HERE)] == [(3, 1), (1, 1)]
    assert [number_of(entry.id) for entry in journal.entries()] == [3, 2, 1]
    with pytest.raises(NotFoundError, match="there is no change 4-k7q4tz") as told:
        journal.entry("4-k7q4tz")
    assert "`journal` lists them" in told.value.advice


def test_another_gateways_open_steps_are_left_to_its_own_runs(journal: Journal) -> None:
    steps = [begin(journal, gateway=gateway) for gateway in (HERE, ELSEWHERE)]
    for step in steps:
        journal.record_sending(step, SENDING)
    assert [step.id for step in journal.open_steps(HERE)] == steps[:1]
    assert [step.id for step in journal.open_steps(ELSEWHERE)] == steps[1:]


def test_the_same_change_sent_again_answers_for_both_requests(journal: Journal) -> None:
    first, second = begin(journal), begin(journal)
    journal.record_sending(first, SENDING)
    journal.record_sending(second, SENDING)
    assert [step.id for step in journal.open_steps(HERE)] == [second]
    assert (the_step(journal, 1).state, the_step(journal, 1).reason) == (StepState.NOT_DONE, TAKEN_OVER)


def test_so_does_another_recalculation(journal: Journal) -> None:
    first, second = (
        begun(journal, HERE, GROUPS, "recalculate", [StoredStep(1001, PENALTIES, count, None)])[0] for count in (0, 1)
    )
    for step in (first, second):
        journal.record_sending(step, Sending(NOON, NOON + timedelta(minutes=16)))
    assert [step.id for step in journal.open_steps(HERE)] == [second]


@pytest.mark.parametrize("case", ["to another group", "a removal", "not protected"])
def test_another_change_of_an_open_field_is_refused(journal: Journal, case: str) -> None:
    after = None if case == "a removal" else 2
    (first,) = begun(journal, HERE, GROUPS, "move", [StoredStep(1001, "usrgroup", 1, after)])
    journal.record_sending(first, SENDING if case != "not protected" else Sending(NOON, NOON))
    (second,) = begun(
        journal, HERE, GROUPS, "move", [StoredStep(1001, "usrgroup", 1, 3 if case == "to another group" else after)]
    )
    with pytest.raises(StateError, match="patron 1001: an earlier change isn't confirmed yet") as caught:
        journal.record_sending(second, SENDING)
    assert caught.value.code == "step-still-open"
    assert "\n" not in str(caught.value)
    assert [step.id for step in journal.open_steps(HERE)] == [first]
    assert the_step(journal, 2).state is StepState.PLANNED


@pytest.mark.differs("copies-unsaid", reason="a plan needs the records there that can't be read here")
@pytest.mark.no_replica(reason="a plan needs the records there that can't be read here")
def test_a_change_that_does_not_go_with_an_open_one_is_not_sent(
    state: State, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        client = Client(gateway, account="consortium_staff", state=state)
        proxy.decide = only(UPDATE, Fault.DROP_REQUEST)
        assert not client.move([CARD], to=OTHERS_CARD).apply().done
        proxy.heal()
        proxy.seen.clear()
        (step,) = client.move([CARD], to="20000000001001").apply().steps
        assert step.state is StepState.NOT_DONE
        assert step.reason.startswith("an earlier change to this patron isn't confirmed yet; try again after ")
        # Also refused when the earlier request has expired but its outcome can't be read.
        proxy.refuse = lambda call: (500, "") if call.method.endswith("retrieve.authoritative") else None
        later(monkeypatch)
        (step,) = client.move([CARD], to="20000000001001").apply().steps
        assert step.reason == "an earlier change to this patron isn't confirmed yet; try again later"
        assert UPDATE not in proxy.seen
        proxy.heal()
        assert client.move([CARD], to="20000000001001").apply().done


def test_a_no_to_the_second_request_says_nothing_of_the_first(state: State, proxy: FaultProxy) -> None:
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        client = Client(gateway, account="consortium_staff", state=state)
        proxy.decide = only(UPDATE, Fault.HELD_REQUEST)
        assert not client.move([CARD], to=OTHERS_CARD).apply().done
        proxy.heal()
        proxy.answer = lambda call: lacking("UPDATE_USER") if call.method == UPDATE else None
        (step,) = client.move([CARD], to=OTHERS_CARD).apply().steps
        assert step.state is StepState.SENDING
        assert [(it.steps[0].state) for it in client.changes.entries()] == [StepState.SENDING, StepState.NOT_DONE]
        proxy.heal()
        proxy.let_go()
        (found,) = client.changes.recover()
        assert (found.state, found.value) == (StepState.DONE, 1002)


@pytest.mark.long
def test_what_is_open_or_recent_is_found_among_many_by_its_index(state: State, journal: Journal) -> None:
    count = 20_000
    change = {"gateway": HERE, "account": "groups", "at": NOON, "action": "recalculate", "step_count": 1, "suffix": "x"}
    step = {"gateway": HERE, "field": PENALTIES, "before": 0, "state": "done", "touched_at": LONG_AGO}
    with state.database.writing() as connection:
        connection.execute(schema.changes.insert(), [change] * count)
        connection.execute(
            schema.steps.insert(), [{**step, "change": number, "patron": number} for number in range(1, count + 1)]
        )
        connection.execute(text("ANALYZE steps"))
    for patron in (1, 19_999):
        journal.record_sending(begin(journal, patron=patron, field=PENALTIES), SENDING)
    with statements(state) as seen:
        assert [step.patron for step in journal.open_steps(HERE)] == [1, 19_999]
        journal.record_sending(begin(journal, patron=7), SENDING)
        recently_changed(cast(Gateway, SimpleNamespace(url=HERE, reads_replicas=True)), state)
    reads = [(statement, values) for statement, values in seen if "FROM steps" in statement]
    assert len(reads) == 3
    is_file = state.database.path is not None
    with state.database.reading() as connection:
        for statement, values in reads:
            explained = connection.exec_driver_sql(f"EXPLAIN {'QUERY PLAN ' * is_file}{statement}", values)
            plan = [str(row) for row in explained]
            index = "steps_touched" if "touched_at >=" in statement else "steps_open_once"
            assert any(index in line for line in plan)
            # SQLite's SCAN of this index reads only open steps.
            assert not any("Seq Scan" in line or ("SCAN" in line and "steps_open_once" not in line) for line in plan)


def test_the_whole_journal_takes_two_queries(state: State, journal: Journal) -> None:
    for patron in range(30):
        begin(journal, patron=patron)
    with statements(state) as seen:
        assert len(journal.entries()) == 30
    assert len([statement for statement, _values in seen if statement.startswith("SELECT")]) == 2


def test_a_plan_a_request_and_an_outcome_are_a_commit_each(state: State, client: Client) -> None:
    move, recalculation = client.move([CARD, ANOTHERS_CARD], to=OTHERS_CARD), client.recalculate([1030])
    for plan, steps in ((move, 2), (recalculation, 1)):
        with commits(state) as done:
            assert plan.apply().done
        # The lease holder isn't written anywhere either.
        assert done == ["INSERT INTO changes", *["UPDATE steps SET"] * 2 * steps]


def forget(state: State, patron: int) -> None:
    with state.database.writing() as connection:
        connection.execute(delete(schema.steps).where(schema.steps.c.patron == patron))


def test_an_entry_that_is_partly_forgotten_is_not_taken_back_by_half(
    state: State, client: Client, admin: Gateway
) -> None:
    plan = client.move([CARD, ANOTHERS_CARD], to=OTHERS_CARD)
    assert plan.apply().done
    assert [entry.missing_step_count for entry in client.changes.entries()] == [0]
    forget(state, 1053)
    with pytest.raises(PlanError, match=r"change 1-.{6} can't be undone completely: 1 of its 2 steps") as caught:
        client.undo(change_id(client.changes, 1))
    assert caught.value.code == "entry-partly-forgotten"
    assert record_of(admin).usrgroup == 1002
    shown = StringIO()
    write_entries(client.changes.entries(), shown)
    assert shown.getvalue().endswith("consortium_staff: Move to another group, 1 of 1 done, 1 change deleted\n")


def test_a_step_that_was_forgotten_is_not_sent(state: State, journal: Journal) -> None:
    step = begin(journal)
    forget(state, 1001)
    for act in (lambda: journal.record_sending(step, SENDING), lambda: journal.record(step, StepState.DONE)):
        with pytest.raises(StateError, match=f"step {step} is no longer in the journal") as told:
            act()
        assert told.value.code == "step-gone"


ANY_GATEWAY = Gateway("https://ils.example.org")  # never asked


@pytest.mark.parametrize(
    "said",
    ["ODD {event.x}", "{event.__class__}", "{event[9]}", "{event!z}", "{", "{}", "{0}", "{unknown}", "{event:z}"],
)
def test_braces_in_what_an_ils_says_stay_as_they_are(said: str) -> None:
    reason = refusal(ANY_GATEWAY, EventError("refused", textcode=said))
    assert reason == f"Evergreen refused the change ({said})"
    assert reason.followed_by(Message("tries: {count}"), count=3) == f"{reason}; tries: 3"
    with use_language(Language(PSEUDO)):
        assert [gettext(message) for message in reason.messages]


@given(st.text(max_size=30))
def test_whatever_an_ils_says_is_a_reason(said: str) -> None:
    assert isinstance(refusal(ANY_GATEWAY, EventError("refused", textcode=said)), StepReason)
