"""Whose language each file and mail of a run is in, and whose time zone."""

from __future__ import annotations

from email.message import EmailMessage
from pathlib import Path
from typing import Any

import lxml.html
import pytest
from support.command import Command
from support.fault_proxy import Call, FaultProxy
from support.mail_server import SECRET, Post, mail_section, server
from support.report_samples import ORG_UNITS

from evergreen_groups import exit_status
from evergreen_groups.language import catalogue
from evergreen_groups.nightly.output import Readers
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import LanguageSettings

SETTINGS = LanguageSettings(libraries=(("sys", "fr-CA"), ("BR2", "es")), currency="CAD")
TORONTO, PRAGUE = catalogue.timezone_of("America/Toronto"), catalogue.timezone_of("Europe/Prague")


@pytest.mark.parametrize(
    ("libraries", "tag"),
    [
        ((), "en"),
        (("CONS",), "en"),
        (("SYS",), "fr-CA"),
        (("br1",), "fr-CA"),
        (("BR1", "SYS"), "fr-CA"),
        (("BR2",), "es"),
        (("BR1", "BR2"), "en"),
        (("UNKNOWN",), "en"),
    ],
)
def test_the_nearest_library_above_that_has_a_language_counts(libraries: tuple[str, ...], tag: str) -> None:
    language = Readers(SETTINGS, ORG_UNITS).of_libraries(libraries)
    assert (language.tag, language.currency, language.timezone) == (tag, "CAD", None)


def test_the_time_zone_is_the_librarys_unless_one_is_configured() -> None:
    assert TORONTO is not None
    assert PRAGUE is not None
    zones = {1: TORONTO, 2: TORONTO, 3: PRAGUE, 4: TORONTO}
    readers = Readers(SETTINGS, ORG_UNITS, zones)
    assert (readers.of_all.timezone, readers.of_library("BR1").timezone) == (TORONTO, PRAGUE)
    assert readers.of_libraries(("BR1", "BR2")).timezone is TORONTO
    configured = Readers(LanguageSettings(timezone="Europe/Prague"), ORG_UNITS, zones)
    assert configured.of_all.timezone == configured.of_library("BR2").timezone == PRAGUE


CONFIGURED = """
[report]
output = "{reports}"
split = "library"
formats = ["html", "csv", "json", "xlsx"]
[language]
{more}
[language.libraries]
HARBOR = "fr-CA"
VALLEY = "es"
{mail}
"""
RECIPIENTS = {
    "MILL": ["mill@library.example"],
    "HARBOR": ["harbor@library.example"],
    "*": ["director@library.example"],
}


def opened(path: Path) -> Any:
    return lxml.html.parse(str(path), parser=lxml.html.HTMLParser(encoding="utf-8")).getroot()


def language_of(mail: EmailMessage) -> str:
    part = mail.get_body(("html",))
    assert part is not None
    return str(lxml.html.document_fromstring(part.get_content()).get("lang"))


@pytest.mark.long
def test_a_french_page_and_a_spanish_mail_beside_an_english_index(
    sandbox: Sandbox, mail_certificates: Path, tmp_path: Path
) -> None:
    for org_unit, zone in ((1, "America/Toronto"), (3, "Europe/Prague")):
        sandbox._store.insert("aous", {"name": "lib.timezone", "org_unit": org_unit, "value": f'"{zone}"'})
    post, reports = Post(), tmp_path / "reports"
    command = Command(tmp_path, sandbox.url)
    command.environ |= {"EVERGREEN_GROUPS_MAIL_PASSWORD": SECRET, "LC_ALL": "cs_CZ.UTF-8"}
    with server(post, mail_certificates) as port:
        mail = mail_section(port, mail_certificates, recipients=RECIPIENTS)
        command.config.write_text(CONFIGURED.format(reports=reports, more="", mail=mail))
        done = command("report", "--mail")
    assert done.returncode == exit_status.DONE, done.stderr
    latest = reports / "latest"
    pages = {path.stem: opened(path) for path in latest.glob("*.html")}
    assert {name: page.get("lang") for name, page in pages.items()} == {
        **dict.fromkeys(("index", "LAKELAND", "NORTH", "PINE"), "en"),
        "HARBOR": "fr-CA",
        **dict.fromkeys(("VALLEY", "ELM", "MILL", "BUS"), "es"),
    }
    links = {link.text_content(): link.get("hreflang") for link in pages["index"].xpath("//table//th/a")}
    assert (links["HARBOR"], links["MILL"], links["NORTH"]) == ("fr-CA", "es", None)
    assert {address: language_of(mail) for address, mail in zip(post.recipients, post.taken, strict=True)} == {
        "mill@library.example": "es",
        "harbor@library.example": "fr-CA",
        "director@library.example": "en",
    }
    assert [mail["Content-Language"] for mail in post.taken] == [language_of(mail) for mail in post.taken]
    moments = {name: page.xpath("string((//time)[1])") for name, page in pages.items()}
    assert moments["index"].endswith((" EDT", " EST"))
    assert moments["MILL"].endswith((" CET", " CEST"))
    headers = {(latest / f"{name}.csv").read_text("utf-8").splitlines()[0] for name in ("NORTH", "HARBOR", "MILL")}
    assert len(headers) == 1, "programs read the same columns, whatever the language"


@pytest.mark.long
@pytest.mark.parametrize(
    ("more", "words", "calls"),
    [
        ("", ("report",), 1),
        ("", ("report", "--mail"), 1),
        ('timezone = "Europe/Prague"', ("report", "--mail"), 0),
        ("", ("report", "--output", "{directory}/report.json", "--split", "none", "--format", "json"), 0),
    ],
)
def test_time_zones_are_read_once_and_where_somebody_reads_them(
    proxy: FaultProxy, mail_certificates: Path, tmp_path: Path, more: str, words: tuple[str, ...], calls: int
) -> None:
    command = Command(tmp_path, proxy.url)
    command.environ["EVERGREEN_GROUPS_MAIL_PASSWORD"] = SECRET
    asked: list[Call] = []
    proxy.answer = asked.append
    with server(Post(), mail_certificates) as port:
        mail = mail_section(port, mail_certificates, recipients=RECIPIENTS)
        command.config.write_text(CONFIGURED.format(reports=tmp_path / "reports", more=more, mail=mail))
        done = command(*[word.format(directory=tmp_path) for word in words])
    assert done.returncode == exit_status.DONE, done.stderr
    assert sum("lib.timezone" in call.parameters for call in asked) == calls
