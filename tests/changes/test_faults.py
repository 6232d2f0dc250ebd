"""Changes over a bad network: lost and late requests and answers, collisions, and a killed process."""

import csv
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.command import Command
from support.family_moves import NEW_GROUP, RETRIEVE, UPDATE, record_of
from support.fault_proxy import Call, Fault, FaultProxy, fault_proxy
from support.gateway_time import GatewayTime
from support.gateways import client_of, gateway_of
from support.states import journal_in

from evergreen_groups.changes import StepState
from evergreen_groups.gateway import Gateway, Record, RetryPolicy
from evergreen_groups.sandbox import Sandbox

WRITES = (UPDATE, NEW_GROUP)
OTHERS = ("last_xact_id", "last_update_time", "usrgroup")
QUICK = RetryPolicy(tries=4, first_delay=0.001, longest_delay=0.01)


def once_each(fault: Fault) -> Callable[[Call], Fault]:
    """Let each write fail once, with the same fault."""
    failed: set[object] = set()

    def decide(call: Call) -> Fault:
        key = (call.method, str(call.parameters[1:])[:400] if call.method == UPDATE else str(call.parameters[1:]))
        if call.method not in WRITES or key in failed:
            return Fault.NONE
        failed.add(key)
        return fault

    return decide


def everybody(admin: Gateway) -> dict[int, Record]:
    return {record.id: record for record in admin.pcrud.search("au", {"id": {">": 1000}}, limit=5000)}


def other_fields(record: Record) -> list[object]:
    volatile = {record._class.positions[name] for name in OTHERS}
    return [value for place, value in enumerate(record.to_wire()["__p"]) if place not in volatile]


@pytest.mark.parametrize("fault", [Fault.DROP_ANSWER, pytest.param(Fault.LATE_ANSWER, marks=pytest.mark.long)])
def test_a_removal_whose_answer_is_lost_makes_one_new_group(
    fault: Fault, proxy: FaultProxy, admin: Gateway, tmp_path: Path, gateway_time: GatewayTime
) -> None:
    proxy.decide, proxy.too_late = once_each(fault), gateway_time.pass_over
    with gateway_of(proxy.url, "consortium_staff", retries=QUICK) as gateway:
        client = client_of(gateway, tmp_path)
        outcome = client.remove(["20000000001052"]).apply()
        assert outcome.done
    assert record_of(admin).usrgroup == outcome.steps[0].value == 1100
    assert proxy.seen.count(NEW_GROUP) == 1


BATCH_SIZE = 200


@pytest.fixture
def populated() -> Iterator[Sandbox]:
    with Sandbox(patrons=700) as sandbox:
        yield sandbox


def batch_file(admin: Gateway, path: Path) -> dict[int, int]:
    """Write a batch that moves 200 patrons and removes some. Return the expected group of each moved patron."""
    people = [
        record
        for record in admin.pcrud.search("au", {"deleted": "f", "id": {">": 2000}}, limit=5000, order_by="id")
        if record.card is not None
    ]
    cards = {card.id: card.barcode for card in admin.pcrud.search("ac", {"id": {">": 0}}, limit=5000)}
    sizes = Counter(record.usrgroup for record in people)
    movers = [record for record in people if sizes[record.usrgroup] > 1][:BATCH_SIZE]
    moving = {record.id for record in movers}
    targets = [record for record in people if record.id not in moving and sizes[record.usrgroup] == 1]
    wanted = {}
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["action", "barcode", "target"])
        for record, target in zip(movers, targets * BATCH_SIZE, strict=False):
            writer.writerow(["move", cards[record.card], cards[target.card]])
            wanted[record.id] = target.usrgroup
    assert len(wanted) == BATCH_SIZE
    return wanted


MOMENTS = ("fetched", "before the request", "before the answer", "after the answer")


@pytest.mark.long
def test_a_batch_that_is_killed_at_every_moment_moves_everyone_once(populated: Sandbox, tmp_path: Path) -> None:
    with gateway_of(populated.url, "admin") as admin, fault_proxy(populated.url) as proxy:
        wanted = batch_file(admin, tmp_path / "batch.csv")
        before = everybody(admin)
        for after, moment in enumerate(MOMENTS):
            assert _run_killed(proxy, tmp_path, moment, after=9 * after) == -signal.SIGKILL, moment
        proxy.heal()
        proxy.before_answer = lambda call: None
        assert _run(proxy, tmp_path) == 0
        sent = proxy.seen.count(UPDATE)
        assert _run(proxy, tmp_path) == 0
        assert proxy.seen.count(UPDATE) == sent
        after = everybody(admin)
    moved = {id: record.usrgroup for id, record in after.items() if record.usrgroup != before[id].usrgroup}
    assert moved == wanted
    assert all(other_fields(after[id]) == other_fields(before[id]) for id in before)
    journal = journal_in(tmp_path / "state")
    steps = [step for entry in journal.entries() for step in entry.steps]
    assert Counter(step.patron for step in steps if step.state is StepState.DONE) == dict.fromkeys(wanted, 1)
    assert journal.open_steps(proxy.url) == []


def _run_killed(proxy: FaultProxy, directory: Path, moment: str, *, after: int) -> int:
    """Run the batch and kill it at the given moment, ``after`` that many other changes."""
    process: subprocess.Popen[bytes] | None = None
    count = 0

    def kill(call: Call, method: str) -> bool:
        nonlocal count
        if call.method != method:
            return False
        count += 1
        if count == after + 1 and process is not None:
            process.kill()
            process.wait()
            return True
        return False

    def decide(call: Call) -> Fault:
        if moment == "fetched" and kill(call, RETRIEVE):
            return Fault.DROP_REQUEST
        if moment == "before the request" and kill(call, UPDATE):
            return Fault.DROP_REQUEST
        # Kill the process after it has sent the request. The server applies the change, but its answer is lost.
        return Fault.LATE_ANSWER if moment == "before the answer" and kill(call, UPDATE) else Fault.NONE

    def answered(call: Call) -> None:
        if moment == "after the answer":
            kill(call, UPDATE)

    proxy.decide = decide
    proxy.before_answer = answered
    process = _start(proxy, directory)
    return process.wait(timeout=300)


def _start(proxy: FaultProxy, directory: Path) -> subprocess.Popen[bytes]:
    command = Command(directory, proxy.url)
    environ = {**command.environ, "STATE_DIRECTORY": str(directory / "state")}
    words = command.arguments("batch", str(directory / "batch.csv"), "--yes")
    return subprocess.Popen(words, env=environ, stdout=subprocess.DEVNULL)


def _run(proxy: FaultProxy, directory: Path) -> int:
    return _start(proxy, directory).wait(timeout=300)
