"""Every program of the pages passes ``mypy --strict``, and so do the signatures of a plug-in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.pages import PAGES, blocks

PLUGIN = """
import evergreen_groups as eg


class Plugin:
    def report_finished(self, report: eg.Report) -> None:
        print(report.totals.group_count)

    def change_applied(self, outcome: eg.PlanOutcome) -> None:
        print([step.step.patron_id for step in outcome.steps], outcome.done)

    def follow_up_added(self, entry: eg.Entry) -> None:
        print(entry.group)
"""
ELSEWHERE = ("groups_client", "# api and session as above")
"""What other tests check: programs that need a generated client, and parts of one."""


@pytest.mark.long
def test_the_programs_of_the_pages_are_typed(tmp_path: Path) -> None:
    programs = {"plugin": PLUGIN}
    for page in PAGES:
        if page.stem != "architecture":  # its blocks are parts of modules
            for block in blocks(page):
                if block.language == "python" and not any(word in block.text for word in ELSEWHERE):
                    programs[f"{page.stem}_{block.line}".replace("-", "_").lower()] = block.text
    assert len(programs) > 8
    for name, text in programs.items():
        (tmp_path / f"{name}.py").write_text(text, "utf-8")
    words = ("-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "--follow-imports", "silent", ".")
    done = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
