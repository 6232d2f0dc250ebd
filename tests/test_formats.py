"""What is declared about formats and findings: functions that are there, words, and the endings of files."""

import re
import sys
from pathlib import Path
from pkgutil import resolve_name

import pytest

from evergreen_groups import formats
from evergreen_groups.audit import FindingKind
from evergreen_groups.errors import ConfigurationError
from evergreen_groups.message import own_pip
from evergreen_groups.render.audit.wording import HEADINGS, WHAT_TO_DO


def test_formats_and_findings_name_functions_that_are_there() -> None:
    named = [name for one in formats.OUTPUT_FORMATS for name in (one.report, one.audit) if name is not None]
    named += [kind.search for kind in FindingKind]
    assert [name for name in named if not callable(resolve_name(name))] == []
    assert [kind for kind in FindingKind if not (HEADINGS[kind] and WHAT_TO_DO[kind])] == []


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("today.html", "html"),
        ("TODAY.XLSX", "xlsx"),
        ("a.csv.json", "json"),
        ("today.txt", None),
        ("csv", None),
        ("today", None),
    ],
)
def test_a_files_ending_asks_for_a_format(name: str, format: str | None) -> None:
    assert formats.format_of_file(Path(name)) == format


def test_only_formats_that_are_possible_are_asked_for() -> None:
    assert formats.format_of_file(Path("audit.xlsx"), formats.AUDIT_FORMATS) is None
    assert formats.format_of_file(None) is None


def test_a_format_without_its_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    formats.require(formats.REPORT_FORMATS)
    monkeypatch.setitem(sys.modules, "xlsxwriter", None)  # as if it weren't installed
    formats.require(formats.TEXT_FORMATS)
    with pytest.raises(ConfigurationError, match="xlsxwriter isn't installed") as caught:
        formats.require(["csv", "xlsx"])
    assert caught.value.what_to_do == f"{own_pip()} install xlsxwriter"


def test_an_unknown_format_is_a_mistake() -> None:
    with pytest.raises(
        ValueError, match=re.escape("unknown format 'pdf'; known are table, csv, json, html, xlsx, jsonl")
    ):
        formats.output_format("pdf")
