"""Runs tests on the sandbox as the gateway that is written in Rust: a part of pytest, which ``conftest.py`` names.

    pytest --gateway rust tests/report tests/changes

runs the tests that speak to the shared sandbox, and no others. Its workers serve one request each, as doctor advises. A
test that doesn't hold there says so: ``@pytest.mark.apache(reason="…")``. It is run nevertheless, and has to fail.
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
    config.addinivalue_line("markers", "apache(reason): it fails over the gateway that is written in Rust")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption(_OPTION) == "apache":
        return
    chosen = [item for item in items if "running_sandbox" in getattr(item, "fixturenames", ())]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen
    for item in items:
        for mark in item.iter_markers("apache"):
            item.add_marker(pytest.mark.xfail(reason=mark.kwargs["reason"], strict=True))


@pytest.fixture(scope="session")
def gateway_options(request: pytest.FixtureRequest) -> dict[str, object]:
    """What a sandbox is made with, to answer as the gateway that is asked for."""
    chosen = request.config.getoption(_OPTION)
    return {"gateway": chosen, "worker_requests": 1} if chosen == "rust" else {}
