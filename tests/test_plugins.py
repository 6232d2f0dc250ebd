"""Plug-ins: what each is given and when, ``docs/plugins.md``, and those that fail or hang."""

import json
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from support.command import Command
from support.desk_caller import DeskCaller, new_key
from support.follow_ups import note_run
from support.gateways import gateway_of
from support.installation import Installation
from support.pages import blocks
from support.repository import REPOSITORY
from support.web_caller import MakeApp, client_of, session, settings_of

from evergreen_groups.cli.application import run
from evergreen_groups.doctor import Verdict
from evergreen_groups.plugins import GROUP, Plugins
from evergreen_groups.report import Criteria, Run, build_report
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings.sections import PluginSettings
from evergreen_groups.state import State, read_run_status

PAGE = REPOSITORY / "docs" / "plugins.md"
CARD, PATRON = "20000000001052", 1052
SECRET = "SECRET-name-of-a-patron"
RECORDER = """
import os, requests

def post(**values):
    requests.post(os.environ["CHAT_WEBHOOK"], json=values, timeout=30)

def report_finished(report):
    post(method="report_finished", groups=len(report.groups))

def change_applied(outcome):
    steps = [(step.step.patron_id, step.state.value) for step in outcome.steps]
    post(method="change_applied", entry=outcome.entry, done=outcome.done, steps=steps)

class Recorder:
    def follow_up_added(self, entry):
        post(method="follow_up_added", group=entry.group, what=entry.what.value)
"""
RAISES = f"""
def report_finished(report):
    raise ValueError("{SECRET}")

change_applied = follow_up_added = report_finished
"""
HANGS = """
import os, requests

def report_finished(report):
    requests.get(os.environ["CHAT_WEBHOOK"])  # never answered

change_applied = follow_up_added = report_finished
"""
HANGS_ON_IMPORT = "import time\ntime.sleep(3600)\n"
POINTS = f"""
[{GROUP}]
recorder = recorder
entries = recorder:Recorder
raises = raises
hangs = hangs
importing = importing
broken = absent
empty = json
"""


@dataclass
class Chat:
    """A chat that takes posts, with what is in the state directory then. It never answers a GET."""

    state: Path
    url: str = ""
    gateway: str = ""
    posts: list[dict[str, Any]] = field(default_factory=list)
    asked: int = 0

    def recorded(self) -> dict[str, object]:
        """Return what a reader of the database finds now."""
        with State(self.state) as state, state.database.reading() as connection:
            query = connection.exec_driver_sql
            return {
                "runs": query("SELECT count(*) FROM runs").scalar_one(),
                "done": query("SELECT count(*) FROM steps WHERE state = 'done'").scalar_one(),
                "open": query("SELECT count(*) FROM steps WHERE state IN ('planned', 'sending')").scalar_one(),
                "entries": query("SELECT count(*) FROM follow_up_entries").scalar_one(),
                "report": read_run_status(state.database) is not None,
                "leased": state.is_being_changed(self.gateway, [PATRON]),
            }


@pytest.fixture
def chat(tmp_path: Path, sandbox: Sandbox) -> Iterator[Chat]:
    found, ended = Chat(tmp_path / "state", gateway=sandbox.url), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found.posts.append({**body, "recorded": found.recorded()})
            self.send_response(204)
            self.end_headers()

        def do_GET(self) -> None:
            found.asked += 1
            ended.wait()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        found.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield found
        ended.set()
        server.shutdown()


@pytest.fixture
def command(tmp_path: Path, sandbox: Sandbox, chat: Chat) -> Command:
    found = Command(tmp_path, sandbox.url)
    found.environ |= {"STATE_DIRECTORY": str(chat.state), "CHAT_WEBHOOK": chat.url}
    return found


@pytest.fixture
def installed(tmp_path: Path, chat: Chat, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a distribution of plug-ins, which this process imports from too."""
    place = tmp_path / "packages"
    metadata = place / "plugins-2.3.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: plugins\nVersion: 2.3\n")
    (metadata / "entry_points.txt").write_text(POINTS)
    for name, text in {"recorder": RECORDER, "raises": RAISES, "hangs": HANGS, "importing": HANGS_ON_IMPORT}.items():
        (place / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(place)
    monkeypatch.setenv("CHAT_WEBHOOK", chat.url)
    return place


def execute(
    command: Command, place: Path, *words: str, enabled: str = '"recorder"', timeout: int = 30
) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own that finds what is installed in ``place``."""
    command.config.write_text(f"[plugins]\nenabled = [{enabled}]\ntimeout = {timeout}\n")
    command.config.chmod(0o600)
    environ = command.environ | {"PYTHONPATH": f"{place}:{REPOSITORY}"}
    return subprocess.run(command.arguments(*words), env=environ, capture_output=True, text=True, check=False)


def test_the_page_has_an_example_that_works(command: Command, chat: Chat, tmp_path: Path, sandbox: Sandbox) -> None:
    project, place = tmp_path / "project", tmp_path / "environment"
    project.mkdir()
    program, about, *_ = [block for block in blocks(PAGE) if block.language in ("python", "toml")]
    (project / "chat_totals.py").write_text(program.text, "utf-8")
    (project / "pyproject.toml").write_text(about.text, "utf-8")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=project, capture_output=True, check=True)
    (built,) = tmp_path.glob("chat_totals-1.0-*.whl")
    with zipfile.ZipFile(built) as wheel:
        wheel.extractall(place)

    doctor = execute(command, place, "doctor", "--json", enabled='"chat"')
    (finding,) = [one for one in json.loads(doctor.stdout)["findings"] if one["check"] == "plugins"]
    assert (finding["verdict"], finding["found"]) == ("ok", "chat 1.0: report_finished")

    output = tmp_path / "report.json"
    done = execute(command, place, "report", "--output", str(output), "--history", enabled='"chat"')
    assert done.returncode == 0, done.stderr
    totals = json.loads(output.read_text())["totals"]
    (post,) = chat.posts
    assert post["text"] == f"Last night, {totals['group_count']} groups owed {totals['group_fines']} together."
    assert post["recorded"]["runs"] == 1
    assert post["recorded"]["report"] is True


def test_changes_of_the_command_line_of_a_batch_and_of_an_undo(
    command: Command, chat: Chat, installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command.config.write_text('[plugins]\nenabled = ["recorder"]\ntimeout = 30\n')
    command.config.chmod(0o600)
    for name, value in command.environ.items():
        monkeypatch.setenv(name, value)
    batch = tmp_path / "batch.csv"
    batch.write_text(f"action,barcode,target\nremove,{CARD},\n")
    assert run(["remove", CARD, "--yes"]) == 0
    assert run(["undo", chat.posts[0]["entry"], "--yes"]) == 0
    assert run(["batch", str(batch), "--yes"]) == 0
    assert [post["steps"] for post in chat.posts] == [[[PATRON, "done"]]] * 3
    assert [post["recorded"]["done"] for post in chat.posts] == [1, 2, 3]
    states = {(post["recorded"]["open"], post["recorded"]["leased"], post["done"]) for post in chat.posts}
    assert states == {(0, False, True)}


def test_changes_and_follow_ups_of_the_desk(make_app: MakeApp, sandbox: Sandbox, chat: Chat, installed: Path) -> None:
    with State(chat.state) as state, gateway_of(sandbox.url, "consortium_staff") as gateway:
        report = build_report(gateway, Criteria())
        note_run(state, report)
    group = next(iter(Run.of(report).listings))
    plugins = PluginSettings(enabled=("recorder", "entries"), timeout=30)
    app = make_app(replace(settings_of(sandbox.url), plugins=plugins))
    desk = DeskCaller(client_of(app), session(sandbox.url, username="consortium_staff"))
    plan, key = desk.planned("remove", PATRON), new_key()
    change = desk.apply(plan, key)
    assert desk.apply(plan, key).body["id"] == change.body["id"]  # a repeat applies nothing
    desk.undo(change.body["id"])
    entry = {"group": group, "seen": None, "what": "note", "note": SECRET}
    for _ in range(2):
        saved = desk.send("POST", "follow-ups", {"report": "", "entries": [entry]}, Idempotency_Key=key)
        assert saved.status == 200, saved.body
    assert [post["method"] for post in chat.posts] == ["change_applied", "change_applied", "follow_up_added"]
    assert chat.posts[0]["entry"] == change.body["id"]
    assert [post["recorded"]["done"] for post in chat.posts] == [1, 2, 2]
    assert (chat.posts[2]["group"], chat.posts[2]["what"]) == (group, "note")
    assert chat.posts[2]["recorded"]["entries"] == 1


def test_a_report_goes_on_past_plug_ins_that_raise_or_hang(
    command: Command, chat: Chat, installed: Path, tmp_path: Path
) -> None:
    enabled = '"raises", "hangs", "absent", "recorder"'
    words = ("report", "--output", str(tmp_path / "report.json"), "--history")
    done = execute(command, installed, *words, enabled=enabled, timeout=1)
    assert done.returncode == 0, done.stderr
    assert [post["method"] for post in chat.posts] == ["report_finished"]
    assert chat.asked == 1
    for line in (
        "plug-in raises, report_finished: ValueError",
        "plug-in hangs, report_finished: timed out",
        "plug-in absent, report_finished: not installed",
    ):
        assert line in done.stderr
    assert SECRET not in done.stderr


def test_a_plug_in_that_hangs_holds_one_thread_and_delays_once(installed: Path, chat: Chat) -> None:
    plugins = Plugins(["hangs"], 0.5)
    before = set(threading.enumerate())
    plugins.notify("change_applied", object())
    started = monotonic()
    with ThreadPoolExecutor(20) as desks:
        for _ in range(20):
            desks.submit(plugins.notify, "change_applied", object())
    assert monotonic() - started < 0.5
    assert len(set(threading.enumerate()) - before) <= 1  # none, if an idle one runs the plug-in
    assert chat.asked == 1


def test_a_plug_in_whose_import_hangs_delays_no_other(installed: Path, chat: Chat) -> None:
    """Before Python 3.12, all of them timed out."""
    started = monotonic()
    Plugins(["importing"], 0.5).notify("report_finished", object())
    Plugins(["raises"], 30).notify("report_finished", object())
    assert monotonic() - started < 10


def test_calls_wait_for_each_other_as_long_as_none_is_late(installed: Path, chat: Chat) -> None:
    plugins = Plugins(["entries"], 30)

    @dataclass
    class Noted:
        group: int

        class what:  # noqa: N801 - an entry's
            value = "note"

    with ThreadPoolExecutor(8) as desks:
        for number in range(8):
            desks.submit(plugins.notify, "follow_up_added", Noted(number))
    assert sorted(post["group"] for post in chat.posts) == list(range(8))


def test_doctor_names_plug_ins_that_cannot_be_used(installed: Path, tmp_path: Path, sandbox: Sandbox) -> None:
    home = tmp_path / "installation"
    home.mkdir()
    more = '[plugins]\nenabled = ["entries", "absent", "broken", "empty"]\n'
    findings = Installation(home, sandbox.url, more=more).examined(only=["plugins"]).findings
    assert [(one.verdict, one.values["name"]) for one in findings] == [
        (Verdict.OK, "entries 2.3"),
        *((Verdict.FAILED, name) for name in ("absent", "broken", "empty")),
    ]
    assert [one.values["reason"] for one in findings[1:]] == [
        "not installed",
        "ModuleNotFoundError",
        "no report_finished, change_applied, follow_up_added",
    ]
