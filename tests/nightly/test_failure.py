"""A failed run leaves a page next to the last report; the next report removes it."""

from __future__ import annotations

from pathlib import Path

import lxml.html
import pytest
from support.command import Command

from evergreen_groups import exit_status


def fail(command: Command, *words: str) -> None:
    right, command.environ["EVERGREEN_GROUPS_PASSWORD"] = command.environ["EVERGREEN_GROUPS_PASSWORD"], "wrong"
    assert command("report", *words).returncode == exit_status.LOGIN
    command.environ["EVERGREEN_GROUPS_PASSWORD"] = right


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "name", "last"),
    [
        (("--split", "library", "--output", "reports"), "reports/failed.html", "latest/index.html"),
        (("--output", "report.html"), "report.failed.html", "report.html"),
    ],
)
def test_it_says_so_and_leads_to_the_last_one(
    command: Command, tmp_path: Path, words: tuple[str, ...], name: str, last: str
) -> None:
    words = (*words[:-1], str(tmp_path / words[-1]))
    page = tmp_path / name
    fail(command, *words)
    assert "There is no earlier report" in page.read_text("utf-8")
    assert command("report", *words).returncode == exit_status.DONE
    assert not page.exists()
    if "--split" not in words:
        fail(command, *words, "--no-history")
        assert not page.exists(), "a run that only looks leaves nothing"
    fail(command, *words)
    tree = lxml.html.parse(page)
    assert tree.xpath("//a/@href") == [last]
    assert (page.parent / last).exists()
    assert "login refused" in tree.xpath("string(//main)")
    assert not tree.xpath("//script")
    assert page.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ["report.csv", "report.json"])
def test_files_that_are_not_read_as_pages_have_none(command: Command, tmp_path: Path, name: str) -> None:
    fail(command, "--output", str(tmp_path / name))
    assert not list(tmp_path.glob("*failed*"))


def test_a_page_that_cannot_be_left_is_only_a_warning(command: Command, tmp_path: Path) -> None:
    fail(command, "--output", str(tmp_path / "nowhere" / "at" / "all" / "report.html"))
