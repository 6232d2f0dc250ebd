"""What systemd does with the service: it passes the socket, waits for READY=1, and reloads by a restart."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
import requests
from support.activation import Activation
from support.command import Command, serving
from support.desk_caller import UPDATE, plan_body
from support.fault_proxy import FaultProxy, HeldCalls
from support.repository import REPOSITORY
from support.waiting import wait_until
from support.web_caller import API, bearer, session

from evergreen_groups import exit_status
from evergreen_groups.cli import notify_ready
from evergreen_groups.cli.commands.serve import LAST_STEP
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.web import GRACE, PREFIX

UNIT = (REPOSITORY / "config" / "systemd" / "evergreen-groups.service").read_text("utf-8")


class Manager:
    """systemd's end of the socket."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(60)

    def next(self) -> list[str]:
        """The lines of the next message."""
        return self.socket.recv(4096).decode().split("\n")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(str(tmp_path / "notify"))
    with closing(manager.socket):
        yield manager


@pytest.fixture
def serve(proxy: FaultProxy, tmp_path: Path) -> Command:
    command = Command(tmp_path, None)
    command.environ |= {"NOTIFY_SOCKET": str(tmp_path / "notify"), "STATE_DIRECTORY": str(tmp_path / "state")}
    command.config.write_text(f'[gateway]\nurl = "{proxy.url}"\n')
    return command


class Log:
    """What a process writes to standard error, line by line as it comes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.lines: list[str] = []
        threading.Thread(target=lambda: self.lines.extend(iter(process.stderr.readline, "")), daemon=True).start()  # type: ignore[union-attr]

    def wait_for(self, words: str) -> str:
        return wait_until(lambda: next((line for line in list(self.lines) if words in line), ""))


@pytest.mark.parametrize("abstract", [False, True])
def test_a_manager_is_told(tmp_path: Path, abstract: bool) -> None:
    name = f"evergreen-groups-{os.getpid()}"
    address = f"\0{name}" if abstract else str(tmp_path / name)
    manager = Manager(address)
    with closing(manager.socket):
        notify_ready({"NOTIFY_SOCKET": address.replace("\0", "@")}, "serving")
        assert manager.next() == ["READY=1", "STATUS=serving"]


def test_nobody_is_told_where_nobody_asks(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    notify_ready({}, "")
    notify_ready({"NOTIFY_SOCKET": "vsock:2:1"}, "")
    assert not caplog.records
    notify_ready({"NOTIFY_SOCKET": str(tmp_path / "nobody")}, "")
    assert "can't notify the service manager" in caplog.text


def test_systemd_waits_longer_than_the_service_takes() -> None:
    (seconds,) = (line.partition("=")[2] for line in UNIT.splitlines() if line.startswith("TimeoutStopSec="))
    assert int(seconds) > GRACE + LAST_STEP


class Clients:
    """Clients that send one request after another until they are stopped: on kept connections, and each on its own."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url).netloc
        self.failures: list[str] = []
        self.longest = 0.0
        self.answers = 0
        self._is_stopping = False
        self._threads = [
            threading.Thread(target=self._ask, args=(keeps, pause))
            for keeps, pause in ((True, 0.0), (True, 0.05), (True, 1.5), (False, 0.01), (False, 0.05))
        ]
        for thread in self._threads:
            thread.start()

    def _ask(self, keeps: bool, pause: float) -> None:
        waiting = threading.Event()
        connection = http.client.HTTPConnection(self._address, timeout=60)
        while not self._is_stopping:
            began = time.monotonic()
            try:
                connection.request("GET", f"{PREFIX}/desk.json")
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    self.failures.append(str(answer.status))
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
            self.longest = max(self.longest, time.monotonic() - began)
            self.answers += 1
            if not keeps:
                connection.close()
            waiting.wait(pause)
        connection.close()

    def stop(self) -> None:
        self._is_stopping = True
        for thread in self._threads:
            thread.join()


def panel_link(url: str) -> object:
    with urlopen(f"{url}{PREFIX}/desk.json", timeout=60) as answer:
        return json.load(answer)["panel_link"]


MANY = (1001, 1002, 1003, 1004, 1005, 1006, 1015, 1016, 1017, 1018, 1051, 1052, 1053)
"""Too many to wait for, so this change continues in the background."""
FEW = (1052,)


@pytest.mark.long
@pytest.mark.parametrize("patrons", [MANY, FEW], ids=["in the background", "in a request"])
def test_a_change_ends_well_and_no_request_is_refused_when_the_service_restarts(
    serve: Command, manager: Manager, proxy: FaultProxy, sandbox: Sandbox, patrons: tuple[int, ...]
) -> None:
    serve.config.write_text(f"{serve.config.read_text()}[serve]\ntimeout = 60\n")
    headers = bearer(session(sandbox.url, username="consortium_staff"))
    with Activation(serve) as service, requests.Session() as desk:

        def ask(method: str, path: str, body: object = None) -> requests.Response:
            more = {**headers, "Idempotency-Key": f"{1:032}"}
            return desk.request(method, f"{service.url}{API}/{path}", json=body, headers=more, timeout=60)

        assert manager.next()[0] == "READY=1"
        plan = ask("POST", "plans", plan_body("move", *patrons, target=1007)).json()["id"]
        clients = Clients(service.url)
        held = HeldCalls(proxy, lambda call: call.method == UPDATE and not call.asks_what_there_is)
        changes: list[Any] = []
        changing = threading.Thread(target=lambda: changes.append(ask("POST", "changes", {"plan": plan}).json()))
        changing.start()
        held.wait_for()
        serve.config.write_text(f'{serve.config.read_text()}[desk]\npanel_link = "new"\n')
        service.process.send_signal(signal.SIGTERM)
        service.process.send_signal(signal.SIGTERM)  # as by a second reload
        before = clients.answers
        wait_until(lambda: clients.answers > before + 200)
        assert service.ended == [], "the service goes on while the change runs"
        assert panel_link(service.url) == "same"
        held.let_go()
        assert wait_until(lambda: service.ended) == [exit_status.DONE]
        ended = time.monotonic()
        assert manager.next()[0] == "READY=1"
        start = time.monotonic() - ended
        assert panel_link(service.url) == "new"
        before = clients.answers
        wait_until(lambda: clients.answers > before + 200)
        clients.stop()
        changing.join()
        change = wait_until(lambda: (found := ask("GET", f"changes/{changes[0]['id']}")).status_code == 200 and found)
        assert change.json()["done"]
        assert {step["state"] for step in change.json()["steps"]} == {"done"}
        assert len(change.json()["steps"]) == len(patrons)
    assert clients.failures == []
    # The old process waits up to a second for requests that are still arriving. A busy machine starts slowly.
    assert clients.longest < 1 + 3 * start


@pytest.mark.long
def test_ten_restarts_in_a_row(serve: Command, manager: Manager) -> None:
    with Activation(serve) as service:
        assert manager.next()[0] == "READY=1"
        clients = Clients(service.url)
        for _ in range(10):
            service.process.send_signal(signal.SIGTERM)
            assert manager.next()[0] == "READY=1"
        clients.stop()
        assert service.ended == [exit_status.DONE] * 10
    assert clients.failures == []


@pytest.mark.long
@pytest.mark.skipif(shutil.which("systemd-socket-activate") is None, reason="needs systemd")
def test_systemd_passes_the_socket(serve: Command, manager: Manager) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    passed = [f"--setenv={name}={value}" for name, value in serve.environ.items()]
    arguments = ["systemd-socket-activate", f"--listen=127.0.0.1:{port}", *passed, *serve.arguments("serve")]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert b"Listening" in process.stderr.readline()
            assert panel_link(f"http://127.0.0.1:{port}") == "same"
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == exit_status.DONE
        finally:
            process.kill()


@pytest.mark.long
@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:1", "check url in [gateway], the firewall, and whether the web server is running"),
        ("https://evergreen.example.invalid", "check url in [gateway], and this machine's DNS"),
    ],
)
def test_the_log_says_at_the_start_why_the_gateway_cannot_be_reached(
    serve: Command, manager: Manager, url: str, words: str
) -> None:
    serve.config.write_text(f'[gateway]\nurl = "{url}"\n')
    with serving(serve, "serve", "--port", "0") as (process, _, _):
        line = Log(process).wait_for("the gateway can't be used")
        assert line.startswith("WARNING evergreen_groups.web: ")
        assert words in line


@pytest.mark.long
def test_metrics_have_their_address_and_one_that_is_taken_is_named(serve: Command, manager: Manager) -> None:
    with serving(serve, "-v", "serve", "--port", "0", "--metrics", "127.0.0.1:0") as (process, _, _):
        line = Log(process).wait_for("metrics at ")
        address = line.split()[-1]
        with urlopen(address, timeout=60) as answer:
            assert b"evergreen_groups_build_info" in answer.read()
        taken = serve("serve", "--port", "0", "--metrics", urlsplit(address).netloc)
        assert taken.returncode == exit_status.CONFIGURATION
        assert "change listen in [metrics]" in taken.stderr
