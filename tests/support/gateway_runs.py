"""Run tests on the sandbox as the Rust gateway: a plugin of pytest, loaded by ``conftest.py``.

    pytest --gateway rust tests/report tests/changes

runs the tests that use the shared sandbox, and no others. As recommended, its workers serve one request each. Tests
that only hold for Apache's gateway, for example on the number of calls, are marked and left out:
``@pytest.mark.apache(reason="…")``.
"""

from __future__ import annotations

import pytest

_OPTION = "--gateway"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("gateways").addoption(
        _OPTION,
        choices=["apache", "rust"],
        default="apache",
        help="run the tests that speak to the shared sandbox, and these alone, over this gateway",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "apache(reason): it isn't about the gateway that is written in Rust")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption(_OPTION) == "apache":
        return
    chosen = [item for item in items if _is_run(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


def _is_run(item: pytest.Item) -> bool:
    return "running_sandbox" in getattr(item, "fixturenames", ()) and item.get_closest_marker("apache") is None


@pytest.fixture(scope="session")
def gateway_options(request: pytest.FixtureRequest) -> dict[str, object]:
    """Return the options of a sandbox for the chosen gateway."""
    chosen = request.config.getoption(_OPTION)
    return {"gateway": chosen, "worker_requests": 1} if chosen == "rust" else {}
