"""What several test files share: a sandbox with the built-in families, gateways to it, and web services over it."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import hypothesis
import pytest
from flask import Flask
from support.copied_site import Looking, copied_at_once
from support.fault_proxy import FaultProxy, fault_proxy
from support.gateway_time import GatewayTime, gateway_time_of
from support.gateways import PASSWORD, client_of, gateway_of
from support.mail_server import make_certificates
from support.postgresql import DIRECTORY_VARIABLE, Cluster, new_directory
from support.releases import sandboxes
from support.states import ENGINES, close_states, state_on
from support.web_caller import Clock

from evergreen_groups.client import Client
from evergreen_groups.gateway import Gateway
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import Settings
from evergreen_groups.settings import reading as load
from evergreen_groups.state import State
from evergreen_groups.state import files as state_directories
from evergreen_groups.web import close, create_app

pytest_plugins = ["support.release_runs", "support.gateway_runs", "support.copy_runs"]

LONG = (
    "test_killed_runs.py",
    "test_reckoning.py",
    "test_property.py",
    "test_faults.py",
    "test_panel.py",
    "test_main.py",
    "test_nights.py",
)
"""Files that take the longest. They come first, so that no worker still has one when the others are done."""

# How long an example takes, to make and to try, is the machine's affair.
hypothesis.settings.register_profile("suite", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("suite")

# Where the suite is run in the background of a shell script, it ignores Ctrl-C, and so would the commands it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


# What people read is in the terminal's language: here in that of the source.
for name in ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
    os.environ.pop(name, None)
os.environ["LC_ALL"] = "C.UTF-8"

# Images of containers often set this, and each of some hundred commands would compile the whole package again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_configure(config: pytest.Config) -> None:
    """Whoever starts the run has a place for a PostgreSQL, which the first test that wants one starts."""
    if DIRECTORY_VARIABLE not in os.environ:
        directory = new_directory()
        os.environ[DIRECTORY_VARIABLE] = str(directory)
        config.add_cleanup(Cluster(directory).remove)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture(autouse=True)
def no_configuration_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On a machine where the product is installed, its configuration is none of the tests' affair."""
    for variable in [name for name in os.environ if name.startswith("EVERGREEN_GROUPS_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setattr(load, "SYSTEM_FILE", tmp_path / "no-configuration")
    monkeypatch.setattr(state_directories, "SYSTEM_DIRECTORY", tmp_path / "no-state")


@pytest.fixture(autouse=True)
def how_much_is_logged() -> Iterator[None]:
    """What a command has set within this process ends with its test: others look for what is or isn't in the log."""
    package = logging.getLogger("evergreen_groups")
    former = package.level
    yield
    package.setLevel(former)


@pytest.fixture(autouse=True)
def states_are_closed() -> Iterator[None]:
    """Those of the clients that tests make."""
    yield
    close_states()


@pytest.fixture(params=ENGINES)
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[State]:
    """A new state, once for each engine that may keep it."""
    with state_on(request.param, tmp_path / "state") as state:
        yield state


@pytest.fixture(scope="session")
def sandbox_on(
    gateway_options: dict[str, object], copy_options: dict[str, object]
) -> Iterator[Callable[[str], Sandbox]]:
    """A running sandbox of each release, made when it is first asked for."""
    with sandboxes(**gateway_options, **copy_options) as sandbox_on:
        yield sandbox_on


@pytest.fixture(scope="session")
def running_sandbox(sandbox_on: Callable[[str], Sandbox], release: str, *, with_copy: bool) -> Sandbox:
    return copied_at_once(sandbox_on(release)) if with_copy else sandbox_on(release)


@pytest.fixture
def sandbox(running_sandbox: Sandbox) -> Sandbox:
    """The sandbox in its fresh state."""
    running_sandbox.reset()
    return running_sandbox


@pytest.fixture
def admin(sandbox: Sandbox, *, with_copy: bool) -> Iterator[Gateway]:
    """A gateway as the superuser, to look at the state."""
    with Looking(sandbox) if with_copy else gateway_of(sandbox.url, "admin") as gateway:
        yield gateway


@pytest.fixture
def client(sandbox: Sandbox, tmp_path: Path) -> Iterator[Client]:
    """The jobs, as an account that sees and changes patrons of every library."""
    with gateway_of(sandbox.url, "consortium_staff") as gateway:
        yield client_of(gateway, tmp_path)


@pytest.fixture
def proxy(sandbox: Sandbox) -> Iterator[FaultProxy]:
    """What stands between the sandbox and whoever uses the proxy's address."""
    with fault_proxy(sandbox.url) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def mail_certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the certificates of a mail server."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the apps that ``make_app`` makes, and of what they count."""
    clock = Clock()
    monkeypatch.setattr("limits.storage.memory.time", SimpleNamespace(time=clock))
    monkeypatch.setattr("evergreen_groups.web.admission.time", SimpleNamespace(time=clock, monotonic=clock))
    return clock


@pytest.fixture
def gateway_time(monkeypatch: pytest.MonkeyPatch) -> GatewayTime:
    """The time by which calls of this process's gateways are late."""
    return gateway_time_of(monkeypatch)


@pytest.fixture
def make_app(tmp_path: Path, clock: Clock, proxy: FaultProxy) -> Iterator[Callable[[Settings], Flask]]:
    """Makes web services with the sandbox's service account; they are closed in the end, before the proxy is."""
    environ = {f"{name}_DIRECTORY": str(tmp_path / name.lower()) for name in ("STATE", "CACHE")}
    with ExitStack() as apps:

        def made(settings: Settings) -> Flask:
            app = create_app(settings, {**environ, "EVERGREEN_GROUPS_PASSWORD": PASSWORD}, clock=clock)
            apps.callback(close, app)
            return app

        yield made
