"""Run tests with a site whose plain reads come from a lagging replica: a plugin of pytest, loaded by ``conftest.py``.

    pytest --replica tests/changes

runs the tests that use the shared sandbox, and no others. Tests that don't hold for replicas are marked and left out:
``@pytest.mark.no_replica(reason="…")``. Other rooms have tests that count calls or wait for the plain form of a call,
which differ there.
"""

from __future__ import annotations

import math

import pytest

_OPTION = "--replica"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("copies of the database").addoption(
        _OPTION,
        action="store_true",
        help="only run tests of the shared sandbox, with a replica that lags behind",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "no_replica(reason): it isn't about sites whose plain reads may be old")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption(_OPTION):
        return
    chosen = [item for item in items if _is_run(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


def _is_run(item: pytest.Item) -> bool:
    return "running_sandbox" in getattr(item, "fixturenames", ()) and item.get_closest_marker("no_replica") is None


@pytest.fixture(scope="session")
def with_replica(request: pytest.FixtureRequest) -> bool:
    """Whether sandboxes have a replica."""
    return bool(request.config.getoption(_OPTION))


@pytest.fixture(scope="session")
def replica_options(*, with_replica: bool) -> dict[str, object]:
    """Return the options of a sandbox with a replica that never catches up by itself."""
    return {"differences": ["replica"], "replica_delay": math.inf} if with_replica else {}
