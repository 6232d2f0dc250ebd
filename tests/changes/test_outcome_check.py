"""Determine the outcome of a sent change from the patron's record alone, in every possible state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.change_ids import change_id
from support.circulators import change_rows
from support.family_moves import BROKEN, HOME, OTHER, PATRON, RETRIEVE, lacking
from support.fault_proxy import FaultProxy
from support.gateways import gateway_of
from support.journals import begun
from support.states import journal_in

from evergreen_groups.changes import PENALTIES, Journal, Operator, StepState
from evergreen_groups.changes.journal import JournalStep, Sending, StoredStep
from evergreen_groups.changes.outcome_check import (
    ARRIVES_WITHIN,
    ChangeVerdict,
    digest_of_untouched,
    judge,
    judge_penalties,
    new_sending,
    recover,
)
from evergreen_groups.changes.penalties import PatronPenalties
from evergreen_groups.changes.reasons import NEVER_ARRIVED, may_come_in
from evergreen_groups.errors import DataError, NoSessionError, UnreachableError
from evergreen_groups.gateway import Gateway, Record, RetryPolicy
from evergreen_groups.groups import read_patron
from evergreen_groups.ils import PenaltyRow
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.state.database import Database

NOW = datetime(2026, 10, 5, 12, tzinfo=UTC)
UNTIL = NOW + timedelta(minutes=16)
SOMEBODY = 1001
GROUPS = Operator("groups")
MEMBERS = "open-ils.actor.usergroup.members.retrieve.authoritative"
LATE, SECOND = timedelta(minutes=16), timedelta(seconds=1)

ANOTHERS = "the record has the new value, but another user may have set it"


@pytest.fixture(autouse=True)
def noon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Database, "now", lambda _: NOW)


@pytest.fixture
def gateway(proxy: FaultProxy) -> Iterator[Gateway]:
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        yield gateway


@pytest.fixture
def record(gateway: Gateway) -> Record:
    """The patron's record, last written before any request in this module."""
    found = read_patron(gateway, PATRON)
    assert found is not None
    return found.replace(last_xact_id="before", last_update_time=NOW - timedelta(days=1))


def change(
    record: Record, *, field: str = "usrgroup", after: int | None = OTHER, seen: int | None = None, **sending: object
) -> JournalStep:
    known = {"last_xact_id": "before", "other_fields": digest_of_untouched(record, field), **sending}
    before = HOME if field == "usrgroup" else 0
    sending = Sending(NOW, UNTIL, **known)  # type: ignore[arg-type]
    return JournalStep(1, PATRON, field, before, after, StepState.SENDING, seen, sending=sending)


Judged = Callable[..., ChangeVerdict]


@pytest.fixture
def judged(gateway: Gateway, record: Record) -> Judged:
    """Judge a change by the patron's record with these fields."""

    def by(found: dict[str, object], *, later: timedelta = timedelta(), **how: Any) -> ChangeVerdict:
        return judge(gateway, change(record, **how), record.replace(**found), NOW + later)

    return by


class TestTime:
    @pytest.mark.parametrize(
        ("later", "may_still_arrive"),
        [
            (timedelta(minutes=-10), True),  # the clock was set back
            (timedelta(), True),
            (LATE - SECOND, True),
            (LATE, False),
            (LATE + SECOND, False),
        ],
    )
    def test_how_long_it_may_come_in(self, record: Record, later: timedelta, may_still_arrive: bool) -> None:
        assert change(record).may_still_arrive(NOW + later) is may_still_arrive

    @pytest.mark.parametrize(
        ("after", "mark", "protected"), [(OTHER, "x", True), (0, "x", True), (None, "x", False), (OTHER, None, False)]
    )
    def test_what_the_ils_takes_once_at_most(
        self, record: Record, after: int | None, mark: str | None, protected: bool
    ) -> None:
        assert change(record, after=after, last_xact_id=mark).protected is protected

    def test_what_is_written_down_of_a_request(self, proxy: FaultProxy) -> None:
        with gateway_of(proxy.url, "admin", timeout=90.0) as slow:
            until = NOW + timedelta(seconds=90) + ARRIVES_WITHIN
            assert new_sending(slow, NOW) == Sending(NOW, until, None, None)
            assert new_sending(slow, NOW, last_xact_id="", other_fields="x") == Sending(NOW, until, None, "x")
        assert timedelta(minutes=15) == ARRIVES_WITHIN


class TestJudge:
    def test_nothing_is_concluded_about_whom_the_account_cannot_see(self, gateway: Gateway, record: Record) -> None:
        for found in (None, record.replace(usrgroup=None)):
            verdict = judge(gateway, change(record), found, NOW)
            assert (verdict.state, verdict.value) == (StepState.SENDING, None)
            assert "no longer visible" in verdict.reason

    @pytest.mark.parametrize(
        ("after", "mark", "late", "state", "words"),
        [
            (OTHER, "before", False, StepState.SENDING, "the result will be known by"),
            (OTHER, "before", True, StepState.NOT_DONE, "the request never arrived"),
            (OTHER, "another", False, StepState.NOT_DONE, "another user changed this patron's record"),
            (OTHER, "another", True, StepState.NOT_DONE, "another user changed this patron's record"),
            (None, "another", False, StepState.SENDING, "the result will be known by"),
            (None, "another", True, StepState.NOT_DONE, "the request never arrived"),
        ],
    )
    def test_it_is_as_it_was(
        self, judged: Judged, after: int | None, mark: str, late: bool, state: StepState, words: str
    ) -> None:
        verdict = judged({"last_xact_id": mark}, later=LATE * late, after=after)
        assert (verdict.state, verdict.value) == (state, None)
        assert verdict.reason.startswith(words)

    @pytest.mark.parametrize("late", [False, True])
    def test_it_is_as_it_was_meant(self, judged: Judged, late: bool) -> None:
        found = {"usrgroup": OTHER, "last_xact_id": "ours", "last_update_time": NOW + SECOND}
        assert judged(found, later=LATE * late) == ChangeVerdict(StepState.DONE, OTHER)

    @pytest.mark.parametrize(
        ("written", "ours"),
        [
            (None, True),
            (UNTIL, True),
            (UNTIL + timedelta(minutes=2), True),
            (UNTIL + timedelta(minutes=2, seconds=1), False),
        ],
    )
    def test_what_was_written_after_it_can_have_come_in_is_not_ours(
        self, judged: Judged, written: datetime | None, ours: bool
    ) -> None:
        verdict = judged({"usrgroup": OTHER, "last_update_time": written}, later=timedelta(days=1))
        assert verdict.state is (StepState.DONE if ours else StepState.FAILED)
        assert verdict.value == (OTHER if ours else None)

    def test_a_write_is_never_later_than_now_whatever_the_ils_clock_says(self, judged: Judged) -> None:
        found = {"usrgroup": OTHER, "last_update_time": UNTIL + timedelta(hours=1)}
        assert judged(found, later=SECOND) == ChangeVerdict(StepState.DONE, OTHER)

    @pytest.mark.parametrize(
        ("field", "value", "words"),
        [("usrgroup", OTHER, ANOTHERS), ("master_account", 1, ANOTHERS)],
    )
    def test_other_fields_that_differ_are_somebody_elses(
        self, judged: Judged, field: str, value: int, words: str
    ) -> None:
        found = {"day_phone": "555-0100", field: value}
        verdict = judged(found, field=field, after=value)
        assert (verdict.state, verdict.value) == (StepState.FAILED, None)
        assert verdict.reason.startswith(words)
        unknown = judged(found, field=field, after=value, other_fields=None)
        assert unknown.state is StepState.DONE, "an older release wrote nothing down of them"

    def test_a_field_that_the_idl_lacks_is_another_field(self, gateway: Gateway, record: Record) -> None:
        wire, digests = record.to_wire(full=True), set()
        for value in ("a", "b"):
            longer = gateway.decode({"__c": "au", "__p": [*wire["__p"], value]})
            digests.add(digest_of_untouched(longer, "usrgroup"))
        assert len(digests) == 2

    def test_a_late_duplicate_of_a_new_group_leaves_the_lead_flag_ours(self, judged: Judged) -> None:
        """The request for the new group may move the patron once more after the flag was set."""
        found = {"usrgroup": OTHER, "master_account": 1}
        assert judged(found, field="master_account", after=1) == ChangeVerdict(StepState.DONE, 1)

    @pytest.mark.parametrize(
        ("after", "mark", "late", "state", "value"),
        [
            (OTHER, "before", False, StepState.FAILED, None),
            (OTHER, None, False, StepState.SENDING, 1010),
            (OTHER, None, True, StepState.FAILED, None),
            (None, "before", False, StepState.SENDING, 1010),
            (None, "before", True, StepState.FAILED, None),
        ],
    )
    def test_somebody_else_has_moved_them(
        self, judged: Judged, after: int | None, mark: str | None, late: bool, state: StepState, value: int | None
    ) -> None:
        verdict = judged({"usrgroup": 1010}, later=LATE * late, after=after, last_xact_id=mark)
        assert (verdict.state, verdict.value) == (state, value)
        assert verdict.reason.startswith("another user moved the patron to group 1010")
        assert ("the result will be known by" in verdict.reason) is (state is StepState.SENDING)


class TestAlone:
    """The ILS picks a new group's number. A patron who is alone in a different group got the new one."""

    @pytest.mark.parametrize(
        ("members", "alone"),
        [([PATRON], True), ([str(PATRON)], True), ([], True), ([PATRON, 1001], False), ([1001], False)],
    )
    def test_alone(
        self, judged: Judged, sandbox: Sandbox, proxy: FaultProxy, members: list[object], alone: bool
    ) -> None:
        if 1001 in members:
            sandbox._store.update("au", 1001, {"usrgroup": 1100})
        proxy.answer = lambda call: members if call.method == MEMBERS and call.parameters[1] == 1100 else None
        verdict = judged({"usrgroup": 1100}, after=None)
        assert (verdict.state is StepState.DONE) is alone
        assert (verdict.value, verdict.reason) == (1100, verdict.reason if not alone else "")

    def test_after_a_move_by_staff(self, judged: Judged, proxy: FaultProxy) -> None:
        proxy.answer = lambda call: [PATRON] if call.method == MEMBERS else None
        verdict = judged({"usrgroup": 1100}, after=None, seen=OTHER)
        assert (verdict.state, verdict.value) == (StepState.DONE, 1100)
        assert verdict.reason == f"another user moved the patron to group {OTHER}"

    def test_by_somebody_else(self, judged: Judged, proxy: FaultProxy) -> None:
        proxy.answer = lambda call: [PATRON] if call.method == MEMBERS else None
        verdict = judged({"usrgroup": 1100, "day_phone": "555-0100"}, after=None)
        assert (verdict.state, verdict.value) == (StepState.FAILED, None)
        assert verdict.reason.startswith("the record has the new value, but another user")

    def test_a_move_asks_for_nobody(self, judged: Judged, proxy: FaultProxy) -> None:
        judged({"usrgroup": 1100})
        assert MEMBERS not in proxy.seen

    @pytest.mark.parametrize(
        ("members", "others", "code"),
        [
            *((members, [], "not-asked-for") for members in ([PATRON, 99_999], [99_999])),
            *((members, [1001], "not-asked-for") for members in ([PATRON], [])),
            *((members, [], "not-a-list") for members in ("", {}, "1052", ["x"], ["9" * 5000], [None])),
        ],
    )
    def test_members_of_another_group_and_no_list(
        self, judged: Judged, sandbox: Sandbox, proxy: FaultProxy, members: object, others: list[int], code: str
    ) -> None:
        for other in others:
            sandbox._store.update("au", other, {"usrgroup": 1100})
        proxy.answer = lambda call: members if call.method == MEMBERS else None
        with pytest.raises(DataError) as told:
            judged({"usrgroup": 1100}, after=None)
        assert told.value.code == f"members-{code}"
        assert ("a group's members aren't a list" in str(told.value)) is (code == "not-a-list")


class TestPenalties:
    ROWS = tuple(PenaltyRow(id, PATRON, 1, 11, staff, None) for id, staff in ((1, None), (2, None), (3, 7)))

    @pytest.mark.parametrize(
        ("others", "late", "expected"),
        [
            (True, False, ChangeVerdict(StepState.DONE, 2)),
            (True, True, ChangeVerdict(StepState.DONE, 2)),
            (False, False, ChangeVerdict(StepState.SENDING, reason=may_come_in(UNTIL))),
            (False, True, ChangeVerdict(StepState.NOT_DONE, reason=NEVER_ARRIVED)),
        ],
    )
    def test_others_in_force_than_before(self, others: bool, late: bool, expected: ChangeVerdict) -> None:
        penalties = PatronPenalties(11, self.ROWS)
        sending = Sending(NOW, UNTIL, None, "of others" if others else penalties.digest)
        step = JournalStep(1, PATRON, PENALTIES, 2, None, StepState.SENDING, sending=sending)
        assert judge_penalties(step, penalties, NOW + LATE * late) == expected


def look(gateway: Gateway, journal: Journal) -> list[JournalStep]:
    """Check open steps as a run does before it changes the same patrons."""
    return recover(gateway, journal, [SOMEBODY, PATRON])


class TestRecover:
    @pytest.fixture
    def journal(self, tmp_path: Path) -> Journal:
        return journal_in(tmp_path)

    def sent(self, journal: Journal, gateway: Gateway, patron: int = PATRON, after: int | None = OTHER) -> int:
        """Record a step that was sent an hour ago and can be recognized only by its field."""
        (step,) = begun(journal, gateway.url, GROUPS, "move", [StoredStep(patron, "usrgroup", HOME, after)])
        journal.record_sending(step, Sending(NOW - timedelta(hours=1), NOW - timedelta(minutes=44)))
        return step

    def now(self, journal: Journal, entry: int = 1) -> JournalStep:
        (step,) = journal.entry(change_id(journal, entry)).steps
        return step

    def test_other_gateways_are_not_looked_at(self, journal: Journal, gateway: Gateway, proxy: FaultProxy) -> None:
        (step,) = begun(
            journal, "https://ils.example.org", GROUPS, "move", [StoredStep(PATRON, "usrgroup", HOME, OTHER)]
        )
        journal.record_sending(step, Sending(NOW, UNTIL))
        assert look(gateway, journal) == []
        assert RETRIEVE not in proxy.seen

    def test_nor_are_patrons_who_were_not_named(self, journal: Journal, gateway: Gateway, proxy: FaultProxy) -> None:
        self.sent(journal, gateway)
        assert recover(gateway, journal, [SOMEBODY]) == recover(gateway, journal, []) == []
        assert RETRIEVE not in proxy.seen

    @pytest.mark.parametrize(("reaction", "odd"), [("answer", [1]), ("refuse", BROKEN)])
    def test_one_that_cannot_be_read_stops_nobody(
        self, journal: Journal, gateway: Gateway, proxy: FaultProxy, reaction: str, odd: object
    ) -> None:
        self.sent(journal, gateway, SOMEBODY)
        self.sent(journal, gateway)
        is_odd = lambda call: odd if call.method == RETRIEVE and call.parameters[1] == SOMEBODY else None  # noqa: E731
        setattr(proxy, reaction, is_odd)
        assert [step.patron for step in look(gateway, journal)] == [PATRON]
        assert [step.patron for step in journal.open_steps(gateway.url)] == [SOMEBODY]

    def test_an_ils_that_is_away_or_a_session_that_has_ended_stops_it(
        self, journal: Journal, gateway: Gateway, proxy: FaultProxy
    ) -> None:
        with Gateway("http://127.0.0.1:9", token="0" * 32, retries=RetryPolicy(tries=1)) as dead:
            self.sent(journal, dead)
            with pytest.raises(UnreachableError):
                look(dead, journal)
        with gateway.acting_as("0" * 32) as nobody:
            self.sent(journal, nobody)
            with pytest.raises(NoSessionError):
                look(nobody, journal)
        assert self.now(journal).state is self.now(journal, 2).state is StepState.SENDING

    @pytest.mark.parametrize("hidden", [True, False])
    def test_recalculations(
        self, journal: Journal, gateway: Gateway, proxy: FaultProxy, hidden: bool, sandbox: Sandbox
    ) -> None:
        change_rows(sandbox, "DELETE FROM ausp")
        (step,) = begun(journal, gateway.url, GROUPS, "recalculate", [StoredStep(PATRON, PENALTIES, 1, None)])
        journal.record_sending(step, Sending(NOW - timedelta(hours=1), NOW))
        proxy.answer = lambda call: lacking("VIEW_USER") if hidden and call.method == RETRIEVE else None
        ended = look(gateway, journal)
        assert [(it.state, it.value) for it in ended] == ([] if hidden else [(StepState.DONE, 0)])

    def test_a_group_seen_meanwhile_is_remembered_once(
        self, journal: Journal, gateway: Gateway, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (step,) = begun(journal, gateway.url, GROUPS, "remove", [StoredStep(PATRON, "usrgroup", HOME, None)])
        journal.record_sending(step, Sending(NOW, UNTIL))
        written: list[tuple[object, ...]] = []
        record = Journal.record

        def watched(journal: Journal, step: int, state: StepState, **fields: object) -> None:
            written.append((state, fields["value"], str(fields["reason"])[:12]))
            record(journal, step, state, **fields)  # type: ignore[arg-type]  # handed on as they come

        monkeypatch.setattr(Journal, "record", watched)
        for group in (OTHER, OTHER, 1001, HOME):
            sandbox._store.update("au", PATRON, {"usrgroup": group})
            assert look(gateway, journal) == []
            assert [it.id for it in journal.open_steps(gateway.url)] == [step]
        assert written == [(StepState.SENDING, group, "another user") for group in (OTHER, 1001)]
        assert self.now(journal).value == 1001
