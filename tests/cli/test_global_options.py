"""Global options after the command, ``help``, and the version."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from support.change_ids import UNKNOWN
from support.command import Command

from evergreen_groups import __version__, exit_status
from evergreen_groups.cli.application import COMMANDS, cli, run
from evergreen_groups.cli.options import global_options


def commands(command: click.Command, context: click.Context) -> dict[str, click.Command]:
    """All commands within one, by their words."""
    found = {str(context.command_path): command}
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            found |= commands(inner, click.Context(inner, info_name=name, parent=context))
    return found


def all_commands() -> dict[str, click.Command]:
    return commands(cli, click.Context(cli, info_name="evergreen-groups", **cli.context_settings))


@pytest.mark.parametrize("option", [name for option in global_options() for name in option.opts])
def test_every_command_takes_every_global_option(option: str) -> None:
    for path, command in all_commands().items():
        assert sum(option in parameter.opts for parameter in command.params) == 1, path


def test_they_stand_in_the_help_of_the_whole_alone() -> None:
    for path, command in list(all_commands().items())[1:]:
        context = click.Context(command, info_name=path, **cli.context_settings)
        assert "--log-format" not in command.get_help(context)


@pytest.mark.long
def test_they_mean_the_same_after_the_command(tmp_path: Path) -> None:
    command = Command(tmp_path, None)
    before = command("--sandbox", "show", "20000000001013")
    after = command("show", "20000000001013", "--sandbox")
    assert (before.returncode, before.stdout) == (after.returncode, after.stdout)
    missing = command("show", "20000000001013", "--config", str(tmp_path / "missing.toml"))
    assert "missing.toml" in missing.stderr
    calls = command("-v", "show", "20000000001013", "-v", "--sandbox").stderr
    assert "DEBUG" in calls
    event = command("journal", UNKNOWN, "--log-format", "json", "--sandbox").stderr
    assert json.loads(event)["code"] == "no-such-entry"
    assert command("state", "check", "--sandbox").stdout.endswith("doesn't exist yet: the first run creates it\n")


@pytest.mark.parametrize("words", [[], ["help"], ["-h"], ["--help"]])
def test_alone_it_shows_what_there_is(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == exit_status.DONE
    shown = capsys.readouterr()
    assert all(summary in " ".join(shown.out.split()) for summary in COMMANDS.values())
    assert shown.err == ""


@pytest.mark.parametrize(
    "words", [["help", "state", "backup"], ["state", "backup", "-h"], ["state", "backup", "--help"]]
)
def test_help_of_a_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == exit_status.DONE
    assert capsys.readouterr().out.startswith("Usage: evergreen-groups state backup [OPTIONS] FILE\n")


def test_help_of_what_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["help", "repotr"]) == exit_status.USAGE
    assert capsys.readouterr().err.startswith("evergreen-groups: No such command 'repotr'")


@pytest.mark.parametrize("words", [["-V"], ["--version"], ["report", "-V"]])
def test_the_version(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == exit_status.DONE
    assert capsys.readouterr().out == f"evergreen-groups, version {__version__}\n"
