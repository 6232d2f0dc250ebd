"""Each exit status has one meaning, also in what makes the report nightly: systemd's units and the line for cron."""

import re
import shlex
import subprocess
import textwrap
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest
from support.repository import REPOSITORY

from evergreen_groups import errors, exit_status
from evergreen_groups.cli.application import cli
from evergreen_groups.cli.commands.report import report_command

WRITTEN = {exit_status.DONE, exit_status.INCOMPLETE, exit_status.UNSENT}
"""A run of the report that ends with one of these has written it."""
RETRYABLE = {exit_status.UNREACHABLE, exit_status.DEADLINE, exit_status.UNTRUSTED}
"""A run that ends with one of these wrote nothing, and may succeed later."""
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
    (again,) = re.findall(r"case \$\? in ([0-9|]+)\)", CRON)
    assert set(map(int, again.split("|"))) == RETRYABLE
    assert not RETRYABLE & WRITTEN, "who has written the report and mailed it doesn't do so twice"
    for text in (UNIT, CRON):
        (named,) = re.findall(r"exit status (\d+(?:, \d+)* or \d+)", text)
        assert set(map(int, re.findall(r"\d+", named))) == RETRYABLE


def test_a_night_that_failed_never_counts_as_success() -> None:
    suggested = set(map(int, re.findall(r"SuccessExitStatus=(\d+)", UNIT)))
    assert suggested <= WRITTEN
    assert "SuccessExitStatus" not in [line.partition("=")[0] for line in UNIT.splitlines()]


def words_of(command: str) -> list[str]:
    program, *words = shlex.split(command)
    assert Path(program).name == "evergreen-groups"
    return words


def check_words(words: list[str]) -> None:
    """The command takes them: nothing is run."""
    with cli.make_context("evergreen-groups", list(words)):
        pass
    rest = words[words.index("report") + 1 :]
    with report_command.make_context("report", rest) as context:
        assert context.params["split"] == "library"


def test_the_units_of_systemd() -> None:
    service, timer = ConfigParser(strict=False, interpolation=None), ConfigParser(interpolation=None)
    for unit in (service, timer):
        unit.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their capitals
    service.read_string(UNIT)
    timer.read(REPOSITORY / "config" / "systemd" / "evergreen-groups-report.timer")
    check_words(words_of(service["Service"]["ExecStart"]))
    assert service["Service"]["StandardOutput"] == "null"
    assert service["Service"]["StandardError"] == "journal"  # by default it goes where the output goes
    assert service["Service"]["NoNewPrivileges"] == "yes"
    ends_otherwise = {exit_status.BLOCKED, exit_status.STALE, exit_status.UNWELL}  # other commands do
    killed = {exit_status.INTERRUPTED, exit_status.TERMINATED}
    never_again = set(exit_status.MEANINGS) - ends_otherwise - killed - {exit_status.DONE} - RETRYABLE
    assert set(map(int, service["Service"]["RestartPreventExitStatus"].split())) == never_again
    assert (timer["Timer"]["Persistent"], timer["Timer"]["RandomizedDelaySec"]) == ("true", "30min")


def test_the_line_for_cron() -> None:
    *settings, backup, nightly = [line for line in CRON.splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Z_]+=\S+", setting) for setting in settings)
    for line in (backup, nightly):
        *_when, user, command = line.split(maxsplit=6)
        assert user == "evergreen-groups"
        assert "%" not in command  # cron would take it for the end of the line
    assert words_of(backup.split(maxsplit=6)[6].removesuffix(" > /dev/null")) == ["--quiet", "state", "backup"]
    (report,) = re.findall("do ([^;]+);", nightly)
    check_words(words_of(report))


@pytest.mark.parametrize(
    ("statuses", "pauses"),
    [("0", ""), ("7", ""), ("4 0", "15m"), ("4 14 3", "15m 30m"), ("9 1", "15m"), ("4 4 4 4", "15m 30m 60m 0m")],
)
def test_cron_tries_again_only_after_what_may_pass(statuses: str, pauses: str) -> None:
    command = CRON.splitlines()[-1].split(maxsplit=6)[6].replace("/opt/evergreen-groups/bin/evergreen-groups", "run")
    stubs = f"""
        left="{statuses} "
        run() {{ status=${{left%% *}}; left=${{left#* }}; ran="$ran$status "; return $status; }}
        sleep() {{ slept="$slept$1 "; }}
    """
    script = f'{textwrap.dedent(stubs)}\n{command}\necho "$ran/ $slept"'
    said = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True, timeout=120).stdout
    assert [part.split() for part in said.split("/")] == [statuses.split(), pauses.split()]
