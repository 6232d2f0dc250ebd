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
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support import deadlines
from support.command import Command, one_line
from support.fault_proxy import Call, Fault, fault_proxy
from support.gateway_server import Action, Server, drip, http, raw
from support.gateways import PASSWORD
from support.mail_server import SECRET, Post, mail_section
from support.mail_server import server as mail_server
from support.state_files import count_runs, last_run, reporter, reporting
from support.waiting import wait_until

from evergreen_groups import exit_status
from evergreen_groups.cli.application import run
from evergreen_groups.client import Client
from evergreen_groups.errors import DeadlineError
from evergreen_groups.nightly.run import Deadline
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import CONFIG_VARIABLE
from evergreen_groups.state import RunOutcome
from evergreen_groups.state.database import FILE_NAME

Report = Callable[..., int]


@pytest.fixture
def environ(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The environment of runs in this process; gives their state directory."""
    for name in [name for name in os.environ if name.startswith(("EVERGREEN_", "XDG_"))]:
        monkeypatch.delenv(name)
    directory = tmp_path / "state"
    for name, value in {
        "HOME": str(tmp_path),
        "STATE_DIRECTORY": str(directory),
        "EVERGREEN_GROUPS_GATEWAY_URL": sandbox.url,
        "EVERGREEN_GROUPS_GATEWAY_USERNAME": "consortium_staff",
        "EVERGREEN_GROUPS_PASSWORD": PASSWORD,
    }.items():
        monkeypatch.setenv(name, value)
    return directory


@pytest.fixture
def report(environ: Path) -> Report:
    return lambda *words: run(["report", *words])


def change_of(group: int, report: Any) -> Any:
    [change] = [one["change"] for one in report["groups"] if one["group"] == group]
    return change


def test_each_run_is_compared_with_the_last(report: Report, client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    assert report("--format", "json") == exit_status.DONE
    first = json.loads(capsys.readouterr().out)
    assert first["changes"]["since"] is None
    client.moves.plan_move(["20000000001052"], to="20000000001007").apply()
    for _ in range(2):  # only to look changes nothing about it
        assert report("--format", "json", "--no-history") == exit_status.DONE
        looked = json.loads(capsys.readouterr().out)
        assert looked["changes"]["since"] == first["generated_at"]
        assert (change_of(1002, looked)["kind"], change_of(1002, looked)["difference"]) == ("worse", "0.35")
    assert report("--format", "json") == exit_status.DONE
    assert change_of(1002, json.loads(capsys.readouterr().out))["kind"] == "worse"
    assert report("--format", "json") == exit_status.DONE
    assert change_of(1002, json.loads(capsys.readouterr().out))["kind"] == "unchanged"


def test_a_report_without_groups_after_one_with_groups_says_so_also_by_mail(
    environ: Path,
    report: Report,
    sandbox: Sandbox,
    mail_certificates: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def notes() -> list[str]:
        assert report("--format", "json") == exit_status.DONE
        found: list[str] = json.loads(capsys.readouterr().out)["notes"]
        return found

    assert notes() == []
    with sandbox._store.transaction() as connection:
        connection.execute("UPDATE mbts SET balance_owed = 0")
    note = "No groups are listed, but the previous report listed 8 groups. If you don't expect this, run the report"
    assert report("--no-history") == exit_status.DONE
    assert note in " ".join(capsys.readouterr().out.split())
    post, config = Post(), tmp_path / "config.toml"
    with mail_server(post, mail_certificates) as port:
        config.write_text(mail_section(port, mail_certificates))
        monkeypatch.setenv("EVERGREEN_GROUPS_MAIL_PASSWORD", SECRET)
        monkeypatch.setenv(CONFIG_VARIABLE, str(config))
        assert report("--mail") == exit_status.DONE
    letter = post.taken[0].get_body(("plain",))
    assert letter is not None
    assert note in " ".join(letter.get_content().split())
    capsys.readouterr()
    assert notes() == [], "the previous report listed nothing either"


def test_a_run_tells_how_it_went(environ: Path, report: Report) -> None:
    assert report() == exit_status.DONE
    status = last_run(environ)
    assert status is not None
    assert (status.outcome, status.exit_code, status.error) == (RunOutcome.DONE, 0, None)
    assert (status.groups, status.members) == (8, 34)
    assert status.started < status.finished
    assert reporter(environ) is None


@pytest.mark.parametrize(
    ("variable", "value", "words", "exit_code", "error"),
    [
        ("EVERGREEN_GROUPS_PASSWORD", "wrong", (), exit_status.LOGIN, "LoginRefusedError"),
        ("EVERGREEN_GROUPS_REPORT_ORGS", "NOWHERE", (), exit_status.CONFIGURATION, "ConfigurationError"),
        ("HOME", "/", ("--output", "/nonexistent/x.csv"), exit_status.CONFIGURATION, "ConfigurationError"),
        ("HOME", "/", ("--mail",), exit_status.CONFIGURATION, "ConfigurationError"),
    ],
)
def test_a_failed_run_tells_so_as_well(
    environ: Path,
    report: Report,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variable: str,
    value: str,
    words: tuple[str, ...],
    exit_code: int,
    error: str,
) -> None:
    monkeypatch.setenv(variable, value)
    assert report(*words) == exit_code
    assert one_line(capsys.readouterr().err)
    status = last_run(environ)
    assert status is not None
    assert (status.outcome, status.exit_code, status.error) == (RunOutcome.FAILED, exit_code, error)
    assert reporter(environ) is None


def test_a_report_that_is_incomplete_is_a_partial_one(
    environ: Path, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERGREEN_GROUPS_GATEWAY_USERNAME", "north_manager")
    assert report() == exit_status.INCOMPLETE
    status = last_run(environ)
    assert status is not None
    assert (status.outcome, status.exit_code, status.error) == (RunOutcome.PARTIAL, exit_status.INCOMPLETE, None)
    assert status.groups is not None


def test_a_run_that_only_looks_leaves_no_trace(
    environ: Path, report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configured = tmp_path / "configured.html"
    monkeypatch.setenv("EVERGREEN_GROUPS_REPORT_OUTPUT", str(configured))
    monkeypatch.setenv("EVERGREEN_GROUPS_REPORT_HEALTHCHECK_URL", "http://127.0.0.1:9/never-called")
    assert report("--no-history") == exit_status.DONE
    shown = capsys.readouterr()
    assert "Okonkwo" in shown.out
    assert shown.err == ""
    assert not environ.exists()
    assert not configured.exists()


def test_a_second_run_at_the_same_time_is_refused_and_leaves_the_status_to_the_first(
    environ: Path, report: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    with reporting(environ):
        assert report() == exit_status.BUSY
        said = capsys.readouterr()
        assert report("--no-history") == exit_status.DONE
    assert said.out == ""
    assert re.fullmatch(
        rf"evergreen-groups: another run is making the report \(process {os.getpid()}, since [^)]+\)\n", said.err
    )
    assert last_run(environ) is None


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
            wait_until(lambda: last_run(state_directory))
            second = command("report")
            assert first.poll() is None
            os.close(reader)
    assert second.returncode == exit_status.DONE
    assert first.returncode == exit_status.FAILED  # its reader has gone


def test_an_unusable_history_does_not_cost_the_report(
    environ: Path, report: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    environ.mkdir()
    history = environ / FILE_NAME
    history.write_text("not a database, and longer than the header of one would be " * 20)
    before = history.read_bytes()
    assert report() == exit_status.FAILED
    shown = capsys.readouterr()
    assert "Okonkwo" in shown.out
    assert "What changed since the last run isn't known" in shown.err
    assert "can't be used (file is not a database); move the database away to begin a new one" in shown.err
    assert "the status of this run could not be stored" in shown.err
    assert history.read_bytes() == before


@pytest.mark.parametrize("words", [("--mail",), ("--split", "library", "--output", "reports")])
def test_only_to_look_goes_with_nothing_that_leaves_something(
    report: Report, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert report("--no-history", *words) == exit_status.USAGE
    assert "--no-history only looks" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--split", "library"), "needs a directory; name it with --output"),
        (("--split", "library", "--output", "x", "--format", "table"), "takes a format of html, csv, json, xlsx"),
        (("--format", "xlsx"), "a spreadsheet isn't for the terminal; name a file with --output"),
    ],
)
def test_targets_that_do_not_fit(
    report: Report, words: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(*words) == exit_status.CONFIGURATION
    said = capsys.readouterr().err
    assert one_line(said)
    assert says in said


def test_a_report_for_each_library_as_configured(
    environ: Path, report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = tmp_path / "config.toml"
    configuration.write_text(f'[report]\noutput = "{tmp_path}/reports"\nsplit = "library"\nformats = ["json"]\n')
    monkeypatch.setenv("EVERGREEN_GROUPS_CONFIG", str(configuration))
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
def test_what_is_older_than_configured_is_forgotten(
    environ: Path, report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int, kept: bool
) -> None:
    configuration, reports = tmp_path / "config.toml", tmp_path / "reports"
    configuration.write_text(
        f'[report]\noutput = "{reports}"\nsplit = "library"\nformats = ["json"]\nkeep_days = 5\n'
        "[history]\nkeep_days = 5\n"
    )
    monkeypatch.setenv("EVERGREEN_GROUPS_CONFIG", str(configuration))
    assert report() == exit_status.DONE
    then = datetime.now(UTC) - timedelta(days=days)
    with closing(sqlite3.connect(environ / FILE_NAME)) as history, history:
        history.execute("UPDATE runs SET at = ?", (then.isoformat(timespec="microseconds"),))
    today = (reports / "latest").readlink()
    (reports / today).rename(reports / f"{then.astimezone():%Y-%m-%d}")
    assert report() == exit_status.DONE
    assert count_runs(environ) == 1 + kept
    now = (reports / "latest").readlink()  # midnight may have passed
    assert {path.name for path in reports.iterdir()} - {".editions", "latest", str(now)} == (
        {f"{then.astimezone():%Y-%m-%d}"} if kept else set()
    )


def test_a_spreadsheet_by_its_name(report: Report, tmp_path: Path) -> None:
    target = tmp_path / "report.xlsx"
    assert report("--output", str(target)) == exit_status.DONE
    assert target.read_bytes().startswith(b"PK")
    assert target.stat().st_mode & 0o777 == 0o600


class Healthchecks:
    """A monitoring service: the paths that were called, and the status it answers with."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.answer = 200
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                service.called.append(self.path)
                self.send_response(service.answer)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/ping/5ecre7"


@pytest.fixture
def healthchecks() -> Iterator[Healthchecks]:
    service = Healthchecks()
    thread = threading.Thread(target=service.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield service
    service.server.shutdown()
    service.server.server_close()
    thread.join()


def test_the_healthcheck_is_called_at_the_end(
    environ: Path, report: Report, healthchecks: Healthchecks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERGREEN_GROUPS_REPORT_HEALTHCHECK_URL", healthchecks.url)
    assert report() == exit_status.DONE
    assert report("--output", "/nonexistent/x.csv") == exit_status.CONFIGURATION
    with reporting(environ):
        assert report() == exit_status.BUSY
    assert healthchecks.called == ["/ping/5ecre7", "/ping/5ecre7/fail"]
    monkeypatch.setenv("EVERGREEN_GROUPS_REPORT_MIN_TOTAL", "-3")
    assert report("--healthcheck-url", f"{healthchecks.url}/bad-settings") == exit_status.CONFIGURATION
    assert healthchecks.called[2:] == ["/ping/5ecre7/bad-settings/fail"]
    monkeypatch.delenv("EVERGREEN_GROUPS_REPORT_MIN_TOTAL")
    monkeypatch.setenv("EVERGREEN_GROUPS_STATE_DATABASE", "nonsense")
    assert report("--healthcheck-url", f"{healthchecks.url}/database") == exit_status.CONFIGURATION
    assert healthchecks.called[3:] == ["/ping/5ecre7/database/fail"]


def test_an_unavailable_lock_does_not_cost_the_report(
    environ: Path, report: Report, healthchecks: Healthchecks, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on a disk that has become one to read only: where it can't be told whether another run makes it."""
    (environ / "report.lock").mkdir(parents=True)
    assert report("--format", "csv", "--healthcheck-url", healthchecks.url) == exit_status.CONFIGURATION
    done = capsys.readouterr()
    assert done.out.count("\n") > 1
    assert "cannot open" in done.err.splitlines()[-1]
    assert healthchecks.called == ["/ping/5ecre7/fail"]


def test_a_healthcheck_that_fails_is_a_warning(
    report: Report, healthchecks: Healthchecks, capsys: pytest.CaptureFixture[str]
) -> None:
    healthchecks.answer = 404
    assert report("--healthcheck-url", healthchecks.url) == exit_status.DONE
    refused = capsys.readouterr().err
    assert report("--healthcheck-url", "http://127.0.0.1:9/ping/5ecre7") == exit_status.DONE
    unreachable = capsys.readouterr().err
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
    report: Report, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: Action, error: str
) -> None:
    if error == "Deadline":
        monkeypatch.setattr("evergreen_groups.nightly.run._HEALTHCHECK_SECONDS", 0.3)
    with Server(otherwise=answer) as server:
        assert report("--healthcheck-url", f"{server.url}/ping/5ecre7") == exit_status.DONE
    assert f"the healthcheck could not be called ({error}Error)" in capsys.readouterr().err


def held_up(call: Call) -> Fault:
    return Fault.LATE_ANSWER if call.method == "open-ils.pcrud.search.au.atomic" else Fault.NONE


def test_a_run_ends_at_its_deadline(
    environ: Path,
    report: Report,
    sandbox: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def decide(call: Call) -> Fault:
        if (fault := held_up(call)) is Fault.LATE_ANSWER:
            deadlines.expire_deadline()
        return fault

    old = tmp_path / "report.csv"
    old.write_text("yesterday")
    with fault_proxy(sandbox.url) as proxy:
        proxy.decide = decide
        monkeypatch.setenv("EVERGREEN_GROUPS_GATEWAY_URL", proxy.url)
        assert report("--deadline", "600", "--output", str(old)) == exit_status.DEADLINE
        # What other threads had sent just before may be seen after it; but none of them logs in again.
        ended = proxy.seen.index("open-ils.auth.session.delete")
        assert "open-ils.auth.login" not in proxy.seen[ended:]
    said = capsys.readouterr().err
    assert one_line(said)
    assert "was not done after 600 seconds and was ended" in said
    assert old.read_text() == "yesterday"
    status = last_run(environ)
    assert status is not None
    assert (status.outcome, status.exit_code) == (RunOutcome.FAILED, exit_status.DEADLINE)
    assert status.error == "DeadlineError"
    assert status.seconds < 30
    assert reporter(environ) is None


def test_a_deadline_passes_those_who_catch_errors_and_leaves_no_alarm() -> None:
    def busy() -> None:
        try:
            deadlines.expire_deadline()
            threading.Event().wait(20)
        except Exception:
            threading.Event().wait(20)

    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(DeadlineError, match=r"not done after 600 seconds"), Deadline(600):
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
        "from evergreen_groups.nightly.run import CUT_OFF, Deadline\n"
        f"logs.configure(verbosity=0, quiet=False, log_format={log_format!r})\n"
        "with Deadline(0.3, grace=0.3, message=logs.format_line(CUT_OFF, error=True)):\n"
        "    try:\n        threading.Event().wait(20)\n    finally:\n        threading.Event().wait(20)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == exit_status.DEADLINE
    assert one_line(done.stderr) or log_format == "json"
    words = json.loads(done.stderr)["message"] if log_format == "json" else done.stderr.partition(": ")[2].rstrip()
    assert words == "the run did not end at its deadline, and was cut off"


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
    environ: Path, report: Report, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "report.html"
    with fault_proxy(sandbox.url) as proxy:
        proxy.answer = lambda call: [{"odd": 1}] if call.method == "open-ils.pcrud.search.mous.atomic" else None
        monkeypatch.setenv("EVERGREEN_GROUPS_GATEWAY_URL", proxy.url)
        assert report("--output", str(output)) == exit_status.UNTRUSTED
    status = last_run(environ)
    assert status is not None
    assert (status.outcome, status.exit_code) == (RunOutcome.FAILED, exit_status.UNTRUSTED)
    assert not output.exists()


def test_a_service_that_is_stopped_is_tried_again_and_lost_for_the_moment_only(
    environ: Path,
    report: Report,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As sites on XMPP say it, where every service that isn't there is a transport error."""
    stopped = (404, "Internal Server Error : Transport Error")
    monkeypatch.setattr("evergreen_groups.gateway.call.RetryPolicy.delays", lambda _policy: iter([0.0, 0.0, 0.0]))
    with fault_proxy(sandbox.url) as proxy:
        monkeypatch.setenv("EVERGREEN_GROUPS_GATEWAY_URL", proxy.url)
        proxy.refuse = lambda call: stopped if call.service == "open-ils.pcrud" else None
        assert report() == exit_status.UNREACHABLE
        asked = [method for method in proxy.seen if ".pcrud." in method]
        assert len(asked) >= 4
        said = capsys.readouterr().err
        assert one_line(said)
        assert "open-ils.pcrud isn't running" in said
        proxy.refuse = lambda call: stopped if proxy.seen.count(call.method) == 1 else None
        proxy.seen.clear()
        assert report() == exit_status.DONE
