"""How much code each path passes: files of the package, calls of its functions, and the deepest stack of its frames.

    python tests/bench/paths.py

Measured are a warm panel summary, the plan of a move and its application, each as one request to the web service, and a
cold nightly report as text. The sandbox runs in a separate process, so its code isn't counted.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import redirect_stdout
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from programs import ACCOUNT, PASSWORD, address_in, command
from support.web_caller import API, bearer, client_of, session, settings_of

import evergreen_groups
from evergreen_groups.cli.application import run
from evergreen_groups.settings.reading import CONFIG_VARIABLE
from evergreen_groups.web import create_app

PACKAGE = str(Path(evergreen_groups.__file__).parent) + os.sep


class Footprint:
    """What is passed while :meth:`measure` runs, in all threads that started since this was made."""

    def __init__(self) -> None:
        self._measuring = False
        self._lock = threading.Lock()
        # Set once: the gateway's threads outlive a request, and a thread takes the function when it starts.
        threading.setprofile(self._called)
        sys.setprofile(self._called)

    def measure(self, name: str, work: Callable[[], Any]) -> Any:
        """Print what ``work`` passes, and return its result."""
        self._files: set[str] = set()
        self._calls = self._depth = 0
        self._measuring = True
        result = work()
        self._measuring = False
        print(f"{name:24} {len(self._files):6} {self._calls:8} {self._depth:7}", flush=True)
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
    footprint = Footprint()
    print(f"{'':24} {'files':>6} {'calls':>8} {'frames':>7}")
    with tempfile.TemporaryDirectory() as directory, command("sandbox", "--port", "0") as sandbox:
        # Neither this machine's settings nor its state count.
        os.environ |= {"HOME": directory, CONFIG_VARIABLE: str(Path(directory, "empty.toml"))}
        Path(directory, "empty.toml").touch()
        url = address_in(sandbox)
        report(url, footprint)
        desk(url, footprint)


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
    headers = bearer(session(url, username=ACCOUNT))
    app = create_app(settings_of(url), os.environ)
    caller = client_of(app)

    def ask(method: str, path: str, body: object = None, key: str = "") -> Any:
        more = {"Idempotency-Key": f"paths-{key or path}"}
        answer = caller.open(f"{API}/{path}", method=method, json=body, headers=headers | more)
        assert answer.status_code < 400, answer.text
        return answer.json

    def planned(patron: int, target: int) -> Any:
        return ask("POST", "plans", {"action": "move", "patrons": [{"id": patron}], "target": {"id": target}})

    ask("GET", "patrons/1001/summary")
    footprint.measure("warm panel summary", lambda: ask("GET", "patrons/1001/summary"))
    change = ask("POST", "changes", {"plan": planned(1052, 1007)["id"]})
    ask("POST", f"changes/{change['id']}/undo", {})
    plan = footprint.measure("desk plan", lambda: planned(1052, 1007))
    footprint.measure("desk change", lambda: ask("POST", "changes", {"plan": plan["id"]}, key="measured"))


if __name__ == "__main__":
    main()
