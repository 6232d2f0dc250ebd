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
DIED = 500, "osrfMethodException : it died"

Plant = Callable[[Installation, FaultProxy, Sandbox], None]


def configured(
    lines: str = "", *, username: str = "consortium_staff", without: str = "", changes: bool = False
) -> Plant:
    """Return a plant of lines in the configuration, of an account, or of an account without a permission.

    ``HOUSE`` in the lines is the installation's directory. ``changes``: the doctor checks permissions for changes too.
    """

    def plant(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
        house.more = lines.replace("HOUSE", str(house.directory))
        house.username, house.changes = username, changes
        if without:
            with sandbox._store.transaction() as connection:
                connection.execute("DELETE FROM grants WHERE permission LIKE ?", [without])

    return plant


def reached_at(url: str) -> Plant:
    """Return a plant of a gateway's URL; ``HERE`` is the right one."""

    def plant(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
        house.url = url.replace("HERE", house.url)

    return plant


def with_mode(name: str, mode: int, lines: str = "") -> Plant:
    """Return a plant of a file or directory with these permissions; a missing file is made."""

    def plant(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
        house.more = lines.replace("HOUSE", str(house.directory))
        house.write()
        path = house.directory / name
        if not path.exists():
            path.write_text("a secret of many letters\n")
        path.chmod(mode)

    return plant


def refused(
    refusal: tuple[int, str], *, service: str = "", method: str = "", words: str = "", lines: str = ""
) -> Plant:
    """Return a plant of the calls that fail: of a service, of a method, or with some words in the parameters."""

    def refuse(call: Call) -> tuple[int, str] | None:
        meant = call.service.startswith(service) and method in call.method and words in json.dumps(call.parameters)
        return refusal if meant else None

    def plant(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
        house.more = lines
        proxy.refuse = refuse

    return plant


def answered(method: str, make: Callable[[], object], *, service: str = "") -> Plant:
    def plant(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
        result = make()
        proxy.answer = lambda call: result if call.method.endswith(method) and service in call.service else None

    return plant


def server_time(seconds: int) -> str:
    return str(int(datetime.now(UTC).timestamp()) + seconds)


def last_run(outcome: RunOutcome, status: int, error: str | None = None, *, days: int = 0) -> Plant:
    def plant(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
        then = datetime.now(UTC) - timedelta(days)
        counts = {} if error else {"groups": 3, "members": 9}
        write_last_run(house.state, RunStatus(outcome, then, then, status, error, **counts))

    return plant


def no_address(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.config.write_text('[gateway]\nusername = "x"\n')


def database_of_another_address(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    another = replace(sample_report(), generated_at=datetime.now(UTC))
    with State(house.state) as state:
        History(state.database, house.url).record(sample_report())
        History(state.database, "https://another.example.org").record(another)


def no_password_file(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.password.unlink()


def libraries_without_patrons(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    with sandbox._store.transaction() as connection:
        connection.execute("UPDATE au SET deleted = 1 WHERE id > 1000")
        connection.execute("UPDATE au SET home_ou = 1")
    house.username = "north_manager"
    house.more = 'workstation = "HARBOR-desk1"\n'


def wrong_password(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.password.write_text("wrong\n")


def an_account_without_staff_login(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    sandbox._store.update("au", 1001, {"usrname": "a_reader"})
    house.username = "a_reader"


def account_that_expires_soon(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    soon = (datetime.now(UTC) + timedelta(days=9)).isoformat()
    (user,) = sandbox._store.rows("au", {"usrname": house.username})
    sandbox._store.update("au", user["id"], {"expire_date": soon})


def account_blind_at_home(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    (user,) = sandbox._store.rows("au", {"usrname": "north_manager"})
    sandbox._store.update("au", user["id"], {"home_ou": 1})
    house.username = "north_manager"


def page_in_place_of_the_idl(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    page = HttpAnswer(b"<html><body>Please log in</body></html>", content_type="text/html")
    proxy.instead = lambda call: None if call.method else page


def idl_without_a_field(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    def narrowed(call: Call, answer: HttpAnswer) -> HttpAnswer | None:
        if call.method:
            return None
        return replace(answer, body=answer.body.replace(b'name="master_account"', b'name="main_account"'))

    proxy.alter = narrowed


def state_that_cannot_be_made(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.environ["STATE_DIRECTORY"] = "/proc/evergreen-groups"


def file_in_place_of_the_state(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.environ["STATE_DIRECTORY"] = str(house.password)


def damaged_database(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    path = database(house, 0o600)
    content = bytearray(path.read_bytes())
    content[-8192:] = b"\xa5" * 8192
    path.write_bytes(content)


def readable_database(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    database(house, 0o644)


def database_of_a_later_release(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    with closing(sqlite3.connect(database(house, 0o600))) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'of tomorrow'")


def unreachable_counters(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    house.more = f'[redis]\nurl = "redis://somebody@127.0.0.1:{free_port()}/1"\n'


def writable_reports(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    (house.directory / "reports").mkdir()
    with_mode("reports", 0o777, '[report]\nsplit = "library"\noutput = "HOUSE/reports"\n')(house, proxy, sandbox)


def killed_night(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    killed_run(house, datetime.now(UTC))


def killed_run(house: Installation, since: datetime) -> None:
    note = {"pid": os.getpid(), "since": since.isoformat(), "start_tick": 1}
    (house.state / REPORT_LOCK).write_text(json.dumps(note))


def database(house: Installation, mode: int) -> Path:
    with State(house.state) as state:
        History(state.database, house.url).record(sample_report())
    path = state.directory / FILE_NAME
    path.chmod(mode)
    return path


LOGIN_WITH_A_SECOND_FACTOR = {
    "ilsevent": 0,
    "textcode": "SUCCESS",
    "payload": {"authtoken": "f" * 32, "authtime": 420, "provisional": 1},
}
LIMIT_OF_A_PROFILE = '[[policy.limits]]\nprofile = "{}"\nlimit = 2.00\n'
SECRET = '[events]\nsecret_file = "HOUSE/secret"\n'
MAIL = '[mail]\nhost = "127.0.0.1"\nport = 1\nsender = "g@x.example"\n'

# Two or three lines each: where the fault is found and with which words, and how it is planted.
# fmt: off
PLANTED: dict[str, tuple[str, Verdict, str, str, Plant]] = {
    "a misspelt setting": ("configuration", FAILED, "uesrname: unknown key", "",
        configured('uesrname = "x"\n')),
    "a setting that cannot be": ("configuration", FAILED, "min_total: -3 isn't allowed", "",
        configured("[report]\nmin_total = -3\n")),
    "no address": ("configuration", FAILED, "no gateway", "url in section [gateway]",
        no_address),
    "a database that another address uses": (
        "databases", WARNING, "https://another.example.org", "set the same url in [gateway] on every server",
        database_of_another_address),
    "a configuration that everybody can change": (
        "configuration-file", FAILED, "can be changed by everybody", "chmod 600",
        with_mode("config.toml", 0o666)),
    "a configuration that its group can change": (
        "configuration-file", WARNING, "can be changed by its group (0660)", "chmod g-w",
        with_mode("config.toml", 0o660)),
    "a password that everybody can read": ("password", FAILED, "other users have access to", "chmod 600",
        with_mode("password", 0o644)),
    "no password file": ("password", FAILED, "No such file", "",
        no_password_file),
    "a password that its group can change": ("password", WARNING, "its group can change it (0660)", "chmod 600",
        with_mode("password", 0o660)),
    "libraries without patrons": ("pushdown", FAILED, "sees not a single patron", "see whose home library",
        libraries_without_patrons),
    "a wrong password": ("login", FAILED, "name or password is wrong", "staff client",
        wrong_password),
    "no staff login": ("login", FAILED, "the password is right", "STAFF_LOGIN for the whole consortium",
        an_account_without_staff_login),
    "an unknown workstation": ("login", FAILED, "LAKELAND-9 is not registered", "register it",
        configured('workstation = "LAKELAND-9"\n')),
    "a second factor": ("login", FAILED, "second factor", "without one",
        answered("open-ils.auth.login", lambda: LOGIN_WITH_A_SECOND_FACTOR)),
    "a superuser": ("account", WARNING, "is a superuser", "the rights below",
        configured(username="admin")),
    "an account that expires soon": ("account", WARNING, "it expires on", "a later date",
        account_that_expires_soon),
    "an unknown host": ("address", FAILED, "nowhere.invalid isn't known", "DNS",
        reached_at("https://nowhere.invalid")),
    "a host that cannot be": ("address", FAILED, "it can't be a host's name", "url in [gateway]",
        reached_at(f"https://{'x' * 64}.example")),
    "a password in clear": ("address", FAILED, "is not encrypted", "use https://",
        reached_at("http://192.0.2.1")),
    "nobody at the port": ("gateway", FAILED, "Connection refused", "whether the web server is running",
        reached_at("http://127.0.0.1:1")),
    "a wrong path": ("gateway", FAILED, "/elsewhere/osrf-gateway-v1: the web server", "path of url",
        reached_at("HERE/elsewhere")),
    "a service that is down": ("services", FAILED, "without open-ils.actor", "start what is missing",
        refused(NO_SERVICE, service="open-ils.actor")),
    "a service that is not public": ("services", FAILED, "without open-ils.pcrud", "opensrf_core.xml",
        refused(NO_SERVICE, service="open-ils.pcrud")),
    "an answer of another shape": (
        "permission.VIEW_USER", FAILED, "a list of org units for each permission", "server's release",
        answered("has_work_perm_at.batch", dict)),
    "a clock that is wrong": ("clock", WARNING, "s apart: the server's is ahead", "NTP",
        answered("opensrf.system.time", lambda: server_time(5400))),
    "a clock that is late": ("clock", WARNING, "s apart: the server's is behind", "NTP",
        answered("opensrf.system.time", lambda: server_time(-5400))),
    "a method that dies": ("names", FAILED, "open-ils.pcrud.search.pgt.atomic: the method failed", "look into its log",
        refused(DIED, method="search.pgt.atomic", lines=LIMIT_OF_A_PROFILE.format("Patrons"))),
    "a page in place of the IDL": ("idl", FAILED, "in place of the IDL", "check the gateway's address",
        page_in_place_of_the_idl),
    "an IDL without a field": ("idl", FAILED, "the IDL lacks these: au.master_account", "fm_IDL.xml",
        idl_without_a_field),
    "a method that is missing": ("methods", FAILED, "usergroup.new is not offered; needed for: changes", "release",
        refused(NO_METHOD, method="usergroup.new")),
    "an old server without a method": (
        "methods", WARNING, "Used in its place: a look for hidden rows behind each short answer", "newer release",
        refused(NO_METHOD, method="open-ils.pcrud.count.")),
    "a release that is too old": (
        "server", FAILED, "this is Evergreen 3.10.5, which is too old", "upgrade it to 3.11 or later",
        answered("ils_version", lambda: "3-10-5")),
    "a service that an upgrade left running": (
        "server", WARNING, "open-ils.actor HEAD, open-ils.circ 3-12-10", "restart",
        answered("ils_version", lambda: "3-12-10", service="open-ils.circ")),
    "a server without pushdown": ("pushdown", FAILED, "there is no report without it", "3.11 and newer",
        refused((500, "osrfMethodException : Severe query error"), method="search.au.atomic", words="-exists")),
    "a database under load": ("pushdown", WARNING, "no answer in 20 s", "the load of the server's database",
        refused((408, ""), method="search.au.atomic", words="-exists")),
    "a missing permission": (
        "permission.VIEW_USER", FAILED, "nowhere; needed for: seeing patrons", "grant VIEW_USER with depth 0",
        configured(without="VIEW_USER")),
    "hidden libraries": (
        "permission.VIEW_USER", WARNING, "at NORTH, but not at VALLEY", "LAKELAND as a working location",
        configured(username="north_manager")),
    "hidden items": (
        "permission.VIEW_CIRCULATIONS", WARNING, "needs it for: counting items out", "grant VIEW_CIRCULATIONS",
        configured(without="VIEW_CIRCULATIONS")),
    "hidden transactions": (
        "permission.VIEW_USER_TRANSACTIONS", FAILED, "needed for: knowing what is owed for, and where", "grant",
        configured('[policy]\nlimit = "ils"\n', without="VIEW_USER_TRANSACTIONS")),
    "an account that changes nothing": (
        "permission.UPDATE_USER", FAILED, "needed for: changing groups", "grant UPDATE_USER",
        configured(without="UPDATE_USER", changes=True)),
    "profiles out of reach": ("permission.profiles", FAILED, "patrons of no profile", "group_application.user.patron",
        configured(without="group_application.%", changes=True)),
    "an account blind at home": (
        "permission.VIEW_USER", FAILED, "works at LAKELAND, where it lacks it", "grant the permission at LAKELAND",
        account_blind_at_home),
    "an unknown library": ("names", FAILED, 'there is no org unit "HARBUR"', "",
        configured('[report]\norgs = ["HARBUR"]\n')),
    "mail for an unknown library": (
        "names", FAILED, 'there is no org unit "HARBUR"', "the short names that come nearest: HARBOR",
        configured('[mail]\nrecipients = { "HARBUR" = ["a@x.example"] }\n')),
    "an unknown profile": ("names", FAILED, "Grown-ups", "",
        configured(LIMIT_OF_A_PROFILE.format("Grown-ups"))),
    "an unknown permission": ("names", FAILED, "has no permission FOLLOW_UP", "grant it to those who follow up",
        configured('[follow_up]\npermission = "FOLLOW_UP"\n')),
    "a state directory open to others": ("state", WARNING, "can be entered by others (0755)", "chmod 700",
        with_mode("state", 0o755)),
    "a state directory that cannot be made": ("state", FAILED, "can't be written to", "let this user have",
        state_that_cannot_be_made),
    "a file in place of the state directory": ("state", FAILED, "is no directory", "move ",
        file_in_place_of_the_state),
    "a damaged database": ("databases", FAILED, "state.sqlite3 is damaged", "restore a backup",
        damaged_database),
    "a database that everybody can read": ("databases", FAILED, "can be read by everybody (0644)", "chmod 600",
        readable_database),
    "a database of a later release": ("databases", FAILED, "is from a later release", "from before the upgrade",
        database_of_a_later_release),
    "a report without a place": ("output", FAILED, "nowhere is not there", "make it",
        configured('[report]\noutput = "HOUSE/nowhere/report.html"\n')),
    "a directory in place of the report": (
        "output", FAILED, "is a directory, and one report is to be a file", "another split",
        configured('[report]\noutput = "HOUSE/state"\n')),
    "a file in place of the directory": (
        "output", FAILED, "is no directory, and a report for each library needs one", "another output",
        configured('[report]\nsplit = "library"\noutput = "HOUSE/password"\n')),
    "a report for each library without a place": ("output", WARNING, "needs a directory, and none is set", "--output",
        configured('[report]\nsplit = "library"\n')),
    "a directory that everybody can write": ("output", WARNING, "everybody can replace files in", "chmod o-w",
        writable_reports),
    "a secret that everybody can read": ("events", FAILED, "other users have access to", "chmod 600",
        with_mode("secret", 0o644, SECRET)),
    "a secret that its group can change": ("events", WARNING, "its group can change it (0660)", "chmod 600",
        with_mode("secret", 0o660, SECRET)),
    "events that recalculate without the right": (
        "permission.UPDATE_USER", FAILED, "nowhere; needed for: changing groups", "grant UPDATE_USER",
        configured("[events]\nrecalculate = true\n", without="UPDATE_USER")),
    "a mail server that is down": ("mail", FAILED, "can't be reached", "",
        configured(MAIL + 'recipients = { "*" = ["a@x.example"] }\n')),
    "mail to nobody": ("mail", FAILED, "set recipients in section [mail]", "",
        configured(MAIL)),
    "unreachable counters": ("counters", FAILED, "can't be used (ConnectionError)", "each process counts by itself",
        unreachable_counters),
    "a night without report": ("last-run", WARNING, "failed (exit status 4, UnreachableError)", "see what failed here",
        last_run(RunOutcome.FAILED, 4, "UnreachableError")),
    "a night when a mail was kept": (
        "last-run", WARNING, "was not complete (exit status 8)", "says what that status means",
        last_run(RunOutcome.PARTIAL, 8)),
    "a run that was killed": ("last-run", WARNING, "a run was killed", "the next run goes on",
        killed_night),
    "a schedule that stands still": ("last-run", WARNING, "the last one was that of", "timer",
        last_run(RunOutcome.DONE, 0, days=3)),
}
# fmt: on
