"""Sites with a lagging read replica: plans, changes and outcomes reflect the primary's current data."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.desks import desk_of, move
from support.family_moves import (
    ANOTHER,
    ANOTHERS_CARD,
    BROKEN,
    CARD,
    EMPTY,
    HOME,
    NEW_GROUP,
    OTHER,
    OTHERS,
    OTHERS_CARD,
    PATRON,
    QUICK,
    RETRIEVE,
    UPDATE,
    lacking,
)
from support.fault_proxy import FaultProxy, fault_proxy
from support.gateways import client_of, gateway_of
from support.states import state_in
from support.write_log import WriteLog

from evergreen_groups.audit import AuditCriteria
from evergreen_groups.changes import (
    Action,
    Changer,
    Draft,
    PlanRequest,
    StepState,
    over_limit_of,
    recalculable,
    recently_changed_or_unknown,
)
from evergreen_groups.changes.reasons import STALE_READ
from evergreen_groups.client import Client, Plan
from evergreen_groups.errors import PlanError
from evergreen_groups.gateway import TOKEN, Gateway
from evergreen_groups.sandbox import Sandbox

HOMES_CARD = "20000000001051"
VALLEY = 22
FAMILY = (PATRON, ANOTHER, 1051, OTHERS, 1008, 1009, 1001, 1012)
Found = tuple[int, str, int | None]
"""A patron, a field, and its reported value."""


@pytest.fixture
def copied() -> Iterator[Sandbox]:
    """A site whose replica never catches up by itself."""
    with Sandbox(differences=["replica"], replica_delay=math.inf) as sandbox:
        yield sandbox


@pytest.fixture
def gateway(copied: Sandbox) -> Iterator[Gateway]:
    with gateway_of(copied.url, "consortium_staff") as gateway:
        yield gateway


@pytest.fixture
def mover(gateway: Gateway, tmp_path: Path) -> Client:
    return client_of(gateway, tmp_path)


@pytest.fixture
def desk(gateway: Gateway, tmp_path: Path) -> Changer:
    return desk_of(gateway, state_in(tmp_path / "desk"))


def members(draft: Draft, group: int) -> set[int]:
    """Return the group's members before the plan."""
    (found,) = (planned for planned in draft.groups if planned.number == group)
    return {member.id for member in found.members_before}


def by_staff(gateway: Gateway, patron: int, **fields: object) -> None:
    """Change a patron as staff do in the staff client."""
    record = gateway.call("open-ils.actor", RETRIEVE, TOKEN, patron).value
    changed = gateway.decode(record).replace(passwd=None, **fields).to_wire(changed=True)
    gateway.call("open-ils.actor", UPDATE, TOKEN, changed, write=True)


def test_a_plan_starts_from_where_everybody_is_now(mover: Client) -> None:
    assert mover.move([CARD], to=OTHERS_CARD).apply().done
    again = mover.move([CARD], to=OTHERS_CARD)
    assert again.draft.steps == ()
    assert "already in this group (1002)" in again.draft.unchanged[0]
    back = mover.move([CARD], to=HOMES_CARD)
    assert [(step.before, step.after) for step in back.draft.steps] == [(OTHER, HOME)]
    assert PATRON in members(back.draft, OTHER)
    assert PATRON not in members(back.draft, HOME)
    assert back.apply().done


def test_whom_this_journal_has_changed_is_known(mover: Client, gateway: Gateway) -> None:
    """Of these, the panel reads penalties and groups from the primary database."""
    mover.move([CARD], to=OTHERS_CARD).apply()
    mover.changes.recalculate({1042: False})
    found = recently_changed_or_unknown(gateway, mover.state)
    assert (found.patrons, found.recalculated) == ({PATRON, 1042}, {1042})


def test_if_the_journal_cannot_be_read_anyone_may_have_changed(mover: Client, gateway: Gateway) -> None:
    mover.move([CARD], to=OTHERS_CARD).apply()
    path = mover.state.database.path
    assert path is not None
    mover.state.close()
    path.write_bytes(b"not a database " * 1000)
    found = recently_changed_or_unknown(gateway, mover.state)
    assert (found.patrons, found.recalculated) == (None, None)


def test_what_others_have_changed_is_known_as_well(mover: Client, gateway: Gateway) -> None:
    by_staff(gateway, PATRON, usrgroup=OTHER)
    by_staff(gateway, ANOTHER, master_account="t")
    moved = mover.move([CARD], to=HOMES_CARD)
    assert [(step.before, step.after) for step in moved.draft.steps] == [(OTHER, HOME)]
    assert mover.set_lead(ANOTHERS_CARD).draft.steps == ()
    assert len(mover.set_lead(ANOTHERS_CARD, lead=False).draft.steps) == 1


@pytest.mark.long
def test_somebody_alone_since_a_moment_ago_is_left_alone(mover: Client) -> None:
    assert mover.remove([CARD]).apply().done
    again = mover.remove([CARD])
    assert again.draft.steps == ()
    assert "already alone" in again.draft.unchanged[0]
    back = mover.move([CARD], to=HOMES_CARD)
    assert back.apply().done


@pytest.mark.long
def test_a_card_that_has_just_been_issued_is_found(copied: Sandbox, mover: Client) -> None:
    copied._store.insert("ac", {"usr": PATRON, "barcode": "NEW-CARD", "active": "t"})
    plan = mover.move(["NEW-CARD"], to=OTHERS_CARD)
    assert [step.patron_id for step in plan.draft.steps] == [PATRON]


def test_hidden_members_stay_counted(copied: Sandbox, tmp_path: Path) -> None:
    copied._store.update("au", ANOTHER, {"home_ou": 21})
    copied.catch_up()
    with gateway_of(copied.url, "north_manager") as gateway, gateway_of(copied.url, "consortium_staff") as staff:
        client = client_of(gateway, tmp_path)
        by_staff(staff, PATRON, usrgroup=OTHER)
        plan = client.move([HOMES_CARD], to=OTHERS_CARD)
        groups = {group.number: group.before for group in plan.draft.groups if group.before}
        assert (groups[HOME].hidden_ids, groups[OTHER].hidden_ids) == (frozenset({ANOTHER}), frozenset())
        by_staff(staff, ANOTHER, usrgroup=OTHER)
        plan = client.move([HOMES_CARD], to=OTHERS_CARD)
        groups = {group.number: group.before for group in plan.draft.groups if group.before}
        assert groups[OTHER].hidden_ids == {ANOTHER}


@pytest.mark.long
def test_a_desks_plan_is_held_against_what_is_there_now(desk: Changer, gateway: Gateway) -> None:
    """The replica's data would refuse the second plan and accept the first, outdated one."""
    outdated = desk.propose(move(PATRON, to=OTHERS)).stored
    made = desk.apply(desk.propose(move(ANOTHER, to=OTHERS)).stored.id, "a")
    with pytest.raises(PlanError, match=f"the members of group {OTHER} have changed"):
        desk.apply(outdated.id, "b")
    again = desk.apply(desk.propose(move(PATRON, to=OTHERS)).stored.id, "c")
    for change in (made, again):
        assert [step.state for step in desk.change(change).entry.steps] == [StepState.DONE]


@pytest.mark.long
def test_undo_at_a_desk_takes_back_what_the_copy_does_not_know(desk: Changer) -> None:
    made = desk.apply(desk.propose(move(PATRON, ANOTHER, to=OTHERS)).stored.id, "a")
    undone = desk.undo(made, "b")
    assert [step.state for step in desk.change(undone).entry.steps] == [StepState.DONE] * 2
    proposed = desk.propose(PlanRequest(Action.UNDO, change=undone))
    assert [step.after for step in proposed.draft.steps] == [OTHER] * 2


@pytest.mark.long
def test_records_decide_who_is_alone_when_the_replica_disagrees(copied: Sandbox, tmp_path: Path) -> None:
    """A patron was in the new group when the replica was updated, and has left since."""
    with ExitStack() as stack:
        proxy = stack.enter_context(fault_proxy(copied.url))
        staff = stack.enter_context(gateway_of(copied.url, "admin"))
        client = client_of(stack.enter_context(gateway_of(proxy.url, "consortium_staff", retries=QUICK)), tmp_path)

        def joined(call: object) -> None:
            if proxy.seen[-1] == NEW_GROUP:
                (row,) = copied._store.rows("au", {"id": PATRON})
                copied._store.update("au", ANOTHER, {"usrgroup": row["usrgroup"]})
                copied.catch_up()
                copied._store.update("au", ANOTHER, {"usrgroup": HOME})

        proxy.garble = lambda call: EMPTY if call.method == NEW_GROUP else None
        proxy.carried_out = lambda call, answer: joined(call)
        assert client.remove([CARD]).apply().done
        assert proxy.seen.count(NEW_GROUP) == 1
        assert staff.reads_replicas


@pytest.mark.parametrize("hidden", ["", "record", "library"])
def test_one_who_cannot_be_read_may_still_be_there(copied: Sandbox, tmp_path: Path, hidden: str) -> None:
    """The replica still has two others in the new group; only one of them is known to have left."""
    with ExitStack() as stack:
        proxy = stack.enter_context(fault_proxy(copied.url))
        account = "north_manager" if hidden == "library" else "consortium_staff"
        client = client_of(stack.enter_context(gateway_of(proxy.url, account, retries=QUICK)), tmp_path)
        elsewhere = {"home_ou": VALLEY} if hidden == "library" else {}

        def joined(call: object) -> None:
            if proxy.seen[-1] == NEW_GROUP:
                (row,) = copied._store.rows("au", {"id": PATRON})
                for patron in (ANOTHER, OTHERS):
                    copied._store.update("au", patron, {"usrgroup": row["usrgroup"]})
                copied._store.update("au", OTHERS, elsewhere)
                copied.catch_up()
                for patron, home in ((ANOTHER, HOME), (OTHERS, OTHER)):
                    copied._store.update("au", patron, {"usrgroup": home})

        proxy.garble = lambda call: EMPTY if call.method == NEW_GROUP else None
        proxy.carried_out = lambda call, answer: joined(call)
        if hidden == "record":
            proxy.answer = lambda call: (
                lacking("VIEW_USER") if call.method.startswith(RETRIEVE) and call.parameters[1] == OTHERS else None
            )
        (step,) = client.remove([CARD]).apply().steps
        assert step.state is (StepState.SENDING if hidden else StepState.DONE)


def test_a_member_whom_the_replica_does_not_have_yet_is_no_contradiction(copied: Sandbox, tmp_path: Path) -> None:
    with ExitStack() as stack:
        proxy = stack.enter_context(fault_proxy(copied.url))
        client = client_of(stack.enter_context(gateway_of(proxy.url, "consortium_staff", retries=QUICK)), tmp_path)

        def joins(call: object) -> None:
            if proxy.seen[-1] == NEW_GROUP:
                copied.catch_up()
                (row,) = copied._store.rows("au", {"id": PATRON})
                copied._store.update("au", ANOTHER, {"usrgroup": row["usrgroup"]})

        proxy.garble = lambda call: EMPTY if call.method == NEW_GROUP else None
        proxy.carried_out = lambda call, answer: joins(call)
        (step,) = client.remove([CARD]).apply().steps
        assert step.state is StepState.SENDING
        assert step.reason.startswith("another user moved the patron to group")


@pytest.mark.long
def test_penalties_of_elsewhere_are_not_said_to_be_as_they_were(copied: Sandbox, tmp_path: Path) -> None:
    """An account in the North can read the Valley's penalties only through pcrud, which may be stale."""
    (staff,) = copied._store.rows("au", {"usrname": "consortium_staff"})
    copied._store.update("au", staff["id"], {"home_ou": 2})
    copied._store.insert("pgpt", {"org_unit": 3, "grp": 1, "penalty": 1, "threshold": "5.00"})
    copied.catch_up()
    with gateway_of(copied.url, "consortium_staff") as gateway:
        client = client_of(gateway, tmp_path)
        findings = recalculable(client.audit(AuditCriteria()))
        outcome = client.changes.recalculate(over_limit_of(findings)).steps
    libraries = [finding.member.patron.home_library.id for finding in findings]
    valley = [one for one, library in zip(outcome, libraries, strict=True) if library in (3, 21, 22, 23)]
    assert valley
    assert {(one.state, one.resolved, one.reason) for one in valley} == {(StepState.DONE, False, STALE_READ)}
    assert {one.resolved for one in outcome if one not in valley} == {True}


# -- any changes, with the replica catching up at any time -------------------------------------------------------------

patrons = st.sampled_from(FAMILY)
actions = st.one_of(
    st.tuples(st.just("move"), st.lists(patrons, min_size=1, max_size=2, unique=True), patrons),
    st.tuples(st.just("remove"), st.lists(patrons, min_size=1, max_size=2, unique=True), st.booleans()),
    st.tuples(st.just("merge"), patrons, patrons),
    st.tuples(st.just("lead"), patrons, st.booleans()),
    st.tuples(st.just("undo"), st.integers(1, 6), st.none()),
    st.tuples(st.just("by staff"), patrons, patrons),
)
courses = st.lists(
    st.tuples(actions, st.sampled_from(["answered", "lost", "cut off"]), st.booleans()), min_size=1, max_size=8
)


class Course:
    """A sequence of changes at a site with a replica, checked against the primary."""

    def __init__(self, sandbox: Sandbox, proxy: FaultProxy, client: Client, staff: Gateway) -> None:
        self._sandbox = sandbox
        self._proxy = proxy
        self._client = client
        self._staff = staff
        self.log = WriteLog(sandbox)
        proxy.carried_out = self.log.carried_out

    def _watch(self, planned: set[int]) -> None:
        """Reset the log, because changes by staff bypass the proxy.

        Watch the ``planned`` patrons too. An undo may move patrons who share no group with the family any more, and the
        log would report both fields of an unwatched patron as written.
        """
        rows = self._sandbox._store.rows
        groups = {row["usrgroup"] for patron in FAMILY for row in rows("au", {"id": patron})}
        self.log.watch(sorted({row["id"] for group in groups for row in rows("au", {"usrgroup": group})} | planned))

    def now(self) -> dict[int, tuple[int, bool]]:
        rows = (row for patron in FAMILY for row in self._sandbox._store.rows("au", {"id": patron}))
        return {row["id"]: (row["usrgroup"], row["master_account"] == "t") for row in rows}

    def make(self, action: tuple[str, object, object], fate: str) -> None:
        kind, who, more = action
        now = self.now()
        if kind == "by staff":
            by_staff(self._staff, who, usrgroup=now[more][0])
            return
        plan = self._plan(kind, who, more)
        if plan is None:
            return
        fields = {"usrgroup": 0, "master_account": 1}
        for step in plan.draft.steps:
            if step.patron_id in now:
                assert step.before == int(now[step.patron_id][fields[step.field]])
        self._complete(kind, who, more, plan.draft, now)
        self._watch({step.patron_id for step in plan.draft.steps})
        found = self._recovered(plan) if fate == "cut off" and len(plan.draft.steps) == 1 else self._applied(plan, fate)
        assert self.log.without_effect == []
        assert len(self.log.writes) == len(plan.draft.steps)
        then = self.now()
        for patron, field, value in found:
            if patron in then:
                assert value == int(then[patron][fields[field]])

    def _applied(self, plan: Plan, fate: str) -> list[Found]:
        self._proxy.garble = lambda call: EMPTY if fate == "lost" and call.method in (UPDATE, NEW_GROUP) else None
        outcome = plan.apply()
        self._proxy.garble = lambda call: None
        assert outcome.done, outcome
        return [(one.step.patron_id, one.step.field, one.value) for one in outcome.steps]

    def _recovered(self, plan: Plan) -> list[Found]:
        """Cut the network once the change has been sent, and let the next run recover it."""
        self._proxy.seen.clear()
        self._proxy.garble = lambda call: EMPTY if call.method in (UPDATE, NEW_GROUP) else None
        self._proxy.refuse = lambda call: (
            BROKEN if call.method == RETRIEVE and {UPDATE, NEW_GROUP} & set(self._proxy.seen) else None
        )
        (step,) = plan.apply().steps
        assert step.state is StepState.SENDING
        self._proxy.garble = self._proxy.refuse = lambda call: None
        recovered = self._client.changes.recover()
        assert {one.state for one in recovered} == {StepState.DONE}
        return [(one.patron, one.field, one.value) for one in recovered]

    def _plan(self, kind: str, who: object, more: object) -> object:
        client = self._client
        card = {patron: f"2000000000{patron}" for patron in FAMILY}
        match kind:
            case "move":
                return client.move([card[one] for one in who], to=card[more])
            case "remove":
                return client.remove([card[one] for one in who], lead=more)
            case "merge":
                return client.merge(card[who], to=card[more])
            case "lead":
                return client.set_lead(card[who], lead=more)
            case _:
                return self._undo(who)

    def _undo(self, which: int) -> Plan | None:
        """Plan an undo. Return None if a later change leaves nothing to undo."""
        entries = self._client.changes.entries()
        if not entries:
            return None
        try:
            return self._client.undo(entries[-which % len(entries)].id)
        except PlanError as error:
            if error.code in ("already-undone", "nothing-to-undo"):
                return None
            raise

    def _complete(self, kind: str, who: object, more: object, draft: Draft, now: dict[int, tuple[int, bool]]) -> None:
        """Check that the plan includes every patron who needs the change."""
        planned = {(step.patron_id, step.field) for step in draft.steps}
        if kind == "move":
            assert planned == {(one, "usrgroup") for one in who if now[one][0] != now[more][0]}
        elif kind == "lead":
            assert planned == ({(who, "master_account")} if now[who][1] is not more else set())
        elif kind == "merge":
            group = now[who][0]
            everybody = {row["id"] for row in self._sandbox._store.rows("au", {"usrgroup": group, "deleted": "f"})}
            assert {id for id, _field in planned} == (everybody if group != now[more][0] else set())


@pytest.fixture(scope="module")
def behind() -> Iterator[tuple[Sandbox, FaultProxy, Gateway, Gateway]]:
    with ExitStack() as stack:
        sandbox = stack.enter_context(Sandbox(differences=["replica"], replica_delay=math.inf))
        proxy = stack.enter_context(fault_proxy(sandbox.url))
        staff = stack.enter_context(gateway_of(sandbox.url, "admin"))
        yield sandbox, proxy, staff, stack.enter_context(gateway_of(proxy.url, "consortium_staff", retries=QUICK))


@pytest.mark.long
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(course=courses)
@example(  # the last undo moves two patrons who have no one of the family with them
    course=[
        (("merge", 1012, 1052), "answered", False),
        (("undo", 1, None), "answered", False),
        (("move", [1012], 1052), "answered", False),
        (("undo", 2, None), "answered", False),
    ]
)
def test_nothing_is_done_twice_or_said_wrongly(
    course: list[tuple[tuple[str, object, object], str, bool]], behind: tuple[Sandbox, FaultProxy, Gateway, Gateway]
) -> None:
    sandbox, proxy, staff, gateway = behind
    sandbox.reset()
    for one in (staff, gateway):
        one.logout()
    with TemporaryDirectory() as directory:
        client = client_of(gateway, Path(directory))
        whole = Course(sandbox, proxy, client, staff)
        for action, fate, catches_up in course:
            whole.make(action, fate)
            if catches_up:
                sandbox.catch_up()
            assert client.changes.recover() == []
            assert client.changes.open_steps() == []
