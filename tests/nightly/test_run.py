"""One run of the report: what it leaves behind, what it refuses, when it ends, and whom it tells."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import lxml.html
import pytest
from support.command import Command, one_line
from support.fault_proxy import Call, Fault, fault_proxy
from support.gateway_server import Action, Server, drip, http, raw
from support.gateways import PASSWORD
from support.mail_server import SECRET, Post, mail_section
from support.mail_server import server as mail_server
from support.state_files import count_runs, last_run, reporter, reporting
from support.terminals import on_a_terminal
from support.waiting import expire_deadline, wait_until

from evergreen_groups import exit_status
from evergreen_groups.cli.application import run
from evergreen_groups.client import Client
from evergreen_groups.errors import DeadlineError
from evergreen_groups.nightly.deadline import Deadline
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.state import RunOutcome, RunStatus
from evergreen_groups.state.database import FILE_NAME


class Runs:
    """Runs of the report in this process, what they say, and what they leave in ``state``."""

    def __init__(
        self, url: str, directory: Path, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]
    ) -> None:
        self._patch, self._capture = patch, capture
        self.state, self.config = directory / "state", directory / "config.toml"
        for name in [name for name in os.environ if name.startswith(("EVERGREEN_", "XDG_"))]:
            patch.delenv(name)
        patch.setenv("HOME", str(directory))
        patch.setenv("STATE_DIRECTORY", str(self.state))
        self.set(GATEWAY_URL=url, GATEWAY_USERNAME="consortium_staff", PASSWORD=PASSWORD)

    def __call__(self, *words: str) -> int:
        return run(["report", *words])

    def set(self, **settings: str) -> None:
        for name, value in settings.items():
            self._patch.setenv(f"EVERGREEN_GROUPS_{name}", value)

    def configure(self, text: str) -> None:
        self.config.write_text(text)
        self.set(CONFIG=str(self.config))

    def said(self) -> tuple[str, str]:
        """Return what was written to standard output and error since the last look."""
        shown = self._capture.readouterr()
        return shown.out, shown.err

    def error(self) -> str:
        """Return the one line on standard error."""
        line = self.said()[1]
        assert one_line(line)
        return line

    def document(self, *words: str) -> Any:
        """Make a report that ends well, and return it as JSON."""
        self.said()
        assert self("--format", "json", *words) == exit_status.DONE
        return json.loads(self.said()[0])

    @property
    def ended(self) -> RunStatus:
        status = last_run(self.state)
        assert status is not None
        assert reporter(self.state) is None
        return status


@pytest.fixture
def report(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Runs:
    return Runs(sandbox.url, tmp_path, monkeypatch, capsys)


def change_of(group: int, report: Any) -> Any:
    [change] = [one["change"] for one in report["groups"] if one["group"] == group]
    return change


def test_each_run_is_compared_with_the_last(report: Runs, client: Client) -> None:
    first = report.document()
    assert first["changes"]["since"] is None
    client.move(["20000000001052"], to="20000000001007").apply()
    for _ in range(2):  # only to look changes nothing about it
        looked = report.document("--no-history")
        assert looked["changes"]["since"] == first["generated_at"]
        assert (change_of(1002, looked)["kind"], change_of(1002, looked)["difference"]) == ("worse", "0.35")
    assert change_of(1002, report.document())["kind"] == "worse"
    assert change_of(1002, report.document())["kind"] == "unchanged"


def test_a_report_without_groups_after_one_with_groups_says_so_also_by_mail(
    report: Runs, sandbox: Sandbox, mail_certificates: Path
) -> None:
    assert report.document()["notes"] == []
    with sandbox._store.transaction() as connection:
        connection.execute("UPDATE mbts SET balance_owed = 0")
    note = "No groups are listed, but the previous report listed 8 groups. If this is unexpected, run the report"
    assert report("--no-history") == exit_status.DONE
    assert note in " ".join(report.said()[0].split())
    post = Post()
    with mail_server(post, mail_certificates) as port:
        report.configure(mail_section(port, mail_certificates))
        report.set(MAIL_PASSWORD=SECRET)
        assert report("--mail") == exit_status.DONE
    letter = post.taken[0].get_body(("plain",))
    assert letter is not None
    assert note in " ".join(letter.get_content().split())
    assert report.document()["notes"] == [], "the previous report listed nothing either"


@pytest.mark.parametrize(
    ("settings", "words", "exit_code", "outcome", "error"),
    [
        ({}, (), exit_status.DONE, RunOutcome.DONE, None),
        ({"GATEWAY_USERNAME": "north_manager"}, (), exit_status.INCOMPLETE, RunOutcome.PARTIAL, None),
        ({"PASSWORD": "wrong"}, (), exit_status.LOGIN, RunOutcome.FAILED, "LoginRefusedError"),
        ({"REPORT_ORGS": "NOWHERE"}, (), exit_status.CONFIGURATION, RunOutcome.FAILED, "ConfigurationError"),
        ({}, ("--output", "/no/x.csv"), exit_status.CONFIGURATION, RunOutcome.FAILED, "ConfigurationError"),
        ({}, ("--mail",), exit_status.CONFIGURATION, RunOutcome.FAILED, "ConfigurationError"),
    ],
)
def test_a_run_tells_how_it_went(
    report: Runs,
    settings: dict[str, str],
    words: tuple[str, ...],
    exit_code: int,
    outcome: RunOutcome,
    error: str | None,
) -> None:
    report.set(**settings)
    assert report(*words) == exit_code
    if outcome is RunOutcome.FAILED:
        assert report.error()
    status = report.ended
    assert (status.outcome, status.exit_code, status.error) == (outcome, exit_code, error)
    assert status.started < status.finished
    if outcome is RunOutcome.DONE:
        assert (status.groups, status.members) == (8, 34)
    elif outcome is RunOutcome.PARTIAL:
        assert status.groups is not None


def test_a_run_that_only_looks_leaves_no_trace(report: Runs, tmp_path: Path) -> None:
    configured = tmp_path / "configured.html"
    report.set(REPORT_OUTPUT=str(configured), REPORT_HEALTHCHECK_URL="http://127.0.0.1:9/never-called")
    assert report("--no-history") == exit_status.DONE
    shown, errors = report.said()
    assert "Okonkwo" in shown
    assert errors == ""
    assert not report.state.exists()
    assert not configured.exists()


def test_a_second_run_at_the_same_time_is_refused_and_leaves_the_status_to_the_first(report: Runs) -> None:
    with reporting(report.state):
        assert report() == exit_status.BUSY
        shown, errors = report.said()
        assert report("--no-history") == exit_status.DONE
    assert shown == ""
    assert re.fullmatch(
        rf"evergreen-groups: another run is making the report \(process {os.getpid()}, since [^)]+\)\n", errors
    )
    assert last_run(report.state) is None


@pytest.mark.long
def test_a_slow_reader_does_not_delay_the_next_report(sandbox: Sandbox, tmp_path: Path) -> None:
    command = Command(tmp_path, sandbox.url)
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as unread:
        filled = len(b" " * 65_536)
        os.set_blocking(writer, False)
        while filled:  # nothing more fits in, so the first run waits for its reader
            try:
                filled = os.write(writer, b" " * filled)
            except BlockingIOError:
                break
        os.set_blocking(writer, True)
        with subprocess.Popen(command.arguments("report"), env=command.environ, stdout=unread) as first:
            state_directory = tmp_path / ".local" / "state" / "evergreen-groups"
            wait_until(lambda: last_run(state_directory) and reporter(state_directory) is None)
            second = command("report")
            assert first.poll() is None
            os.close(reader)
    assert second.returncode == exit_status.DONE
    assert first.returncode == exit_status.FAILED  # its reader has gone


def test_an_unusable_history_does_not_cost_the_report(report: Runs) -> None:
    report.state.mkdir()
    history = report.state / FILE_NAME
    history.write_text("not a database, and longer than the header of one would be " * 20)
    before = history.read_bytes()
    assert report() == exit_status.FAILED
    shown, errors = report.said()
    assert "Okonkwo" in shown
    assert "Changes since the last run aren't known" in errors
    assert (
        "can't be used (file is not a database); restore a backup, or move the database away to start a new one"
        in errors
    )
    assert "the status of this run couldn't be stored" in errors
    assert history.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--no-history", "--mail"), "--no-history can't be combined with --mail"),
        (("--no-history", "--split", "library", "--output", "x"), "can't be combined with --split library"),
        (("--split", "library"), "needs a directory; set [report] output, or use --output"),
        (("--split", "library", "--output", "x", "--format", "table"), "can only be written as html, csv, json, xlsx"),
        (("--format", "xlsx"), "the format xlsx needs a file; set [report] output, or use --output"),
    ],
)
def test_targets_that_do_not_fit(report: Runs, words: tuple[str, ...], says: str) -> None:
    assert report(*words) == (exit_status.USAGE if "--no-history" in words else exit_status.CONFIGURATION)
    assert says in report.said()[1].splitlines()[0]


def test_a_report_for_each_library_as_configured(report: Runs, tmp_path: Path) -> None:
    report.configure(f'[report]\noutput = "{tmp_path}/reports"\nsplit = "library"\nformats = ["json"]\n')
    assert report() == exit_status.DONE
    latest = tmp_path / "reports" / "latest"
    assert {path.suffix for path in latest.iterdir()} == {".json", ".html"}
    assert [path.name for path in latest.glob("*.html")] == ["index.html"]
    assert json.loads((latest / "HARBOR.json").read_text())["criteria"]["orgs"] == ["HARBOR"]
    for words in (("--split", "none", "--output"), ("--output",)):  # what has a file's name is one, unless told
        single = tmp_path / f"single-{len(words)}.csv"
        assert report(*words, str(single)) == exit_status.DONE
        assert "Okonkwo" in single.read_text(encoding="utf-8")
    assert report("--output", str(tmp_path / "other")) == exit_status.DONE
    assert (tmp_path / "other" / "latest" / "index.html").exists()


@pytest.mark.parametrize(("days", "kept"), [(4, True), (6, False)])
def test_what_is_older_than_configured_is_forgotten(report: Runs, tmp_path: Path, days: int, kept: bool) -> None:
    reports = tmp_path / "reports"
    report.configure(
        f'[report]\noutput = "{reports}"\nsplit = "library"\nformats = ["json"]\nkeep_days = 5\n'
        "[history]\nkeep_days = 5\n"
    )
    assert report() == exit_status.DONE
    then = datetime.now(UTC) - timedelta(days=days)
    with closing(sqlite3.connect(report.state / FILE_NAME)) as history, history:
        history.execute("UPDATE runs SET at = ?", (then.isoformat(timespec="microseconds"),))
    today = (reports / "latest").readlink()
    (reports / today).rename(reports / f"{then.astimezone():%Y-%m-%d}")
    assert report() == exit_status.DONE
    assert count_runs(report.state) == 1 + kept
    now = (reports / "latest").readlink()  # midnight may have passed
    assert {path.name for path in reports.iterdir()} - {".editions", "latest", str(now)} == (
        {f"{then.astimezone():%Y-%m-%d}"} if kept else set()
    )


PING = "/ping/5ecre7"


@pytest.fixture
def monitoring() -> Iterator[Server]:
    """A monitoring service, which gets a request for each ping."""
    with Server(otherwise=raw(http(""))) as server:
        yield server


def pings(monitoring: Server) -> list[str]:
    return [request.path for request in monitoring.requests]


def test_the_healthcheck_is_called_at_the_end(
    report: Runs, monitoring: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    report.set(REPORT_HEALTHCHECK_URL=monitoring.url + PING)
    assert report() == exit_status.DONE
    assert report("--output", "/nonexistent/x.csv") == exit_status.CONFIGURATION
    with reporting(report.state):
        assert report() == exit_status.BUSY
    assert pings(monitoring) == ["/ping/5ecre7", "/ping/5ecre7/fail"]
    report.set(REPORT_MIN_TOTAL="-3")
    assert report("--healthcheck-url", f"{monitoring.url}{PING}/bad-settings") == exit_status.CONFIGURATION
    assert pings(monitoring)[2:] == ["/ping/5ecre7/bad-settings/fail"]
    monkeypatch.delenv("EVERGREEN_GROUPS_REPORT_MIN_TOTAL")
    report.set(STATE_DATABASE="nonsense")
    assert report("--healthcheck-url", f"{monitoring.url}{PING}/database") == exit_status.CONFIGURATION
    assert pings(monitoring)[3:] == ["/ping/5ecre7/database/fail"]


def test_an_unavailable_lock_does_not_cost_the_report(report: Runs, monitoring: Server) -> None:
    """As on a disk that has become one to read only: where it can't be told whether another run makes it."""
    (report.state / "report.lock").mkdir(parents=True)
    assert report("--format", "csv", "--healthcheck-url", monitoring.url + PING) == exit_status.CONFIGURATION
    shown, errors = report.said()
    assert shown.count("\n") > 1
    assert "cannot write" in errors.splitlines()[-1]
    assert pings(monitoring) == ["/ping/5ecre7/fail"]


def test_a_healthcheck_that_fails_is_a_warning(report: Runs, monitoring: Server) -> None:
    monitoring.otherwise = raw(http("", status=404))
    assert report("--healthcheck-url", monitoring.url + PING) == exit_status.DONE
    refused = report.said()[1]
    assert report("--healthcheck-url", "http://127.0.0.1:9/ping/5ecre7") == exit_status.DONE
    unreachable = report.said()[1]
    assert "the healthcheck was refused (HTTP status 404)" in refused
    assert "the healthcheck could not be called (ConnectionError)" in unreachable
    assert "5ecre7" not in refused + unreachable  # who knows it can call it


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (
            raw(b"HTTP/1.1 302 Found\r\nLocation: /there\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n", close=True),
            "Value",
        ),
        (drip(http("well" * 100), pause=0.05), "Deadline"),
    ],
    ids=["no HTTP", "drips"],
)
def test_a_healthcheck_with_an_odd_answer_is_a_warning(
    report: Runs, monkeypatch: pytest.MonkeyPatch, answer: Action, error: str
) -> None:
    if error == "Deadline":
        monkeypatch.setattr("evergreen_groups.nightly.monitoring._HEALTHCHECK_SECONDS", 0.3)
    with Server(otherwise=answer) as server:
        assert report("--healthcheck-url", f"{server.url}/ping/5ecre7") == exit_status.DONE
    assert f"the healthcheck could not be called ({error}Error)" in report.said()[1]


def held_up(call: Call) -> Fault:
    return Fault.LATE_ANSWER if call.method == "open-ils.pcrud.search.au.atomic" else Fault.NONE


def test_a_run_ends_at_its_deadline(report: Runs, sandbox: Sandbox, tmp_path: Path) -> None:
    def decide(call: Call) -> Fault:
        if (fault := held_up(call)) is Fault.LATE_ANSWER:
            expire_deadline()
        return fault

    old = tmp_path / "report.csv"
    old.write_text("yesterday")
    with fault_proxy(sandbox.url) as proxy:
        proxy.decide = decide
        report.set(GATEWAY_URL=proxy.url)
        assert report("--deadline", "600", "--output", str(old)) == exit_status.DEADLINE
        # What other threads had sent just before may be seen after it; but none of them logs in again.
        ended = proxy.seen.index("open-ils.auth.session.delete")
        assert "open-ils.auth.login" not in proxy.seen[ended:]
    assert "the run took longer than 600 seconds" in report.error()
    assert old.read_text() == "yesterday"
    status = report.ended
    assert (status.outcome, status.exit_code) == (RunOutcome.FAILED, exit_status.DEADLINE)
    assert status.error == "DeadlineError"
    assert status.seconds < 30


def test_a_deadline_passes_those_who_catch_errors_and_leaves_no_alarm() -> None:
    def busy() -> None:
        try:
            expire_deadline()
            threading.Event().wait(20)
        except Exception:
            threading.Event().wait(20)

    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(DeadlineError, match=r"took longer than 600 seconds"), Deadline(600):
        busy()
    with Deadline(20):
        pass
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) == before
    assert not any(isinstance(thread, threading.Timer) and thread.is_alive() for thread in threading.enumerate())


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_run_that_cannot_end_is_cut_off(log_format: str) -> None:
    code = (
        "import threading\nfrom evergreen_groups.cli import logs\n"
        "from evergreen_groups.nightly.deadline import CUT_OFF, Deadline\n"
        f"logs.configure(verbosity=0, quiet=False, log_format={log_format!r})\n"
        "with Deadline(0.3, grace=0.3, message=logs.format_line(CUT_OFF, error=True)):\n"
        "    try:\n        threading.Event().wait(20)\n    finally:\n        threading.Event().wait(20)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == exit_status.DEADLINE
    assert one_line(done.stderr) or log_format == "json"
    words = json.loads(done.stderr)["message"] if log_format == "json" else done.stderr.partition(": ")[2].rstrip()
    assert words == "the run hung after its deadline and was killed"


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C as at a terminal: tests in the background of a script, and what they start, would not hear it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.long
@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize(
    ("sent", "words", "exit_code", "messages"),
    [
        (signal.SIGTERM, (), exit_status.TERMINATED, []),
        (signal.SIGINT, ("--log-format", "json"), exit_status.INTERRUPTED, ["interrupted"]),
    ],
)
def test_a_run_that_is_ended_from_outside_tells_so(
    sandbox: Sandbox, tmp_path: Path, sent: signal.Signals, words: tuple[str, ...], exit_code: int, messages: list[str]
) -> None:
    waiting = threading.Event()

    def hold(call: Call) -> Fault:
        if held_up(call) is Fault.LATE_ANSWER:
            waiting.set()
        return held_up(call)

    with fault_proxy(sandbox.url) as proxy:
        proxy.decide = hold
        command = Command(tmp_path, proxy.url)
        old = tmp_path / "report.csv"
        old.write_text("yesterday")
        arguments = command.arguments(*words, "report", "--output", str(old))
        with subprocess.Popen(arguments, env=command.environ, stderr=subprocess.PIPE) as process:
            assert waiting.wait(60)
            process.send_signal(sent)
            _, errors = process.communicate(timeout=60)
    assert process.returncode == exit_code
    assert [json.loads(line)["message"] for line in errors.splitlines()] == messages
    assert old.read_text() == "yesterday"
    assert list(tmp_path.glob("*.tmp")) == []
    status = last_run(tmp_path / ".local" / "state" / "evergreen-groups")
    assert status is not None
    assert (status.outcome, status.exit_code) == (RunOutcome.FAILED, exit_code)


def test_a_night_whose_answers_cannot_be_trusted_is_told_apart_from_an_incomplete_one(
    report: Runs, sandbox: Sandbox, tmp_path: Path
) -> None:
    output = tmp_path / "report.html"
    with fault_proxy(sandbox.url) as proxy:
        proxy.answer = lambda call: [{"odd": 1}] if call.method == "open-ils.pcrud.search.mous.atomic" else None
        report.set(GATEWAY_URL=proxy.url)
        assert report("--output", str(output)) == exit_status.UNTRUSTED
    assert (report.ended.outcome, report.ended.exit_code) == (RunOutcome.FAILED, exit_status.UNTRUSTED)
    assert not output.exists()


def test_a_service_that_is_stopped_is_tried_again_and_lost_for_the_moment_only(
    report: Runs, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As sites on XMPP say it, where every service that isn't there is a transport error."""
    stopped = (404, "Internal Server Error : Transport Error")
    monkeypatch.setattr("evergreen_groups.gateway.call.RetryPolicy.delays", lambda _policy: iter([0.0, 0.0, 0.0]))
    with fault_proxy(sandbox.url) as proxy:
        report.set(GATEWAY_URL=proxy.url)
        proxy.refuse = lambda call: stopped if call.service == "open-ils.pcrud" else None
        assert report() == exit_status.UNREACHABLE
        asked = [method for method in proxy.seen if ".pcrud." in method]
        assert len(asked) >= 4
        assert "open-ils.pcrud isn't running" in report.error()
        proxy.refuse = lambda call: stopped if proxy.seen.count(call.method) == 1 else None
        proxy.seen.clear()
        assert report() == exit_status.DONE


def fail(command: Command, *words: str) -> None:
    right, command.environ["EVERGREEN_GROUPS_PASSWORD"] = command.environ["EVERGREEN_GROUPS_PASSWORD"], "wrong"
    assert command("report", *words).returncode == exit_status.LOGIN
    command.environ["EVERGREEN_GROUPS_PASSWORD"] = right


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "name", "last"),
    [
        (("--split", "library", "--output", "reports"), "reports/failed.html", "latest/index.html"),
        (("--output", "report.html"), "report.failed.html", "report.html"),
    ],
)
def test_it_says_so_and_leads_to_the_last_one(
    command: Command, tmp_path: Path, words: tuple[str, ...], name: str, last: str
) -> None:
    words = (*words[:-1], str(tmp_path / words[-1]))
    page = tmp_path / name
    fail(command, *words)
    assert "There is no earlier report" in page.read_text("utf-8")
    assert command("report", *words).returncode == exit_status.DONE
    assert not page.exists()
    if "--split" not in words:
        fail(command, *words, "--no-history")
        assert not page.exists(), "a run that only looks leaves nothing"
    fail(command, *words)
    tree = lxml.html.parse(page)
    assert tree.xpath("//a/@href") == [last]
    assert (page.parent / last).exists()
    assert "login refused" in tree.xpath("string(//main)")
    assert not tree.xpath("//script")
    assert page.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ["report.csv", "report.json"])
def test_files_that_are_not_read_as_pages_have_none(command: Command, tmp_path: Path, name: str) -> None:
    fail(command, "--output", str(tmp_path / name))
    assert not list(tmp_path.glob("*failed*"))


def test_a_page_that_cannot_be_left_is_only_a_warning(command: Command, tmp_path: Path) -> None:
    fail(command, "--output", str(tmp_path / "nowhere" / "at" / "all" / "report.html"))


def published(directory: Path) -> dict[str, bytes]:
    """Return the files of the reports and their editions, with their content."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("options", "variables", "what"),
    [
        (["--top", "1", "--no-members"], {}, "--no-members, report.top"),
        (["--split", "none", "--json", "--limit", "9"], {}, "report.formats, policy.limit, report.split"),
        (["--over-limit", "--details", "sums"], {}, "report.details, report.over_limit"),
        ([], {"REPORT_CONTACT": "true"}, "report.contact"),
        ([], {"GATEWAY_USERNAME": "north_manager"}, "gateway.username"),
    ],
)
def test_a_manual_run_that_differs_leaves_the_published_report_alone(
    report: Runs, tmp_path: Path, options: list[str], variables: dict[str, str], what: str
) -> None:
    output = tmp_path / "reports"
    report.configure(
        f'[gateway]\nusername = "consortium_staff"\n[report]\nsplit = "library"\noutput = "{output}"\nkeep_days = 1\n'
    )
    assert report() == exit_status.DONE
    night = published(output)
    report.set(**variables)
    report.said()
    assert report("--manual", *options) in (exit_status.DONE, exit_status.INCOMPLETE)
    shown, said = report.said()
    assert published(output) == night
    assert shown, "it goes to standard output"
    [line] = [line for line in said.splitlines() if str(output) in line]
    assert (f"({what})" in line, "--publish" in line) == (True, True)


def test_a_manual_run_publishes_if_it_says_so_or_is_as_configured(report: Runs, tmp_path: Path) -> None:
    output = tmp_path / "reports"
    report.configure(f'[report]\nsplit = "library"\noutput = "{output}"\nkeep_days = 1\n')
    assert report() == exit_status.DONE
    night = published(output)
    today = (output / "latest").readlink()
    old = output / f"{date.fromisoformat(str(today)) - timedelta(3)}"
    old.symlink_to((output / today).readlink())
    assert report("--manual", "--split", "library", "--limit", "5.00") == exit_status.DONE
    assert published(output).keys() != night.keys(), "a new edition"
    assert report("--manual", "--publish", "--top", "1") == exit_status.DONE
    files = (output / "latest").glob("*.json")
    assert max(json.loads(file.read_text())["totals"]["group_count"] for file in files) == 1
    assert old.is_symlink(), "only the report of the night deletes older editions"
    assert report("--top", "1") == exit_status.DONE, "a crontab's"
    assert not old.is_symlink()


def at_a_terminal(command: Command, *words: str) -> str:
    """Run the command with a terminal as standard error, and return the terminal's output."""
    status, said = on_a_terminal(command, *words)
    assert status == 0
    return said


@pytest.mark.long
def test_it_is_not_recorded_unless_it_says_so(command: Command, tmp_path: Path) -> None:
    state, page = tmp_path / "state", tmp_path / "report.html"
    command.config.write_text(f'[report]\noutput = "{page}"\n')
    said = at_a_terminal(command, "report")
    assert "tonight's report won't be compared with it" in said
    assert page.exists(), "what is configured is written"
    assert re.search(rf"written: {page} \([0-9]+ groups\)\r\n$", said), "and it is said in one line"
    assert last_run(state) is None
    written = page.read_bytes()
    assert "isn't replaced" in at_a_terminal(command, "report", "--top", "1")
    assert page.read_bytes() == written
    assert command("report").returncode == 0  # as the timer does
    assert count_runs(state) == 1
    night = last_run(state)
    at_a_terminal(command, "report")
    assert (count_runs(state), last_run(state)) == (1, night)
    assert "compared with" not in at_a_terminal(command, "report", "--history")
    assert (count_runs(state), last_run(state)) == (2, night), "it is compared with, and is not the scheduled one"
    at_a_terminal(command, "report", "--scheduled")
    assert last_run(state) != night, "whoever makes up for a night can say so"


@pytest.mark.long
def test_a_run_at_a_terminal_is_manual_even_if_its_messages_go_elsewhere(command: Command, tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    try:
        subprocess.run(command.arguments("report"), env=command.environ, stdin=theirs, capture_output=True, check=True)
    finally:
        os.close(ours)
        os.close(theirs)
    assert count_runs(tmp_path / "state") == 0


@pytest.mark.long
def test_no_summary_if_quiet_or_without_a_terminal(command: Command, tmp_path: Path) -> None:
    page = str(tmp_path / "report.html")
    assert at_a_terminal(command, "--quiet", "report", "--output", page) == ""
    assert "written:" not in command("report", "--output", page).stderr
    assert at_a_terminal(command, "audit", "--output", page).endswith(f"written: {page}\r\n")


@pytest.mark.long
def test_a_directory_is_summed_up(command: Command, tmp_path: Path) -> None:
    said = at_a_terminal(command, "report", "--split", "library", "--output", str(tmp_path / "reports"))
    assert re.search(r"written: .*/reports \([0-9]+ groups, [0-9]+ libraries and [0-9]+ files\)", said)


@pytest.mark.long
def test_a_run_without_a_terminal_can_be_a_manual_one(command: Command, tmp_path: Path) -> None:
    assert command("report", "--manual").returncode == 0
    assert (count_runs(tmp_path / "state"), last_run(tmp_path / "state")) == (0, None)
    assert "Last manual run (doesn't count): done" in command("status").stdout


@pytest.mark.long
def test_hours_between_runs_are_those_of_the_nights(command: Command, tmp_path: Path) -> None:
    command.config.write_text(f'[report]\noutput = "{tmp_path / "report.json"}"\nhours_between_runs = 12\n')
    at_a_terminal(command, "report")
    assert command("report").returncode == 0
    assert count_runs(tmp_path / "state") == 1, "tonight's is made all the same"
    (tmp_path / "report.json").unlink()
    at_a_terminal(command, "report")
    assert (tmp_path / "report.json").exists(), "who asks for one gets it"
