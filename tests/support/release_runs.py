"""Run tests on the sandbox as each release of Evergreen: a plugin of pytest, loaded by ``conftest.py``.

    pytest --release 3.12 --release 3.15 tests/report
    pytest --release all tests/changes

runs the tests that use the shared sandbox, and those marked ``older``, once on each release, and no others. Without the
option, they run on the latest release, and those marked ``older`` also on the older releases in ``SHARE``.

A test that doesn't hold for a difference in the sandbox's table of releases is marked with the difference's name:
``@pytest.mark.differs("no-count", reason="…")``. It is run anyway and must fail there; with ``strict=False``, for tests
where only some parameters fail, it may pass.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from support.releases import LATEST, NAMES, RELEASES, SHARE, differences_of

_PROPERTY = "release"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("releases of Evergreen")
    group.addoption(
        "--release",
        action="append",
        default=[],
        choices=[*RELEASES, "all"],
        help="run the tests that speak to a sandbox, and these alone, on this release; repeatable",
    )
    group.addoption("--release-results", type=Path, metavar="FILE", help="write down how many passed on each release")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "older(latest): without --release, it runs on some older releases as well, or (False) on them alone"
    )
    config.addinivalue_line("markers", "differs(name, reason): it fails on releases with this difference of the table")
    results: Path | None = config.getoption("release_results")
    if results is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Results(results))


@pytest.fixture(scope="session")
def release(request: pytest.FixtureRequest) -> str:
    """The release that the sandbox imitates: from the option or a mark, by default the latest."""
    return str(getattr(request, "param", LATEST))


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
        others = [item for item in items if release_of(item) is None]
        items[:] = [item for item in items if release_of(item) is not None]
        config.hook.pytest_deselected(items=others)
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


def release_of(item: pytest.Item) -> str | None:
    """Return the release that a test runs on; None if it uses no sandbox, or only the latest."""
    call = getattr(item, "callspec", None)
    return call.params.get("release") if call is not None and _runs_on_releases(item) else None


def _runs_on_releases(item: pytest.Item) -> bool:
    """Return whether a test uses this file's fixture ``release``; some rooms have another one of that name."""
    shared = "running_sandbox" in getattr(item, "fixturenames", ())
    return shared or item.get_closest_marker("older") is not None


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
