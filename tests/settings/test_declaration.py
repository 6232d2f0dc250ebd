"""Each setting is declared once; everything else derives from the declaration, so nothing can drift."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, fields
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from support.repository import REPOSITORY

from evergreen_groups.cli import given_settings, setting_options, with_command_line
from evergreen_groups.cli.application import cli
from evergreen_groups.cli.commands.init import Interview
from evergreen_groups.cli.manual import reference as command_reference
from evergreen_groups.errors import ConfigurationError
from evergreen_groups.settings import (
    Option,
    Question,
    Setting,
    Settings,
    declared,
    initial_configuration,
    value_of,
    values,
    with_values,
)
from evergreen_groups.settings import reading as load
from evergreen_groups.settings.declaration import section, setting
from evergreen_groups.settings.reference import reference
from evergreen_groups.settings.sections import HistorySettings
from evergreen_groups.settings.toml import example

EXAMPLE = REPOSITORY / "config" / "evergreen-groups.toml"


@dataclass(frozen=True)
class LongerHistorySettings(HistorySettings):
    """The one edit: add a setting to a section."""

    years: int = setting(
        values.whole_number(1, 99, "years"),
        7,
        help="How many years of sums to keep. They hold no names.",
        options=(Option("--years", ("report", "init")),),
        question=Question("Years of sums"),
    )


@dataclass(frozen=True)
class MoreSettings(Settings):
    """The settings with the longer section; in the package, the edit would change the section itself."""

    history: LongerHistorySettings = section(LongerHistorySettings, "What is kept of past runs.")


class TestAddingASettingTakesOneEdit:
    def test_it_is_read_from_the_file_and_the_environment(self, tmp_path: Path) -> None:
        file = tmp_path / "config.toml"
        file.write_text("[history]\nyears = 3\n")
        assert self.read(file) == 3
        assert self.read(file, EVERGREEN_GROUPS_HISTORY_YEARS="5") == 5
        file.write_text("")
        assert self.read(file) == 7

    def test_a_bad_value_is_named(self, tmp_path: Path) -> None:
        file = tmp_path / "config.toml"
        file.write_text("[history]\nyears = 100\n")
        with pytest.raises(ConfigurationError) as caught:
            self.read(file)
        assert str(caught.value) == (
            f"{file}:2: [history] years: 100 isn't allowed; allowed: a whole number from 1 to 99"
        )
        assert (caught.value.setting, caught.value.code) == ("history.years", "setting-not-allowed")
        with pytest.raises(ConfigurationError, match=r'\$EVERGREEN_GROUPS_HISTORY_YEARS: "never" isn.t allowed'):
            self.read(file, EVERGREEN_GROUPS_HISTORY_YEARS="never")

    def test_it_is_an_option_of_its_commands(self) -> None:
        found: dict[str, Any] = {}

        @click.command("report")
        @setting_options("report", MoreSettings)
        @click.pass_context
        def report(context: click.Context, /, **_options: object) -> None:
            found.update(given_settings(context, MoreSettings), whole=with_command_line(context, MoreSettings()))

        run = CliRunner().invoke(report, ["--years", "9"])
        assert run.exit_code == 0, run.output
        assert found["history.years"] == 9
        assert found["whole"].history.years == 9
        assert found["whole"] == with_values(MoreSettings(), {"history.years": 9})
        refused = CliRunner().invoke(report, ["--years", "0"])
        assert "--years': expected a whole number from 1 to 99" in refused.output
        assert "--years YEARS" in CliRunner().invoke(report, ["--help"]).output
        assert "[default: 7]" in CliRunner().invoke(report, ["--help"]).output

    def test_init_asks_for_it_and_writes_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        questions: list[str] = []

        def prompt(text: str, *, default: str | None = None, **_how: object) -> str:
            questions.append(f"{text} [{default}]")
            return {"Years of sums": "12"}.get(text, default or "")

        monkeypatch.setattr(click, "prompt", prompt)
        settings = self.interviewed(tmp_path, interactive=True)
        assert "Years of sums [7]" in questions
        assert value_of(settings, next(each for each in declared(MoreSettings) if each.name == "years")) == 12
        text = initial_configuration(settings)
        assert "# How many years of sums to keep.\nyears = 12\n" in text
        assert tomllib.loads(text)["history"]["years"] == 12

    def test_init_takes_it_from_the_command_line(self, tmp_path: Path) -> None:
        assert "years = 30" in initial_configuration(self.interviewed(tmp_path, interactive=False, years="30"))
        with pytest.raises(ConfigurationError, match="--years: expected a whole number from 1 to 99"):
            self.interviewed(tmp_path, interactive=False, years="300")

    def test_the_example_and_the_reference_show_it(self) -> None:
        assert "# How many years of sums to keep. They hold no names.\n# years = 7\n" in example(MoreSettings)
        entry = reference(MoreSettings).partition("### `history.years`\n")[2].partition("\n#")[0]
        for fact in (
            "How many years of sums to keep. They hold no names.",
            "- Allowed: a whole number from 1 to 99",
            "- Default: `7`",
            "- Environment: `EVERGREEN_GROUPS_HISTORY_YEARS`",
            "- Option: `--years` of `report`, `init`",
            "- Asked by `init`",
        ):
            assert fact in entry

    @staticmethod
    def read(file: Path, **environ: str) -> Any:
        settings = load.load(file, environ, MoreSettings)
        assert isinstance(settings, MoreSettings)
        return settings.history.years

    @staticmethod
    def interviewed(directory: Path, *, interactive: bool, **more: str) -> Settings:
        """Return the settings from an interview that doesn't check the answers."""
        answers = {"url": "https://evergreen.example.org", "username": "groups", "password_file": directory, **more}
        interview = Interview(answers, {}, directory, interactive=interactive, schema=MoreSettings)
        interview._check = lambda _key, settings: settings  # type: ignore[method-assign]
        return interview.settings()


class TestNothingDrifts:
    @pytest.mark.parametrize(
        ("file", "made", "module"),
        [
            (EXAMPLE, example, "settings.toml"),
            (REPOSITORY / "docs" / "settings.md", reference, "settings.reference"),
            (REPOSITORY / "docs" / "cli.md", command_reference, "cli.manual"),
        ],
        ids=["example", "settings", "commands"],
    )
    def test_what_is_written_down_is_up_to_date(self, file: Path, made: Callable[[], str], module: str) -> None:
        short = file.relative_to(REPOSITORY)
        assert file.read_text("utf-8") == made(), f"python -m evergreen_groups.{module} > {short}"

    def test_the_example_can_be_read(self) -> None:
        settings = load.load(EXAMPLE, {})
        assert settings.gateway.username == "groups_report"
        assert with_values(settings, dict.fromkeys(("gateway.url", "gateway.username", "gateway.password_file"))) == (
            with_values(Settings(source=EXAMPLE), {})
        )

    def test_what_is_commented_out_can_be_read_as_well(self, tmp_path: Path) -> None:
        """With every line uncommented, each setting has its example, or its default if it has no example."""
        file = tmp_path / "config.toml"
        file.write_text(re.sub(r"(?m)^# (\w+ = )", r"\1", EXAMPLE.read_text("utf-8")))
        read = load.load(file, {})
        for each in declared(Settings):
            example = str(each.example) if each.default is None else each.example
            expected = each.default if example is None else each.kind(example)
            assert value_of(read, each) == expected, each.key


class TestDeclarations:
    def test_every_field_of_a_section_is_one(self) -> None:
        named = {each.key for each in declared(Settings)}
        sections = {part.name: part.default_factory for part in fields(Settings)[:-2]}  # not the tables and the source
        assert named == {
            f"{name}.{entry.name}"
            for name, kind in sections.items()
            for entry in fields(kind)  # type: ignore[arg-type]
        }

    @pytest.mark.parametrize("each", declared(Settings), ids=lambda each: each.key)
    def test_says_something_that_holds(self, each: Setting) -> None:
        assert each.help.endswith(".")
        assert each.default is not None or each.example is not None
        if each.default not in (None, ()) and not isinstance(each.default, tuple):
            written = each.default if isinstance(each.default, (bool, int, Decimal)) else str(each.default)
            assert each.kind(getattr(each.default, "value", written)) == each.default
        if isinstance(each.default, tuple) and each.default:
            assert each.kind([str(part) for part in each.default]) == each.default

    def test_commands_that_options_name_are_there(self) -> None:
        for name in {command for each in declared(Settings) for option in each.options for command in option.commands}:
            command = cli.get_command(click.Context(cli), name)
            assert command is not None
            there = {parameter.name for parameter in command.params}
            assert {option.name for each in declared(Settings) if (option := each.option(name))} <= there

    def test_variables_are_taken_as_they_are_written(self) -> None:
        """Everything except the tables of limits can be set as text in the environment."""
        with_default = [each for each in declared(Settings) if each.default not in (None, ())]
        environ = {"HOME": "/nonexistent"}
        for each in with_default:
            parts = each.default if isinstance(each.default, tuple) else (getattr(each.default, "value", each.default),)
            environ[each.variable] = ",".join(map(str, parts))
        read = load.load(None, environ)
        for each in with_default:
            assert value_of(read, each) == each.default, each.key
