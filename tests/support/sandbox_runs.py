"""Run tests on other sandboxes: a plugin of pytest, loaded by ``conftest.py``.

    pytest --release 3.12 --release 3.15 tests/report
    pytest --release all tests/changes

runs the tests that use the shared sandbox, and those marked ``older``, once on each release, and no others. Without the
option, they run on the latest release, and those marked ``older`` also on the older releases in ``SHARE``.

A test that doesn't hold for a difference in the sandbox's table of releases is marked with the difference's name:
``@pytest.mark.differs("no-count", reason="…")``. It is run anyway and must fail there; with ``strict=False``, for tests
where only some parameters fail, it may pass.

    pytest --gateway rust tests/report tests/changes
    pytest --replica tests/changes

run the tests that use the shared sandbox, and no others: over the Rust gateway, whose workers serve one request each,
as recommended; or with a site whose plain reads come from a lagging replica. Tests that don't hold there are marked and
left out: ``@pytest.mark.apache(reason="…")`` if they only hold for Apache's gateway, for example on the number of
calls, and ``@pytest.mark.no_replica(reason="…")``. With a replica, packages but ``changes`` have tests that count
calls or wait for the plain form of a call, which differ there. The replica doesn't see changes made through the
gateway. What a test writes to the sandbox itself is replicated at once, and so is everything before calls of ``admin``,
which tests use to look at the results.
"""

import json
import math
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import Connection
from typing import Any

import pytest
from support.gateways import PASSWORD, gateway_of
from support.releases import LATEST, NAMES, RELEASES, SHARE, differences_of, sandboxes

from evergreen_groups.gateway import Credentials, Gateway, Result
from evergreen_groups.sandbox import Sandbox

_PROPERTY = "release"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("other sandboxes")
    group.addoption(
        "--release",
        action="append",
        default=[],
        choices=[*RELEASES, "all"],
        help="run the tests that speak to a sandbox, and these alone, on this release; repeatable",
    )
    group.addoption("--release-results", type=Path, metavar="FILE", help="write down how many passed on each release")
    gateways = "run the tests that speak to the shared sandbox, and these alone, over this gateway"
    group.addoption("--gateway", choices=["apache", "rust"], default="apache", help=gateways)
    replica = "only run tests of the shared sandbox, with a replica that lags behind"
    group.addoption("--replica", action="store_true", help=replica)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "older(latest): without --release, it runs on some older releases as well, or (False) on them alone"
    )
    config.addinivalue_line("markers", "differs(name, reason): it fails on releases with this difference of the table")
    config.addinivalue_line("markers", "apache(reason): it isn't about the gateway that is written in Rust")
    config.addinivalue_line("markers", "no_replica(reason): it isn't about sites whose plain reads may be old")
    results: Path | None = config.getoption("release_results")
    if results is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Results(results))


@pytest.fixture(scope="session")
def release(request: pytest.FixtureRequest) -> str:
    """The release that the sandbox imitates: from the option or a mark, by default the latest."""
    return str(getattr(request, "param", LATEST))


@pytest.fixture(scope="session")
def with_replica(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--replica"))


@pytest.fixture(scope="session")
def sandbox_on(request: pytest.FixtureRequest, *, with_replica: bool) -> Iterator[Callable[[str], Sandbox]]:
    """Return a running sandbox of a release, started on first use; its replica never catches up by itself."""
    rust = request.config.getoption("--gateway") == "rust"
    gateway = {"gateway": "rust", "worker_requests": 1} if rust else {}
    replica = {"differences": ["replica"], "replica_delay": math.inf} if with_replica else {}
    with sandboxes(**gateway, **replica) as sandbox_on:
        yield sandbox_on


@pytest.fixture(scope="session")
def running_sandbox(sandbox_on: Callable[[str], Sandbox], release: str, *, with_replica: bool) -> Sandbox:
    return replicated_at_once(sandbox_on(release)) if with_replica else sandbox_on(release)


@pytest.fixture
def sandbox(running_sandbox: Sandbox) -> Sandbox:
    """The sandbox with fresh data."""
    running_sandbox.reset()
    return running_sandbox


@pytest.fixture
def admin(sandbox: Sandbox, *, with_replica: bool) -> Iterator[Gateway]:
    """A gateway logged in as superuser, to inspect data."""
    with Looking(sandbox) if with_replica else gateway_of(sandbox.url, "admin") as gateway:
        yield gateway


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if not _runs_on_releases(metafunc.definition):
        return
    older = metafunc.definition.get_closest_marker("older")
    wanted = _wanted(metafunc.config) or ([] if older is None else [*SHARE, LATEST])
    if older is not None and not older.kwargs.get("latest", True):
        wanted = [release for release in wanted if release != LATEST]
    if wanted or older is not None:
        metafunc.parametrize("release", wanted, indirect=True, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = _wanted(config)
    if wanted:
        _leave_out(config, items, {item for item in items if release_of(item) is None})
    unfit = {"apache"} if config.getoption("--gateway") == "rust" else set()
    unfit |= {"no_replica"} if config.getoption("--replica") else set()
    if unfit:
        _leave_out(
            config, items, {item for item in items if not _is_shared(item) or any(map(item.get_closest_marker, unfit))}
        )
    for item in items:
        release = release_of(item)
        if release is None:
            continue
        item.user_properties.append((_PROPERTY, release))
        if wanted:  # one process runs a file for one release, instead of for all
            item.add_marker(pytest.mark.xdist_group(f"{item.path.name} on {release}"))
        for mark in item.iter_markers("differs"):
            if mark.args[0] not in NAMES:
                raise pytest.UsageError(f"{item.nodeid} differs by {mark.args[0]}, which the table doesn't know")
            if mark.args[0] in differences_of(release):
                strict = mark.kwargs.get("strict", True)
                item.add_marker(pytest.mark.xfail(reason=f"{mark.args[0]}: {mark.kwargs['reason']}", strict=strict))


def _leave_out(config: pytest.Config, items: list[pytest.Item], others: set[pytest.Item]) -> None:
    items[:] = [item for item in items if item not in others]
    config.hook.pytest_deselected(items=list(others))


def release_of(item: pytest.Item) -> str | None:
    """Return the release that a test runs on; None if it uses no sandbox, or only the latest."""
    call = getattr(item, "callspec", None)
    return call.params.get("release") if call is not None and _runs_on_releases(item) else None


def _runs_on_releases(item: pytest.Item) -> bool:
    """Return whether a test uses this file's fixture ``release``; some packages have another one of that name."""
    return _is_shared(item) or item.get_closest_marker("older") is not None


def _is_shared(item: pytest.Item) -> bool:
    return "running_sandbox" in getattr(item, "fixturenames", ())


def _wanted(config: pytest.Config) -> list[str]:
    given: list[str] = config.getoption("release")
    return list(RELEASES) if "all" in given else list(dict.fromkeys(given))


class _Results:
    def __init__(self, file: Path) -> None:
        self._file = file
        self._counts: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        release = dict(report.user_properties).get(_PROPERTY)
        if release is None or (report.when != "call" and report.passed):
            return
        known = "differing" if report.skipped and hasattr(report, "wasxfail") else report.outcome
        self._counts[str(release)][known] += 1

    def pytest_sessionfinish(self) -> None:
        found = {release: dict(sorted(self._counts[release].items())) for release in sorted(self._counts)}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


_SERVING = "process_request_thread"
"""The name of the sandbox's threads that serve requests."""


def replicated_at_once(sandbox: Sandbox) -> Sandbox:
    """Return a sandbox that replicates at once whatever isn't written through its gateway."""
    store = sandbox._store
    transaction = store.transaction

    @contextmanager
    def replicated_transaction() -> Iterator[Connection]:
        with transaction() as connection:
            yield connection
        if _SERVING not in threading.current_thread().name and not store._transaction_depth:
            sandbox.catch_up()

    store.transaction = replicated_transaction  # type: ignore[method-assign]
    return sandbox


class Looking(Gateway):
    """The superuser's gateway, which updates the replica before each call."""

    def __init__(self, sandbox: Sandbox) -> None:
        super().__init__(sandbox.url, credentials=Credentials(username="admin", password=PASSWORD))
        self._sandbox = sandbox

    def call(self, service: str, method: str, *params: object, **options: Any) -> Result:
        self._sandbox.catch_up()
        return super().call(service, method, *params, **options)
