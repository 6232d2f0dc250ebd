"""SIGHUP, and what systemd is told: a real process, a real socket."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from support.command import Command, serving
from support.waiting import wait_until

from evergreen_groups import exit_status
from evergreen_groups.cli import ServiceManager
from evergreen_groups.sandbox import Sandbox

READY, RELOADING, STOPPING = "READY=1", "RELOADING=1", "STOPPING=1"


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
def serve(sandbox: Sandbox, tmp_path: Path) -> Command:
    command = Command(tmp_path, None)
    command.environ |= {"NOTIFY_SOCKET": str(tmp_path / "notify"), "STATE_DIRECTORY": str(tmp_path / "state")}
    command.config.write_text(f'[gateway]\nurl = "{sandbox.url}"\n')
    return command


class Log:
    """What a process writes to standard error, line by line as it comes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.lines: list[str] = []
        threading.Thread(target=lambda: self.lines.extend(iter(process.stderr.readline, "")), daemon=True).start()  # type: ignore[union-attr]

    def wait_for(self, words: str) -> str:
        return wait_until(lambda: next((line for line in list(self.lines) if words in line), ""))


def read(address: str) -> Any:
    with urlopen(address, timeout=60) as answer:
        return json.load(answer)


@pytest.mark.parametrize("abstract", [False, True])
def test_a_manager_is_told(tmp_path: Path, abstract: bool) -> None:
    name = f"evergreen-groups-{os.getpid()}"
    address = f"\0{name}" if abstract else str(tmp_path / name)
    told = ServiceManager({"NOTIFY_SOCKET": address.replace("\0", "@")})
    manager = Manager(address)
    with closing(manager.socket):
        told.ready("serving")
        assert manager.next() == [READY, "STATUS=serving"]
        told.reloading()
        first, moment = manager.next()
        assert first == RELOADING
        assert moment.removeprefix("MONOTONIC_USEC=").isdigit()
        told.stopping()
        assert manager.next() == [STOPPING]


def test_nobody_is_told_where_nobody_asks(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    ServiceManager({}).ready()
    ServiceManager({"NOTIFY_SOCKET": "vsock:2:1"}).ready()
    assert not caplog.records
    ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).ready()
    assert "can't notify the service manager of READY=1" in caplog.text


@pytest.mark.long
def test_settings_are_taken_and_wrong_ones_are_not(serve: Command, manager: Manager) -> None:
    with serving(serve, "-v", "serve", "--port", "0") as (process, _, address):
        log, desk = Log(process), f"{address}/evergreen-groups/desk.json"
        right = serve.config.read_text()

        def reload(text: str) -> None:
            serve.config.write_text(text)
            process.send_signal(signal.SIGHUP)
            assert manager.next()[0] == RELOADING
            assert manager.next() == [READY]

        assert manager.next() == [READY, f"STATUS=serving at {address}/evergreen-groups/"]
        assert read(desk)["panel_link"] == "same"
        reload(f'{right}[desk]\npanel_link = "new"\n')
        assert read(desk)["panel_link"] == "new"
        for wrong, words in (
            (f'{right}[desk]\npanel_link = "old"\n', "isn't allowed"),
            (f"{right}[desk\n", "not valid TOML"),
            (f'{right}ca_bundle = "/nowhere"\n', "ca_bundle /nowhere can't be used"),
            ("", "[gateway] url isn't set"),
            (f'{right}[events]\nsecret_file = "/nowhere"\n', "/nowhere"),
        ):
            reload(wrong)
            line = log.wait_for(words)
            beginning = "ERROR evergreen_groups.web: invalid settings, so the previous ones stay in effect: "
            assert line.startswith(beginning)
            assert read(desk)["panel_link"] == "new"
        reload(f"{right}[serve]\nthreads = 3\ntimeout = 9\n")
        assert "serve.threads" in log.wait_for("need a restart")
        assert read(desk)["panel_link"] == "same"
        log.wait_for("the gateway answers")
        process.send_signal(signal.SIGTERM)
        assert manager.next() == [STOPPING]
        assert process.wait(60) == exit_status.DONE


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
