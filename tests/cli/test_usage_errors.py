"""Usage errors are in the reader's language, and in English for programs."""

from __future__ import annotations

import json
import re
from importlib.metadata import version

import click
import pytest
from click.testing import CliRunner

from evergreen_groups import exit_status
from evergreen_groups.cli.application import cli, run
from evergreen_groups.cli.options import describe_usage_error
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


def test_programs_read_english(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "ar_XB.UTF-8")
    assert run(["--log-format", "json", "report", "--format", "pdf"]) == exit_status.USAGE
    event = json.loads(capsys.readouterr().err)
    assert event["message"].startswith("Invalid value for '--format': 'pdf' is not one of 'table'")


@OLDER_CLICK
def test_a_command_without_one_of_its_own_shows_its_help() -> None:
    done = CliRunner().invoke(cli, ["state"])
    assert done.exit_code == exit_status.USAGE
    assert "Usage:" in done.output


@pytest.mark.parametrize("arguments", [("rpeort",), ("help", "rpeort")])
def test_with_a_mistyped_command_comes_the_nearest(arguments: tuple[str, ...]) -> None:
    assert describe_usage_error(what_is_wrong(arguments)) == "No such command 'rpeort'. Did you mean 'report'?"


def test_where_no_command_is_near_none_is_named() -> None:
    assert describe_usage_error(what_is_wrong(("xyzzy",))) == "No such command 'xyzzy'."
