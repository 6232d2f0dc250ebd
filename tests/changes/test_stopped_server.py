"""PostgreSQL stops in the middle of a plan: a clear error, and no request that isn't in the journal."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.fault_proxy import Call, Fault, FaultProxy
from support.gateways import gateway_of
from support.postgresql import Cluster

from evergreen_groups.changes import StepState
from evergreen_groups.client import Client
from evergreen_groups.errors import StateError
from evergreen_groups.gateway import Gateway
from evergreen_groups.state import State

pytestmark = pytest.mark.long  # starts its own PostgreSQL

UPDATE, RETRIEVE = "open-ils.actor.patron.update", "open-ils.actor.user.retrieve.authoritative"
PATRONS = (1052, 1053, 1008)


@pytest.fixture
def client(cluster: Cluster, proxy: FaultProxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with (
        cluster.database() as name,
        State(tmp_path_factory.mktemp("state"), cluster.url(name)) as state,
        gateway_of(proxy.url, "consortium_staff") as gateway,
    ):
        yield Client(gateway, account="consortium_staff", state=state)


def groups(admin: Gateway) -> list[int]:
    found = {record.id: record.usrgroup for record in admin.pcrud.search("au", {"id": list(PATRONS)})}
    return [found[patron] for patron in PATRONS]


@pytest.mark.parametrize("mode", ["fast", "immediate"])
@pytest.mark.parametrize("moment", ["before a request", "before its outcome"])
def test_a_plan_ends_there_and_goes_on_later(
    client: Client, cluster: Cluster, proxy: FaultProxy, admin: Gateway, moment: str, mode: str
) -> None:
    plan = client.move([f"2000000000{patron}" for patron in PATRONS], to="20000000001001")
    before = groups(admin)

    def stop(call: Call) -> Fault:
        method, count = (RETRIEVE, 0) if moment == "before a request" else (UPDATE, 1)
        # Stop at the second patron, at the first read or once the update is sent.
        if call.method == method and proxy.seen.count(UPDATE) == 1 + count:
            cluster.stop(mode)
        return Fault.NONE

    proxy.seen.clear()
    # The first patron is read again after the update, so the third read is the second patron's first.
    reads = iter(range(100))
    proxy.decide = lambda call: (
        stop(call) if call.method != RETRIEVE or moment != "before a request" or next(reads) == 2 else Fault.NONE
    )
    with pytest.raises(StateError) as caught:
        plan.apply()
    assert "\n" not in str(caught.value)
    assert "PostgreSQL" in str(caught.value)
    sent = proxy.seen.count(UPDATE)
    assert sent == (1 if moment == "before a request" else 2)
    with pytest.raises(StateError, match="can't be used"):
        client.changes.entries()
    with pytest.raises(StateError, match="can't be used"):
        plan.apply()
    assert proxy.seen.count(UPDATE) == sent

    proxy.decide = lambda call: Fault.NONE
    cluster.run_server()
    (entry,) = client.changes.entries()
    second = StepState.PLANNED if moment == "before a request" else StepState.SENDING
    assert [step.state for step in entry.steps] == [StepState.DONE, second, StepState.PLANNED]
    now = groups(admin)
    assert now == [1001, 1001 if second is StepState.SENDING else before[1], before[2]]
    recovered = client.changes.recover()
    assert [(step.patron, step.state) for step in recovered] == (
        [(PATRONS[1], StepState.DONE)] if second is StepState.SENDING else []
    )
    again = client.move([f"2000000000{patron}" for patron in PATRONS], to="20000000001001")
    assert again.apply().done
    assert groups(admin) == [1001] * 3
    assert proxy.seen.count(UPDATE) == len(PATRONS)


def test_who_has_lost_the_lease_writes_no_more(
    client: Client, cluster: Cluster, proxy: FaultProxy, admin: Gateway
) -> None:
    """The connection is cut, for example by a firewall. By then another server may have taken the lease."""
    plan = client.move([f"2000000000{patron}" for patron in PATRONS], to="20000000001001")

    def cut(call: Call) -> Fault:
        if call.method == UPDATE:
            cluster.execute(
                "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity"  # wait up to 60 s for them to end
                " WHERE application_name = 'evergreen-groups'"
            )
        return Fault.NONE

    proxy.decide = cut
    with pytest.raises(StateError) as caught:
        plan.apply()
    assert "\n" not in str(caught.value)
    assert proxy.seen.count(UPDATE) == 1
    proxy.decide = lambda call: Fault.NONE
    assert [step.patron for step in client.changes.open_steps()] == [PATRONS[0]]
    assert [(step.patron, step.state) for step in client.changes.recover()] == [(PATRONS[0], StepState.DONE)]
    assert groups(admin)[0] == 1001
