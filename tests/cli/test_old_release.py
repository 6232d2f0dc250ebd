"""Refuse an unsupported Evergreen in one sentence, before writing anything to the disk or to Evergreen."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.command import Command, one_line
from support.fault_proxy import FaultProxy
from support.web_caller import API, bearer, session, settings_of
from support.web_caller import client_of as web_client_of

from evergreen_groups import exit_status
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.web import close, create_app

VERSION = "opensrf.open-ils.system.ils_version"
WRITES = {"open-ils.actor.patron.update", "open-ils.actor.usergroup.new"}
SENTENCE = "this is Evergreen 3.10.5, which is too old; upgrade it to 3.11 or later"
CARD, OTHER = "20000000001052", "20000000001007"


@pytest.fixture
def old(proxy: FaultProxy) -> FaultProxy:
    """A fully working server that reports release 3.10.5."""
    proxy.answer = lambda call: "3-10-5" if call.method == VERSION else None
    return proxy


@pytest.mark.parametrize(
    "words",
    [
        ("report", "--output", "report.html"),
        pytest.param(("audit",), marks=pytest.mark.long),
        pytest.param(("show", CARD), marks=pytest.mark.long),
        pytest.param(("check", CARD), marks=pytest.mark.long),
        pytest.param(("audit", "--explain", CARD), marks=pytest.mark.long),
        ("move", CARD, "--to", OTHER, "--yes"),
    ],
)
def test_a_command(old: FaultProxy, tmp_path: Path, words: tuple[str, ...]) -> None:
    page = tmp_path / "report.html"
    done = Command(tmp_path, old.url)(*(str(page) if word == page.name else word for word in words))
    assert (done.returncode, done.stdout) == (exit_status.FAILED, "")
    assert one_line(done.stderr)
    assert SENTENCE in done.stderr
    assert not page.exists()
    assert not WRITES & set(old.seen)


def test_the_service(old: FaultProxy, sandbox: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = create_app(settings_of(old.url), {"HOME": str(tmp_path)})
    try:
        headers = bearer(session(sandbox.url, username="consortium_staff"))
        answer = web_client_of(app).get(f"{API}/patrons/1001/summary", headers=headers)
    finally:
        close(app)
    assert (answer.status_code, answer.get_json()["code"]) == (502, "ils-refused")
    assert "which is too old" in caplog.text
