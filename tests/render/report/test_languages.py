"""The report in other languages: every text is in the catalogue, and numbers and dates follow the language."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

import lxml.html
import pytest
from support.rendered import latin_words, texts_of_page, workbook, written
from support.report_samples import ORG_UNITS, blocked_report, changed_report, detailed, empty_report, report_with_limits

from evergreen_groups import exit_status
from evergreen_groups.language import ENGLISH, Language, catalogue, use_language
from evergreen_groups.language.language import PSEUDO
from evergreen_groups.message import Message
from evergreen_groups.render import failed_run_page, refusal_page
from evergreen_groups.render.report import (
    IndexedLibrary,
    LetterOptions,
    html_letter,
    plain_letter,
    subject_line,
    write_index,
)
from evergreen_groups.report import Choice, Criteria, Report, libraries
from evergreen_groups.report.libraries import HIDDEN_PATRONS
from evergreen_groups.settings import MailSettings
from evergreen_groups.state import RunOutcome, RunStatus

SHOWN_AS_IT_IS = (
    "Castellanos-Whitfield",
    "UTC",
    "PATRON_EXCEEDS_FINES",
    "CONS",
    "https://ils.example.org/osrf-gateway-v1",
)
REPORTS = {
    "changed": changed_report,
    "blocked": blocked_report,
    "limits": report_with_limits,
    "empty": empty_report,
    "detailed": detailed,
}


def note() -> Message:
    missing = {"permission": "VIEW_USER", "libraries": "BR3"}
    return Message("Overall: {note}", values={"note": HIDDEN_PATRONS.with_values(missing)})


def chosen(report: Report) -> Report:
    choice = Choice(60, ("damage",), True, True, False, True, ("Child",))
    return replace(report, criteria=replace(report.criteria, choice=choice, top=3), notes=(note(),))


def data(report: Report) -> Iterator[str]:
    """Yield a report's untranslated data: names, barcodes, and the library's own billing types."""
    yield from SHOWN_AS_IT_IS
    yield from ("VIEW_USER", "BR3", "SYS1", "BM1", "Child", "damage", "Photocopies")
    for group in report.groups:
        yield group.library
        yield from (text for one in group.members for text in (one.name, one.library))
    for change in report.changes.cleared if report.changes else ():
        yield change.library
        yield change.present.lead_name if change.present else ""
    if report.details:
        yield from (report.details.of(one).profile for group in report.groups for one in group.members)


def text(report: Report, format: str) -> str:
    return written(report, format, **({"width": 160} if format == "table" else {}))


@pytest.fixture(params=REPORTS, ids=str)
def report(request: pytest.FixtureRequest) -> Report:
    return chosen(REPORTS[request.param]())


@pytest.fixture
def pseudo() -> Iterator[None]:
    with use_language(Language(PSEUDO, timezone=UTC)):
        yield


LETTER = LetterOptions(names=True, links=(("", "https://ils.example.org/osrf-gateway-v1"),))
DOCUMENTS: dict[str, Callable[[Report], str]] = {
    "page": lambda report: texts_of_page(text(report, "html")),
    "table": lambda report: text(report, "table"),
    "plain mail": lambda report: plain_letter(report, LETTER),
    "mail": lambda report: texts_of_page(html_letter(report, LETTER)),
    "spreadsheet": lambda report: "\n".join(
        str(cell)
        for sheet in workbook(report)
        for row in [(sheet.title,), *sheet.iter_rows(values_only=True)]
        for cell in row
        if cell
    ),
}


@pytest.mark.usefixtures("pseudo")
@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_text_is_in_the_catalogue(report: Report, document: str) -> None:
    assert not latin_words(DOCUMENTS[document](report), data(report))


@pytest.mark.usefixtures("pseudo")
def test_everything_is_right_to_left_and_titles_are_in_the_catalogue() -> None:
    report = changed_report()
    tree = lxml.html.document_fromstring(text(report, "html"))
    assert (tree.get("lang"), tree.get("dir")) == (PSEUDO, "rtl")
    labels = tree.xpath("//style")[1].text
    assert not latin_words(re.sub(r"--[a-z-]+|:root|@[a-z-]+|content", "", labels))
    assert not latin_words(subject_line(MailSettings().subject, report, ()))
    assert all(sheet.sheet_view.rightToLeft for sheet in workbook(report).worksheets)


@pytest.mark.usefixtures("pseudo")
def test_every_text_of_the_index_is_in_the_catalogue() -> None:
    report = replace(changed_report(), criteria=Criteria(), org_units=ORG_UNITS, hidden_libraries=frozenset({"BR1"}))
    parts = libraries.by_library(report)
    entries = [
        IndexedLibrary(
            one,
            parts[one.shortname],
            {"html": f"{one.shortname}.html", "csv": f"{one.shortname}.csv"},
            Language("fr-CA"),
        )
        for one in libraries.reported_libraries(report)
    ]
    stream = io.BytesIO()
    write_index(report, entries, stream)
    names = [text for one in libraries.reported_libraries(report) for text in (one.shortname, one.name)]
    page = stream.getvalue().decode()
    assert not latin_words(texts_of_page(page), [*data(report), *names, "CSV"])
    assert set(lxml.html.document_fromstring(page).xpath("//th/a/@hreflang")) == {"fr-CA"}


@pytest.mark.usefixtures("pseudo")
def test_every_text_of_the_page_about_a_failed_run_is_in_the_catalogue() -> None:
    moment = datetime(2026, 8, 1, 5, tzinfo=UTC)
    status = RunStatus(RunOutcome.FAILED, moment, moment, exit_status.PERMISSION, "PermissionDeniedError", None, None)
    for last in ("", "report.html"):
        page = failed_run_page(status, last=last)
        assert not latin_words(texts_of_page(page), ["PermissionDeniedError"])
    for login in ("", "/eg2/login"):
        assert not latin_words(texts_of_page(refusal_page("", "", advice="", again="/", login=login)))


@pytest.mark.usefixtures("pseudo")
@pytest.mark.parametrize("format", ["csv", "json"])
def test_what_programs_read_is_english_whatever_the_language(report: Report, format: str) -> None:
    found = text(report, format)
    with use_language(ENGLISH):
        assert found == text(report, format)
    assert found.isascii() or not re.search("[א-ת]", re.sub("בן-דוד|יוסף", "", found))
    if format == "json":
        assert json.loads(found)["notes"] == [str(note())]


def test_data_as_of_has_the_time_zone_of_the_reader() -> None:
    with use_language(Language("en", timezone=catalogue.timezone_of("America/Vancouver"))):
        assert "14 Aug 2026, 01:15 PDT" in texts_of_page(text(changed_report(), "html"))


@pytest.mark.parametrize(
    ("tag", "form"), [("en", "d\\ mmm\\ yyyy"), ("cs", "d\\.\\ m\\.\\ yyyy"), ("fr-CA", "d\\ mmm\\ yyyy")]
)
def test_days_in_a_spreadsheet_are_days_for_the_program(tag: str, form: str) -> None:
    """Programs sort by these cells; as texts, April would come first."""
    with use_language(Language(tag)):
        book = workbook(detailed())
    for sheet in book.worksheets[1:]:
        days = [cell for column in sheet.iter_cols(min_row=2) for cell in column if cell.is_date]
        assert days
        assert {cell.number_format for cell in days} == {form}


@pytest.mark.parametrize("tag", ["en", "fr-CA", "es", "cs"])
def test_the_facts_of_a_plain_letter_have_room_and_its_subject_has_plain_spaces(tag: str) -> None:
    with use_language(Language(tag, "CAD")):
        lines = plain_letter(detailed(), LetterOptions()).splitlines()
        subject = subject_line(MailSettings().subject, detailed(), ())
    assert all(len(line) <= 72 for line in lines)
    beside = [re.match(r"\S.*?\s{2,}(?=\S)", line) for line in lines]
    assert max(len(found[0]) for found in beside if found) <= 34
    assert not re.search("[\xa0\u202f]|  ", subject)
