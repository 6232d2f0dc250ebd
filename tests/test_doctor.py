"""The doctor: what is right is said to be right, and each of many planted faults is named by its cause."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import PASSWORD
from fault_proxy import Call, FaultProxy, fault_proxy
from installation import Installation, only, said
from report_samples import sample_report
from test_cli import Command

from evergreen_groups import run_status, state
from evergreen_groups.cli import exit_codes
from evergreen_groups.diagnosis import Subject, Verdict, answers, files, run
from evergreen_groups.diagnosis.finding import Line
from evergreen_groups.diagnosis.requirements import NO_TOKEN
from evergreen_groups.errors import ConfigurationError, DataError, HistoryError, TransportError
from evergreen_groups.history import History
from evergreen_groups.run_status import Outcome, RunStatus
from evergreen_groups.sandbox import Sandbox

OK, WARNING, FAILED, SKIPPED = Verdict
NO_METHOD = 404, "osrfMethodException : Method [x] not found for OpenILS::Application::Actor"
NO_SERVICE = 404, "osrfServiceException : Service Not Found"
WRITES = {
    "open-ils.actor.patron.update",
    "open-ils.actor.usergroup.new",
    "open-ils.actor.user.penalties.update_at_home",
}


@pytest.fixture
def proxy(sandbox: Sandbox) -> Iterator[FaultProxy]:
    with fault_proxy(sandbox.url) as running:
        yield running


@pytest.fixture
def installation(proxy: FaultProxy, tmp_path: Path) -> Installation:
    return Installation(tmp_path, proxy.url)


def test_nothing_is_wrong_with_what_is_right(installation: Installation) -> None:
    installation.changes = True
    diagnosis = installation.examined()
    assert [said(finding) for finding in only(diagnosis, WARNING, FAILED, SKIPPED)] == []
    assert diagnosis.healthy
    assert diagnosis.gateway == installation.url
    checks = [finding.check for finding in diagnosis.findings]
    assert {"permission.VIEW_USER", "permission.UPDATE_USER", "methods", "pushdown", "clock", "mail"} <= set(checks)


def test_nothing_is_changed_and_no_secret_is_shown(
    installation: Installation, proxy: FaultProxy, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    calls: list[Call] = []
    proxy.answered = calls.append
    before = sandbox._store.rows("au", {}), sandbox._store.rows("ausp", {})
    installation.changes = True
    diagnosis = installation.examined()
    assert (sandbox._store.rows("au", {}), sandbox._store.rows("ausp", {})) == before
    assert {call.method for call in calls} >= WRITES
    assert {call.parameters[0] for call in calls if call.method in WRITES} == {NO_TOKEN}
    assert list(installation.state.iterdir()) == []
    tokens = {call.parameters[0] for call in calls if "pcrud" in call.method} - {NO_TOKEN}
    shown = repr(diagnosis) + caplog.text
    assert tokens
    assert not [secret for secret in (*tokens, PASSWORD + '"', f"'{PASSWORD}'") if secret in shown]


def test_nothing_is_left_behind(installation: Installation) -> None:
    with History(installation.state, installation.url) as history:
        history.record(sample_report())
    before = {file.name: file.read_bytes() for file in installation.state.iterdir()}
    assert only(installation.examined(), WARNING, FAILED) == []
    assert {file.name: file.read_bytes() for file in installation.state.iterdir()} == before


def test_an_error_that_does_not_say_what_to_do_gets_words_for_its_kind() -> None:
    for error in (ConfigurationError("no"), DataError("No."), TransportError("a.b: no."), HistoryError("no")):
        found = Line("x", "X").of_error(error)
        assert found.found.casefold().endswith("no")
        assert found.advice


# --- Planted faults: what is planted, the check that finds it, and words of the cause and of the advice ---

Plant = Callable[[Installation, FaultProxy, Sandbox], None]
PLANTED: dict[str, tuple[Plant, str, Verdict, str, str]] = {}


def planted(check: str, verdict: Verdict, cause: str, advice: str) -> Callable[[Plant], Plant]:
    def register(plant: Plant) -> Plant:
        PLANTED[plant.__name__] = (plant, check, verdict, cause, advice)
        return plant

    return register


@planted("configuration", FAILED, "uesrname: unknown key", "")
def a_misspelt_setting(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.more = 'uesrname = "x"\n'


@planted("configuration", FAILED, "min_total: -3 isn't allowed", "")
def a_setting_that_cannot_be(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.more = "[report]\nmin_total = -3\n"


@planted("configuration", FAILED, "no gateway", "url in section [gateway]")
def no_address(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.config.write_text('[gateway]\nusername = "x"\n')


@planted("configuration-file", FAILED, "can be changed by everybody", "chmod 600")
def a_configuration_that_everybody_can_change(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.write().chmod(0o666)


@planted("configuration-file", WARNING, "can be changed by its group (0660)", "chmod g-w")
def a_configuration_that_its_group_can_change(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.write().chmod(0o660)


@planted("password", FAILED, "is open to everybody", "chmod 600")
def a_password_that_everybody_can_read(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.password.chmod(0o644)


@planted("password", FAILED, "cannot be read: No such file", "")
def a_password_file_that_is_not_there(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.password.unlink()


@planted("password", WARNING, "its group can change it (0660)", "chmod 600")
def a_password_that_its_group_can_change(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.password.chmod(0o660)


@planted("pushdown", FAILED, "sees not a single patron", "see who is at home")
def libraries_without_patrons(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    with sandbox._store.transaction() as connection:
        connection.execute("UPDATE au SET deleted = 1 WHERE id > 1000")
        connection.execute("UPDATE au SET home_ou = 1")
    house.username = "north_manager"
    house.more = 'workstation = "HARBOR-desk1"\n'


@planted("login", FAILED, "name or password is wrong", "staff client")
def a_wrong_password(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.password.write_text("wrong\n")


@planted("login", FAILED, "the password is right", "STAFF_LOGIN for the whole consortium")
def an_account_without_staff_login(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    sandbox._store.update("au", 1001, {"usrname": "a_reader"})
    house.username = "a_reader"


@planted("login", FAILED, "LAKELAND-9 is not registered", "register it")
def an_unknown_workstation(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.more = 'workstation = "LAKELAND-9"\n'


@planted("login", FAILED, "second factor", "without one")
def an_account_with_a_second_factor(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    payload = {"authtoken": "f" * 32, "authtime": 420, "provisional": 1}
    event = {"ilsevent": 0, "textcode": "SUCCESS", "payload": payload}
    proxy.answer = lambda call: event if call.method == "open-ils.auth.login" else None


@planted("account", WARNING, "is a superuser", "the rights below")
def a_superuser(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.username = "admin"


@planted("account", WARNING, "it expires on", "a later date")
def an_account_that_expires_soon(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    soon = (datetime.now(UTC) + timedelta(days=9)).isoformat()
    (user,) = sandbox._store.rows("au", {"usrname": house.username})
    sandbox._store.update("au", user["id"], {"expire_date": soon})


@planted("address", FAILED, "nowhere.invalid isn't known", "DNS")
def an_unknown_host(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.url = "https://nowhere.invalid"


@planted("address", FAILED, "it can't be a host's name", "url in [gateway]")
def a_host_that_cannot_be(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.url = f"https://{'x' * 64}.example"


@planted("address", FAILED, "is not encrypted", "use https://")
def a_password_in_clear(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.url = "http://192.0.2.1"


@planted("gateway", FAILED, "Connection refused", "whether the web server is running")
def nobody_at_the_port(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.url = "http://127.0.0.1:1"


@planted("gateway", FAILED, "/elsewhere/osrf-gateway-v1: the web server", "path of url")
def a_wrong_path(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.url += "/elsewhere"


@planted("services", FAILED, "without open-ils.actor", "start what is missing")
def a_service_that_is_down(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    proxy.refuse = lambda call: NO_SERVICE if call.service == "open-ils.actor" else None


@planted("services", FAILED, "without open-ils.pcrud", "opensrf_core.xml")
def a_service_that_is_not_public(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    proxy.refuse = lambda call: NO_SERVICE if call.service == "open-ils.pcrud" else None


@planted("permission.VIEW_USER", FAILED, "another shape than Evergreen's", "which release")
def an_answer_of_another_shape(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    proxy.answer = lambda call: {} if call.method.endswith("has_work_perm_at.batch") else None


@planted("clock", WARNING, "s ahead of this machine", "NTP")
def a_clock_that_is_wrong(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    later = str(int(datetime.now(UTC).timestamp()) + 5400)
    proxy.answer = lambda call: later if call.method == "opensrf.system.time" else None


@planted("clock", WARNING, "s behind this machine", "NTP")
def a_clock_that_is_late(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    earlier = str(int(datetime.now(UTC).timestamp()) - 5400)
    proxy.answer = lambda call: earlier if call.method == "opensrf.system.time" else None


@planted("names", FAILED, "open-ils.pcrud.search.pgt.atomic: the method failed", "look into its log")
def a_method_that_dies(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.more = '[[policy.limits]]\nprofile = "Patrons"\nlimit = 2.00\n'
    died = 500, "osrfMethodException : it died"
    proxy.refuse = lambda call: died if call.method.endswith("search.pgt.atomic") else None


@planted("idl", FAILED, "in place of the IDL", "check the gateway's address")
def an_idl_that_a_proxy_replaces(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    page = 200, "text/html", b"<html><body>Please log in</body></html>"
    forward = proxy._forward
    proxy._forward = lambda command, path, body: (  # type: ignore[method-assign]  # another answer for one address
        page if path.startswith("/reports/") else forward(command, path, body)
    )


@planted("idl", FAILED, "it lacks au.master_account", "fm_IDL.xml")
def an_idl_without_a_field(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    forward = proxy._forward

    def narrowed(command: str, path: str, body: bytes) -> tuple[int, str, bytes]:
        status, content_type, content = forward(command, path, body)
        if path.startswith("/reports/"):
            content = content.replace(b'name="master_account"', b'name="main_account"')
        return status, content_type, content

    proxy._forward = narrowed  # type: ignore[method-assign]  # another answer for one address


@planted("methods", FAILED, "usergroup.new is not offered; it is needed for changes", "release")
def a_method_that_is_missing(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    proxy.refuse = lambda call: NO_METHOD if call.method.endswith("usergroup.new") else None


@planted("methods", WARNING, "Used in its place: a call for each org unit", "newer release")
def an_old_server_without_a_method(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    proxy.refuse = lambda call: NO_METHOD if call.method.endswith("perm.check.multi_org") else None


@planted("pushdown", WARNING, "reads all debtors page by page", "newer release")
def an_old_server_without_pushdown(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    def refuse(call: Call) -> tuple[int, str] | None:
        combined = call.method == "open-ils.pcrud.search.au.atomic" and "-exists" in json.dumps(call.parameters)
        return (500, "osrfMethodException : Severe query error") if combined else None

    proxy.refuse = refuse


@planted("pushdown", WARNING, "no answer in 20 s", "the load of the server's database")
def a_database_under_load(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    def refuse(call: Call) -> tuple[int, str] | None:
        combined = call.method == "open-ils.pcrud.search.au.atomic" and "-exists" in json.dumps(call.parameters)
        return (408, "") if combined else None

    proxy.refuse = refuse


@planted("permission.VIEW_USER", FAILED, "nowhere; it is needed to see patrons", "grant VIEW_USER with depth 0")
def a_missing_permission(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    revoke(sandbox, "VIEW_USER")


@planted("permission.VIEW_USER", WARNING, "at NORTH, but not at VALLEY", "LAKELAND as a working location")
def hidden_libraries(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.username = "north_manager"


@planted("permission.VIEW_CIRCULATIONS", WARNING, "show can't count items out", "grant VIEW_CIRCULATIONS")
def items_out_of_sight(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    revoke(sandbox, "VIEW_CIRCULATIONS")


@planted("permission.VIEW_USER_TRANSACTIONS", FAILED, "needed to know where fines are owed", "grant")
def transactions_out_of_sight(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.more = '[policy]\nlimit = "ils"\n'
    revoke(sandbox, "VIEW_USER_TRANSACTIONS")


@planted("permission.UPDATE_USER", FAILED, "needed to change groups", "grant UPDATE_USER")
def an_account_that_changes_nothing(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.changes = True
    revoke(sandbox, "UPDATE_USER")


@planted("permission.profiles", FAILED, "patrons of no profile", "group_application.user.patron")
def profiles_out_of_reach(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.changes = True
    revoke(sandbox, "group_application.%")


@planted("permission.VIEW_USER", FAILED, "works at LAKELAND, where it lacks it", "grant it at LAKELAND")
def an_account_blind_at_home(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    (user,) = sandbox._store.rows("au", {"usrname": "north_manager"})
    sandbox._store.update("au", user["id"], {"home_ou": 1})
    house.username = "north_manager"


@planted("names", FAILED, "there is no org unit 'HARBUR'", "")
def a_library_that_is_not_there(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.more = '[report]\norgs = ["HARBUR"]\n'


@planted("names", FAILED, "there is no org unit 'HARBUR'", "there are BUS")
def mail_for_a_library_that_is_not_there(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.more = '[mail]\nrecipients = { "HARBUR" = ["a@x.example"] }\n'


@planted("names", FAILED, "Grown-ups", "")
def a_profile_that_is_not_there(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.more = '[[policy.limits]]\nprofile = "Grown-ups"\nlimit = 2.00\n'


@planted("state", WARNING, "can be entered by others (0755)", "chmod 700")
def a_state_directory_open_to_others(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.state.chmod(0o755)


@planted("state", FAILED, "can't be written to", "let this user have")
def a_state_directory_that_cannot_be_made(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.environ["STATE_DIRECTORY"] = "/proc/evergreen-groups"


@planted("state", FAILED, "is no directory", "move it away")
def a_file_in_the_place_of_the_state_directory(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.environ["STATE_DIRECTORY"] = str(house.password)


@planted("databases", FAILED, "history.sqlite3 is damaged", "move it away")
def a_damaged_history(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    path = database(house, 0o600)
    content = bytearray(path.read_bytes())
    content[200:] = b"\xa5" * (len(content) - 200)
    path.write_bytes(content)


@planted("databases", FAILED, "can be read by everybody (0644)", "chmod 600")
def a_history_that_everybody_can_read(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    database(house, 0o644)


@planted("databases", FAILED, "was written by another release", "move it away")
def a_history_of_another_release(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    with closing(sqlite3.connect(database(house, 0o600))) as connection:
        connection.execute("PRAGMA user_version=2")


@planted("output", FAILED, "nowhere is not there", "make it")
def a_report_without_a_place(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.more = f'[report]\noutput = "{house.directory}/nowhere/report.html"\n'


@planted("output", FAILED, "is a directory, and one report is to be a file", "another split")
def a_directory_in_place_of_the_report(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.more = f'[report]\noutput = "{house.state}"\n'


@planted("output", FAILED, "is no directory, and a report for each library needs one", "another output")
def a_file_in_place_of_the_directory(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.more = f'[report]\nsplit = "library"\noutput = "{house.password}"\n'


@planted("output", WARNING, "needs a directory, and none is set", "--output")
def a_report_for_each_library_without_a_place(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.more = '[report]\nsplit = "library"\n'


@planted("output", WARNING, "everybody can replace files in", "chmod o-w")
def a_directory_that_everybody_can_write(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    reports = house.directory / "reports"
    reports.mkdir()
    reports.chmod(0o777)
    house.more = f'[report]\nsplit = "library"\noutput = "{reports}"\n'


@planted("events", FAILED, "is open to everybody", "chmod 600")
def a_secret_that_everybody_can_read(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    secret = house.directory / "secret"
    secret.write_text("a secret of many letters\n")
    secret.chmod(0o644)
    house.more = f'[events]\nsecret_file = "{secret}"\n'


@planted("events", WARNING, "its group can change it (0660)", "chmod 600")
def a_secret_that_its_group_can_change(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    secret = house.directory / "secret"
    secret.write_text("a secret of many letters\n")
    secret.chmod(0o660)
    house.more = f'[events]\nsecret_file = "{secret}"\n'


@planted("permission.UPDATE_USER", FAILED, "nowhere; it is needed to", "grant UPDATE_USER")
def events_that_are_to_recalculate_without_the_right(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    revoke(sandbox, "UPDATE_USER")
    house.more = "[events]\nrecalculate = true\n"


@planted("mail", FAILED, "can't be reached", "")
def a_mail_server_that_is_down(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.more = (
        '[mail]\nhost = "127.0.0.1"\nport = 1\nsender = "g@x.example"\nrecipients = { "*" = ["a@x.example"] }\n'
    )


@planted("mail", FAILED, "password can't be written to", "set spool in [mail]")
def a_place_for_mails_that_cannot_be(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.more = (
        f'[mail]\nhost = "127.0.0.1"\nsender = "g@x.example"\nrecipients = {{ "*" = ["a@x.example"] }}\n'
        f'spool = "{house.password}/mail"\n'
    )


@planted("mail", FAILED, "set recipients in section [mail]", "")
def mail_to_nobody(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.more = '[mail]\nhost = "127.0.0.1"\nsender = "g@x.example"\n'


@planted("last-run", WARNING, "failed (exit status 4, UnreachableError)", "see what failed here")
def a_night_without_report(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    now = datetime.now(UTC)
    run_status.write(house.state, RunStatus(Outcome.FAILED, now, now, 4, "UnreachableError"))


@planted("last-run", WARNING, "was not complete (exit status 8)", "says what that status means")
def a_night_when_a_mail_was_kept(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    now = datetime.now(UTC)
    run_status.write(house.state, RunStatus(Outcome.PARTIAL, now, now, 8, groups=3, members=9))


@planted("last-run", FAILED, "status.json is damaged", "the next run writes it anew")
def a_status_that_is_damaged(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    (house.state / run_status.FILE_NAME).write_text("{")


@planted("last-run", WARNING, "a run was killed", "the next run goes on")
def a_run_that_was_killed(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    killed_run(house, datetime.now(UTC))


@planted("last-run", WARNING, "the last one was that of", "timer")
def a_schedule_that_stands_still(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    then = datetime.now(UTC) - timedelta(days=3)
    run_status.write(house.state, RunStatus(Outcome.DONE, then, then, 0, groups=3, members=9))


def killed_run(house: Installation, since: datetime) -> None:
    note = {"pid": os.getpid(), "since": since.isoformat(), "start_tick": 1}
    (house.state / state.REPORT_LOCK).write_text(json.dumps(note))


def revoke(sandbox: Sandbox, permission: str) -> None:
    with sandbox._store.transaction() as connection:
        connection.execute("DELETE FROM grants WHERE permission LIKE ?", [permission])


def database(house: Installation, mode: int) -> Path:
    path = house.state / "history.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE runs (id INTEGER PRIMARY KEY, at TEXT); INSERT INTO runs VALUES (1, '')")
    path.chmod(mode)
    return path


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_named(installation: Installation, proxy: FaultProxy, sandbox: Sandbox, name: str) -> None:
    plant, check, verdict, cause, advice = PLANTED[name]
    plant(installation, proxy, sandbox)
    diagnosis = installation.examined()
    found = only(diagnosis, WARNING, FAILED)
    assert {(finding.check, finding.verdict) for finding in found} >= {(check, verdict)}, list(map(said, found))
    (named,) = [finding for finding in found if finding.check == check and cause in finding.found + finding.advice]
    assert advice in named.advice
    assert [said(finding) for finding in found if not finding.advice] == []
    first = next(iter(diagnosis.failed), named)
    assert diagnosis.healthy == (verdict is WARNING)
    assert {finding.found for finding in only(diagnosis, SKIPPED)} <= {f"not checked, because of: {first.title}"}


def test_a_login_that_is_tried_for_the_catalog_is_logged_out(
    installation: Installation, proxy: FaultProxy, sandbox: Sandbox
) -> None:
    an_account_without_staff_login(installation, proxy, sandbox)
    tokens = []
    proxy.answered = lambda call: tokens.append(call.parameters[0]) if call.method.endswith("session.delete") else None
    installation.examined()
    assert len(set(tokens) - {NO_TOKEN}) == 1


def test_plain_http_that_is_meant_is_a_warning(tmp_path: Path) -> None:
    house = Installation(tmp_path, "http://192.0.2.1", more="allow_plain_http = true\n")
    (warning,) = only(house.examined(only=("configuration", "address")), WARNING, FAILED)
    assert "is not encrypted" in warning.found
    assert "remove allow_plain_http" in warning.advice


def test_a_proxy_on_the_way_is_named_without_its_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://user:secret@proxy.example:3128")
    house = Installation(tmp_path, "https://evergreen.example")
    diagnosis = house.examined(only=("address", "certificate"))
    assert [finding.verdict for finding in diagnosis.findings] == [OK, OK]
    assert all("through the proxy proxy.example" in finding.found for finding in diagnosis.findings)
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
    run_status.write(installation.state, RunStatus(Outcome.DONE, now, now, 0, groups=3, members=9))
    killed_run(installation, now)
    assert only(installation.examined(), WARNING, FAILED) == []


def test_spreadsheets_without_what_writes_them(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    installation.more = f'[report]\noutput = "{installation.directory}/report.xlsx"\n'
    assert only(installation.examined(), WARNING, FAILED) == []
    monkeypatch.setitem(sys.modules, "xlsxwriter", None)  # as if it weren't installed
    (failure,) = only(installation.examined(), WARNING, FAILED)
    assert (failure.check, failure.verdict) == ("output", FAILED)
    assert "pip install" in failure.advice


def test_no_configuration_at_all(tmp_path: Path) -> None:
    with Subject(None, {"HOME": str(tmp_path), "STATE_DIRECTORY": str(tmp_path)}) as subject:
        diagnosis = run(subject)
    first = diagnosis.findings[0]
    assert (first.check, first.verdict) == ("configuration", FAILED)
    assert "evergreen-groups init" in first.advice
    assert {finding.check for finding in only(diagnosis, OK)} == {"state", "databases", "last-run"}


def test_a_blank_behind_the_password_explains_why_login_is_refused(installation: Installation) -> None:
    installation.password.write_text(PASSWORD + " \n")
    diagnosis = installation.examined()
    (warning,) = only(diagnosis, WARNING)
    assert "begins or ends with a blank" in warning.found
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
    assert place == f"from $EVERGREEN_GROUPS_PASSWORD, which comes before {installation.password}"
    assert [finding.check for finding in diagnosis.failed] == ["login"]


def test_a_slow_gateway_is_a_warning(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "SLOW_SECONDS", 0.0)
    (warning,) = only(installation.examined(), WARNING)
    assert (warning.check, "ms for a simple call" in warning.found) == ("time", True)


def test_a_database_in_use_is_a_warning(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_BUSY_SECONDS", 0)
    with closing(sqlite3.connect(database(installation, 0o600), isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        (warning,) = only(installation.examined(), WARNING)
    assert "history.sqlite3 is in use by another run" in warning.found


# --- The command ---


def test_the_command_fits_80_columns_and_tells_by_its_status(sandbox: Sandbox, tmp_path: Path) -> None:
    done = Command(tmp_path, None)("--sandbox", "doctor", "--changes")
    assert (done.returncode, done.stderr) == (exit_codes.DONE, "")
    assert done.stdout.splitlines()[-1].endswith(" ok.")
    limited = Command(tmp_path, sandbox.url, "harbor_desk")("doctor", "--changes")
    assert limited.returncode == exit_codes.UNWELL
    lines = done.stdout.splitlines() + limited.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    verdicts = {line[:9].strip() for line in lines if not line.endswith(".")}
    assert verdicts == {"ok", "warning", "failed", ""}
    assert "\x1b" not in done.stdout
    assert PASSWORD not in limited.stdout.replace(str(tmp_path), "")


def test_the_command_says_what_is_wrong_alone_when_quiet(sandbox: Sandbox, tmp_path: Path) -> None:
    done = Command(tmp_path, sandbox.url, "north_manager")("--quiet", "doctor")
    assert done.returncode == exit_codes.DONE
    assert done.stdout.startswith("warning  VIEW_USER")
    assert "ok " not in done.stdout


def test_json_for_programs(sandbox: Sandbox, tmp_path: Path) -> None:
    done = Command(tmp_path, sandbox.url, "nobody")("doctor", "--json")
    assert done.returncode == exit_codes.UNWELL
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
        "found": "not checked, because of: Login",
        "advice": "",
    }
    assert sum(document["counts"].values()) == len(document["findings"])
