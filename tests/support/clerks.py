"""Two clerks who change groups at random over a bad network, and what must be true in the end.

The model is simple: a patron is in a group, as its lead or not, and each done step of the journal has changed one of
the two, once.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

from faults.stores import Stores
from sqlalchemy import select
from support.change_ids import number_of
from support.desks import ANOTHER, ONE, desk_of
from support.fault_proxy import Call, Fault, FaultProxy, fault_proxy
from support.gateways import gateway_of
from support.movers import PATRONS
from support.writes import RecordOfWrites, done_steps, of_patron

from evergreen_groups.changes import (
    Action,
    DeskChanges,
    Journal,
    JournalEntry,
    PlanRequest,
    StepState,
    recover_by_reading,
)
from evergreen_groups.changes.plans import StoredPlan
from evergreen_groups.errors import BusyError, DataError, GatewayError, NotFoundError, PlanError
from evergreen_groups.gateway import Gateway, RetryPolicy
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.state import State, schema
from evergreen_groups.state.database import Database

UPDATE, NEW_GROUP = "open-ils.actor.patron.update", "open-ils.actor.usergroup.new"
OF_UPDATES = (
    Fault.DROP_REQUEST,
    Fault.DROP_ANSWER,
    Fault.HELD_REQUEST,
    Fault.REQUEST_TWICE,
    Fault.REQUEST_REPEATED,
)
# A removal that the network sends twice is two removals; nothing can prevent that.
OF_REMOVALS = (Fault.DROP_REQUEST, Fault.DROP_ANSWER, Fault.HELD_REQUEST)
OF_READS = (Fault.DROP_REQUEST, Fault.DROP_ANSWER)
EXPECTED = (PlanError, BusyError, NotFoundError, DataError, GatewayError)
SEQUENCES_OF_A_STATE = 25


class Network:
    """Random faults; none while ``quiet``."""

    def __init__(self, proxy: FaultProxy) -> None:
        self._proxy = proxy
        self._lock = threading.Lock()
        self.chance = random.Random()
        self.quiet = True
        proxy.decide = self._decide

    def _decide(self, call: Call) -> Fault:
        with self._lock:
            if self.quiet or not call.method:
                return Fault.NONE
            kinds: Sequence[Fault] = {UPDATE: OF_UPDATES, NEW_GROUP: OF_REMOVALS}.get(call.method, OF_READS)
            often = 0.02 if kinds is OF_READS else 0.35
            return self.chance.choice(kinds) if self.chance.random() < often else Fault.NONE

    def let_go(self) -> None:
        """Deliver the requests held back."""
        self._proxy.let_go()


class Clerk:
    """One of the two clerks: what they requested under which keys, and the responses."""

    def __init__(self, desk: DeskChanges, chance: random.Random) -> None:
        self.desk = desk
        self._chance = chance
        self._plans: list[StoredPlan] = []
        self._keys: dict[str, StoredPlan | str] = {}  # by key: the plan, or the change that it undoes
        self.answers: dict[str, str] = {}

    def act(self, changes: Sequence[str]) -> None:
        """Do a random action. ``changes`` are the existing ones, of either clerk."""
        acts: list[Callable[[], None]] = [self._apply_a_new_one] * 5 + [self._apply_an_old_one, self._ask_again]
        acts += [lambda: self._undo(self._chance.choice(changes)), self._look] if changes else []
        with suppress(EXPECTED):
            self._chance.choice(acts)()

    def ask_all_again(self) -> None:
        """Repeat all requests that had a response: it must be the same."""
        for key in list(self.answers):
            self._ask(key)

    def _request(self) -> PlanRequest:
        patron, second, third = self._chance.sample(PATRONS, 3)
        several = (patron, second) if self._chance.random() < 0.4 else (patron,)
        yes = self._chance.random() < 0.5
        return self._chance.choice(
            (
                PlanRequest(Action.MOVE, several, target=third),
                PlanRequest(Action.MOVE, several, target=third),
                PlanRequest(Action.REMOVE, several, lead=yes),
                PlanRequest(Action.MERGE, (patron,), target=third),
                PlanRequest(Action.LEAD, several, off=yes),
            )
        )

    def _apply_a_new_one(self) -> None:
        plan = self.desk.propose(self._request()).stored
        self._plans.append(plan)
        if self._chance.random() < 0.8:
            self._apply(plan)

    def _apply_an_old_one(self) -> None:
        if self._plans:
            self._apply(self._chance.choice(self._plans))

    def _apply(self, plan: StoredPlan) -> None:
        key = f"{self._chance.randrange(1 << 40)}"
        self._keys[key] = plan
        self._ask(key)

    def _undo(self, change: str) -> None:
        key = f"{self._chance.randrange(1 << 40)}"
        self._keys[key] = change
        self._ask(key)

    def _ask_again(self) -> None:
        if self._keys:
            self._ask(self._chance.choice(list(self._keys)))

    def _ask(self, key: str) -> None:
        """Send the request of a key; once there is a response, it must stay the same."""
        what = self._keys[key]
        answer = self.desk.undo(what, key) if isinstance(what, str) else self.desk.apply(what.id, key)
        assert self.answers.setdefault(key, answer) == answer

    def _look(self) -> None:
        for change in self.desk.history.recent()[:3]:
            self.desk.history.change(change.entry.id)


class Sequences:
    """Sequences of two clerks' actions in one sandbox, each judged when it has ended."""

    def __init__(self, sandbox: Sandbox, proxy: FaultProxy, gateways: Sequence[Gateway], directory: Path) -> None:
        self._sandbox = sandbox
        self._network = Network(proxy)
        self._gateways = gateways
        self._directory = directory
        self._record = RecordOfWrites(sandbox)
        self._later = timedelta()
        self._state: State | None = None
        self._begun = 0
        self.written = 0
        self.entries = 0

    def now(self) -> datetime:
        """The clerks' time."""
        return datetime.now(UTC) + self._later

    def run(self, seed: int) -> None:
        """Run a sequence, and compare the journal with what was written."""
        chance = random.Random(seed)
        state = self._next_state()
        journal, gateway = Journal(state.database), self._gateways[0].url
        before, writes_before = Stores.of(self._sandbox), len(self._record.writes())
        entries_before = {entry.id for entry in journal.entries(gateway)}
        clerks = [
            Clerk(desk_of(gateway, state, staff, may_undo_others=True), random.Random(chance.random()))
            for gateway, staff in zip(self._gateways, (ONE, ANOTHER), strict=True)
        ]
        self._network.chance.seed(chance.random())
        self._network.quiet = False
        for _ in range(chance.randint(4, 10)):
            changes = [entry.id for entry in journal.entries(gateway)]
            self._one_thing(chance, clerks, changes)
        self._network.quiet = True
        self._wait_until_nothing_is_under_way()
        recover_by_reading(self._gateways[0], state)
        assert journal.open_steps(gateway) == []
        for clerk in clerks:
            clerk.ask_all_again()
        new = [entry for entry in journal.entries(gateway) if entry.id not in entries_before]
        self._check(new, before, writes_before)
        _check_plans(state, journal.entries(gateway))
        self.entries += len(new)

    def _one_thing(self, chance: random.Random, clerks: Sequence[Clerk], changes: Sequence[str]) -> None:
        kind = chance.random()
        if kind < 0.3:
            with ThreadPoolExecutor(2) as threads:
                list(threads.map(lambda clerk: clerk.act(changes), clerks))
        elif kind < 0.4:
            self._network.let_go()
        elif kind < 0.5:
            self._wait_until_nothing_is_under_way()
        else:
            chance.choice(clerks).act(changes)

    def _wait_until_nothing_is_under_way(self) -> None:
        """Act as if some hours had passed: requests held back have landed, and no more can."""
        self._network.let_go()
        self._later += timedelta(minutes=30)

    def _check(self, entries: Sequence[JournalEntry], before: Stores, writes_before: int) -> None:
        done, writes = done_steps(entries), self._record.writes()[writes_before:]
        self.written += len(writes)
        for patron in sorted({write[0] for write in (*writes, *done)}):
            # Each done step was written once, and nothing else was.
            assert of_patron(done, patron) == of_patron(writes, patron)
        after = Stores.of(self._sandbox)
        model = {(patron, field): before.value(patron, field) for patron in PATRONS for field in FIELDS}
        for patron, field, was, becomes in done:
            model.setdefault((patron, field), before.value(patron, field))
            assert model[patron, field] == was
            model[patron, field] = becomes
        assert {place: after.value(*place) for place in model} == model
        by_id = {entry.id: entry for entry in entries}
        for entry in entries:
            if entry.undoes in by_id:
                _check_undo(entry, by_id[entry.undoes])

    def _next_state(self) -> State:
        if self._state is None or self._begun % SEQUENCES_OF_A_STATE == 0:
            self.close()
            self._state = State(self._directory / f"state-{self._begun}")
        self._begun += 1
        return self._state

    def close(self) -> None:
        """Close the state."""
        if self._state is not None:
            self._state.close()


FIELDS = ("usrgroup", "master_account")


def _check_undo(undo: JournalEntry, undone: JournalEntry) -> None:
    """Check that undo reverses what was done and nothing else: each step goes back from where another one led."""
    done = {(it.patron, it.field): it for it in undone.steps if it.state is StepState.DONE}
    for step in undo.steps:
        other = done[step.patron, step.field]
        assert (step.before, step.after) == (other.value, other.before)
        if step.state is StepState.DONE:
            assert step.value == other.before


def _check_plans(state: State, entries: Sequence[JournalEntry]) -> None:
    """Check that each entry belongs to one plan, and has its steps."""
    with state.database.reading() as connection:
        applied = [id for (id,) in connection.execute(select(schema.plans.c.change)) if id is not None]
    assert sorted(applied) == sorted(number_of(entry.id) or 0 for entry in entries)


@contextmanager
def sequences(directory: Path) -> Iterator[Sequences]:
    """Yield sequences in a new sandbox, with two gateways over a bad network and the clerks' clock."""
    quick = RetryPolicy(tries=2, first_delay=0.001, longest_delay=0.01)
    with Sandbox() as sandbox, fault_proxy(sandbox.url) as proxy, ExitStack() as stack:
        gateways = [
            stack.enter_context(gateway_of(proxy.url, "consortium_staff", retries=quick)) for _ in (ONE, ANOTHER)
        ]
        for gateway in gateways:
            gateway.login()
        run = Sequences(sandbox, proxy, gateways, directory)
        stack.callback(run.close)
        stack.enter_context(patch.object(Database, "now", lambda _: run.now()))
        yield run
