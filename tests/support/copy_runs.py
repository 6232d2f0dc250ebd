"""Run tests with a site whose plain reads come from a lagging replica: a plugin of pytest, loaded by ``conftest.py``.

    pytest --replica tests/changes

runs the tests that use the shared sandbox, and no others. Tests that don't hold for replicas are marked and left out:
``@pytest.mark.no_copy(reason="…")``. Other rooms have tests that count calls or wait for the plain form of a call,
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
        help="run the tests that speak to the shared sandbox, and these alone, with a copy that is behind",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "no_copy(reason): it isn't about sites whose plain reads may be old")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption(_OPTION):
        return
    chosen = [item for item in items if _is_run(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


def _is_run(item: pytest.Item) -> bool:
    return "running_sandbox" in getattr(item, "fixturenames", ()) and item.get_closest_marker("no_copy") is None


@pytest.fixture(scope="session")
def with_copy(request: pytest.FixtureRequest) -> bool:
    """Whether sandboxes have a replica."""
    return bool(request.config.getoption(_OPTION))


@pytest.fixture(scope="session")
def copy_options(*, with_copy: bool) -> dict[str, object]:
    """Return the options of a sandbox with a replica that never catches up by itself."""
    return {"differences": ["replica"], "replica_delay": math.inf} if with_copy else {}
