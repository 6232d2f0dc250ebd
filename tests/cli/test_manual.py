"""What is made from the declarations like ``--help``: manual pages, and completion as each shell does it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from support.terminals import Terminal

from evergreen_groups import exit_status
from evergreen_groups.cli.application import COMMANDS, cli, run
from evergreen_groups.cli.manual import PLACES, completion_script, contexts, page, write_pages, write_scripts

DAY = 1_764_115_200  # 26 November 2025


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", str(DAY))
        return write_pages(tmp_path_factory.mktemp("man1"))


def test_every_command_has_a_page(pages: list[Path]) -> None:
    names = [path.name for path in pages]
    assert names == [f"{context.command_path.replace(' ', '-')}.1" for context in contexts()]
    assert {"evergreen-groups.1", "evergreen-groups-report.1", "evergreen-groups-state-backup.1"} <= set(names)


def test_a_page_is_of_its_day_and_without_one_always_the_same(
    pages: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert '1 "2025-11-26" ' in pages[0].read_text("utf-8").splitlines()[0]
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert '1 "" ' in page(next(contexts())).splitlines()[0]


@pytest.mark.long
def test_mandoc_finds_nothing_wrong(pages: list[Path]) -> None:
    found = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", *map(str, pages)], capture_output=True, text=True, check=False
    )
    assert found.stdout + found.stderr == ""


@pytest.mark.long
def test_man_shows_every_option_without_a_warning(pages: list[Path]) -> None:
    for path, context in zip(pages, contexts(), strict=True):
        shown = subprocess.run(
            ["man", "--warnings", "-E", "UTF-8", "-l", str(path)],
            env={**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "80", "MAN_KEEP_FORMATTING": ""},
            capture_output=True,
            text=True,
            check=True,
        )
        assert shown.stderr == "", path.name
        text = " ".join(shown.stdout.split()).replace("’", "'")
        assert f"NAME {path.stem} - " in text
        if context.parent is None:
            assert all(f" {status} {meaning}." in text for status, meaning in exit_status.MEANINGS.items())
            assert "evergreen-groups-report(1) List groups with high combined fines." in text
            assert "/etc/evergreen-groups/config.toml The system's configuration, for users without one." in text
        for parameter in context.command.get_params(context):
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert max(parameter.opts, key=len) in text, path.name


SHELLS = sorted(PLACES)
PROMPT = "here> "


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """That of a shell which finds the command, and nothing of the person's own."""
    program = tmp_path / "bin" / "evergreen-groups"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m evergreen_groups "$@"\n')
    program.chmod(0o755)
    (tmp_path / "reports").mkdir()
    (tmp_path / "today.html").touch()
    return {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "ZDOTDIR": str(tmp_path),
        "TERM": "dumb",
        "LC_ALL": "C.UTF-8",
        "PS1": PROMPT,
    }


@pytest.mark.parametrize("shell", SHELLS)
def test_the_command_prints_the_script(shell: str) -> None:
    done = CliRunner().invoke(cli, ["completion", shell])
    assert done.exit_code == exit_status.DONE
    assert done.output == completion_script(shell)
    assert f"{shell}_complete" in done.output


@pytest.mark.parametrize(
    ("shell", "words"), [("bash", {}), ("fish", {"COMP_WORDS": "x"}), ("zsh", {"COMP_WORDS": "x", "COMP_CWORD": "y"})]
)
def test_a_question_that_lacks_words_is_refused(
    shell: str, words: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"_EVERGREEN_GROUPS_COMPLETE": f"{shell}_complete", **words}.items():
        monkeypatch.setenv(name, value)
    assert run([]) == exit_status.USAGE
    said = capsys.readouterr().err
    assert "_EVERGREEN_GROUPS_COMPLETE is for completion scripts" in said
    assert "unexpected error" not in said


def test_scripts_lie_where_shells_look(tmp_path: Path) -> None:
    written = write_scripts(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in written] == list(PLACES.values())
    assert [path.read_text("utf-8") for path in written] == [completion_script(shell) for shell in PLACES]


@pytest.fixture(params=["bash", "zsh"])
def terminal(request: pytest.FixtureRequest, environ: dict[str, str], tmp_path: Path) -> Iterator[Terminal]:
    """A shell that has read the script."""
    shell, bare, first = {
        "bash": ("bash", "--norc", 'bind "set bell-style none"'),
        "zsh": ("zsh", "-f", "unsetopt zle_bracketed_paste prompt_cr prompt_sp; autoload -U compinit; compinit -u -D"),
    }[request.param]
    terminal = Terminal([shell, bare, "-i"], environ, tmp_path)
    terminal.wait_for(PROMPT)
    terminal.type(f"{first}\n")
    terminal.wait_for(PROMPT)
    terminal.type(f'source <(evergreen-groups completion {shell}); echo re""ady\n')
    terminal.wait_for("ready\n")
    terminal.wait_for(PROMPT)
    yield terminal
    terminal.close()


@pytest.mark.long
@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("evergreen-groups rep", "evergreen-groups report "),
        ("evergreen-groups --log-format j", "evergreen-groups --log-format json "),
        ("evergreen-groups report --sort a", "evergreen-groups report --sort age "),
        ("evergreen-groups report --owing", "evergreen-groups report --owing-since "),
        ("evergreen-groups state back", "evergreen-groups state backup "),
        ("evergreen-groups completion z", "evergreen-groups completion zsh "),
        ("evergreen-groups report --output tod", "evergreen-groups report --output today.html "),
    ],
)
def test_a_tab_completes(terminal: Terminal, typed: str, completed: str) -> None:
    terminal.type(typed + "\t")
    terminal.wait_for(re.escape(completed))


@pytest.mark.long
@pytest.mark.parametrize("terminal", ["bash"], indirect=True)
def test_two_tabs_list_what_there_is(terminal: Terminal) -> None:
    terminal.type("evergreen-groups \t\t")
    listed = set(terminal.wait_for(rf"\n{PROMPT}evergreen-groups ").split())
    assert set(COMMANDS) <= listed


@pytest.mark.long
@pytest.mark.parametrize(
    ("line", "candidates"),
    [
        ("evergreen-groups rep", ["report"]),
        ("evergreen-groups report --split ", ["library", "none"]),
        ("evergreen-groups state back", ["backup"]),
        ("evergreen-groups report --output tod", ["today.html"]),
    ],
)
def test_fish_completes(environ: dict[str, str], line: str, candidates: list[str]) -> None:
    script = 'evergreen-groups completion fish | source; complete --do-complete "$argv[1]"'
    command = ["fish", "--no-config", "-c", script, line]
    done = subprocess.run(command, env=environ, cwd=environ["HOME"], capture_output=True, text=True, check=True)
    assert sorted(candidate.split("\t")[0] for candidate in done.stdout.splitlines()) == candidates


@pytest.mark.long
def test_it_loads_nothing_that_a_command_works_with() -> None:
    code = (
        "import sys\n"
        "from evergreen_groups.cli import main\n"
        "try:\n    main([])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'sqlalchemy', 'requests', 'rich', 'jinja2', 'lxml', 'babel'} & set(sys.modules)))\n"
    )
    asked = {
        "_EVERGREEN_GROUPS_COMPLETE": "bash_complete",
        "COMP_WORDS": "evergreen-groups report --sort ",
        "COMP_CWORD": "3",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | asked, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[0] == "plain,total"
    assert done.stdout.splitlines()[-1] == "[]"
