"""The page about the Python API: its programs run as they stand, one after the other, and print what the page says."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest
from support.repository import REPOSITORY

from evergreen_groups.sandbox import Sandbox

PAGE = (REPOSITORY / "docs" / "python.md").read_text(encoding="utf-8")
PROGRAMS: list[tuple[str, str]] = re.findall(
    r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE
)


def test_every_program_says_what_it_prints() -> None:
    assert len(PROGRAMS) == PAGE.count("```python\n") == 7


@pytest.mark.long
def test_the_programs_print_what_the_page_says(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERGREEN_GROUPS_GATEWAY_URL", sandbox.url)
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    names: dict[str, Any] = {}
    for program, wanted in PROGRAMS:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(program, "docs/python.md", "exec"), names)
        assert printed.getvalue() == wanted
