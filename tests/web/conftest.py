"""A service with its state, a session that sees all patrons, and a clerk's browser at the demo desk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from support.desk_browser import Desk, desk_browser
from support.fault_proxy import FaultProxy
from support.web_caller import MakeApp, bearer, session, settings_of

from evergreen_groups.sandbox import Sandbox
from evergreen_groups.state import State


@pytest.fixture
def staff(sandbox: Sandbox) -> dict[str, str]:
    """The headers of a session that may see all patrons."""
    return bearer(session(sandbox.url, username="consortium_staff"))


@pytest.fixture
def app(make_app: MakeApp, proxy: FaultProxy) -> Flask:
    """A service on a gateway that records calls."""
    return make_app(settings_of(proxy.url))


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    """The state that the services of ``make_app`` use."""
    with State(tmp_path / "state") as state:
        yield state


@pytest.fixture(scope="session")
def cache_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ILS's classes are the same for all tests, and reading them takes longer than most tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def desk_of_the_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk_browser(tmp_path_factory.mktemp("desk")) as desk:
        yield desk


@pytest.fixture
def desk(desk_of_the_module: Desk) -> Desk:
    desk_of_the_module.begin()
    return desk_of_the_module
