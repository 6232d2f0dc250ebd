"""Dates that people read are all written by one function, so that a library sees one form of them."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import audit_samples
from support import report_samples as samples
from support.error_catalog import PACKAGE, sources
from support.rendered import texts_of_page, written

from evergreen_groups.language import Language, use_language
from evergreen_groups.render.audit import render_audit
from evergreen_groups.render.report import LetterOptions, html_letter, plain_letter
from evergreen_groups.report import Report

# Any date, however it's written: 2026-08-14, 8/14/2026, 14 August 2026, August 14, 2026.
_ANY = re.compile(
    r"\b20\d\d-\d\d-\d\d\b|\b\d{1,2}/\d{1,2}/\d{2,4}\b|\b\d{1,2} [A-Z][a-z]+\.? 20\d\d\b|"
    r"\b[A-Z][a-z]+\.? \d{1,2}, 20\d\d\b"
)
_ONE_FORM = {
    "en-GB": re.compile(r"\d{1,2} (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sept|Oct|Nov|Dec) 20\d\d"),
    "en-US": re.compile(r"(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{1,2}, 20\d\d"),
}
_WRITERS = {"format_date", "format_datetime", "strftime", "toLocaleDateString", "toLocaleString", "DateTimeFormat"}

_FORMATS: dict[str, Callable[[Report], str]] = {
    "page": lambda report: written(report, "html"),
    "terminal": lambda report: written(report, "table"),
    "mail": lambda report: html_letter(report, LetterOptions()),
    "plain mail": lambda report: plain_letter(report, LetterOptions()),
}


def test_one_module_writes_dates() -> None:
    """Others may only write those for machines, whose time follows a T, and the date of a mail's header."""
    allowed = {
        ("language/numbers.py", "format_date"),
        ("language/numbers.py", "strftime"),  # the time zone's name
        ("mail/message.py", "format_datetime"),
        ("web/static/texts.js", "DateTimeFormat"),
    }
    assert {*_uses_in_python(), *_uses_elsewhere()} == allowed


def _uses_in_python() -> Iterator[tuple[str, str]]:
    for path, tree in sources().items():
        for call in ast.walk(tree):
            if str(path).startswith("sandbox/") or not isinstance(call, ast.Call):
                continue
            name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            is_for_machines = any(isinstance(one, ast.Constant) and "dT%H" in str(one.value) for one in call.args)
            if name in _WRITERS and not is_for_machines:
                yield str(path), name


def _uses_elsewhere() -> Iterator[tuple[str, str]]:
    for path in sorted(PACKAGE.rglob("*")):
        if path.suffix in (".js", ".html", ".txt") and "sandbox" not in path.parts:
            text = path.read_text("utf-8")
            # What a script or a form reads is in an attribute.
            text = re.sub(r'(datetime|value|min|max)="\{\{.*?\}\}"', "", text)
            yield from (
                (str(path.relative_to(PACKAGE)), name) for name in (*_WRITERS, "isoformat") if f"{name}(" in text
            )


@pytest.mark.parametrize("tag", _ONE_FORM)
@pytest.mark.parametrize("format", _FORMATS)
def test_a_report_has_one_form_of_dates(tag: str, format: str) -> None:
    with use_language(Language(tag)):
        pages = [_FORMATS[format](report) for report in (samples.full_report(4), samples.changed_report())]
    found = [date for page in pages for date in _ANY.findall(_read(page))]
    assert found
    assert [date for date in found if not _ONE_FORM[tag].fullmatch(date)] == []


@pytest.mark.parametrize("tag", _ONE_FORM)
def test_so_has_an_audit(tag: str, tmp_path: Path) -> None:
    with use_language(Language(tag)), (tmp_path / "audit.html").open("w+") as stream:
        render_audit(audit_samples.sample_audit(), "html", stream)
        stream.seek(0)
        found = _ANY.findall(_read(stream.read()))
    assert found
    assert [date for date in found if not _ONE_FORM[tag].fullmatch(date)] == []


def _read(page: str) -> str:
    return texts_of_page(page) if page.lstrip().startswith("<") else page
