"""Undoing any sequence of changes in reverse order restores the groups."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.gateways import client_of, gateway_of

from evergreen_groups.client import Client, Plan
from evergreen_groups.gateway import Gateway
from evergreen_groups.sandbox import Sandbox

PATRONS = (1001, 1007, 1012, 1028, 1036, 1039, 1045, 1049, 1051, 1052, 1053)
patrons = st.sampled_from([f"2000000000{patron}" for patron in PATRONS])
MakePlan = Callable[[Client], Plan]

moves: st.SearchStrategy[MakePlan] = st.builds(
    lambda who, to: lambda client: client.move(who, to=to),
    st.lists(patrons, min_size=1, max_size=3, unique=True),
    patrons,
)
removals: st.SearchStrategy[MakePlan] = st.builds(
    lambda who, lead: lambda client: client.remove(who, lead=lead),
    st.lists(patrons, min_size=1, max_size=2, unique=True),
    st.booleans(),
)
merges: st.SearchStrategy[MakePlan] = st.builds(
    lambda source, to: lambda client: client.merge(source, to=to), patrons, patrons
)
leads: st.SearchStrategy[MakePlan] = st.builds(
    lambda who, lead: lambda client: client.set_lead(who, lead=lead), patrons, st.booleans()
)


def picture(admin: Gateway) -> dict[int, tuple[int, bool]]:
    """Return each patron's group and lead flag."""
    records = admin.pcrud.search("au", {"deleted": "f", "id": {">": 1000}}, select=("id", "usrgroup", "master_account"))
    return {record.id: (record.usrgroup, record.master_account) for record in records}


def all_fines(admin: Gateway) -> Decimal:
    return sum((record.balance_owed for record in admin.pcrud.search("mous", {"usr": {">": 0}})), Decimal(0))


@pytest.mark.long
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(plans=st.lists(st.one_of(moves, removals, merges, leads), min_size=1, max_size=5))
def test_undo_in_reverse_order_restores_everything(plans: list[MakePlan], running_sandbox: Sandbox) -> None:
    running_sandbox.reset()
    with (
        TemporaryDirectory() as directory,
        gateway_of(running_sandbox.url, "admin") as admin,
        gateway_of(running_sandbox.url, "consortium_staff") as gateway,
    ):
        client = client_of(gateway, Path(directory))
        before, fines = picture(admin), all_fines(admin)
        for make_plan in plans:
            assert make_plan(client).apply().done
            now = picture(admin)
            assert now.keys() == before.keys()
            assert all_fines(admin) == fines
        done = [entry.id for entry in client.changes.entries()]
        for entry in done:
            plan = client.undo(entry)
            assert plan.draft.unchanged == ()
            assert plan.apply().done
        assert picture(admin) == before
        assert all_fines(admin) == fines
