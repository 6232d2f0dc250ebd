"""Two programs change groups at once over one PostgreSQL, while being killed and restarted at random.

At the end, writes that the ILS applied and completed steps in the journal match one to one.
"""

from __future__ import annotations

import os
import random
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from faults.stores import Stores
from support.fault_proxy import Call, Fault, FaultProxy, fault_proxy
from support.gateways import gateway_of
from support.movers import Movers
from support.postgresql import shared_cluster
from support.writes import RecordOfWrites, done_steps, of_patron

from evergreen_groups.client import Client
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.state import State
from evergreen_groups.state.database import Database

WRITES = ("open-ils.actor.patron.update", "open-ils.actor.usergroup.new")
MINUTES = 30  # after this time no request can land any more
IN_VAIN = 100  # after this many other calls, assume that no write is possible now


class Traffic:
    """Requests in flight at the proxy, including those that the client has given up on."""

    def __init__(self, proxy: FaultProxy) -> None:
        self._under_way = 0
        self._calls = 0
        self._writes = 0
        self._changed = threading.Condition()
        proxy.decide = self._came
        proxy.before_answer = self._went

    def _came(self, call: Call) -> Fault:
        with self._changed:
            self._under_way += 1
            self._calls += 1
            self._writes += call.method in WRITES
            self._changed.notify_all()
        return Fault.NONE

    def _went(self, call: Call) -> None:
        with self._changed:
            self._under_way -= 1
            self._changed.notify_all()

    def wait_for_a_write(self) -> None:
        """Wait for the next write, or until none seems to be coming."""
        with self._changed:
            writes, calls = self._writes, self._calls
            self._changed.wait_for(lambda: self._writes > writes or self._calls >= calls + IN_VAIN, timeout=60)

    def wait_until_quiet(self) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._under_way == 0, timeout=60)


def run_with_kills(movers: Movers, traffic: Traffic, chance: random.Random, *, rounds: int, kills: int) -> None:
    """Run two movers at a time, and kill and restart ``kills`` of them in each round.

    Between rounds the proxy goes quiet and the movers' clock advances by half an hour, so open steps can be closed.
    """
    pause = threading.Event()
    for number in range(rounds):
        later = number * MINUTES * 60.0
        running = [movers.start(chance.randrange(1 << 30), later) for _ in range(2)]
        for _ in range(kills):
            if chance.random() < 0.5:
                pause.wait(chance.uniform(0.05, 0.5))  # a random moment, so there's no condition to wait for
                killed = [chance.randrange(2)]
            else:
                traffic.wait_for_a_write()  # one mover has sent a write, and the other may be waiting for its turn
                pause.wait(chance.uniform(0.0, 0.03))
                killed = [0, 1]
            for which in killed:
                movers.kill(running[which])
                running[which] = movers.start(chance.randrange(1 << 30), later)
        for _ in range(3):
            traffic.wait_for_a_write()
        for process in running:
            movers.kill(process)
        traffic.wait_until_quiet()


@pytest.mark.long
def test_killed_programs_leave_a_true_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds, kills = 20, 10
    seed = int(os.environ.get("TESTS_SEED", "1"))
    chance = random.Random(seed)
    cluster = shared_cluster()
    with Sandbox() as sandbox, fault_proxy(sandbox.url) as proxy, cluster.database() as name:
        record, before, traffic = RecordOfWrites(sandbox), Stores.of(sandbox), Traffic(proxy)
        with (
            State(tmp_path, cluster.url(name)) as state,
            gateway_of(proxy.url, "consortium_staff") as gateway,
            Movers(proxy.url, cluster.url(name), tmp_path) as movers,
        ):
            run_with_kills(movers, traffic, chance, rounds=rounds, kills=kills)
            assert movers.errors == ""
            monkeypatch.setattr(
                Database, "now", lambda _: datetime.now(UTC) + timedelta(minutes=MINUTES * (rounds + 1))
            )
            client = Client(gateway, account="consortium_staff", state=state)
            client.changes.recover()
            assert client.changes.open_steps() == []
            done = done_steps(client.changes.entries())
            interrupted = [
                step.reason
                for entry in client.changes.entries()
                for step in entry.steps
                if step.reason in ("found done after an interruption", "the request never arrived")
            ]
        writes = record.writes()
        assert len(done) >= rounds, "hardly anything was changed"
        assert interrupted or rounds < 10, "nothing was interrupted"
        for patron in sorted({write[0] for write in (*writes, *done)}):
            assert of_patron(done, patron) == of_patron(writes, patron)
        after = Stores.of(sandbox)
        for patron, field, _before, _after in done:
            last = [write for write in done if write[:2] == (patron, field)][-1]
            assert after.value(patron, field) == last[3]
        # A patron who was moved away and back keeps these traces of the moves.
        expected = (": last_xact_id ", ": last_update_time ", ": _position ", "written (")
        assert [it for it in after.foreign_since(before) if not any(words in it for words in expected)] == []
