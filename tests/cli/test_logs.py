"""What the command says on standard error: a line an event, as text or JSON; progress on a terminal; and the pager."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from support.command import Command
from support.fault_proxy import Call, Fault, fault_proxy
from support.terminals import at_a_terminal, on_a_terminal

from evergreen_groups import exit_status
from evergreen_groups.cli import logs
from evergreen_groups.formats import LOG_FORMATS
from evergreen_groups.sandbox import Sandbox

pytestmark = pytest.mark.long


def events(text: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in text.splitlines()]


def test_every_line_is_a_json_object(sandbox: Sandbox, tmp_path: Path) -> None:
    done = Command(tmp_path, sandbox.url)("-vv", "--log-format", "json", "show", "20000000001001")
    assert done.returncode == 0
    found = events(done.stderr)
    assert {event["logger"] for event in found} >= {"evergreen_groups.gateway"}
    assert all({"time", "level", "logger", "message"} == event.keys() for event in found)
    assert all(datetime.fromisoformat(event["time"]).utcoffset() == timedelta(0) for event in found)
    assert "20000000001001" not in done.stderr
    assert "sandbox" not in "".join(event["message"] for event in found)


def test_the_environment_chooses_the_format(sandbox: Sandbox, tmp_path: Path) -> None:
    command = Command(tmp_path, sandbox.url)
    command.environ["EVERGREEN_GROUPS_LOG_FORMAT"] = "json"
    assert events(command("show", "20000000009999").stderr)[0]["level"] == "error"


def test_a_lost_answer_is_an_event(sandbox: Sandbox, tmp_path: Path) -> None:
    lost = []

    def decide(call: Call) -> Fault:
        if "pcrud" not in call.method or len(lost) > 2:  # one or two may pass for connections that had gone stale
            return Fault.NONE
        lost.append(call)
        return Fault.DROP_ANSWER

    with fault_proxy(sandbox.url) as proxy:
        proxy.decide = decide
        done = Command(tmp_path, proxy.url)("-v", "--log-format", "json", "report", "--format", "csv")
    assert done.returncode == 0
    assert any("trying again" in event["message"] for event in events(done.stderr))


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    root, package = logging.getLogger(), logging.getLogger("evergreen_groups")
    handlers, levels = root.handlers[:], (root.level, package.level)
    yield logging.getLogger("evergreen_groups.test")
    root.handlers[:] = handlers
    for one, level in zip((root, package), levels, strict=True):
        one.setLevel(level)


@pytest.mark.parametrize("log_format", LOG_FORMATS)
def test_one_line_whatever_is_said(logger: logging.Logger, log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(verbosity=0, quiet=False, log_format=log_format)
    try:
        Decimal("Anna Example owes 5.00")
    except ArithmeticError:
        logger.exception("first\nsecond\r\nthird\u2028fourth")
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert "InvalidOperation at tests.cli.test_logs:" in text
    assert "Anna" not in text


def test_quiet_keeps_errors_alone(logger: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(verbosity=2, quiet=True, log_format="text")
    logger.warning("a warning")
    logger.error("an error")
    assert capsys.readouterr().err == "ERROR evergreen_groups.test: an error\n"


def test_progress_on_a_terminal_tells_how_far_and_how_long(sandbox: Sandbox, tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    words = ("report", "--split", "library", "--output", str(reports))
    status, said = on_a_terminal(Command(tmp_path, sandbox.url), *words, TERM="xterm", COLUMNS="100")
    assert status == 0
    assert "writing files" in said
    assert "reading groups" in said
    assert "1,017 of 1,017" in said
    assert "00:00" in said


def test_no_progress_if_quiet_or_without_a_terminal(sandbox: Sandbox, tmp_path: Path) -> None:
    command = Command(tmp_path, sandbox.url)
    assert command("report").stderr == ""
    assert on_a_terminal(command, "--quiet", "report", TERM="xterm") == (0, "")


FAMILY = ("--sandbox", "show", "20000000001013")
MARKING = {"PAGER": "sed s/^/paged:/"}


@pytest.fixture
def paging(tmp_path: Path) -> Command:
    command = Command(tmp_path, None)
    for name in ("NO_PAGER", "LINES", "LESS"):
        command.environ.pop(name, None)
    return command


@pytest.mark.parametrize(
    "words",
    [FAMILY, ("report", "--sandbox"), ("audit", "--sandbox"), ("audit", "--explain", "20000000001034", "--sandbox")],
)
def test_what_does_not_fit_is_paged(paging: Command, words: tuple[str, ...]) -> None:
    status, shown = at_a_terminal(paging, *words, lines=8, **MARKING)
    assert status == exit_status.DONE
    assert shown.count("paged:") > 8


@pytest.mark.parametrize(
    ("words", "lines", "environ"),
    [
        (FAMILY, 60, MARKING),
        ((*FAMILY, "--no-pager"), 8, MARKING),
        ((*FAMILY, "--json"), 8, MARKING),
        (FAMILY, 8, {**MARKING, "NO_PAGER": "1"}),
        (FAMILY, 8, {"PAGER": "cat"}),
        (FAMILY, 8, {"PAGER": ""}),
        (FAMILY, 8, {"PAGER": "no-such-pager"}),
        (FAMILY, 8, {"PAGER": "'"}),
        (FAMILY, 8, {**MARKING, "TERM": "dumb"}),
    ],
)
def test_it_is_not_where_it_fits_or_is_not_wanted(
    paging: Command, words: tuple[str, ...], lines: int, environ: dict[str, str]
) -> None:
    status, shown = at_a_terminal(paging, *words, lines=lines, **environ)
    assert status == exit_status.DONE
    assert "Lucía" in shown
    assert "paged:" not in shown


def test_a_pager_that_ends_early_changes_nothing_about_the_exit_status(paging: Command) -> None:
    status, shown = at_a_terminal(paging, "--sandbox", "check", "20000000001013", lines=4, PAGER="head -n 1")
    assert status == exit_status.BLOCKED
    assert "Traceback" not in shown
    assert "$31.50" not in shown


def test_less_keeps_colors_unless_configured(paging: Command) -> None:
    asking = {"PAGER": "sh -c 'echo LESS=$LESS'"}
    assert "LESS=FRX" in at_a_terminal(paging, *FAMILY, lines=8, **asking)[1]
    assert "LESS=S" in at_a_terminal(paging, *FAMILY, lines=8, LESS="S", **asking)[1]
