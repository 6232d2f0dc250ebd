"""What makes the report nightly: systemd's units, and the line for cron."""

from __future__ import annotations

import re
import shlex
import subprocess
import textwrap
from configparser import ConfigParser
from pathlib import Path

import pytest
from support.repository import REPOSITORY

from evergreen_groups import exit_status
from evergreen_groups.cli.application import cli
from evergreen_groups.cli.commands import report


def words_of(command: str) -> list[str]:
    program, *words = shlex.split(command)
    assert Path(program).name == "evergreen-groups"
    return words


def check_words(words: list[str]) -> None:
    """The command takes them: nothing is run."""
    with cli.make_context("evergreen-groups", list(words)):
        pass
    rest = words[words.index("report") + 1 :]
    with report.report_command.make_context("report", rest) as context:
        assert context.params["split"] == "library"


def test_the_units_of_systemd() -> None:
    service, timer = ConfigParser(strict=False, interpolation=None), ConfigParser(interpolation=None)
    for unit in (service, timer):
        unit.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their capitals
    service.read(REPOSITORY / "config" / "systemd" / "evergreen-groups-report.service")
    timer.read(REPOSITORY / "config" / "systemd" / "evergreen-groups-report.timer")
    check_words(words_of(service["Service"]["ExecStart"]))
    assert service["Service"]["StandardOutput"] == "null"
    assert service["Service"]["StandardError"] == "journal"  # by default it goes where the output goes
    assert service["Service"]["NoNewPrivileges"] == "yes"
    ends_otherwise = {exit_status.BLOCKED, exit_status.STALE, exit_status.UNWELL}  # other commands do
    killed = {exit_status.INTERRUPTED, exit_status.TERMINATED}
    never_again = set(exit_status.MEANINGS) - ends_otherwise - killed - {exit_status.DONE} - exit_status.RETRYABLE
    assert set(map(int, service["Service"]["RestartPreventExitStatus"].split())) == never_again
    assert (timer["Timer"]["Persistent"], timer["Timer"]["RandomizedDelaySec"]) == ("true", "30min")


def test_the_line_for_cron() -> None:
    text = (REPOSITORY / "config" / "cron.d" / "evergreen-groups").read_text()
    *settings, line = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Z_]+=\S+", setting) for setting in settings)
    *_when, user, command = line.split(maxsplit=6)
    assert user == "evergreen-groups"
    assert "%" not in command  # cron would take it for the end of the line
    (report,) = re.findall("do ([^;]+);", command)
    check_words(words_of(report))


@pytest.mark.parametrize(
    ("statuses", "pauses"),
    [("0", ""), ("7", ""), ("4 0", "15m"), ("4 14 3", "15m 30m"), ("9 1", "15m"), ("4 4 4 4", "15m 30m 60m 0m")],
)
def test_cron_tries_again_only_after_what_may_pass(statuses: str, pauses: str) -> None:
    *_lines, line = (REPOSITORY / "config" / "cron.d" / "evergreen-groups").read_text().splitlines()
    command = line.split(maxsplit=6)[6].replace("/opt/evergreen-groups/bin/evergreen-groups", "run")
    stubs = f"""
        left="{statuses} "
        run() {{ status=${{left%% *}}; left=${{left#* }}; ran="$ran$status "; return $status; }}
        sleep() {{ slept="$slept$1 "; }}
    """
    script = f'{textwrap.dedent(stubs)}\n{command}\necho "$ran/ $slept"'
    said = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True, timeout=120).stdout
    assert [part.split() for part in said.split("/")] == [statuses.split(), pauses.split()]
