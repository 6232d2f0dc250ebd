"""What each path passes: calls of Evergreen, files of the package, calls of its functions, and the deepest stack of its
frames.

    python tests/bench/paths.py

Measured are a cold nightly report as text, and as one request to the web service each: a warm panel summary, the page
of a group, the plan of a move, its application and its undo. The ``chain`` is how many calls of Evergreen follow each
other, while the rest run in parallel. The sandbox runs in a separate process, so its code isn't counted.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from programs import ACCOUNT, PASSWORD, address_in, command
from support.fault_proxy import Call, Fault, FaultProxy, fault_proxy
from support.web_caller import API, bearer, client_of, cookie, session, settings_of

import evergreen_groups
from evergreen_groups.cli.application import run
from evergreen_groups.settings.reading import CONFIG_VARIABLE
from evergreen_groups.web import create_app

PACKAGE = str(Path(evergreen_groups.__file__).parent) + os.sep
DELAY = 0.05
"""Additional seconds for each call of Evergreen, so that parallel calls overlap."""


class EvergreenCalls:
    """The start and end times of the calls through a proxy."""

    def __init__(self, proxy: FaultProxy) -> None:
        self._began: dict[int, float] = {}
        self.times: list[tuple[float, float]] = []
        proxy.decide, proxy.before_answer = self._begin, self._end

    def _begin(self, call: Call) -> Fault:
        self._began[threading.get_ident()] = time.perf_counter()
        return Fault.NONE

    def _end(self, call: Call) -> None:
        time.sleep(DELAY)
        self.times.append((self._began.pop(threading.get_ident()), time.perf_counter()))

    def chain(self) -> int:
        """Return the length of the longest chain: each of its calls starts after the previous one ends."""
        chains: list[tuple[float, int]] = []  # where each ends, and its calls
        for began, ended in sorted(self.times):
            chains.append((ended, 1 + max((calls for end, calls in chains if end <= began), default=0)))
        return max(calls for _end, calls in chains)


class Footprint:
    """What is passed while :meth:`measure` runs, in all threads that started since this was made."""

    def __init__(self, evergreen: EvergreenCalls) -> None:
        self._evergreen = evergreen
        self._measuring = False
        self._lock = threading.Lock()
        # Set once: the gateway's threads outlive a request, and a thread takes the function when it starts.
        threading.setprofile(self._called)
        sys.setprofile(self._called)

    def measure(self, name: str, work: Callable[[], Any]) -> Any:
        """Print what ``work`` passes, and return its result."""
        self._files: set[str] = set()
        self._calls = self._depth = 0
        self._evergreen.times.clear()
        self._measuring = True
        result = work()
        self._measuring = False
        evergreen = f"{len(self._evergreen.times):9} {self._evergreen.chain():6}"
        print(f"{name:24} {evergreen} {len(self._files):6} {self._calls:8} {self._depth:7}", flush=True)
        return result

    def _called(self, frame: FrameType, event: str, _argument: object) -> None:
        # Only functions: importing a module runs its body, but passes none of its code.
        if not self._measuring or event != "call" or not _is_ours(frame) or not frame.f_code.co_flags & CO_OPTIMIZED:
            return
        depth, above = 1, frame.f_back
        while above is not None:
            depth += _is_ours(above)
            above = above.f_back
        with self._lock:
            self._files.add(frame.f_code.co_filename)
            self._calls += 1
            self._depth = max(self._depth, depth)


def _is_ours(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(PACKAGE)


def main() -> None:
    print(f"{'':24} {'Evergreen':>9} {'chain':>6} {'files':>6} {'calls':>8} {'frames':>7}")
    with (
        tempfile.TemporaryDirectory() as directory,
        command("sandbox", "--port", "0") as sandbox,
        fault_proxy(address_in(sandbox)) as proxy,
    ):
        footprint = Footprint(EvergreenCalls(proxy))
        # Neither this machine's settings nor its state count.
        os.environ |= {"HOME": directory, CONFIG_VARIABLE: str(Path(directory, "empty.toml"))}
        Path(directory, "empty.toml").touch()
        report(proxy.url, footprint)
        desk(proxy.url, footprint)


def report(url: str, footprint: Footprint) -> None:
    os.environ |= {
        "EVERGREEN_GROUPS_GATEWAY_URL": url,
        "EVERGREEN_GROUPS_GATEWAY_USERNAME": ACCOUNT,
        "EVERGREEN_GROUPS_PASSWORD": PASSWORD,
    }

    def made() -> int:
        with redirect_stdout(io.StringIO()):
            return run(["report"])

    status = footprint.measure("cold report", made)
    assert status == 0, f"the report ended with status {status}"


def desk(url: str, footprint: Footprint) -> None:
    token = session(url, username=ACCOUNT)
    caller = client_of(create_app(settings_of(url), os.environ))

    def ask(method: str, path: str, body: object = None, key: str = "") -> Any:
        more = {"Idempotency-Key": f"paths-{key or path}"}
        answer = caller.open(f"{API}/{path}", method=method, json=body, headers=bearer(token) | more)
        assert answer.status_code < 400, answer.text
        return answer.json

    def planned() -> Any:
        return ask("POST", "plans", {"action": "move", "patrons": [{"id": 1052}], "target": {"id": 1007}})

    def page() -> None:
        answer = caller.get("/evergreen-groups/patrons/1001/group", headers=cookie(token))
        assert answer.status_code == 200, answer.text

    ask("GET", "patrons/1001/summary")
    footprint.measure("warm panel summary", lambda: ask("GET", "patrons/1001/summary"))
    page()
    footprint.measure("page of a group", page)
    change = ask("POST", "changes", {"plan": planned()["id"]})
    ask("POST", f"changes/{change['id']}/undo", {})
    plan = footprint.measure("desk plan", planned)
    change = footprint.measure("desk change", lambda: ask("POST", "changes", {"plan": plan["id"]}, key="measured"))
    footprint.measure("undo", lambda: ask("POST", f"changes/{change['id']}/undo", {}))


if __name__ == "__main__":
    main()
