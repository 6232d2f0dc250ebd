"""Each setting is declared once; everything else derives from the declaration, so nothing can drift."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import click
import pytest
from support.repository import REPOSITORY

from evergreen_groups.cli.application import cli
from evergreen_groups.cli.manual import reference as command_reference
from evergreen_groups.settings import (
    Setting,
    Settings,
    declared,
    value_of,
    with_values,
)
from evergreen_groups.settings import reading as load
from evergreen_groups.settings.reference import reference
from evergreen_groups.settings.toml import example

EXAMPLE = REPOSITORY / "config" / "evergreen-groups.toml"


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
