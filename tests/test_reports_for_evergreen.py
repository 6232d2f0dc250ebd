"""The reports for Evergreen name what they would end here, and their patches name what they are for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.error_catalog import REPOSITORY

REPORTS = sorted((REPOSITORY / "contrib" / "evergreen").glob("*/report.md"))
_WORKAROUND = re.compile(
    r"^\*\*Workaround:\*\* (?:`(?P<name>[^`]+)` in )?`(?P<path>evergreen_groups/[^`]+)`", re.MULTILINE
)
PATCHES = sorted((REPOSITORY / "contrib" / "evergreen").glob("*/*.patch"))


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: report.parent.name)
def test_what_a_patch_would_end_is_found_by_its_name(report: Path) -> None:
    named = _WORKAROUND.search(report.read_text("utf-8"))
    if named is None:
        assert not list(report.parent.glob("*.patch")), "a patch ends a workaround"
        return
    source = REPOSITORY / named["path"]
    assert source.is_file()
    assert named["name"] is None or named["name"] in source.read_text("utf-8")


@pytest.mark.parametrize(
    "patch", sorted((REPOSITORY / "contrib").glob("evergreen/*/*.patch")), ids=lambda patch: patch.name
)
def test_a_patch_can_be_filed(patch: Path) -> None:
    text = patch.read_text("utf-8")
    assert "Subject: [PATCH" in text
    assert " LP#NNNNNNN " in text.replace("\n", " ")
    assert "Release-note: " in text
    first = min(patch.parent.glob("*.patch")).read_text("utf-8")
    (base,) = re.findall(r"^base-commit: ([0-9a-f]{40})$", first, re.MULTILINE)
    report = (patch.parent / "report.md").read_text("utf-8")
    assert base[:10] in report, "the report says to which commit it applies"
    assert "## What was run" in report
