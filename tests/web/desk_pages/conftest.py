"""A service on the sandbox, and clerks who use it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from support.desk_browser import Desk
from support.desk_page import ClerkNamed, DeskClerk
from support.fault_proxy import FaultProxy
from support.page_desk import RUTH, PageDesk
from support.web_caller import PASSWORD, session, settings_of

from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import Settings
from evergreen_groups.web import close, create_app


@pytest.fixture
def sections() -> dict[str, Any]:
    """Sections of the service's settings. Tests choose others with ``with_settings``."""
    return {}


@pytest.fixture
def desk_settings(proxy: FaultProxy, sections: dict[str, Any]) -> Settings:
    return settings_of(proxy.url, **sections)


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
    """Return a clerk with a new session."""
    return lambda name: DeskClerk(app, session(sandbox.url, username=name), proxy.url)


@pytest.fixture
def clerk(clerk_named: ClerkNamed) -> DeskClerk:
    """A clerk who sees and changes patrons of every library."""
    return clerk_named("consortium_staff")


@pytest.fixture
def page(desk: Desk, environ: dict[str, str]) -> PageDesk:
    """A clerk's browser."""
    page = PageDesk(desk, environ)
    page.serve()
    # Same surname, so moving Ruth in raises no warning.
    page.change("UPDATE au SET family_name = 'Nguyễn', usrgroup = 5001 WHERE id = ?", RUTH)
    return page
