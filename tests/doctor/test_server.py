"""What the doctor says of the server: one line, the same for an account and for a site without one."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from support.fault_proxy import Fault, FaultProxy
from support.installation import Installation

from evergreen_groups.doctor import Finding, Verdict
from evergreen_groups.render.doctor import write_diagnosis_json
from evergreen_groups.sandbox import Sandbox

VERSION = "opensrf.open-ils.system.ils_version"
ABSENT = (404, "osrfMethodException : Method [x] not found for OpenILS::Application::Actor")


def of_server(house: Installation) -> Finding:
    (found,) = [finding for finding in house.examined(only=["server"]).findings if finding.check == "server"]
    return found


@pytest.mark.parametrize("is_web_only", [True, False])
@pytest.mark.parametrize(
    ("number", "bus", "line"),
    [
        ("3.11", "xmpp", "Evergreen 3.11.7 (XMPP, Apache)"),
        ("3.15", "redis", "Evergreen 3.15.14 (Redis, Apache)"),
        ("3.16", "xmpp", "Evergreen 3.16.10 (XMPP, Apache)"),
        (None, "redis", "Evergreen git, 3.17+ (Redis, Apache)"),
    ],
)
def test_one_line_says_what_the_server_is(
    tmp_path: Path, number: str | None, bus: str, line: str, is_web_only: bool
) -> None:
    with Sandbox(release=number, bus=bus) as sandbox:
        house = Installation(tmp_path, sandbox.url)
        if is_web_only:
            house.config.write_text(f'[gateway]\nurl = "{sandbox.url}"\n')
        found = of_server(house)
    assert (found.verdict, found.found, found.advice) == (Verdict.OK, line, "")


def test_the_rust_gateway_is_named(tmp_path: Path) -> None:
    with Sandbox(gateway="rust") as sandbox:
        house = Installation(tmp_path, sandbox.url)
        assert of_server(house).found == "Evergreen git, 3.17+ (Redis, Rust)"


@pytest.mark.parametrize(
    ("answer", "beginning"),
    [
        ("3-x", "Evergreen 3-x (Redis, "),
        ("our \x1b[31m 3!", "Evergreen ? (Redis, "),
        ("", "Evergreen ? (Redis, "),
        (7, "Evergreen ? (Redis, "),
    ],
)
def test_names_that_are_no_releases(
    sandbox: Sandbox, proxy: FaultProxy, tmp_path: Path, answer: object, beginning: str
) -> None:
    proxy.garble = lambda call: {"payload": [answer], "status": 200} if call.method == VERSION else None
    found = of_server(Installation(tmp_path, proxy.url))
    assert found.verdict is Verdict.OK
    assert found.found.startswith(beginning)


@pytest.mark.parametrize("fault", ["refused", "lost"])
@pytest.mark.apache(reason="the other one is named, and tells less")
def test_a_server_that_does_not_say(sandbox: Sandbox, proxy: FaultProxy, tmp_path: Path, fault: str) -> None:
    if fault == "refused":
        proxy.refuse = lambda call: ABSENT if call.method == VERSION else None
    else:
        proxy.decide = lambda call: Fault.DROP_REQUEST if call.method == VERSION else Fault.NONE
    assert of_server(Installation(tmp_path, proxy.url)).found == "Evergreen ? (Redis, Apache)"


@pytest.mark.apache(reason="the other one is named, and tells less")
def test_programs_get_the_facts_by_name(sandbox: Sandbox, proxy: FaultProxy, tmp_path: Path) -> None:
    house = Installation(tmp_path, proxy.url)

    def document() -> Any:
        stream = io.StringIO()
        write_diagnosis_json(house.examined(only=["server"]), stream)
        return json.loads(stream.getvalue())["server"]

    services = ("open-ils.actor", "open-ils.circ", "open-ils.fielder")
    assert document() == {
        "release": None,
        "at_least": "3.17",
        "supported": True,
        "versions": dict.fromkeys(services, "HEAD"),
        "gateway": "opensrf",
        "bus": "redis",
        "row_checks": "in-query",
    }
    proxy.answer = lambda call: "3-10-5" if call.method == VERSION else None
    found = document()
    assert (found["release"], found["supported"]) == ("3.10.5", False)


def test_a_server_that_was_not_asked_is_none(tmp_path: Path) -> None:
    house = Installation(tmp_path, "http://127.0.0.1:9")
    stream = io.StringIO()
    write_diagnosis_json(house.examined(), stream)
    assert json.loads(stream.getvalue())["server"] is None
