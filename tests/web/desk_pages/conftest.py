"""A service on the sandbox, and clerks who use it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from support.desk_browser import desk_browser
from support.desk_page import ClerkNamed, DeskClerk
from support.fault_proxy import FaultProxy
from support.page_desk import RUTH, PageDesk
from support.web_caller import PASSWORD, session, settings_of

from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import Settings
from evergreen_groups.web import close, create_app


@pytest.fixture
def desk_settings(proxy: FaultProxy) -> Settings:
    return settings_of(proxy.url)


@pytest.fixture(scope="session")
def cache_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ILS's classes are the same for all tests, and reading them takes longer than most tests."""
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
def clerk_named(app: Flask, sandbox: Sandbox, proxy: FaultProxy) -> ClerkNamed:
    return lambda name: DeskClerk(app, session(sandbox.url, username=name), proxy.url)


@pytest.fixture
def clerk(clerk_named: ClerkNamed) -> DeskClerk:
    """A clerk who sees and changes patrons of every library."""
    return clerk_named("consortium_staff")


@pytest.fixture(scope="session")
def page_of_the_session(tmp_path_factory: pytest.TempPathFactory, cache_directory: Path) -> Iterator[PageDesk]:
    directory = tmp_path_factory.mktemp("page")
    environ = {
        "STATE_DIRECTORY": str(directory / "state"),
        "CACHE_DIRECTORY": str(cache_directory),
        "EVERGREEN_GROUPS_PASSWORD": PASSWORD,
    }
    with desk_browser(directory, environ=environ) as desk:
        yield PageDesk(desk, environ)


@pytest.fixture
def page(page_of_the_session: PageDesk, tmp_path: Path) -> Iterator[PageDesk]:
    page = page_of_the_session
    page.sandbox.reset()
    page.environ["STATE_DIRECTORY"] = str(tmp_path / "state")
    page.start_anew()
    page.desk.log_in(session(page.sandbox.url, username="consortium_staff"))
    # Same surname, so moving Ruth in raises no warning.
    page.change("UPDATE au SET family_name = 'Nguyễn', usrgroup = 5001 WHERE id = ?", RUTH)
    yield page
    for command, options in (
        ("Emulation.setScriptExecutionDisabled", {"value": False}),
        ("Emulation.clearDeviceMetricsOverride", {}),
        ("Emulation.setEmulatedMedia", {"media": "", "features": []}),
    ):
        page.browser.execute_cdp_cmd(command, options)
