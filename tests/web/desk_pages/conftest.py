"""A service over the sandbox, and clerks at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from support.desk_page import DeskClerk
from support.fault_proxy import FaultProxy
from support.web_caller import PASSWORD, session, settings_of

from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import Settings
from evergreen_groups.web import close, create_app


@pytest.fixture
def desk_settings(proxy: FaultProxy) -> Settings:
    return settings_of(proxy.url)


@pytest.fixture(scope="session")
def cache_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ILS's classes are the same for all, and reading them takes longer than most tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def environ(tmp_path: Path, cache_directory: Path) -> dict[str, str]:
    return {
        "STATE_DIRECTORY": str(tmp_path / "state"),
        "CACHE_DIRECTORY": str(cache_directory),
        "EVERGREEN_GROUPS_PASSWORD": PASSWORD,
    }


@pytest.fixture
def app(desk_settings: Settings, environ: dict[str, str]) -> Iterator[Flask]:
    app = create_app(desk_settings, environ)
    yield app
    close(app)


@pytest.fixture
def clerk_named(app: Flask, sandbox: Sandbox, proxy: FaultProxy) -> Callable[[str], DeskClerk]:
    return lambda name: DeskClerk(app, session(sandbox.url, username=name), proxy.url)


@pytest.fixture
def clerk(clerk_named: Callable[[str], DeskClerk]) -> DeskClerk:
    """Somebody who sees and changes patrons of every library."""
    return clerk_named("consortium_staff")
