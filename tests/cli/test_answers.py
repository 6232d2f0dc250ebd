"""Whatever shape an answer has: no command takes it for another, and none ends in a traceback."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from support.command import one_line
from support.fault_proxy import fault_proxy
from support.gateways import PASSWORD

from evergreen_groups import exit_status
from evergreen_groups.cli.application import run
from evergreen_groups.sandbox import Sandbox

SHAPES: dict[str, object] = {
    "a hash": {},
    "an odd hash": [{"odd": 1}],
    "a text": "x",
    "a number": 7,
    "a list of lists": [[1, 2]],
    "a list of nothing": [None],
    "a list of an empty list": [[]],
    "a patron": {"__c": "au", "__p": [1]},
    "a patron without fields": [{"__c": "au", "__p": None}],
    "an unknown class": [[{"__c": "zzz", "__p": []}]],
    "yes": True,
    "a large number": 10**30,
}
COMMANDS = [
    ["report", "--no-history"],
    ["audit"],
    ["audit", "--limit", "none"],
    ["show", "20000000001007"],
    ["check", "20000000001007"],
    ["check", "--user", "1001", "--all-members"],
    ["move", "20000000001052", "--to", "20000000001007", "--dry-run"],
]
SESSION_ENDED = "open-ils.auth.session.delete"
"""What it answers doesn't matter."""


@pytest.mark.long
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_an_answer_of_another_shape(
    sandbox: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
) -> None:
    for name in [name for name in os.environ if name.startswith(("EVERGREEN_", "XDG_"))]:
        monkeypatch.delenv(name)
    seed = random.Random(" ".join(words))
    with fault_proxy(sandbox.url) as proxy:
        proxy.server.handle_error = lambda *_hung_up: None  # type: ignore[method-assign]  # the other calls were given up
        for name, value in {
            "HOME": str(tmp_path),
            "EVERGREEN_GROUPS_GATEWAY_URL": proxy.url,
            "EVERGREEN_GROUPS_GATEWAY_USERNAME": "consortium_staff",
            "EVERGREEN_GROUPS_PASSWORD": PASSWORD,
        }.items():
            monkeypatch.setenv(name, value)
        usual = run(words)
        assert usual in (exit_status.DONE, exit_status.BLOCKED, exit_status.INCOMPLETE)
        # Nothing is concluded from what the server is said to be, but that it is too old.
        methods = sorted({call.method for call in proxy.calls if not call.asks_what_there_is} - {"", SESSION_ENDED})
        assert methods
        capsys.readouterr()
        for method in methods:
            for shape in seed.sample(sorted(SHAPES), 3):
                proxy.answer = lambda call, method=method, shape=shape: (  # type: ignore[misc]
                    SHAPES[shape] if call.method == method else None
                )
                status = run(words)
                said = capsys.readouterr().err
                assert status not in (exit_status.DONE, exit_status.BLOCKED), f"{method} answered {shape}"
                assert one_line(said), f"{method} answered {shape}"
