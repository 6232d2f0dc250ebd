"""Faults to plant in an installation, each with the check that finds it, and words of the cause and the advice."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from support.fault_proxy import Call, FaultProxy, HttpAnswer
from support.installation import Installation
from support.mail_server import free_port
from support.report_samples import sample_report
from support.state_files import write_last_run

from evergreen_groups.doctor import Verdict
from evergreen_groups.report import History
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.state import RunOutcome, RunStatus, State
from evergreen_groups.state.database import FILE_NAME
from evergreen_groups.state.files import REPORT_LOCK

_OK, WARNING, FAILED, _SKIPPED = Verdict
NO_METHOD = 404, "osrfMethodException : Method [x] not found for OpenILS::Application::Actor"
NO_SERVICE = 404, "osrfServiceException : Service Not Found"

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


@planted("databases", WARNING, "https://another.example.org", "set the same url in [gateway] on every server")
def a_database_that_another_address_uses(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    with State(house.state) as state:
        History(state.database, house.url).record(sample_report())
        History(state.database, "https://another.example.org").record(
            replace(sample_report(), generated_at=datetime.now(UTC))
        )


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


@planted("pushdown", FAILED, "sees not a single patron", "see whose home library")
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


@planted("permission.VIEW_USER", FAILED, "a list of org units for each permission", "server's release")
def an_answer_of_another_shape(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    proxy.answer = lambda call: {} if call.method.endswith("has_work_perm_at.batch") else None


@planted("clock", WARNING, "s apart: the server's is ahead", "NTP")
def a_clock_that_is_wrong(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    later = str(int(datetime.now(UTC).timestamp()) + 5400)
    proxy.answer = lambda call: later if call.method == "opensrf.system.time" else None


@planted("clock", WARNING, "s apart: the server's is behind", "NTP")
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
    page = HttpAnswer(b"<html><body>Please log in</body></html>", content_type="text/html")
    proxy.instead = lambda call: None if call.method else page


@planted("idl", FAILED, "the IDL lacks these: au.master_account", "fm_IDL.xml")
def an_idl_without_a_field(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    def narrowed(call: Call, answer: HttpAnswer) -> HttpAnswer | None:
        if call.method:
            return None
        return replace(answer, body=answer.body.replace(b'name="master_account"', b'name="main_account"'))

    proxy.alter = narrowed


@planted("methods", FAILED, "usergroup.new is not offered; needed for: changes", "release")
def a_method_that_is_missing(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    proxy.refuse = lambda call: NO_METHOD if call.method.endswith("usergroup.new") else None


@planted("methods", WARNING, "Used in its place: a look for hidden rows behind each short answer", "newer release")
def an_old_server_without_a_method(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    proxy.refuse = lambda call: NO_METHOD if call.method.startswith("open-ils.pcrud.count.") else None


@planted("server", FAILED, "this is Evergreen 3.10.5, which is too old", "upgrade it to 3.11 or later")
def a_release_that_is_too_old(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    proxy.answer = lambda call: "3-10-5" if call.method.endswith("ils_version") else None


@planted("server", WARNING, "open-ils.actor HEAD, open-ils.circ 3-12-10", "restart")
def a_service_that_an_upgrade_left_running(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    former = "open-ils.circ"
    proxy.answer = lambda call: "3-12-10" if (call.service, call.method[-11:]) == (former, "ils_version") else None


@planted("pushdown", FAILED, "there is no report without it", "3.11 and newer")
def a_server_without_pushdown(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
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


@planted("permission.VIEW_USER", FAILED, "nowhere; needed for: seeing patrons", "grant VIEW_USER with depth 0")
def a_missing_permission(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    revoke(sandbox, "VIEW_USER")


@planted("permission.VIEW_USER", WARNING, "at NORTH, but not at VALLEY", "LAKELAND as a working location")
def hidden_libraries(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.username = "north_manager"


@planted("permission.VIEW_CIRCULATIONS", WARNING, "needs it for: counting items out", "grant VIEW_CIRCULATIONS")
def hidden_items(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    revoke(sandbox, "VIEW_CIRCULATIONS")


@planted("permission.VIEW_USER_TRANSACTIONS", FAILED, "needed for: knowing what is owed for, and where", "grant")
def hidden_transactions(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.more = '[policy]\nlimit = "ils"\n'
    revoke(sandbox, "VIEW_USER_TRANSACTIONS")


@planted("permission.UPDATE_USER", FAILED, "needed for: changing groups", "grant UPDATE_USER")
def an_account_that_changes_nothing(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.changes = True
    revoke(sandbox, "UPDATE_USER")


@planted("permission.profiles", FAILED, "patrons of no profile", "group_application.user.patron")
def profiles_out_of_reach(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.changes = True
    revoke(sandbox, "group_application.%")


@planted("permission.VIEW_USER", FAILED, "works at LAKELAND, where it lacks it", "grant the permission at LAKELAND")
def an_account_blind_at_home(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    (user,) = sandbox._store.rows("au", {"usrname": "north_manager"})
    sandbox._store.update("au", user["id"], {"home_ou": 1})
    house.username = "north_manager"


@planted("names", FAILED, 'there is no org unit "HARBUR"', "")
def a_library_that_is_not_there(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.more = '[report]\norgs = ["HARBUR"]\n'


@planted("names", FAILED, 'there is no org unit "HARBUR"', "the short names that come nearest: HARBOR")
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


@planted("state", FAILED, "is no directory", "move ")
def a_file_in_the_place_of_the_state_directory(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.environ["STATE_DIRECTORY"] = str(house.password)


@planted("databases", FAILED, "state.sqlite3 is damaged", "put a backup in its place")
def a_damaged_database(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    path = database(house, 0o600)
    content = bytearray(path.read_bytes())
    content[-8192:] = b"\xa5" * 8192
    path.write_bytes(content)


@planted("databases", FAILED, "can be read by everybody (0644)", "chmod 600")
def a_database_that_everybody_can_read(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    database(house, 0o644)


@planted("databases", FAILED, "was written by a later release", "from before the upgrade")
def a_database_of_a_later_release(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    with closing(sqlite3.connect(database(house, 0o600))) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'of tomorrow'")


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


@planted("permission.UPDATE_USER", FAILED, "nowhere; needed for: changing groups", "grant UPDATE_USER")
def events_that_are_to_recalculate_without_the_right(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    revoke(sandbox, "UPDATE_USER")
    house.more = "[events]\nrecalculate = true\n"


@planted("mail", FAILED, "can't be reached", "")
def a_mail_server_that_is_down(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.more = (
        '[mail]\nhost = "127.0.0.1"\nport = 1\nsender = "g@x.example"\nrecipients = { "*" = ["a@x.example"] }\n'
    )


@planted("mail", FAILED, "set recipients in section [mail]", "")
def mail_to_nobody(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.more = '[mail]\nhost = "127.0.0.1"\nsender = "g@x.example"\n'


@planted("counters", FAILED, "can't be used (ConnectionError)", "each process counts by itself")
def shared_counters_that_cannot_be_reached(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.more = f'[redis]\nurl = "redis://somebody@127.0.0.1:{free_port()}/1"\n'


@planted("last-run", WARNING, "failed (exit status 4, UnreachableError)", "see what failed here")
def a_night_without_report(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    now = datetime.now(UTC)
    write_last_run(house.state, RunStatus(RunOutcome.FAILED, now, now, 4, "UnreachableError"))


@planted("last-run", WARNING, "was not complete (exit status 8)", "says what that status means")
def a_night_when_a_mail_was_kept(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    now = datetime.now(UTC)
    write_last_run(house.state, RunStatus(RunOutcome.PARTIAL, now, now, 8, groups=3, members=9))


@planted("last-run", WARNING, "a run was killed", "the next run goes on")
def a_run_that_was_killed(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    killed_run(house, datetime.now(UTC))


@planted("last-run", WARNING, "the last one was that of", "timer")
def a_schedule_that_stands_still(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    then = datetime.now(UTC) - timedelta(days=3)
    write_last_run(house.state, RunStatus(RunOutcome.DONE, then, then, 0, groups=3, members=9))


def killed_run(house: Installation, since: datetime) -> None:
    note = {"pid": os.getpid(), "since": since.isoformat(), "start_tick": 1}
    (house.state / REPORT_LOCK).write_text(json.dumps(note))


def revoke(sandbox: Sandbox, permission: str) -> None:
    with sandbox._store.transaction() as connection:
        connection.execute("DELETE FROM grants WHERE permission LIKE ?", [permission])


def database(house: Installation, mode: int) -> Path:
    with State(house.state) as state:
        History(state.database, house.url).record(sample_report())
    path = state.directory / FILE_NAME
    path.chmod(mode)
    return path
