"""The doctor over the gateway that is written in Rust, which says of no method whether it is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fault_proxy import FaultProxy, HttpAnswer, fault_proxy
from support.installation import Installation, only, said
from support.sandbox_caller import Caller

from evergreen_groups.doctor import Verdict
from evergreen_groups.sandbox import Sandbox

OK, WARNING, FAILED, SKIPPED = Verdict
AT_HOME = "open-ils.actor.user.penalties.update_at_home"


@pytest.fixture(scope="module")
def rust() -> Iterator[Sandbox]:
    with Sandbox(gateway="rust") as sandbox:
        yield sandbox


@pytest.fixture
def proxy(rust: Sandbox) -> Iterator[FaultProxy]:
    rust.reset()
    with fault_proxy(rust.url) as running:
        yield running


def test_nothing_is_wrong_and_no_worker_is_behind_after_it(proxy: FaultProxy, rust: Sandbox, tmp_path: Path) -> None:
    diagnosis = Installation(tmp_path, proxy.url).examined()
    assert [said(finding) for finding in only(diagnosis, WARNING, FAILED, SKIPPED)] == []
    caller = Caller(rust.url)
    form = caller.form("open-ils.actor", "opensrf.system.echo", '"mine"')
    assert b'["mine"]' in caller.send("POST", "/osrf-gateway-v1", form)[2]


@pytest.mark.long
def test_of_a_method_that_fails_it_is_said_that_nobody_knows(proxy: FaultProxy, tmp_path: Path) -> None:
    refused = HttpAnswer(b'{"payload":[],"status":400}', 400, "text/json")
    proxy.instead = lambda call: refused if call.method == AT_HOME else None
    diagnosis = Installation(tmp_path, proxy.url).examined()
    (finding,) = only(diagnosis, WARNING, FAILED)
    assert (finding.verdict, finding.code, finding.values["methods"]) == (WARNING, "methods-untold", [AT_HOME])
