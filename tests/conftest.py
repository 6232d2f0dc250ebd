"""Fixtures of several packages: a sandbox with the built-in families, gateways to it, and web services using it."""

import gc
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import hypothesis
import pytest
from flask import Flask
from support.command import Command
from support.family_moves import QUICK
from support.fault_proxy import FaultProxy, fault_proxy
from support.gateway_time import GatewayTime, gateway_time_of
from support.gateways import PASSWORD, client_of, gateway_of
from support.mail_server import make_certificates
from support.postgresql import DIRECTORY_VARIABLE, Cluster, new_directory, own_cluster
from support.states import ENGINES, close_states, state_on
from support.web_caller import Clock, MakeApp

from evergreen_groups.client import Client
from evergreen_groups.gateway import Gateway
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import Settings
from evergreen_groups.settings import reading as load
from evergreen_groups.state import State
from evergreen_groups.state import files as state_directories
from evergreen_groups.web import close, create_app

pytest_plugins = ["support.sandbox_runs"]

LONG = (
    "test_killed_runs.py",
    "test_reckoning.py",
    "test_property.py",
    "test_faults.py",
    "test_panel.py",
    "test_main.py",
)
"""The slowest files. They start first, so that no worker is still busy with one when the others are done."""

# How long Hypothesis needs for an example depends on the machine.
hypothesis.settings.register_profile(
    "suite", deadline=None, max_examples=40, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("suite")

# In the background of a shell script, the suite ignores Ctrl-C, and so would the commands it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


# Commands print in the terminal's language; tests expect English.
for name in ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
    os.environ.pop(name, None)
os.environ["LC_ALL"] = "C.UTF-8"

# Container images often set this variable, and then each of several hundred commands would compile the whole package,
# and each worker all tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Collecting makes millions of objects that stay.
gc.set_threshold(50_000, 20, 20)


def pytest_configure(config: pytest.Config) -> None:
    """Prepare a place for state, and one for a PostgreSQL server, which the first test that needs it starts."""
    if DIRECTORY_VARIABLE not in os.environ:
        directory = new_directory()
        os.environ[DIRECTORY_VARIABLE] = str(directory)
        config.add_cleanup(Cluster(directory).remove)
        home = TemporaryDirectory(prefix="evergreen-groups-")
        os.environ["XDG_STATE_HOME"] = home.name
        config.add_cleanup(home.cleanup)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


def pytest_collection_finish() -> None:
    """Spare the garbage collector all the tests, which stay until the end."""
    gc.freeze()


@pytest.fixture(autouse=True)
def no_configuration_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ignore the configuration of a product that is installed on the machine."""
    for variable in [name for name in os.environ if name.startswith("EVERGREEN_GROUPS_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setattr(load, "SYSTEM_FILE", tmp_path / "no-configuration")
    monkeypatch.setattr(state_directories, "SYSTEM_DIRECTORY", tmp_path / "no-state")


@pytest.fixture(autouse=True)
def how_much_is_logged() -> Iterator[None]:
    """Restore the log level after a test that ran a command in this process."""
    package = logging.getLogger("evergreen_groups")
    former = package.level
    yield
    package.setLevel(former)


@pytest.fixture(autouse=True)
def states_are_closed() -> Iterator[None]:
    """Close the states of the clients that the test made."""
    yield
    close_states()


@pytest.fixture(params=ENGINES)
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[State]:
    """A new state, once for each database engine."""
    with state_on(request.param, tmp_path / "state") as state:
        yield state


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL for one module alone, so that its tests can freeze or stop it."""
    with own_cluster() as cluster:
        yield cluster


@pytest.fixture
def staff(sandbox: Sandbox) -> Iterator[Gateway]:
    """A gateway that sees all patrons."""
    with gateway_of(sandbox.url, "consortium_staff") as gateway:
        yield gateway


@pytest.fixture
def client(sandbox: Sandbox, tmp_path: Path) -> Iterator[Client]:
    """The client of an account that may see and change patrons of every library."""
    with gateway_of(sandbox.url, "consortium_staff") as gateway:
        yield client_of(gateway, tmp_path)


@pytest.fixture
def proxy(sandbox: Sandbox) -> Iterator[FaultProxy]:
    """A proxy between the sandbox and clients that use the proxy's URL."""
    with fault_proxy(sandbox.url) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def mail_certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the certificates of a mail server."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the apps that ``make_app`` makes and of their counters."""
    clock = Clock()
    monkeypatch.setattr("evergreen_groups.web.admission.time", SimpleNamespace(time=clock, monotonic=clock))
    return clock


@pytest.fixture
def gateway_time(monkeypatch: pytest.MonkeyPatch) -> GatewayTime:
    """The clock that decides when calls of this process's gateways are late."""
    return gateway_time_of(monkeypatch)


@pytest.fixture
def mover(proxy: FaultProxy, tmp_path: Path) -> Iterator[Client]:
    """A client over an unreliable network."""
    with gateway_of(proxy.url, "consortium_staff", retries=QUICK) as gateway:
        yield client_of(gateway, tmp_path)


@pytest.fixture
def run(sandbox: Sandbox, tmp_path: Path) -> Command:
    """The command with the sandbox's gateway, in a separate process."""
    return Command(tmp_path, sandbox.url)


@pytest.fixture
def command(run: Command, tmp_path: Path) -> Command:
    """The same, with its state in the directory ``state``."""
    run.environ["STATE_DIRECTORY"] = str(tmp_path / "state")
    return run


@pytest.fixture
def make_app(tmp_path: Path, clock: Clock, proxy: FaultProxy) -> Iterator[MakeApp]:
    """Return a factory of web services with the sandbox's service account.

    They are closed at the end, before the proxy.
    """
    environ = {f"{name}_DIRECTORY": str(tmp_path / name.lower()) for name in ("STATE", "CACHE")}
    with ExitStack() as apps:

        def made(settings: Settings) -> Flask:
            app = create_app(settings, {**environ, "EVERGREEN_GROUPS_PASSWORD": PASSWORD}, clock=clock)
            apps.callback(close, app)
            return app

        yield made
