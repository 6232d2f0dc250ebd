"""Amounts in every language and currency look the same in every document, and in scripts."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from importlib import resources

import pytest
from support.desk_browser import chromium
from support.rendered import workbook, written
from support.report_samples import blocked_report, changed_report, detailed

from evergreen_groups.language import Language, day, enumeration, languages, money_form, number, price, use_language
from evergreen_groups.render.report import LetterOptions, html_letter, plain_letter
from evergreen_groups.report import Report

CURRENCIES = ("USD", "CAD", "EUR", "CZK", "MXN", "CHF")
READERS = [Language(tag, currency) for tag in (*languages(), "es-ES", "cs-CZ") for currency in CURRENCIES]
REPORTS = (changed_report, blocked_report, detailed)
DOCUMENTS: dict[str, Callable[[Report], str]] = {
    "page": lambda report: written(report, "html"),
    "terminal": lambda report: written(report, "table"),
    "mail": lambda report: html_letter(report, LetterOptions()),
    "plain mail": lambda report: plain_letter(report, LetterOptions()),
}
MONEY = re.compile(rf"[$€]|Kč|{'|'.join(CURRENCIES)}|\d[.,]\d\d\b")


def amounts() -> re.Pattern[str]:
    """Amounts as they are written in the current language and currency."""
    form = money_form()
    digits = rf"\d[\d{re.escape(form.separator)}]*{re.escape(form.point)}\d\d"
    return re.compile("|".join(f"{re.escape(before)}{digits}{re.escape(after)}" for before, after in form.around))


@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize("language", READERS, ids=lambda one: f"{one.tag}-{one.currency}")
def test_a_document_has_one_form(language: Language, document: str) -> None:
    with use_language(language):
        for make in REPORTS:
            text = re.sub(r"(?s)<style.*?</style>|<script.*?</script>|<[^>]*>", " ", DOCUMENTS[document](make()))
            text = re.sub(r"(?<=\d)\s+(?=[€$K])", "\xa0", html.unescape(html.unescape(text)))
            assert len(amounts().findall(text)) > 3
            rest = amounts().sub("", text)
            assert MONEY.findall(rest) == [], rest


@pytest.mark.parametrize("language", READERS, ids=lambda one: f"{one.tag}-{one.currency}")
def test_so_have_spreadsheets(language: Language) -> None:
    with use_language(language):
        before, after = money_form().around[0]
        formats = {
            cell.number_format for row in workbook(detailed()).worksheets[1].iter_rows(min_row=2) for cell in row
        }
    money = {form.partition(";")[0] for form in formats if ".00" in form}
    assert money == {f'"{before}"#,##0.00' if before else f'#,##0.00"{after}"'}


VALUES = [Decimal(text) for text in ("0.00", "5.00", "-1.50", "999.99", "1234.50", "25650.05", "-1234567.89")]
COUNTS = [0, 7, 999, 1200, 120000, 1234567]
LISTS = [["A"], ["A", "B"], ["A", "B", "C"]]
DAYS = ["2026-08-01", "2026-12-31", "2025-05-09"]
IN_SCRIPTS = """
const [source, languages, values, counts, lists, days] = arguments;
const done = arguments[arguments.length - 1];
const module = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
import(module).then((texts) => done(languages.map((one) => {
  texts.use({ ...one, texts: {} });
  return [values.map(texts.money), counts.map(texts.number), lists.map(texts.enumeration), days.map(texts.day)];
})));
"""


@pytest.mark.long
def test_scripts_write_as_the_service_does() -> None:
    source = resources.files("evergreen_groups.web").joinpath("static", "texts.js").read_text("utf-8")
    readers = [*READERS, Language("en", "INR"), Language("de-CH", "CHF")]
    told: list[dict[str, object]] = []
    expected: list[list[list[str]]] = []
    for language in readers:
        with use_language(language):
            dates = str(language.date_locale).replace("_", "-")
            told.append({"tag": language.tag, "dates": dates, "money": json.loads(json.dumps(money_form()._asdict()))})
            days = [day(date.fromisoformat(text)) for text in DAYS]
            expected.append([[*map(price, VALUES)], [*map(number, COUNTS)], [*map(enumeration, LISTS)], days])
    with chromium() as browser:
        browser.get("data:text/html,")
        given = (source, told, [str(value) for value in VALUES], COUNTS, LISTS, DAYS)
        found = browser.execute_async_script(IN_SCRIPTS, *given)
    for language, ours, theirs in zip(readers, expected, found, strict=True):
        assert theirs == ours, language
