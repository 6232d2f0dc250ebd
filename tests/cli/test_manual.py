"""The manual pages: made from the declarations that ``--help`` is made from, and right for who formats them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import click
import pytest

from evergreen_groups import exit_status
from evergreen_groups.cli.manual import contexts, page, write_pages

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
        text = " ".join(shown.stdout.split())
        assert f"NAME {path.stem} - " in text
        for parameter in context.command.get_params(context):
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert max(parameter.opts, key=len) in text, path.name


@pytest.mark.long
def test_the_first_page_has_what_the_help_has(pages: list[Path]) -> None:
    formatted = subprocess.run(
        ["man", "-E", "UTF-8", "-l", str(pages[0])],
        env={**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "80"},
        capture_output=True,
        text=True,
        check=True,
    )
    text = " ".join(formatted.stdout.split()).replace("’", "'")
    for status, meaning in exit_status.MEANINGS.items():
        assert f" {status} {meaning}." in text
    assert "evergreen-groups-report(1) List groups with high combined fines." in text
    assert "/etc/evergreen-groups/config.toml The system's configuration, for users without one." in text
