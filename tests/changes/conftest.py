"""A client over an unreliable network, and a state on each engine."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.family_moves import QUICK
from support.fault_proxy import FaultProxy
from support.gateways import client_of, gateway_of
from support.states import FILE_FIRST, state_on

from evergreen_groups.client import Client
from evergreen_groups.state import State


@pytest.fixture
def mover(proxy: FaultProxy, tmp_path: Path) -> Iterator[Client]:
    with gateway_of(proxy.url, "consortium_staff", retries=QUICK) as gateway:
        yield client_of(gateway, tmp_path)


@pytest.fixture(params=FILE_FIRST)
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[State]:
    """A new state: only a file in a plain pytest run, each engine in a long one."""
    with state_on(request.param, tmp_path / "state") as state:
        yield state
