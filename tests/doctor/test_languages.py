"""The doctor in other languages: every line is translated but for data, and programs get English."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from support.command import Command
from support.error_catalog import Site, findings, names_in
from support.fault_proxy import FaultProxy
from support.installation import Installation, only
from support.planted_faults import PLANTED

from evergreen_groups.doctor import Diagnosis, Finding, Verdict
from evergreen_groups.doctor.checks import CHECKS
from evergreen_groups.doctor.finding import from_error, from_os_error, not_checked, ok
from evergreen_groups.doctor.interface import DESK_PERMISSIONS, METHODS, PERMISSIONS
from evergreen_groups.errors import (
    ConfigurationError,
    DataError,
    StateError,
    TransportError,
    UnreachableError,
)
from evergreen_groups.language import Language, gettext, use_language
from evergreen_groups.language.language import PSEUDO
from evergreen_groups.message import Message
from evergreen_groups.render.doctor import DiagnosisWriter, write_diagnosis_json
from evergreen_groups.sandbox import Sandbox

MIRRORED = Language(PSEUDO, timezone=UTC)
WORD = re.compile(r"[A-Za-z]{2,}")


def lines(*found: Finding) -> list[str]:
    stream = io.StringIO()
    with use_language(MIRRORED):
        writer = DiagnosisWriter(stream, width=2000, color=False)
        for finding in found:
            writer.write_finding(finding)
        writer.write_counts(Diagnosis(datetime.now(UTC), None, found))
    return stream.getvalue().splitlines()


def untranslated(finding: Finding, *data: object) -> list[str]:
    """The words of a finding that aren't translated and are no data."""
    text = "\n".join(lines(finding))
    names = {str(name) for name in data if str(name)}
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, " ")
    return WORD.findall(text)


def data_in(values: object) -> set[str]:
    """The parts of values that aren't texts: names, paths, addresses."""
    if isinstance(values, Message):
        return set().union(*map(data_in, values.values.values()))
    if isinstance(values, list | tuple):
        return set().union(*map(data_in, values))
    return {str(values)}


def of_values(finding: Finding) -> set[str]:
    return set().union(*map(data_in, finding.values.values())) if finding.values else set()


def test_every_line_of_what_is_right_is_translated(installation: Installation) -> None:
    installation.changes = True
    for finding in installation.examined().findings:
        own = () if isinstance(finding.title, Message) else (finding.title,)
        assert untranslated(finding, *of_values(finding), *own) == [], finding


# Each is a whole diagnosis.
@pytest.mark.long
@pytest.mark.parametrize("name", PLANTED)
def test_every_line_about_a_planted_fault_is_translated(
    installation: Installation, proxy: FaultProxy, sandbox: Sandbox, name: str
) -> None:
    PLANTED[name][-1](installation, proxy, sandbox)
    for finding in installation.examined().findings:
        own = () if isinstance(finding.title, Message) else (finding.title,)
        assert untranslated(finding, *of_values(finding), *own) == [], finding
        # What isn't a text of the catalogue is a name, and no words, but for how an answer breaks the protocol.
        assert [
            name
            for name in of_values(finding) - {finding.values.get("detail")}
            if re.search(r"\b(a|by|for|is|no|not|of(?! tomorrow)|the|to) [a-z]", name)
        ] == []


def test_titles_and_purposes_are_texts_of_the_catalogue() -> None:
    assert [check.title for check in CHECKS if not isinstance(check.title, Message)] == ["Redis", "VIEW_USER"]
    with use_language(MIRRORED):
        for text in (*(one.purpose for one in METHODS), *(one.purpose for one in PERMISSIONS)):
            assert not WORD.search(gettext(text).replace("audit --fix", ""))
    assert all(name.isupper() for name in DESK_PERMISSIONS)


def test_a_check_that_could_not_be_made_names_the_other_ones_title() -> None:
    skipped = not_checked(Message("Gateway"))
    assert untranslated(skipped) == []
    assert skipped.found == "not checked because this failed: Gateway"


def test_an_error_is_shown_with_its_values_and_what_its_kind_advises() -> None:
    for error in (ConfigurationError("no {name}", values={"name": Message("file")}), DataError("no"), StateError("no")):
        assert untranslated(from_error(error)) == []
    asked = from_error(TransportError("no answer", asked="a.bc"))
    assert asked.found == "a.bc: no answer"
    assert untranslated(asked, "a.bc") == []
    assert from_error(UnreachableError("no answer", asked="a.bc")).found == "no answer"
    assert from_error(ConfigurationError("{braces}")).found == "{braces}"
    missing = from_os_error(FileNotFoundError(2, "No such file or directory", "/etc/x.toml"))
    assert missing.found == "/etc/x.toml: No such file or directory"
    assert untranslated(missing, "/etc/x.toml") == []


def test_days_moments_and_amounts_are_as_people_write_them() -> None:
    found = ok(
        "the last one: {finished}; {date}; {owed}; {seconds:,.2f} s; {names}",
        values={
            "finished": datetime(2026, 8, 1, 9, 5, tzinfo=UTC),
            "date": date(2026, 8, 1),
            "owed": Decimal("1234.50"),
            "seconds": 1234.5,
            "names": ["a", "b", "c"],
        },
    )
    with use_language(Language("en", timezone=UTC)):
        assert gettext(found.found) == (
            "the last one: 1 Aug 2026, 09:05; 1 Aug 2026; $1,234.50; 1,234.50 s; a, b and c"
        )
    with use_language(Language("fr-CA", "CAD", UTC)):
        assert gettext(found.found).endswith("1 août 2026; 1\xa0234,50\xa0$; 1\xa0234,50 s; a, b et c")
    assert found.found.endswith("2026-08-01; 1,234.50; 1,234.50 s; a, b and c")


def test_no_finding_writes_a_day_or_an_amount_in_one_languages_way() -> None:
    specs = re.compile(r"\{\w+:(%|[^}]*\.2f)|\$\{")
    sites: list[Site] = [site for site in findings() if specs.search(f"{site.message}{site.advice}")]
    assert [site.message for site in sites if names_in(site.message or "") != {"count", "seconds"}] == []


def test_what_programs_read_is_english(installation: Installation) -> None:
    diagnosis = installation.examined(["configuration", "password", "state"])
    written = []
    for language in (MIRRORED, Language()):
        stream = io.StringIO()
        with use_language(language):
            write_diagnosis_json(diagnosis, stream)
        written.append(stream.getvalue())
    assert written[0] == written[1]
    titles = [finding["title"] for finding in json.loads(written[0])["findings"]]
    assert titles == ["Configuration", "Password", "State directory"]
    assert only(diagnosis, Verdict.FAILED) == []


def test_the_command_speaks_the_configured_language_or_the_terminals(sandbox: Sandbox, tmp_path: Path) -> None:
    run = Command(tmp_path, sandbox.url)
    run.config.write_text('[language]\ndefault = "ar-XB"\n')
    assert "State directory" not in run("doctor").stdout
    run.environ["LC_ALL"] = "en_US.UTF-8"
    assert "State directory" in run("doctor").stdout
    assert run("doctor", "--json").stdout.isascii()
