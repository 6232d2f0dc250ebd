"""Serving: how the command starts and stops, and a web server that finishes every request."""

from __future__ import annotations

import http.client
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit
from urllib.request import urlopen

import click
import pytest
import requests
from support.command import Command, one_line, serving
from support.fault_proxy import Call, Fault, FaultProxy
from support.waiting import wait_until
from support.web_caller import API, bearer, session

from evergreen_groups import exit_status
from evergreen_groups.cli.commands.serve import serve_command
from evergreen_groups.errors import ConfigurationError
from evergreen_groups.message import own_pip
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.sandbox.services.releases import LATEST_PATCHES
from evergreen_groups.settings import ServeSettings
from evergreen_groups.web import Server, open_listener
from evergreen_groups.web.server import FINISH_SECONDS, LARGEST_HEADERS, SPARE_REQUESTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

pytestmark = pytest.mark.long  # most start the service in a separate process
SUMMARY = f"{API}/patrons/1001/summary"


class Application:
    """An app that echoes the path; ``/slow`` waits until released, ``/broken`` raises.

    ``/large`` returns megabytes in one piece, ``/larger`` even more, as a stream of pieces.
    """

    def __init__(self) -> None:
        self.begun, self.let = threading.Event(), threading.Event()
        self.at_work, self.most_at_work, self._lock = 0, 0, threading.Lock()

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path.startswith("/broken"):
            raise RuntimeError("broken")
        if path == "/larger":
            start("200 OK", [("Content-Length", "40000000")])
            return (b"x" * 1_000_000 for _ in range(40))
        if path == "/slow":
            with self._lock:
                self.at_work += 1
                self.most_at_work = max(self.most_at_work, self.at_work)
            self.begun.set()
            self.let.wait(60)
            with self._lock:
                self.at_work -= 1
        body = b"x" * 8_000_000 if path == "/large" else environ.get("HTTP_X_FORWARDED_FOR", path).encode()
        start("200 OK", [("Content-Length", str(len(body)))])
        return [body]


@contextmanager
def running(
    application: WSGIApplication,
    grace: float = 60,
    threads: int = 8,
    *,
    is_changing: Callable[[], bool] = lambda: False,
    reuse: float = 0.0,
) -> Iterator[tuple[Server, list[bool]]]:
    """Yield a server that runs in a thread, and the list that gets the result of its ``run``."""
    listener = open_listener(ServeSettings(port=0))
    server, finished = Server(application, listener, threads=threads + SPARE_REQUESTS), list[bool]()
    thread = threading.Thread(target=lambda: finished.append(server.run(is_changing, grace=grace, reuse=reuse)))
    thread.start()
    try:
        yield server, finished
    finally:
        server.stop()
        thread.join()


def connected(address: str) -> closing[http.client.HTTPConnection]:
    parts = urlsplit(address)
    return closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60))


def wait_until_refused(address: str) -> None:
    """Connect until the port refuses, or resets what was still in the queue when the server closed."""
    parts = urlsplit(address)
    with suppress(ConnectionRefusedError, ConnectionResetError):
        wait_until(lambda: socket.create_connection((parts.hostname, parts.port), timeout=60).close())


def test_stopping_refuses_connections_and_finishes_requests() -> None:
    application = Application()
    with running(application) as (server, finished), connected(server.url) as asked, connected(server.url) as idle:
        idle.request("GET", "/before")
        assert idle.getresponse().read() == b"/before"
        asked.request("GET", "/slow")
        assert application.begun.wait(60)
        server.stop()
        wait_until_refused(server.url)
        assert finished == []
        assert idle.sock.recv(1) == b""
        application.let.set()
        assert asked.getresponse().read() == b"/slow"
    assert finished == [True]


def test_stopping_waits_for_an_answer_that_is_on_its_way() -> None:
    with running(Application()) as (server, finished), connected(server.url) as slow_reader:
        slow_reader.request("GET", "/large")
        answer = slow_reader.getresponse()
        server.stop()
        wait_until_refused(server.url)
        assert len(answer.read()) == 8_000_000
    assert finished == [True]


def test_stopping_ends_all_the_same_when_a_request_never_does() -> None:
    application = Application()
    with running(application, grace=0.1) as (server, finished), connected(server.url) as asked:
        asked.request("GET", "/slow")
        assert application.begun.wait(60)
        server.stop()
        wait_until_refused(server.url)
    assert finished == [False]
    application.let.set()


def test_stopping_waits_for_a_change_and_goes_on_answering() -> None:
    changing = threading.Event()
    changing.set()
    with running(Application(), is_changing=changing.is_set) as (server, finished):
        with connected(server.url) as earlier:
            earlier.request("GET", "/before")
            assert earlier.getresponse().read() == b"/before"
            server.stop()
            earlier.request("GET", "/after")
            answer = earlier.getresponse()
            assert answer.read() == b"/after"
            with connected(server.url) as later:
                later.request("GET", "/later")
                assert later.getresponse().headers["Connection"] == "close"
        assert finished == []
        changing.clear()
        wait_until_refused(server.url)
    assert finished == [True]


def test_a_change_that_takes_longer_than_there_is_time_is_not_waited_for() -> None:
    with running(Application(), FINISH_SECONDS + 0.1, is_changing=lambda: True) as (server, finished):
        server.stop()
        wait_until_refused(server.url)
    assert finished == [False]


def test_connections_are_used_once_more_before_another_process_takes_over() -> None:
    with running(Application(), reuse=60) as (server, finished), connected(server.url) as earlier:
        earlier.request("GET", "/before")
        assert earlier.getresponse().read() == b"/before"
        server.stop()
        with connected(server.url) as later:
            for _ in range(3):
                later.request("GET", "/later")
                assert later.getresponse().read() == b"/later"
        assert finished == []
        earlier.request("GET", "/after")
        answer = earlier.getresponse()
        assert (answer.read(), answer.headers["Connection"]) == (b"/after", "close")
    assert finished == [True]


def test_a_header_that_only_looks_like_a_proxy_s_is_left_out() -> None:
    headers = {"X_Forwarded_For": "127.0.0.1", "X-Forwarded-For": "192.0.2.7", "x_forwarded-For": "127.0.0.2"}
    with running(Application()) as (server, _), connected(server.url) as asked:
        asked.request("GET", "/", headers=headers)
        answer = asked.getresponse()
        assert answer.read() == b"192.0.2.7"
        assert answer.headers["Server"] == "evergreen-groups"  # and no version of anything


def test_no_more_requests_are_at_work_than_may_be_and_the_rest_wait() -> None:
    application = Application()
    with running(application, threads=2) as (server, _), ExitStack() as stack:
        asked = [stack.enter_context(connected(server.url)) for _ in range(40)]
        for one in asked:
            one.request("GET", "/slow")
        while application.at_work < 2 + SPARE_REQUESTS:
            assert application.begun.wait(60)
        application.let.set()
        assert [one.getresponse().read() for one in asked] == [b"/slow"] * 40
    assert application.most_at_work == 2 + SPARE_REQUESTS


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [({"X-Long": "x" * (LARGEST_HEADERS - 200)}, True), ({"X-Long": "x" * LARGEST_HEADERS}, False)],
)
def test_headers_have_a_limit(headers: dict[str, str], allowed: bool) -> None:
    with running(Application()) as (server, _), connected(server.url) as asked:
        asked.request("GET", "/", headers=headers)
        assert asked.getresponse().status == (200 if allowed else 431)


def test_no_address_gets_into_the_log_when_the_app_breaks_down(caplog: pytest.LogCaptureFixture) -> None:
    with running(Application()) as (server, _), connected(server.url) as asked:
        asked.request("GET", "/broken/20000000001001")
        answer = asked.getresponse()
        assert answer.status == 500
        assert b"RuntimeError" not in answer.read()
    assert [record.levelno for record in caplog.records if record.name == "evergreen_groups.web.server"] == [
        logging.ERROR
    ]
    assert "20000000001001" not in caplog.text


@pytest.fixture
def serve(proxy: FaultProxy, tmp_path: Path) -> Command:
    return Command(tmp_path, proxy.url)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well_and_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    command = Command(tmp_path, None)
    command.environ["TMPDIR"] = str(tmp_path)
    with serving(command, "--sandbox", "serve", "--port", "0") as (process, printed, address):
        assert "20000000001001" in printed
        with urlopen(f"{address}/evergreen-groups/healthz", timeout=60) as answer:
            assert json.load(answer)["status"] == "up"
        assert list(tmp_path.glob("evergreen-groups-*")) != []
        process.send_signal(number)
        assert process.wait(60) == exit_status.DONE
        assert process.stderr.read() == ""
    assert list(tmp_path.iterdir()) == [command.config]


@pytest.mark.parametrize(("given", "release"), [("--demo-desk", "3.17"), ("--client=3.11", "3.11")])
def test_the_demo_desk_shows_a_patron_with_the_panel(tmp_path: Path, given: str, release: str) -> None:
    command = Command(tmp_path, None)
    with serving(command, "--sandbox", "serve", given, "--port", "0") as (_, printed, _):
        desks = re.findall(r"http://\S+/staff/circ/patron/1001/checkout", printed)
        assert [urlsplit(desk).path.split("/")[1] for desk in desks] == ["eg2", "eg"]
        for desk in desks:
            with urlopen(desk, timeout=60) as page:
                text = page.read()
            assert b"/evergreen-groups/panel.js" in text
            assert f"Evergreen {release}<".encode() in text
            with urlopen(urljoin(desk, "/evergreen-groups/panel.js"), timeout=60) as panel:
                assert "javascript" in panel.headers["Content-Type"]


def test_the_demo_desk_is_the_sandbox_s(serve: Command) -> None:
    for given in ("--demo-desk", "--client=3.11"):
        done = serve("serve", given)
        assert done.returncode == exit_status.USAGE
        assert "--demo-desk needs --sandbox" in done.stderr


def test_the_demo_desk_has_the_clients_of_each_release_that_the_sandbox_can_be() -> None:
    (option,) = [option for option in serve_command.params if "--client" in option.opts]
    assert isinstance(option.type, click.Choice)
    assert list(option.type.choices) == list(LATEST_PATCHES)


def test_ctrl_c_ends_one_that_is_stopping_at_once(serve: Command, proxy: FaultProxy, sandbox: Sandbox) -> None:
    asked_now = threading.Event()

    def answer_late(call: Call) -> Fault:
        if call.asks_what_there_is:
            return Fault.NONE
        asked_now.set()
        return Fault.LATE_ANSWER

    proxy.decide = answer_late
    token = session(sandbox.url, username="harbor_desk")
    with serving(serve, "serve", "--port", "0") as (process, _, address), connected(address) as asked:
        asked.request("GET", SUMMARY, headers=bearer(token))
        assert asked_now.wait(60)
        process.send_signal(signal.SIGTERM)
        wait_until_refused(address)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == exit_status.INTERRUPTED


@pytest.mark.parametrize("path", ["/large", "/larger"])
def test_a_large_answer_comes_whole(path: str) -> None:
    with running(Application()) as (server, _), connected(server.url) as asked:
        for _ in range(2):  # over one connection
            asked.request("GET", path)
            assert len(asked.getresponse().read()) == {"/large": 8_000_000, "/larger": 40_000_000}[path]


def test_any_number_of_instances_answer_the_same_session(serve: Command, sandbox: Sandbox) -> None:
    """A plan of one is applied, asked for again and undone by others. Each has a rate limit of its own."""
    serve.config.write_text("[serve]\nrate_limit = 1\n")  # a minute
    serve.environ["STATE_DIRECTORY"] = str(serve.config.parent / "state")

    def ask(address: str, method: str, path: str, body: object = None, *, key: str = "") -> requests.Response:
        headers = {**bearer(token), "Idempotency-Key": key}
        return requests.request(method, f"{address}{API}/{path}", json=body, headers=headers, timeout=60)

    token = session(sandbox.url, username="consortium_staff")
    with ExitStack() as stack:
        addresses = [stack.enter_context(serving(serve, "serve", "--port", "0"))[2] for _ in range(4)]
        move = {"action": "move", "patrons": [{"id": 1052}], "target": {"id": 1007}}
        plan = {"plan": ask(addresses[0], "POST", "plans", move).json()["id"]}
        change, again = (ask(address, "POST", "changes", plan, key=f"{1:032}").json() for address in addresses[1:3])
        assert (change["done"], again["id"]) == (True, change["id"])
        undone = ask(addresses[3], "POST", f"changes/{change['id']}/undo", {}, key=f"{2:032}")
        assert undone.json()["done"] is True
        assert ask(addresses[3], "GET", "patrons/1001/block").status_code == 429


def test_a_port_that_is_taken_is_said_in_a_line(serve: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = serve("serve", "--port", str(port))
    assert done.returncode == exit_status.CONFIGURATION
    assert one_line(done.stderr)
    assert f"port {port} on 127.0.0.1 can't be used: Address already in use" in done.stderr


def test_a_host_that_is_unknown_is_named(serve: Command) -> None:
    done = serve("serve", "--host", "no.such.invalid")
    assert done.returncode == exit_status.CONFIGURATION
    assert "no.such.invalid isn't an address of this machine: " in done.stderr
    assert "port" not in done.stderr


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("192.0.2.1", r"can't be used: \w.*; try another"),
        ("a..b", r"^a\.\.b isn't an address of this machine: \w.*; change host"),
        ("null\0", r"isn't an address of this machine: \w.*; change host"),
    ],
)
def test_an_address_that_is_not_this_machine_s(host: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        open_listener(ServeSettings(host=host, port=0))


@pytest.mark.parametrize("missing", ["flask", "waitress"])
def test_without_the_extra_it_says_what_to_install(tmp_path: Path, missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None\nfrom evergreen_groups.cli import main\nmain(['serve'])"
    environ = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == exit_status.CONFIGURATION
    assert one_line(done.stderr)
    assert f"{own_pip()} install 'evergreen-groups[serve]'" in done.stderr
