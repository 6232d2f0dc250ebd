"""Long output goes through the pager on a terminal, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.command import Command
from support.terminals import at_a_terminal

from evergreen_groups import exit_status

pytestmark = pytest.mark.long

FAMILY = ("--sandbox", "show", "20000000001013")
MARKING = {"PAGER": "sed s/^/paged:/"}


@pytest.fixture
def run(tmp_path: Path) -> Command:
    command = Command(tmp_path, None)
    for name in ("NO_PAGER", "LINES", "LESS"):
        command.environ.pop(name, None)
    return command


@pytest.mark.parametrize(
    "words",
    [FAMILY, ("report", "--sandbox"), ("audit", "--sandbox"), ("audit", "--explain", "20000000001034", "--sandbox")],
)
def test_what_does_not_fit_is_paged(run: Command, words: tuple[str, ...]) -> None:
    status, shown = at_a_terminal(run, *words, lines=8, **MARKING)
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
    run: Command, words: tuple[str, ...], lines: int, environ: dict[str, str]
) -> None:
    status, shown = at_a_terminal(run, *words, lines=lines, **environ)
    assert status == exit_status.DONE
    assert "Lucía" in shown
    assert "paged:" not in shown


def test_a_pager_that_ends_early_changes_nothing_about_the_exit_status(run: Command) -> None:
    status, shown = at_a_terminal(run, "--sandbox", "check", "20000000001013", lines=4, PAGER="head -n 1")
    assert status == exit_status.BLOCKED
    assert "Traceback" not in shown
    assert "$31.50" not in shown


def test_less_keeps_colors_unless_configured(run: Command) -> None:
    asking = {"PAGER": "sh -c 'echo LESS=$LESS'"}
    assert "LESS=FRX" in at_a_terminal(run, *FAMILY, lines=8, **asking)[1]
    assert "LESS=S" in at_a_terminal(run, *FAMILY, lines=8, LESS="S", **asking)[1]
