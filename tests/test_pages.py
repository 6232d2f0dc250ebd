"""The blocks of the pages work: run commands and examples, and load settings and documents."""

import re
from pathlib import Path

import pytest
from support.page_runner import try_page
from support.pages import PAGES, TRIED, blocks, run_with, tried
from support.repository import REPOSITORY

RUN = ("sh", "console", "python")
SHOWN = {"text", "mermaid", "apache", "po", "ini", "csv", "yaml", "promql", "html", "sql"}
"""Languages of blocks that readers don't run or copy into a configuration."""
WHY_NOT = re.compile(
    r"needs (?P<needs>systemd|root|apt|Apache|PostgreSQL|Redis|Evergreen's database|a mail server|a real Evergreen"
    r"|a checkout|the network|a container builder|a browser)"
    r"|runs until it is stopped|tried by (?P<by>\S+)|only an extract|only a pattern"
)
ALL = [block for page in PAGES for block in blocks(page)]


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.stem, marks=[pytest.mark.long] if {b.language for b in tried(page)} & {*RUN} else [])
        for page in PAGES
        if tried(page)
    ],
)
def test_a_page_does_as_it_says(page: Path, tmp_path: Path) -> None:
    try_page(page, tmp_path)


def test_what_is_not_run_says_why() -> None:
    """``python -m support.pages`` lists them."""
    wrong = [f"{block.place}: {block.not_run!r}" for block in ALL if block.not_run and not _is_reason(block.not_run)]
    assert wrong == [], "these aren't reasons that test_pages.py knows"


def _is_reason(text: str) -> bool:
    why = WHY_NOT.fullmatch(text)
    if why is None or not why["by"]:
        return why is not None
    tasks = (REPOSITORY / "noxfile.py").read_text("utf-8")
    return (REPOSITORY / why["by"]).exists() or re.search(rf"^def {why['by']}\(", tasks, re.MULTILINE) is not None


def test_every_block_has_a_language_that_is_tried_or_only_shown() -> None:
    assert [block.place for block in ALL if block.language not in {*TRIED, *SHOWN}] == []


def test_what_would_change_the_machine_is_not_run() -> None:
    assert [block.place for page in PAGES for block in tried(page) if block.is_for_machine] == []


def test_comments_above_blocks_are_understood() -> None:
    known = ("not run", "exit status", "run with", "printed by")
    odd = [block.place for block in ALL if block.comment and block.comment[0] not in known]
    assert odd == []
    needed = {run_with(page) for page in PAGES} - {None, "the sandbox", "the service"}
    assert [name for name in needed if not (REPOSITORY / str(name)).is_file()] == []
