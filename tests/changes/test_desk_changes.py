"""Plans at the desk: stored, applied once per key, refused when they no longer fit, and undone."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from threading import Barrier

import pytest
from sqlalchemy import select
from support.change_ids import UNKNOWN, number_of
from support.circulators import change_rows
from support.desks import ANOTHER as ANOTHER_CLERK
from support.desks import ONE, desk_of, move, remove
from support.family_moves import ANOTHER, HOME, NEW_GROUP, OTHER, OTHERS, PATRON, UPDATE, cut_off_at, later, value_of
from support.fault_proxy import FaultProxy, HeldCalls
from support.gateways import gateway_of

from evergreen_groups.changes import Action, Changer, Operator, PlanRequest, StepState
from evergreen_groups.changes.plans import claim
from evergreen_groups.errors import EvergreenGroupsError, NotFoundError, PlanError
from evergreen_groups.gateway import Gateway, RetryPolicy
from evergreen_groups.ils import ReferenceData
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import PolicySettings
from evergreen_groups.state import State, prune, schema
from evergreen_groups.state.retention import forget

pytestmark = pytest.mark.long  # too slow for a plain pytest run

SIBLING, PARENT, STRANGER = ANOTHER, 1051, OTHERS
THIRD = 1001
WRITES = (UPDATE, NEW_GROUP)


@pytest.fixture
def gateway(proxy: FaultProxy) -> Iterator[Gateway]:
    with gateway_of(proxy.url, "consortium_staff", retries=RetryPolicy(tries=1)) as gateway:
        yield gateway


@pytest.fixture
def desk(gateway: Gateway, state: State) -> Changer:
    return desk_of(gateway, state)


@pytest.fixture
def another(gateway: Gateway, state: State) -> Changer:
    """The desk of another staff user."""
    return desk_of(gateway, state, ANOTHER_CLERK)


def refusal(call: partial[object]) -> str:
    """Return the code of the error that the call raises."""
    with pytest.raises(EvergreenGroupsError) as caught:
        call()
    return caught.value.code


def plan_of(desk: Changer, request: PlanRequest | None = None) -> str:
    return desk.propose(request or move(PATRON, to=STRANGER)).stored.id


def applied(desk: Changer, request: PlanRequest, key: str = "k") -> int:
    return desk.apply(plan_of(desk, request), key)


def writes(proxy: FaultProxy) -> int:
    return sum(method in WRITES for method in proxy.seen)


class TestOnce:
    def test_it_is_applied_once_and_gives_the_same_answer_again(
        self, desk: Changer, gateway: Gateway, state: State, proxy: FaultProxy, sandbox: Sandbox
    ) -> None:
        proposed = desk.propose(move("20000000001052", to="20000000001007"))
        assert proposed.draft.steps[0].patron_id == PATRON
        assert (writes(proxy), value_of(sandbox)) == (0, HOME)
        with desk.begin(proposed.stored.id, "key") as begun:
            change = begun.id
            assert (writes(proxy), value_of(sandbox)) == (0, HOME)
            begun.apply()
        assert value_of(sandbox) == OTHER
        # Any session of the same staff user gets the same change, even after a restart.
        again = desk_of(gateway, State(state.directory, state.address))
        assert [it.apply(proposed.stored.id, "key") for it in (desk, again)] == [change, change]
        again.state.close()
        assert writes(proxy) == 1
        seen = desk.change(change)
        assert (seen.is_done, seen.is_own, seen.is_under_way) == (True, True, False)
        assert (seen.entry.operator.staff, seen.entry.operator.workstation) == (ONE, 3)

    def test_a_refused_one_leaves_its_key_and_nothing_in_the_journal(self, desk: Changer, sandbox: Sandbox) -> None:
        plan = plan_of(desk)
        sandbox._store.update("au", PATRON, {"usrgroup": THIRD})
        assert refusal(partial(desk.apply, plan, "k")) == "plan-outdated"
        assert desk.recent() == []
        assert value_of(sandbox) == THIRD
        assert number_of(applied(desk, move(PATRON, to=STRANGER))) == 1

    def test_two_requests_at_once_are_one_change(self, desk: Changer, proxy: FaultProxy) -> None:
        plan, together = plan_of(desk), Barrier(2)

        def apply(key: str) -> int | str:
            together.wait(60)
            try:
                return desk.apply(plan, key)
            except EvergreenGroupsError as error:
                return error.code

        with ThreadPoolExecutor(2) as threads:
            first, second = threads.map(apply, ["k", "k"])
            assert first == second
            assert number_of(first) == 1
            plan = plan_of(desk, move(SIBLING, to=STRANGER))
            change, refused = sorted(threads.map(apply, ["m", "n"]))
            assert (number_of(change), refused) == (2, "plan-applied-before")
        assert [number_of(change.entry.id) for change in desk.recent()] == [2, 1]
        assert writes(proxy) == 2

    def test_one_key_for_two_plans_at_once_is_one_change(
        self, desk: Changer, proxy: FaultProxy, sandbox: Sandbox
    ) -> None:
        """No lease separates changes of different patrons, so the database has to."""
        plans, together = [plan_of(desk, remove(patron)) for patron in (PATRON, STRANGER)], Barrier(2)

        def apply(plan: str) -> str:
            together.wait(60)
            try:
                return str(desk.apply(plan, "k"))
            except PlanError as error:
                return error.code

        with ThreadPoolExecutor(2) as threads:
            found = sorted(threads.map(apply, plans))
        assert found[1] == "key-of-another-change"
        assert writes(proxy) == 1
        assert [it.entry.id for it in desk.recent()] == [found[0]]
        assert (value_of(sandbox) == HOME) is not (value_of(sandbox, STRANGER) == OTHER)

    def test_the_database_takes_a_key_only_once(self, desk: Changer, state: State) -> None:
        change, plan = applied(desk, move(PATRON, to=STRANGER)), plan_of(desk, remove(SIBLING))
        with state.database.writing() as connection, pytest.raises(PlanError) as refused:
            claim(connection, plan, "k", change)
        assert refused.value.code == "plan-applied-before"

    def test_a_recalculation_is_planned_and_applied_as_well(self, desk: Changer, proxy: FaultProxy) -> None:
        plan = plan_of(desk, PlanRequest(Action.RECALCULATE, (1030,)))
        change = desk.apply(plan, "k")
        assert desk.apply(plan, "k") == change
        assert desk.change(change).is_done
        assert proxy.seen.count("open-ils.actor.user.penalties.update_at_home") == 1


class TestTwoDesks:
    """A second desk acts while the first one is sending."""

    @pytest.fixture
    def write(self, proxy: FaultProxy) -> Iterator[HeldCalls]:
        """The first write, which is held back."""
        held = HeldCalls(proxy, lambda call: call.method in WRITES, most=1)
        yield held
        held.let_go()

    def test_at_different_families_they_do_not_wait(self, desk: Changer, another: Changer, write: HeldCalls) -> None:
        with ThreadPoolExecutor(1) as threads:
            first = threads.submit(desk.apply, plan_of(desk), "k")
            write.wait_for()
            change = applied(another, move(1030, to=1039))
            assert another.change(change).is_done
            seen = desk.recent()
            assert [(number_of(it.entry.id), it.is_under_way, it.is_done) for it in seen] == [(1, True, False)]
            assert not first.done()
            write.let_go()
            assert number_of(first.result(60)) == 1

    def test_at_the_same_family_the_second_waits_and_is_told(
        self, desk: Changer, another: Changer, write: HeldCalls, proxy: FaultProxy
    ) -> None:
        plan, others = plan_of(desk), plan_of(another, move(1001, to=STRANGER))
        with ThreadPoolExecutor(2) as threads:
            first = threads.submit(desk.apply, plan, "k")
            write.wait_for()
            assert refusal(partial(another.apply, others, "k", timeout=0.0)) == "others-changing"
            (under_way,) = (seen.entry.id for seen in desk.recent())
            assert refusal(partial(another.undo, under_way, "u")) == "undo-of-another"
            assert refusal(partial(desk.undo, under_way, "u", timeout=0.0)) == "undo-too-early"
            second = threads.submit(another.apply, others, "k", timeout=60.0)
            write.let_go()
            assert number_of(first.result(60)) == 1
            with pytest.raises(PlanError) as caught:
                second.result(60)
        assert caught.value.code == "plan-outdated"
        assert writes(proxy) == 1


class TestUndoneTwiceAtOnce:
    @pytest.fixture
    def left_open(self, desk: Changer, proxy: FaultProxy) -> int:
        """A change whose outcome isn't known yet."""
        plan = plan_of(desk)
        cut_off_at(proxy, UPDATE)
        change = desk.apply(plan, "k")
        proxy.heal()
        assert [step.state for step in desk.entry(change).steps] == [StepState.SENDING]
        return change

    @pytest.mark.parametrize("servers", [1, 2])
    def test_the_second_waits_for_the_answer_to_the_first(
        self, gateway: Gateway, state: State, proxy: FaultProxy, sandbox: Sandbox, left_open: int, servers: int
    ) -> None:
        """The second undo starts while the first waits for a slow ILS to report the outcome of the original change."""
        with State(state.directory, state.address) as own, ThreadPoolExecutor(2) as threads:
            desks = [desk_of(gateway, state), desk_of(gateway, own if servers == 2 else state)]
            for desk in desks:  # log in first, so that the next call is the one under test
                assert desk.recent()
            held = HeldCalls(proxy, lambda call: "retrieve" in call.method, most=1)
            first = threads.submit(desks[0].undo, left_open, "u", timeout=60.0)
            held.wait_for()
            second = threads.submit(desks[1].undo, left_open, "u", timeout=60.0)
            with pytest.raises(TimeoutError):
                second.result(timeout=0.3)
            held.let_go()
            assert first.result(60) == second.result(60)
        assert value_of(sandbox) == HOME
        assert proxy.seen.count(UPDATE) == 2


class TestNoLongerFits:
    """The plan is to move PATRON, or PARENT, into STRANGER's group."""

    @pytest.fixture
    def state(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
        """A state in a file. Whether a plan fits depends only on the ILS, so one engine is enough."""
        with State(tmp_path_factory.mktemp("state")) as state:
            yield state

    @pytest.mark.parametrize(
        ("patron", "changes", "says"),
        [
            (PATRON, {"usrgroup": THIRD}, f"patron {PATRON} is now in group {THIRD}"),
            (PATRON, {"master_account": True}, f"patron {PATRON} is now group lead"),
            (PATRON, {"deleted": True}, f"patron {PATRON} was deleted"),
            (SIBLING, {"usrgroup": OTHER}, f"the members of group {OTHER} have changed"),
            (1008, {"usrgroup": 5000}, f"the members of group {OTHER} have changed"),
            (1008, {"deleted": True}, f"the members of group {OTHER} have changed"),
            (PARENT, {"master_account": False}, f"patron {PARENT} is no longer group lead"),
        ],
    )
    def test_each_way(
        self, desk: Changer, sandbox: Sandbox, proxy: FaultProxy, patron: int, changes: dict[str, object], says: str
    ) -> None:
        plan = plan_of(desk, move(PARENT if patron == PARENT else PATRON, to=STRANGER))
        sandbox._store.update("au", patron, changes)
        with pytest.raises(PlanError) as caught:
            desk.apply(plan, "k")
        assert (caught.value.code, caught.value.values) == ("plan-outdated", {"differences": (says,)})
        assert writes(proxy) == 0

    def test_what_is_owed_and_whoever_else_is_left_behind_are_no_reason(self, desk: Changer, sandbox: Sandbox) -> None:
        plan = plan_of(desk)
        change_rows(sandbox, "UPDATE mbts SET balance_owed = '99.00', total_owed = '99.00'")
        sandbox._store.update("au", SIBLING, {"usrgroup": THIRD})
        desk.apply(plan, "k")
        assert value_of(sandbox) == OTHER

    def test_whoever_came_to_the_group_that_is_merged_would_be_left_behind(
        self, desk: Changer, sandbox: Sandbox, proxy: FaultProxy
    ) -> None:
        plan = plan_of(desk, PlanRequest(Action.MERGE, (PATRON,), target=STRANGER))
        sandbox._store.update("au", 1001, {"usrgroup": HOME})
        with pytest.raises(PlanError, match=f"the members of group {HOME} have changed"):
            desk.apply(plan, "k")
        # The patron moves from one of the plan's groups to the other, so the combined members stay the same.
        sandbox._store.update("au", 1001, {"usrgroup": THIRD})
        plan = plan_of(desk, PlanRequest(Action.MERGE, (PATRON,), target=STRANGER))
        sandbox._store.update("au", 1008, {"usrgroup": HOME})
        changed = f"the members of group {HOME} have changed; the members of group {OTHER} have changed"
        with pytest.raises(PlanError, match=changed):
            desk.apply(plan, "k")
        assert writes(proxy) == 0

    @pytest.mark.parametrize(
        ("left", "came"), [([], [1013]), ([1027], []), ([1027], [1013]), ([1027], [1040])], ids=str
    )
    def test_hidden_members(
        self, proxy: FaultProxy, state: State, sandbox: Sandbox, left: list[int], came: list[int]
    ) -> None:
        """Notice members who leave or join, even if one replaces another. 1013 and 1027 are hidden from the account."""
        with gateway_of(proxy.url, "north_manager") as gateway:
            desk = desk_of(gateway, state)
            first, second = plan_of(desk, move(1001, to=1026)), plan_of(desk, move(1002, to=1026))
            desk.apply(first, "k")
            sandbox._store.update("au", 1001, {"usrgroup": 1001})  # restored, so that the second plan fits again
            for patrons, group in ((left, 5000), (came, 1006)):
                for patron in patrons:
                    sandbox._store.update("au", patron, {"usrgroup": group})
            with pytest.raises(PlanError, match="the members of group 1006 have changed"):
                desk.apply(second, "m")
            for patron, group in ((1027, 1006), (1040, 1011), (1013, 1003)):
                sandbox._store.update("au", patron, {"usrgroup": group})
            desk.apply(second, "m")

    def test_whoever_approves_must_see_its_patrons(self, desk: Changer, proxy: FaultProxy, state: State) -> None:
        plan = plan_of(desk, move(1012, to=1026))
        operator = Operator("desk", staff=ONE, approved_by=ANOTHER_CLERK)
        with gateway_of(proxy.url, "north_manager") as gateway:
            supervisor = Changer(gateway, state, operator, ReferenceData(PolicySettings()))
            assert refusal(partial(supervisor.apply, plan, "k")) == "permission-denied"


class TestUndo:
    def test_what_never_was(self, desk: Changer, state: State, sandbox: Sandbox) -> None:
        with gateway_of(sandbox.url, "consortium_staff") as elsewhere:
            change = applied(desk_of(elsewhere, state), move(PATRON, to=STRANGER))
        for id in ("", UNKNOWN, change):  # the last one belongs to another gateway
            with pytest.raises(NotFoundError):
                desk.undo(id, "u")


class TestPast:
    def test_recent_are_ones_own_of_the_last_days(
        self, desk: Changer, another: Changer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        applied(desk, move(PATRON, to=STRANGER))
        applied(another, remove(SIBLING))
        later(monkeypatch, days=6)
        applied(desk, remove(1001), "l")
        assert [number_of(it.entry.id) for it in desk.recent()] == [3, 1]
        later(monkeypatch, days=8)
        assert [number_of(it.entry.id) for it in desk.recent()] == [3]

    def test_ones_own(self, desk: Changer, another: Changer) -> None:
        change = applied(desk, move(PATRON, to=STRANGER))
        assert desk.own(change) == desk.recent()[0]
        with pytest.raises(NotFoundError):
            another.own(change)

    def test_who_may_undo(self, gateway: Gateway, desk: Changer, another: Changer, state: State) -> None:
        id = applied(desk, move(PATRON, to=STRANGER))
        supervisor = desk_of(gateway, state, ANOTHER_CLERK, may_undo_others=True)
        assert [it.may_undo(it.change(id)) for it in (desk, another, supervisor)] == [True, False, True]
        under_way = replace(desk.change(id), is_under_way=True)
        assert not any(it.may_undo(under_way) for it in (desk, another, supervisor))

    def test_a_groups_past(self, desk: Changer, another: Changer) -> None:
        first = applied(desk, move(PATRON, to=STRANGER))
        second = applied(another, move(1001, to=STRANGER))
        third = desk.undo(first, "u")
        assert [it.entry.id for it in another.of_group(OTHER)] == [third, second, first]
        assert [it.entry.id for it in another.of_group(HOME)] == [third, first]
        assert [it.entry.id for it in another.of_group(THIRD)] == [second]
        assert another.of_group(4711) == []
        lead = applied(desk, PlanRequest(Action.LEAD, (PATRON,)), "l")
        assert [it.entry.id for it in another.of_group(HOME, {PATRON})] == [lead, third, first]

    def test_only_what_is_about_visible_patrons(self, desk: Changer, proxy: FaultProxy, state: State) -> None:
        both, alone = applied(desk, move(1012, 1040, to=1026)), applied(desk, remove(1027), "l")
        with gateway_of(proxy.url, "north_manager") as gateway:
            past = desk_of(gateway, state, ANOTHER_CLERK)
            (seen,) = past.of_group(1006)
            assert (seen.entry.id, [step.patron for step in seen.entry.steps]) == (both, [1040])
            assert (seen.hidden_step_count, seen.is_done) == (1, False)
            assert past.change(both) == seen
            with pytest.raises(NotFoundError):
                past.change(alone)


class TestKept:
    def test_nothing_but_numbers(self, desk: Changer, state: State, sandbox: Sandbox) -> None:
        desk.apply(plan_of(desk, move("20000000001052", to="20000000001007")), "k")
        plan_of(desk, PlanRequest(Action.MERGE, ("20000000001051",), target="20000000001001"))
        with state.database.reading() as connection:
            kept = [
                str(row).encode()
                for table in schema.metadata.sorted_tables
                for row in connection.execute(select(table))
            ]
        if state.database.path is not None:
            state.close()
            kept += [path.read_bytes() for path in state.directory.rglob("*") if path.is_file()]
        content = b"".join(kept)
        assert b"1052" in content
        rows = [
            row for id in (PATRON, SIBLING, PARENT, STRANGER, 1001) for row in sandbox._store.rows("au", {"id": id})
        ]
        names = {str(row[name]) for row in rows for name in ("family_name", "first_given_name", "usrname", "email")}
        for word in {*names, "2000000000"} - {"None", ""}:
            assert word.encode() not in content

    def test_plans_that_name_a_patron_are_forgotten(self, desk: Changer, state: State) -> None:
        merge = plan_of(desk, PlanRequest(Action.MERGE, (1001,), target=PARENT))  # as a member of the target
        moved, others = plan_of(desk), plan_of(desk, remove(1030))
        desk.apply(moved, "k")
        forget(state.database, PATRON)
        for plan in (merge, moved):
            assert refusal(partial(desk.apply, plan, "k")) == "no-such-plan"
        desk.apply(others, "k")

    def test_an_applied_plan_whose_change_was_forgotten_is_not_applied_again(
        self, desk: Changer, state: State, proxy: FaultProxy
    ) -> None:
        plan = plan_of(desk)
        change = desk.apply(plan, "k")
        with state.database.writing() as connection:
            connection.execute(schema.changes.delete().where(schema.changes.c.id == number_of(change)))
        assert refusal(partial(desk.apply, plan, "k")) == "plan-applied-before"
        assert writes(proxy) == 1

    def test_old_ones_are_removed(self, desk: Changer, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
        def count() -> int:
            with state.database.reading() as connection:
                return len(connection.execute(select(schema.plans.c.id)).all())

        desk.apply(plan_of(desk), "k")
        plan_of(desk, remove(1030))
        later(monkeypatch, days=2)
        plan_of(desk, remove(SIBLING))
        assert count() == 2, "what nobody agreed to is removed with the next plan"
        for days, left in ((6, 2), (8, 1), (9.1, 0)):
            prune(
                state.database,
                {"history": 400, "journal": 730, "events": 90, "follow-ups": 400},
                datetime.now(UTC) + timedelta(days=days),
            )
            assert count() == left
