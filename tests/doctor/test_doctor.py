"""The doctor approves a good installation and names the cause of each planted fault, in every language."""

from __future__ import annotations

import io
import json
import os
import re
import sqlite3
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.command import Command
from support.fault_proxy import FaultProxy
from support.gateways import PASSWORD
from support.installation import Installation, only, said
from support.planted_faults import PLANTED, an_account_without_staff_login, database, killed_run
from support.report_samples import sample_report
from support.state_files import write_last_run

from evergreen_groups import exit_status
from evergreen_groups.doctor import Diagnosis, Finding, Subject, Verdict, run
from evergreen_groups.doctor import network as service
from evergreen_groups.doctor.finding import from_error, from_os_error
from evergreen_groups.doctor.interface import NO_TOKEN
from evergreen_groups.errors import ConfigurationError, DataError, StateError, TransportError, UnreachableError
from evergreen_groups.language import Language, use_language
from evergreen_groups.language.language import PSEUDO
from evergreen_groups.message import Message, own_pip
from evergreen_groups.render.doctor import DiagnosisWriter, write_diagnosis_json
from evergreen_groups.report import History
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.state import RunOutcome, RunStatus, State, backup

OK, WARNING, FAILED, SKIPPED = Verdict
MIRRORED = Language(PSEUDO, timezone=UTC)
WRITES = {f"open-ils.actor.{name}" for name in ("patron.update", "usergroup.new", "user.penalties.update_at_home")}


@pytest.fixture
def installation(proxy: FaultProxy, tmp_path: Path) -> Installation:
    """An installation whose gateway can be made to fail."""
    return Installation(tmp_path, proxy.url)


def untranslated(finding: Finding, *data: object) -> list[str]:
    """Return the words of a finding that aren't translated and are no data."""
    stream = io.StringIO()
    with use_language(MIRRORED):
        writer = DiagnosisWriter(stream, width=2000, color=False)
        writer.write_finding(finding)
        writer.write_counts(Diagnosis(datetime.now(UTC), None, (finding,)))
    text = stream.getvalue()
    for name in sorted(filter(None, map(str, data)), key=len, reverse=True):
        text = text.replace(name, " ")
    return re.findall(r"[A-Za-z]{2,}", text)


def data_in(values: object) -> set[str]:
    """Return the parts of values that aren't texts: names, paths, addresses."""
    if isinstance(values, Message):
        return set().union(*map(data_in, values.values.values()))
    if isinstance(values, list | tuple):
        return set().union(*map(data_in, values))
    return {str(values)}


def of_values(finding: Finding) -> set[str]:
    return set().union(*map(data_in, finding.values.values()))


def check_translated(finding: Finding) -> None:
    own = () if isinstance(finding.title, Message) else (finding.title,)
    assert untranslated(finding, *of_values(finding), *own) == [], finding


def test_nothing_is_wrong_with_what_is_right(installation: Installation) -> None:
    installation.changes = True
    diagnosis = installation.examined()
    for finding in diagnosis.findings:
        check_translated(finding)
    assert [said(finding) for finding in only(diagnosis, WARNING, FAILED, SKIPPED)] == []
    assert diagnosis.healthy
    assert diagnosis.gateway == installation.url
    checks = [finding.check for finding in diagnosis.findings]
    assert {"permission.VIEW_USER", "permission.UPDATE_USER", "methods", "pushdown", "clock", "mail"} <= set(checks)


def test_a_configuration_that_only_serves_is_checked_as_far_as_it_can_be(installation: Installation) -> None:
    installation.config.write_text(f'[gateway]\nurl = "{installation.url}"\n')
    installation.config.chmod(0o600)
    diagnosis = installation.examined()
    assert diagnosis.healthy
    assert [said(finding) for finding in only(diagnosis, WARNING, FAILED)] == []
    well = {finding.check for finding in only(diagnosis, OK)}
    assert {"configuration", "state", "gateway", "services", "clock", "idl", "methods"} <= well
    skipped = only(diagnosis, SKIPPED)
    assert {finding.check for finding in skipped} >= {"password", "login", "permission.VIEW_USER", "thresholds"}
    assert {finding.code for finding in skipped} == {"not-needed"}
    assert all(finding.found == "not needed for the web service alone" for finding in skipped)


@pytest.mark.parametrize(
    ("listening", "verdicts"),
    [
        ("127.0.0.1:8211 (Stream)", [OK]),
        ("127.0.0.1:8212 (Stream)", [WARNING]),
        ("[::1]:8211 (Stream)", [WARNING]),
        ("", []),
    ],
)
def test_the_socket_listens_where_the_configuration_says(
    installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listening: str, verdicts: list[Verdict]
) -> None:
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f'#!/bin/sh\n[ "$4" = evergreen-groups.socket ] && echo "{listening}"\n')
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    findings = installation.examined(["configuration", "socket"]).findings[1:]
    assert [finding.verdict for finding in findings] == verdicts
    for finding in findings:
        check_translated(finding)
        if finding.verdict is WARNING:
            assert (finding.setting, listening.split(maxsplit=1)[0] in finding.found) == ("serve.port", True)


@pytest.mark.parametrize(
    "more", ['[mail.recipients]\n"*" = ["a@example.org"]\n', 'password_file = "/etc/password"\n', "events"]
)
def test_a_configuration_that_needs_an_account_misses_it(installation: Installation, more: str, tmp_path: Path) -> None:
    if more == "events":
        (tmp_path / "secret").write_text("s" * 16)
        (tmp_path / "secret").chmod(0o600)
        more = f'[events]\nsecret_file = "{tmp_path}/secret"\n'
    installation.config.write_text(f'[gateway]\nurl = "{installation.url}"\n{more}')
    (finding,) = installation.examined(["configuration"]).findings
    assert (finding.verdict, finding.setting) == (FAILED, "gateway.username")


def test_what_its_account_could_do_at_a_desk(installation: Installation, sandbox: Sandbox) -> None:
    def found() -> list[str]:
        findings = installation.examined(["configuration", "login", "account", "permission.desk"]).findings
        return [finding.found for finding in findings if finding.check == "permission.desk"]

    thresholds, _follow_ups, groups = found()
    assert groups == "this account could change groups at: LAKELAND"
    assert "VIEW_GROUP_PENALTY_THRESHOLD at depth 0" in thresholds
    for account, lacking, what in (
        ("north_manager", None, "this account could change groups at: NORTH"),
        ("north_manager", "VIEW_CIRCULATIONS", "this account could change groups at: NORTH"),
        ("harbor_desk", None, "this account can't change groups; clerks need STAFF_LOGIN, VIEW_USER"),
        ("north_manager", "group_application.%", "this account can't change groups"),
    ):
        sandbox.reset()
        with sandbox._store.transaction() as connection:
            connection.execute("DELETE FROM grants WHERE permission LIKE ? AND usr = 3", [lacking])
        installation.username = account
        installation.write()
        assert found()[2].startswith(what)
    installation.more = "[desk]\nchanges = false\n"
    installation.write()
    assert found() == []


def test_what_the_report_cannot_say_is_warned_of(installation: Installation, sandbox: Sandbox) -> None:
    def found() -> str:
        findings = installation.examined(["configuration", "login", "account", "permission"]).findings
        return next(one.found for one in findings if one.check == "permission.VIEW_USER_TRANSACTIONS")

    with sandbox._store.transaction() as connection:
        connection.execute("DELETE FROM grants WHERE permission = 'VIEW_USER_TRANSACTIONS'")
    assert found() == "nowhere; needed for: bills"
    installation.more = '[report]\ndetails = "sums"\n'
    installation.write()
    assert found().startswith("nowhere; needed for: ")


def test_nothing_is_changed_and_no_secret_is_shown(
    installation: Installation, proxy: FaultProxy, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    before = sandbox._store.rows("au", {}), sandbox._store.rows("ausp", {})
    installation.changes = True
    diagnosis = installation.examined()
    assert (sandbox._store.rows("au", {}), sandbox._store.rows("ausp", {})) == before
    assert set(proxy.seen) >= WRITES
    assert {call.parameters[0] for call in proxy.calls if call.method in WRITES} == {NO_TOKEN}
    assert list(installation.state.iterdir()) == []
    tokens = {call.parameters[0] for call in proxy.calls if "pcrud" in call.method} - {NO_TOKEN}
    shown = repr(diagnosis) + caplog.text
    assert tokens
    assert not [secret for secret in (*tokens, PASSWORD + '"', f"'{PASSWORD}'") if secret in shown]


def test_nothing_is_left_behind(installation: Installation) -> None:
    with State(installation.state) as state:
        History(state.database, installation.url).record(sample_report())
    before = {file.name: file.read_bytes() for file in installation.state.iterdir()}
    assert only(installation.examined(), WARNING, FAILED) == []
    assert {file.name: file.read_bytes() for file in installation.state.iterdir()} == before


def test_an_error_is_shown_with_its_values_and_what_its_kind_advises() -> None:
    for error in (ConfigurationError("no {name}", values={"name": Message("file")}), DataError("no"), StateError("no")):
        assert untranslated(from_error(error)) == []
    asked = from_error(TransportError("no answer", asked="a.bc"))
    assert asked.found == "a.bc: no answer"
    assert asked.advice
    assert untranslated(asked, "a.bc") == []
    assert from_error(UnreachableError("no answer", asked="a.bc")).found == "no answer"
    assert from_error(ConfigurationError("{braces}")).found == "{braces}"
    missing = from_os_error(FileNotFoundError(2, "No such file or directory", "/etc/x.toml"))
    assert missing.found == "/etc/x.toml: No such file or directory"
    assert untranslated(missing, "/etc/x.toml") == []


OF_PCRUD = pytest.mark.apache(reason="the doctor tries none of pcrud's methods behind the other one")


# Each takes a whole diagnosis, so plain pytest runs only a third of them.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=OF_PCRUD if name == "an old server without a method" else pytest.mark.long if place % 3 else ()
        )
        for place, name in enumerate(PLANTED)
    ],
)
def test_a_planted_fault_is_named(installation: Installation, proxy: FaultProxy, sandbox: Sandbox, name: str) -> None:
    check, verdict, cause, advice, plant = PLANTED[name]
    plant(installation, proxy, sandbox)
    diagnosis = installation.examined()
    found = only(diagnosis, WARNING, FAILED)
    assert {(finding.check, finding.verdict) for finding in found} >= {(check, verdict)}, list(map(said, found))
    (named,) = [finding for finding in found if finding.check == check and cause in finding.found + finding.advice]
    assert advice in named.advice
    assert [said(finding) for finding in found if not finding.advice] == []
    first = next(iter(diagnosis.failed), named)
    assert diagnosis.healthy == (verdict is WARNING)
    assert {finding.found for finding in only(diagnosis, SKIPPED)} <= {
        f"not checked because this failed: {first.title}"
    }
    for finding in diagnosis.findings:
        check_translated(finding)
        # What isn't a text of the catalogue is a name, and no words, but for how an answer breaks the protocol.
        assert [
            name
            for name in of_values(finding) - {finding.values.get("detail")}
            if re.search(r"\b(a|by|for|is|no|not|of(?! tomorrow)|the|to) [a-z]", name)
        ] == []


def test_a_login_that_is_tried_for_the_catalog_is_logged_out(
    installation: Installation, proxy: FaultProxy, sandbox: Sandbox
) -> None:
    an_account_without_staff_login(installation, proxy, sandbox)
    installation.examined()
    ended = {call.parameters[0] for call in proxy.calls if call.method.endswith("session.delete")}
    assert len(ended - {NO_TOKEN}) == 1


def test_plain_http_that_is_meant_is_a_warning(tmp_path: Path) -> None:
    house = Installation(tmp_path, "http://192.0.2.1", more="allow_plain_http = true\n")
    (warning,) = only(house.examined(only=("configuration", "address")), WARNING, FAILED)
    assert "isn't encrypted" in warning.found
    assert "remove allow_plain_http" in warning.advice


def test_a_proxy_on_the_way_is_named_without_its_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://user:secret@proxy.example:3128")
    house = Installation(tmp_path, "https://evergreen.example")
    diagnosis = house.examined(only=("address", "certificate"))
    assert [(finding.verdict, finding.found) for finding in diagnosis.findings] == [
        (OK, "https://evergreen.example, through the proxy proxy.example")
    ]
    assert "secret" not in repr(diagnosis)


def test_files_of_another_user_are_told(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:
        for file in (installation.write(), installation.password):
            os.chown(file, 4321, -1)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    diagnosis = installation.examined(only=("configuration", "configuration-file", "password"))
    assert [(finding.check, finding.verdict) for finding in only(diagnosis, WARNING, FAILED)] == [
        ("configuration-file", FAILED), ("password", WARNING)
    ]  # fmt: skip
    assert all("belongs to another user (uid " in finding.found for finding in only(diagnosis, WARNING, FAILED))


def test_a_run_that_was_killed_when_all_was_done_is_no_fault(installation: Installation) -> None:
    now = datetime.now(UTC)
    write_last_run(installation.state, RunStatus(RunOutcome.DONE, now, now, 0, groups=3, members=9))
    killed_run(installation, now)
    assert only(installation.examined(), WARNING, FAILED) == []


def test_it_says_what_contact_data_means(installation: Installation) -> None:
    installation.more = "[report]\ncontact = true\n"
    examined = installation.examined(["configuration", "output"])
    [found] = [one for one in examined.findings if one.check == "output.contact"]
    assert "phone numbers, e-mail and postal addresses" in found.found


def found_of_reports(installation: Installation, *tables: str) -> list[Finding]:
    installation.more = "".join(f'[[reports]]\nname = "r{n}"\n{table}\n' for n, table in enumerate(tables))
    installation.write()
    return [one for one in installation.examined(["configuration", "output"]).findings if one.check != "configuration"]


def test_the_reports_of_the_night_are_written_where_they_can_be(installation: Installation) -> None:
    place = installation.directory
    (place / "open").mkdir()
    (place / "open").chmod(0o777)
    to_nobody = 'recipients = {"*" = ["a@library.example"]}'
    main, *others = found_of_reports(
        installation,
        f'output = "{place}/a.html"',
        to_nobody,
        f'output = "{place}/nowhere/b.html"',
        f'output = "{installation.state}"',
        f'output = "{installation.password}"\nsplit = "library"',
        f'output = "{place}/open/c.json"',
        f'output = "{place}/a.html"',
        f'output = "{place}/d.today"',
        f'output = "{place}/e.today"\nformat = "csv"',
        f'output = "{place}/f"\nsplit = "library"\nformats = ["html"]',
    )
    assert (main.check, main.found) == ("output", "standard output")
    assert [(one.check, one.title) for one in others] == [(f"output.r{n}", f"Report r{n}") for n in range(10)]
    assert [one.code.removeprefix("output-") for one in others] == [
        *("well", "well", "directory-missing", "of-another-kind", "of-another-kind", "replaceable", "shared"),
        *("ending-unknown", "well", "well"),
    ]
    assert others[6].found == f"r0 writes to {place}/a.html too"
    failed = [one for one in others if one.verdict is FAILED]
    assert {one.setting for one in failed} == {"reports.output"}
    assert all("[[reports]]" in one.advice for one in failed)


def test_spreadsheets_of_the_night_without_what_writes_them(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xlsxwriter", None)  # as if it weren't installed
    tables = ('.xlsx"', '.today"\nformat = "xlsx"', '"\nsplit = "library"\nformats = ["html", "xlsx"]')
    place = installation.directory / "x"
    _main, *found = found_of_reports(installation, *(f'output = "{place}{n}{end}' for n, end in enumerate(tables)))
    assert [(one.check, one.code) for one in found] == [(f"output.r{n}", "format-package-missing") for n in range(3)]
    assert f"{own_pip()} install" in found[0].advice


@pytest.mark.parametrize(
    ("setting", "code"),
    [
        ('orgs = ["nowhere"]', "no-such-org-unit"),
        ('recipients = {"nowhere" = ["a@library.example"]}', "no-such-org-unit"),
        ('profiles = ["nobody"]', "no-such-profile"),
        ('kinds = ["lost material"]', "no-such-kind"),
        ('kinds = ["unheard of"]', "no-such-kind"),
        ('kinds = ["lost materials", "misc", "Misc (item)", "grocery"]', "well"),
        ('orgs = ["HARBOR"]\nprofiles = ["child"]\nrecipients = {"*" = ["a@library.example"]}', "well"),
    ],
)
def test_what_the_reports_of_the_night_name_is_there(installation: Installation, setting: str, code: str) -> None:
    installation.more = f'[[reports]]\nname = "old"\noutput = "{installation.directory}/a.html"\n{setting}\n'
    examined = installation.examined(["configuration", "gateway", "login", "names"])
    (found,) = [one for one in examined.findings if one.check == "names"]
    assert found.code == code, said(found)


def test_no_configuration_at_all(tmp_path: Path) -> None:
    with Subject(None, {"HOME": str(tmp_path), "STATE_DIRECTORY": str(tmp_path)}) as subject:
        diagnosis = run(subject)
    first = diagnosis.findings[0]
    assert (first.check, first.verdict) == ("configuration", FAILED)
    assert "evergreen-groups init" in first.advice
    assert {finding.check for finding in only(diagnosis, OK)} == {"state"}


def test_a_blank_behind_the_password_explains_why_login_is_refused(installation: Installation) -> None:
    installation.password.write_text(PASSWORD + " \n")
    diagnosis = installation.examined()
    (warning,) = only(diagnosis, WARNING)
    assert "begins or ends with a space" in warning.found
    assert [finding.check for finding in only(diagnosis, FAILED)] == ["login"]


def test_without_a_password_the_gateway_is_looked_at_all_the_same(installation: Installation) -> None:
    installation.password.unlink()
    diagnosis = installation.examined()
    verdicts = {finding.check: finding.verdict for finding in diagnosis.findings}
    assert {verdicts[check] for check in ("gateway", "services", "clock", "idl", "methods")} == {OK}
    assert (verdicts["password"], verdicts["login"], verdicts["pushdown"]) == (FAILED, SKIPPED, SKIPPED)


def test_a_password_in_the_environment_comes_before_the_file_and_is_said_to(installation: Installation) -> None:
    installation.environ["EVERGREEN_GROUPS_PASSWORD"] = "an older one"
    diagnosis = installation.examined()
    (place,) = [finding.found for finding in diagnosis.findings if finding.check == "password"]
    assert place == f"$EVERGREEN_GROUPS_PASSWORD, which overrides {installation.password}"
    assert [finding.check for finding in diagnosis.failed] == ["login"]


def test_a_slow_gateway_is_a_warning(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "SLOW_SECONDS", 0.0)
    (warning,) = only(installation.examined(), WARNING)
    assert (warning.check, warning.found.endswith(" ms")) == ("time", True)


def test_the_size_and_age_of_the_database_are_reported(installation: Installation) -> None:
    """The database's size and first day are reported even while a run holds the write lock."""
    with closing(sqlite3.connect(database(installation, 0o600), isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        (found,) = [finding.found for finding in installation.examined().findings if finding.check == "databases"]
    assert re.fullmatch(r"\S+/state\.sqlite3 \(0\.\d MB\): report runs: 1 since \d{4}-\d\d-\d\d", found)


def test_the_place_of_backups_is_shown_once_there_is_one(installation: Installation) -> None:
    """Before ``install``, root's own state directory isn't the one that the timer will use."""

    def found() -> str:
        return installation.examined(only=("configuration", "state", "retention")).findings[-1].found

    assert found() == "backups: none yet; `evergreen-groups install` sets up daily backups, and the latest 14 stay"
    with State(installation.state) as state:
        backup.back_up_today(state.database, installation.state, 14)
    assert found() == f"backups: the latest 14, in {installation.state}/backups"


# --- The command ---


def test_the_command_fits_80_columns_and_tells_by_its_status(sandbox: Sandbox, tmp_path: Path) -> None:
    done = Command(tmp_path, None)("--sandbox", "doctor", "--changes")
    assert (done.returncode, done.stderr) == (exit_status.DONE, "")
    assert re.fullmatch(r"ok: \d+\.", done.stdout.splitlines()[-1])
    limited = Command(tmp_path, sandbox.url, "harbor_desk")("doctor", "--changes")
    assert limited.returncode == exit_status.UNWELL
    lines = done.stdout.splitlines() + limited.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    verdicts = {line[:9].strip() for line in lines if not line.endswith(".")}
    assert verdicts == {"ok", "warning", "failed", ""}
    assert "\x1b" not in done.stdout
    assert PASSWORD not in limited.stdout.replace(str(tmp_path), "")


def test_the_command_says_what_is_wrong_alone_when_quiet(sandbox: Sandbox, tmp_path: Path) -> None:
    done = Command(tmp_path, sandbox.url, "north_manager")("--quiet", "doctor")
    assert done.returncode == exit_status.DONE
    assert done.stdout.startswith("warning  VIEW_USER")
    assert "ok " not in done.stdout


def test_what_could_not_be_checked_takes_one_line(tmp_path: Path) -> None:
    done = Command(tmp_path, None)("doctor")
    assert done.returncode == exit_status.UNWELL
    skipped = [line for line in done.stdout.splitlines() if line.startswith("skipped ")]
    assert [line.split()[1:] for line in skipped] == [
        ["Other", "checks", "not", "checked", "because", "this", "failed:", "Configuration"]
    ]
    *_, last, _blank, counts = done.stdout.splitlines()
    assert last == skipped[0], "after all checks that were made"
    assert re.search(r"skipped: \d\d\.$", counts)


def test_json_for_programs(sandbox: Sandbox, tmp_path: Path) -> None:
    done = Command(tmp_path, sandbox.url, "nobody")("doctor", "--json")
    assert done.returncode == exit_status.UNWELL
    document: dict[str, Any] = json.loads(done.stdout)
    assert (document["schema"], document["healthy"]) == ("evergreen-groups/diagnosis/1", False)
    assert document["gateway"] == sandbox.url
    by_check = {finding["check"]: finding for finding in document["findings"]}
    assert by_check["login"]["verdict"] == "failed"
    assert by_check["login"]["advice"]
    assert by_check["pushdown"] | {"title": ""} == {
        "check": "pushdown",
        "title": "",
        "verdict": "skipped",
        "found": "not checked because this failed: Login",
        "advice": "",
    }
    assert sum(document["counts"].values()) == len(document["findings"])


# --- In other languages ---


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
    assert only(diagnosis, FAILED) == []


def test_the_command_speaks_the_configured_language_or_the_terminals(sandbox: Sandbox, tmp_path: Path) -> None:
    run = Command(tmp_path, sandbox.url)
    run.config.write_text('[language]\ndefault = "ar-XB"\n')
    assert "State directory" not in run("doctor").stdout
    run.environ["LC_ALL"] = "en_US.UTF-8"
    assert "State directory" in run("doctor").stdout
    assert run("doctor", "--json").stdout.isascii()
