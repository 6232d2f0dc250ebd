"""Usage errors, in the reader's language and in English for programs; global options, ``help`` and the version."""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from support.change_ids import UNKNOWN
from support.command import Command

from evergreen_groups import __version__, exit_status
from evergreen_groups.cli.application import COMMANDS, cli, run
from evergreen_groups.cli.failure import describe_usage_error
from evergreen_groups.cli.manual import contexts
from evergreen_groups.cli.usage import global_options
from evergreen_groups.language import ENGLISH, Language, use_language
from evergreen_groups.language.language import PSEUDO

OLDER_CLICK = pytest.mark.skipif(
    tuple(map(int, version("click").split(".")[:2])) < (8, 4),
    reason="Debian 13's click 8.1 has other texts, which stay in English, and status 0 for a missing command",
)
# User input, options and arguments, answer keys and the program's name: in Latin letters in every language.
WRITTEN = re.compile(r"'[^']*'|\([a-z]\)|--[a-z-]+|BARCODE|evergreen-groups|\"none\"")
WRONG = [
    ("report", "--nosuch"),
    ("report", "--forma", "csv"),
    ("report", "--format", "pdf"),
    ("report", "--limit", "abc"),
    ("report", "--limit"),
    ("report", "--no-members=3"),
    ("report", "--top", "0"),
    ("show", "a", "b"),
    ("show",),
    ("move", "1"),
    ("move",),
    ("show", "1", "--name", "a"),
    ("move", "1", "--to", "2", "--to-name", "a"),
    ("nonsense",),
    ("--sandbox",),
    ("--log-format", "xml", "report"),
]


def test_a_decimal_comma_is_refused_with_the_form_it_wants(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--sandbox", "report", "--limit", "5,00"]) == exit_status.USAGE
    assert "Invalid value for '--limit': expected an amount of 0.00 or more" in capsys.readouterr().err


def what_is_wrong(arguments: tuple[str, ...]) -> click.ClickException:
    with pytest.raises(click.ClickException) as raised:
        cli.main(args=list(arguments), prog_name="evergreen-groups", standalone_mode=False)
    return raised.value


@OLDER_CLICK
@pytest.mark.parametrize("arguments", WRONG)
def test_every_word_is_in_the_catalogue(arguments: tuple[str, ...]) -> None:
    with use_language(Language(PSEUDO)):
        said = describe_usage_error(what_is_wrong(arguments))
    assert not re.search("[A-Za-z]{2}", WRITTEN.sub("", said))


@pytest.mark.parametrize("arguments", WRONG)
def test_in_english_it_is_what_click_says(arguments: tuple[str, ...]) -> None:
    problem = what_is_wrong(arguments)
    with use_language(ENGLISH):
        assert describe_usage_error(problem) == problem.format_message()


@OLDER_CLICK
def test_the_hint_is_too(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "ar_XB.UTF-8")
    assert run(["report", "--nosuch"]) == exit_status.USAGE
    error, usage, hint = capsys.readouterr().err.splitlines()
    assert error.startswith("evergreen-groups: ")
    assert usage == "Usage: evergreen-groups report [OPTIONS]"  # as --help has it, which is English for now
    assert "evergreen-groups report --help" in hint
    assert "'--nosuch'" in error
    assert not re.search("[A-Za-z]{2}", WRITTEN.sub("", hint + error))


@OLDER_CLICK
def test_a_command_without_one_of_its_own_shows_its_help() -> None:
    done = CliRunner().invoke(cli, ["state"])
    assert done.exit_code == exit_status.USAGE
    assert "Usage:" in done.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("rpeort",), "No such command 'rpeort'. Did you mean 'report'?"),
        (("help", "rpeort"), "No such command 'rpeort'. Did you mean 'report'?"),
        (("xyzzy",), "No such command 'xyzzy'."),
    ],
)
def test_with_a_mistyped_command_comes_the_nearest(arguments: tuple[str, ...], says: str) -> None:
    assert describe_usage_error(what_is_wrong(arguments)) == says


@pytest.mark.parametrize("option", [name for option in global_options() for name in option.opts])
def test_every_command_takes_every_global_option(option: str) -> None:
    for context in contexts():
        assert sum(option in parameter.opts for parameter in context.command.params) == 1, context.command_path


def test_they_stand_in_the_help_of_the_whole_alone() -> None:
    for context in list(contexts())[1:]:
        assert "--log-format" not in context.command.get_help(context)


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
    "words", [["help", "state", "restore"], ["state", "restore", "-h"], ["state", "restore", "--help"]]
)
def test_help_of_a_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == exit_status.DONE
    assert capsys.readouterr().out.startswith("Usage: evergreen-groups state restore [OPTIONS] FILE\n")


@pytest.mark.parametrize("words", [["-V"], ["--version"], ["report", "-V"]])
def test_the_version(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == exit_status.DONE
    assert capsys.readouterr().out == f"evergreen-groups, version {__version__}\n"
