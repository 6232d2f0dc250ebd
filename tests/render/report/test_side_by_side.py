"""Parts of a report written side by side are what each would be alone."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from typing import Any

import openpyxl
import pytest
from support.rendered import written_bytes
from support.report_samples import ORG_UNITS, changed_report, full_report

from evergreen_groups.render import StaffClient
from evergreen_groups.render.report import render_parts
from evergreen_groups.report import Criteria, Report, libraries

CLIENT = StaffClient("eg2", "https://ils.example")


def report() -> Report:
    return replace(full_report(25), org_units=ORG_UNITS)


def alone(part: Report, format: str) -> bytes:
    return written_bytes(part, format, client=CLIENT)


def cells(sheet: Any) -> list[list[tuple[object, ...]]]:
    return [[(one.value, one.number_format, one.hyperlink and one.hyperlink.target) for one in row] for row in sheet]


def side_by_side(whole: Report, format: str) -> dict[str, bytes]:
    streams = {name: io.BytesIO() for name in libraries.by_library(whole)}
    parts = [(part, streams[name]) for name, part in libraries.by_library(whole).items()]
    render_parts(whole, format, parts, client=CLIENT)
    return {name: stream.getvalue() for name, stream in streams.items()}


@pytest.mark.parametrize("format", ["csv", "json", "jsonl"])
@pytest.mark.parametrize("whole", [report(), replace(changed_report(), org_units=ORG_UNITS, criteria=Criteria())])
def test_for_programs(whole: Report, format: str) -> None:
    parts = libraries.by_library(whole)
    assert side_by_side(whole, format) == {name: alone(part, format) for name, part in parts.items()}
    assert len({part.groups for part in parts.values()}) > 1


def test_pages() -> None:
    """Of each part's groups alone: only what the kinds of bills are numbered by is the whole report's."""
    whole = report()
    found = side_by_side(whole, "html")
    for name, part in libraries.by_library(whole).items():
        page = found[name].decode()
        assert page.count('<tbody class="group"') == len(part.groups)
        if len(part.groups) == len(whole.groups):
            assert page.encode() == alone(part, "html")
        assert "\0" not in page


@pytest.mark.parametrize("whole", [report(), replace(changed_report(), org_units=ORG_UNITS, criteria=Criteria())])
def test_spreadsheets(whole: Report) -> None:
    found = side_by_side(whole, "xlsx")
    for name, part in libraries.by_library(whole).items():
        book, expected = (openpyxl.load_workbook(io.BytesIO(one)) for one in (found[name], alone(part, "xlsx")))
        assert book.sheetnames == expected.sheetnames
        for sheet, other in zip(book, expected, strict=True):
            assert cells(sheet) == cells(other)
            assert (sheet.auto_filter.ref, sheet.freeze_panes) == (other.auto_filter.ref, other.freeze_panes)
        assert zipfile.ZipFile(io.BytesIO(found[name])).testzip() is None
