"""Faults to plant in an installation, each with the check that finds it, and words of the cause and the advice."""

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
    lines: str = "", *, url: str = "HERE", username: str = "consortium_staff", without: str = "", changes: bool = False
) -> Plant:
    """Return a plant of lines in the configuration, of a URL, of an account, or of an account without a permission.

    ``HOUSE`` in the lines is the installation's directory, ``HERE`` the right URL. ``changes``: the doctor checks
    permissions for changes too.
    """

    def plant(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
        house.more = lines.replace("HOUSE", str(house.directory))
        house.url, house.username, house.changes = url.replace("HERE", house.url), username, changes
        if without:
            with sandbox._store.transaction() as connection:
                connection.execute("DELETE FROM grants WHERE permission LIKE ?", [without])

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


def old_backup(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    backup = house.state / "backups" / "state-2026-01-01.sqlite3"
    backup.parent.mkdir()
    backup.touch()
    at = (datetime.now(UTC) - timedelta(days=3)).timestamp()
    os.utime(backup, (at, at))


def database_of_another_address(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    another = replace(sample_report(), generated_at=datetime.now(UTC))
    with State(house.state) as state:
        History(state.database, house.url).record(sample_report())
        History(state.database, "https://another.example.org").record(another)


def libraries_without_patrons(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    with sandbox._store.transaction() as connection:
        connection.execute("UPDATE au SET deleted = 1 WHERE id > 1000")
        connection.execute("UPDATE au SET home_ou = 1")
    house.username = "north_manager"
    house.more = 'workstation = "HARBOR-desk1"\n'


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


def damaged_database(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    path = database(house, 0o600)
    content = bytearray(path.read_bytes())
    content[-8192:] = b"\xa5" * 8192
    path.write_bytes(content)


def database_of_a_later_release(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    with closing(sqlite3.connect(database(house, 0o600))) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'of tomorrow'")


def writable_reports(house: Installation, proxy: FaultProxy, sandbox: Sandbox) -> None:
    (house.directory / "reports").mkdir()
    with_mode("reports", 0o777, '[report]\nsplit = "library"\noutput = "HOUSE/reports"\n')(house, proxy, sandbox)


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
    "no address": ("configuration", FAILED, "[gateway] url isn't set", "set it in ",
        lambda house, *_: house.config.write_text('[gateway]\nusername = "x"\n')),
    "a database that another address uses": (
        "databases", WARNING, "https://another.example.org", "use the same [gateway] url on every server",
        database_of_another_address),
    "a configuration that everybody can change": (
        "configuration-file", FAILED, "config.toml is open to other users (0666)", "chmod 600",
        with_mode("config.toml", 0o666)),
    "a configuration that its group can change": (
        "configuration-file", WARNING, "config.toml is open to other users (0660)", "chmod g-w",
        with_mode("config.toml", 0o660)),
    "a password that everybody can read": ("password", FAILED, "other users have access to", "chmod 600",
        with_mode("password", 0o644)),
    "no password file": ("password", FAILED, "No such file", "",
        lambda house, *_: house.password.unlink()),
    "a password that its group can change": ("password", WARNING, "password is open to other users (0660)", "chmod 600",
        with_mode("password", 0o660)),
    "libraries without patrons": ("pushdown", FAILED, "the account sees no patrons", "the account has VIEW_USER",
        libraries_without_patrons),
    "a wrong password": ("login", FAILED, "wrong name or password", "staff client",
        lambda house, *_: house.password.write_text("wrong\n")),
    "no staff login": ("login", FAILED, "the password is right", "grant STAFF_LOGIN at depth 0",
        an_account_without_staff_login),
    "an unknown workstation": ("login", FAILED, "LAKELAND-9 isn't registered", "register it",
        configured('workstation = "LAKELAND-9"\n')),
    "a second factor": ("login", FAILED, "second factor", "without one",
        answered("open-ils.auth.login", lambda: LOGIN_WITH_A_SECOND_FACTOR)),
    "a superuser": ("account", WARNING, "is a superuser", "the permissions below",
        configured(username="admin")),
    "an account that expires soon": ("account", WARNING, "expiration date is", "extend the account",
        account_that_expires_soon),
    "an unknown host": ("address", FAILED, "no connection to nowhere.invalid, port 443: Name or", "DNS",
        configured(url="https://nowhere.invalid")),
    "a host that cannot be": ("address", FAILED, "Name or service not known", "[gateway] url",
        configured(url=f"https://{'x' * 64}.example")),
    "a password in clear": ("address", FAILED, "isn't encrypted", "use https://",
        configured(url="http://192.0.2.1")),
    "nobody at the port": ("gateway", FAILED, "Connection refused", "whether the web server is running",
        configured(url="http://127.0.0.1:1")),
    "nobody at the port for TLS": (
        "gateway", FAILED, "no connection to https://127.0.0.1:1: Connection refused", "whether the web server",
        configured(url="https://127.0.0.1:1")),
    "a wrong path": ("gateway", FAILED, "/elsewhere/osrf-gateway-v1: the web server", "the root of Evergreen's",
        configured(url="HERE/elsewhere")),
    "a service that is down": ("services", FAILED, "missing: open-ils.actor", "start these services",
        refused(NO_SERVICE, service="open-ils.actor")),
    "a service that is not public": ("services", FAILED, "missing: open-ils.pcrud", "opensrf_core.xml",
        refused(NO_SERVICE, service="open-ils.pcrud")),
    "an answer of another shape": (
        "permission.VIEW_USER", FAILED, "a list of org units for each permission", "release",
        answered("has_work_perm_at.batch", dict)),
    "a clock that is wrong": ("clock", WARNING, "minus this machine's: +5,", "NTP",
        answered("opensrf.system.time", lambda: server_time(5400))),
    "a clock that is late": ("clock", WARNING, "minus this machine's: -5,", "NTP",
        answered("opensrf.system.time", lambda: server_time(-5400))),
    "a method that dies": ("names", FAILED, "open-ils.pcrud.search.pgt.atomic: the method failed", "server's log",
        refused(DIED, method="search.pgt.atomic", lines=LIMIT_OF_A_PROFILE.format("Patrons"))),
    "a page in place of the IDL": ("idl", FAILED, "answer can't be read: ", "check the address",
        page_in_place_of_the_idl),
    "an IDL without a field": ("idl", FAILED, "missing: au.master_account", "Evergreen's release",
        idl_without_a_field),
    "a method that is missing": ("methods", FAILED, "usergroup.new is missing; needed for: changes", "release",
        refused(NO_METHOD, method="usergroup.new")),
    "an old server without a method": (
        "methods", WARNING, "open-ils.pcrud.count.aou is missing, but can be replaced", "newer Evergreen",
        refused(NO_METHOD, method="open-ils.pcrud.count.")),
    "a release that is too old": (
        "server", FAILED, "this is Evergreen 3.10.5, which is too old", "upgrade it to 3.11 or later",
        answered("ils_version", lambda: "3-10-5")),
    "a service that an upgrade left running": (
        "server", WARNING, "open-ils.actor HEAD, open-ils.circ 3-12-10", "restart",
        answered("ils_version", lambda: "3-12-10", service="open-ils.circ")),
    "a server without pushdown": ("pushdown", FAILED, "refuses the query that the report needs", "Evergreen's release",
        refused((500, "osrfMethodException : Severe query error"), method="search.au.atomic", words="-exists")),
    "a database under load": ("pushdown", WARNING, "no answer within 20 s", "the load of Evergreen's servers",
        refused((408, ""), method="search.au.atomic", words="-exists")),
    "a missing permission": (
        "permission.VIEW_USER", FAILED, "nowhere; needed for: patrons and fines", "grant VIEW_USER at depth 0",
        configured(without="VIEW_USER")),
    "hidden libraries": (
        "permission.VIEW_USER", WARNING, "NORTH, but not VALLEY", "the top org unit as a working location",
        configured(username="north_manager")),
    "hidden items": (
        "permission.VIEW_CIRCULATIONS", WARNING, "nowhere; needed for: items out", "grant VIEW_CIRCULATIONS",
        configured(without="VIEW_CIRCULATIONS")),
    "hidden transactions": (
        "permission.VIEW_USER_TRANSACTIONS", FAILED, "nowhere; needed for: bills", "grant",
        configured('[policy]\nlimit = "ils"\n', without="VIEW_USER_TRANSACTIONS")),
    "an account that changes nothing": (
        "permission.UPDATE_USER", FAILED, "needed for: changes", "grant UPDATE_USER",
        configured(without="UPDATE_USER", changes=True)),
    "profiles out of reach": ("permission.profiles", FAILED, "can't edit patrons of", "install --show permissions",
        configured(without="group_application.%", changes=True)),
    "an account blind at home": (
        "permission.VIEW_USER", FAILED, "works at LAKELAND but lacks", "grant the permission at LAKELAND",
        account_blind_at_home),
    "an unknown library": ("names", FAILED, 'there is no org unit "HARBUR"', "",
        configured('[report]\norgs = ["HARBUR"]\n')),
    "mail for an unknown library": (
        "names", FAILED, 'there is no org unit "HARBUR"', "similar short names: HARBOR",
        configured('[mail]\nrecipients = { "HARBUR" = ["a@x.example"] }\n')),
    "an unknown profile": ("names", FAILED, "Grown-ups", "",
        configured(LIMIT_OF_A_PROFILE.format("Grown-ups"))),
    "an unknown permission": ("names", FAILED, "has no permission FOLLOW_UP", "grant it to staff",
        configured('[follow_up]\npermission = "FOLLOW_UP"\n')),
    "a state directory open to others": ("state", WARNING, "state is open to other users (0755)", "chmod 700",
        with_mode("state", 0o755)),
    "a state directory that cannot be made": ("state", FAILED, "cannot write ", "writable for this user",
        lambda house, *_: house.environ.update(STATE_DIRECTORY="/proc/evergreen-groups")),
    "a file in place of the state directory": ("state", FAILED, "password: Not a directory", "$STATE_DIRECTORY",
        lambda house, *_: house.environ.update(STATE_DIRECTORY=str(house.password))),
    "a damaged database": ("databases", FAILED, "state.sqlite3 is damaged", "restore a backup",
        damaged_database),
    "a database that everybody can read": ("databases", FAILED, "sqlite3 is open to other users (0644)", "chmod 600",
        lambda house, *_: database(house, 0o644)),
    "a database of a later release": ("databases", FAILED, "is from a later release", "from before the upgrade",
        database_of_a_later_release),
    "a report without a place": ("output", FAILED, "nowhere/report.html: No such file", "set another path",
        configured('[report]\noutput = "HOUSE/nowhere/report.html"\n')),
    "a directory in place of the report": (
        "output", FAILED, "state: Is a directory", "another output or split in [report]",
        configured('[report]\noutput = "HOUSE/state"\n')),
    "a file in place of the directory": (
        "output", FAILED, "password: Not a directory", "another output or split in [report]",
        configured('[report]\nsplit = "library"\noutput = "HOUSE/password"\n')),
    "a report for each library without a place": ("output", WARNING, "per library needs a directory", "--output",
        configured('[report]\nsplit = "library"\n')),
    "a directory that everybody can write": ("output", WARNING, "is open to other users (0777)", "chmod o-w",
        writable_reports),
    "a secret that everybody can read": ("events", FAILED, "other users have access to", "chmod 600",
        with_mode("secret", 0o644, SECRET)),
    "a secret that its group can change": ("events", WARNING, "secret is open to other users (0660)", "chmod 600",
        with_mode("secret", 0o660, SECRET)),
    "events that recalculate without the right": (
        "permission.UPDATE_USER", FAILED, "nowhere; needed for: changes", "grant UPDATE_USER",
        configured("[events]\nrecalculate = true\n", without="UPDATE_USER")),
    "a mail server that is down": ("mail", FAILED, "no connection to mail server", "",
        configured(MAIL + 'recipients = { "*" = ["a@x.example"] }\n')),
    "mail to nobody": ("mail", FAILED, "set recipients in [mail]", "",
        configured(MAIL)),
    "recipients without a mail server": ("mail", FAILED, "these reports have recipients: 7", "set [mail] host",
        configured('[[reports]]\nname = "7"\nrecipients = {"*" = ["a@library.example"]}\n')),
    "metrics without a place": ("metrics", FAILED, "none/x.prom: No such file", "set another path in [metrics]",
        configured('[metrics]\ntextfile = "HOUSE/none/x.prom"\n')),
    "metrics without their token": ("metrics", FAILED, "cannot read", "",
        configured('[metrics]\ntoken_file = "HOUSE/none"\n')),
    "unreachable counters": ("counters", FAILED, "can't be used (ConnectionError)", "each process counts separately",
        configured(f'[redis]\nurl = "redis://somebody@127.0.0.1:{free_port()}/1"\n')),
    "a night without report": ("last-run", WARNING, "exit status 4 (the gateway can't be reached", "see the log",
        last_run(RunOutcome.FAILED, 4, "UnreachableError")),
    "a night when a mail was kept": (
        "last-run", WARNING, "exit status 8 (report written, but a mail couldn't be sent", "see the log",
        last_run(RunOutcome.PARTIAL, 8)),
    "a run that was killed": ("last-run", WARNING, "a run was killed", "the next run continues",
        lambda house, *_: killed_run(house, datetime.now(UTC))),
    "a backup that is old": ("retention", WARNING, "the latest backup is from", "state backup", old_backup),
    "a schedule that stands still": ("last-run", WARNING, "too old: ", "timer",
        last_run(RunOutcome.DONE, 0, days=3)),
}
# fmt: on
