"""Run tests on another kind of shared sandbox: a plugin of pytest, loaded by ``conftest.py``.

    pytest --gateway rust tests/report tests/changes
    pytest --replica tests/changes

run the tests that use the shared sandbox, and no others: over the Rust gateway, whose workers serve one request each,
as recommended; or with a site whose plain reads come from a lagging replica. Tests that don't hold there are marked and
left out: ``@pytest.mark.apache(reason="…")`` if they only hold for Apache's gateway, for example on the number of
calls, and ``@pytest.mark.no_replica(reason="…")``. With a replica, rooms other than ``changes`` have tests that count
calls or wait for the plain form of a call, which differ there.
"""

from __future__ import annotations

import math

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("other sandboxes")
    gateways = "run the tests that speak to the shared sandbox, and these alone, over this gateway"
    group.addoption("--gateway", choices=["apache", "rust"], default="apache", help=gateways)
    replica = "only run tests of the shared sandbox, with a replica that lags behind"
    group.addoption("--replica", action="store_true", help=replica)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "apache(reason): it isn't about the gateway that is written in Rust")
    config.addinivalue_line("markers", "no_replica(reason): it isn't about sites whose plain reads may be old")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    unfit = {"apache"} if config.getoption("--gateway") == "rust" else set()
    unfit |= {"no_replica"} if config.getoption("--replica") else set()
    if not unfit:
        return
    chosen = [
        item
        for item in items
        if "running_sandbox" in getattr(item, "fixturenames", ()) and not any(map(item.get_closest_marker, unfit))
    ]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


@pytest.fixture(scope="session")
def gateway_options(request: pytest.FixtureRequest) -> dict[str, object]:
    rust = request.config.getoption("--gateway") == "rust"
    return {"gateway": "rust", "worker_requests": 1} if rust else {}


@pytest.fixture(scope="session")
def with_replica(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--replica"))


@pytest.fixture(scope="session")
def replica_options(*, with_replica: bool) -> dict[str, object]:
    """Return the options of a sandbox with a replica that never catches up by itself."""
    return {"differences": ["replica"], "replica_delay": math.inf} if with_replica else {}
