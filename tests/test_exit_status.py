"""Each exit status has one meaning, and whatever names exit statuses means the same by them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from configparser import ConfigParser

import pytest
from support.repository import REPOSITORY

from evergreen_groups import errors, exit_status

WRITTEN = {exit_status.DONE, exit_status.INCOMPLETE, exit_status.UNSENT}
"""A run of the report that ends with one of these has written it."""
CRON = (REPOSITORY / "config" / "cron.d" / "evergreen-groups").read_text(encoding="utf-8")
UNIT = (REPOSITORY / "config" / "systemd" / "evergreen-groups-report.service").read_text(encoding="utf-8")


def kinds(
    kind: type[errors.EvergreenGroupsError] = errors.EvergreenGroupsError,
) -> Iterator[type[errors.EvergreenGroupsError]]:
    yield kind
    for other in kind.__subclasses__():
        yield from kinds(other)


def made(kind: type[errors.EvergreenGroupsError]) -> errors.EvergreenGroupsError:
    error = kind.__new__(kind)
    Exception.__init__(error, "no")
    return error


def test_no_error_looks_like_a_report_that_was_written() -> None:
    assert {kind.__name__ for kind in kinds() if exit_status.for_error(made(kind)) in WRITTEN} == set()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.DataError("no"), exit_status.UNTRUSTED),
        (errors.UnexpectedAnswerError("no"), exit_status.UNTRUSTED),
        (errors.ServerError("no"), exit_status.UNREACHABLE),
        (errors.TransportError("no"), exit_status.UNREACHABLE),
        (errors.StateError("no"), exit_status.FAILED),
        (errors.DiskError("no"), exit_status.FAILED),
        (errors.ConfigurationError("no"), exit_status.CONFIGURATION),
        (errors.DeadlineError("no"), exit_status.DEADLINE),
    ],
)
def test_what_an_error_ends_with(error: errors.EvergreenGroupsError, status: int) -> None:
    assert exit_status.for_error(error) == status


def test_every_meaning_is_there_once() -> None:
    statuses = [value for name, value in vars(exit_status).items() if name.isupper() and isinstance(value, int)]
    assert sorted(statuses) == sorted(exit_status.MEANINGS)
    assert len(set(exit_status.MEANINGS.values())) == len(exit_status.MEANINGS)


def test_the_help_and_the_page_have_all_of_them() -> None:
    shown = (REPOSITORY / "docs" / "cli.md").read_text(encoding="utf-8")
    for status, meaning in exit_status.MEANINGS.items():
        assert f"  {status:>3}  {meaning}" in exit_status.help_text()
        assert f"  {status:>3}  {meaning}" in shown


def test_the_unit_and_cron_try_again_after_the_same_statuses() -> None:
    service = ConfigParser(strict=False, interpolation=None)
    service.read_string(UNIT)
    prevented = set(map(int, service["Service"]["RestartPreventExitStatus"].split()))
    (again,) = re.findall(r"case \$\? in ([0-9|]+)\)", CRON)
    assert set(map(int, again.split("|"))) == exit_status.RETRYABLE
    assert prevented & exit_status.RETRYABLE == set()
    assert not exit_status.RETRYABLE & WRITTEN, "who has written the report and mailed it doesn't do so twice"
    for text in (UNIT, CRON):
        (named,) = re.findall(r"exit status (\d+(?:, \d+)* or \d+)", text)
        assert set(map(int, re.findall(r"\d+", named))) == exit_status.RETRYABLE


def test_a_night_that_failed_never_counts_as_success() -> None:
    suggested = set(map(int, re.findall(r"SuccessExitStatus=(\d+)", UNIT)))
    assert suggested <= WRITTEN
    assert "SuccessExitStatus" not in [line.partition("=")[0] for line in UNIT.splitlines()]
