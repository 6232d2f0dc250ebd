"""Several processes act as one service to callers, and killing one process doesn't affect the others."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from pathlib import Path

import pytest
import requests
from limits import RateLimitItemPerSecond
from limits.errors import StorageError
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families
from support.command import Command
from support.mail_server import free_port
from support.service_process import serving
from support.waiting import wait_until
from support.web_caller import API, bearer, session

from evergreen_groups import exit_status
from evergreen_groups.metrics import counts_only, format_metrics, merge_metrics
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import ServeSettings, Settings
from evergreen_groups.web import PREFIX, rate_limits, worker_settings
from evergreen_groups.web.rate_limits import SharedStorage

PROCESSES = 3


class Service:
    """A service in several processes. Each request opens a new connection."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.process = process
        self.address = address

    @property
    def workers(self) -> set[int]:
        """The ids of the worker processes."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return {int(pid) for pid in children.read_text().split()}

    def ask(self, method: str, path: str, token: str, body: object = None, key: str = "") -> requests.Response:
        headers = {**bearer(token), "Idempotency-Key": key, "Connection": "close"}
        return requests.request(method, f"{self.address}{API}/{path}", json=body, headers=headers, timeout=60)


@pytest.fixture
def command(sandbox: Sandbox, tmp_path: Path) -> Command:
    command = Command(tmp_path, sandbox.url)
    command.environ["STATE_DIRECTORY"] = str(tmp_path / "state")
    return command


@contextmanager
def served(command: Command, settings: str = "") -> Iterator[Service]:
    command.config.write_text(f"[serve]\nprocesses = {PROCESSES}\n{settings}")
    with serving(command, "serve", "--port", "0") as (process, _printed, address):
        service = Service(process, address)
        try:
            wait_until(lambda: len(service.workers) == PROCESSES)
            yield service
        finally:
            with suppress(FileNotFoundError):
                for worker in service.workers:
                    os.kill(worker, signal.SIGKILL)


def test_the_threads_are_shared_out() -> None:
    for threads, processes, each in ((8, 1, 8), (8, 2, 4), (8, 3, 2), (2, 4, 2), (64, 4, 16)):
        settings = Settings(serve=ServeSettings(threads=threads, processes=processes))
        assert worker_settings(settings).serve.threads == each


def test_figures_of_several_processes_are_one() -> None:
    def counting(requests: int, seconds: float, closed: int) -> CollectorRegistry:
        registry = CollectorRegistry()
        Counter("requests", "", ["status"], registry=registry).labels("200").inc(requests)
        Histogram("seconds", "", registry=registry, buckets=(1.0, 2.0)).observe(seconds)
        Gauge("breaker_closed", "", registry=registry).set(closed)
        Gauge("answers", "", registry=registry).set(requests)
        Counter("reloads", "", registry=registry).inc(2)
        return registry

    one, other, gone = (list(counting(*each).collect()) for each in ((1, 0.5, 1), (2, 1.5, 0), (4, 9.0, 1)))
    text = format_metrics(merge_metrics([one, other, counts_only(gone)])).decode()
    values = {line.split()[0]: float(line.split()[1]) for line in text.splitlines() if not line.startswith("#")}
    assert values['requests_total{status="200"}'] == 7
    assert values['seconds_bucket{le="1.0"}'] == 1
    assert values['seconds_bucket{le="+Inf"}'] == values["seconds_count"] == 3
    assert values["seconds_sum"] == 11
    assert (values["breaker_closed"], values["answers"], values["reloads_total"]) == (0, 1, 2)


def test_what_is_counted_elsewhere_is_counted_once() -> None:
    here, there = Pipe()
    store = MemoryStorage()

    def count() -> None:
        with suppress(EOFError):
            while True:
                number, operation, arguments, named = there.recv()
                there.send((number, getattr(store, operation)(*arguments, **named)))

    thread = threading.Thread(target=count)
    thread.start()
    shared, item = SharedStorage(here), RateLimitItemPerSecond(2, 60)
    hits = [MovingWindowRateLimiter(storage).hit(item, "somebody") for storage in (shared, store, shared)]
    assert hits == [True, True, False]
    assert not MovingWindowRateLimiter(shared).test(item, "somebody")
    assert (shared.incr("key", 60), store.get("key"), shared.get("key")) == (1, 1, 1)
    shared.clear("key")
    assert shared.get("key") == 0
    here.close()
    thread.join()
    with pytest.raises(StorageError):
        shared.get("key")


def test_an_answer_that_is_late_is_taken_for_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = Pipe()
    shared = SharedStorage(here)
    monkeypatch.setattr(rate_limits, "COUNTING_SECONDS", 0.01)
    for late in range(2):
        with pytest.raises(StorageError):
            shared.get("key")
        number, *_operation = there.recv()
        there.send((number, 70 + late))
    monkeypatch.setattr(rate_limits, "COUNTING_SECONDS", 60.0)
    there.send((number + 1, 7))
    assert shared.get("key") == 7, "it counts with the others again"


def test_together_they_are_one_service(command: Command, sandbox: Sandbox) -> None:
    """The limit is one per minute: higher ones have windows of seconds, which a busy machine's requests may outlast."""
    with served(command, "rate_limit = 1") as service:
        token = session(sandbox.url, username="harbor_desk")
        answers = [service.ask("GET", "patrons/1001/block", token).status_code for _ in range(9)]
        assert answers == [200] + [429] * 8
        workers = service.workers
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(60) == exit_status.DONE
        assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


@pytest.mark.long
def test_a_plan_of_one_is_applied_and_taken_back_by_any(command: Command, sandbox: Sandbox) -> None:
    with served(command) as service:
        token = session(sandbox.url, username="consortium_staff")
        move = {"action": "move", "patrons": [{"id": 1052}], "target": {"id": 1007}}
        for number in range(2 * PROCESSES):
            plan = service.ask("POST", "plans", token, move).json()["id"]
            key = f"{number:032}"
            change = service.ask("POST", "changes", token, {"plan": plan}, key).json()
            again = service.ask("POST", "changes", token, {"plan": plan}, key).json()
            assert (change["done"], again["id"]) == (True, change["id"])
            assert service.ask("POST", f"changes/{change['id']}/undo", token, {}, f"back-{key}").json()["done"] is True


@pytest.mark.long
def test_one_that_is_killed_is_started_again(command: Command, sandbox: Sandbox) -> None:
    with served(command) as service:
        token = session(sandbox.url, username="harbor_desk")
        for _ in range(2 * PROCESSES):
            before = service.workers
            victim = min(before)
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: len(service.workers - {victim}) == PROCESSES)  # noqa: B023 - it is over when this is
            assert service.ask("GET", "patrons/1001/summary", token).status_code == 200
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(60) == exit_status.DONE
        assert "a process of the service has ended (-9); another is started" in service.process.stderr.read()  # type: ignore[union-attr]


@pytest.mark.long
def test_counts_outlive_those_who_counted(command: Command, sandbox: Sandbox) -> None:
    port = free_port()
    command.environ["EVERGREEN_GROUPS_METRICS_LISTEN"] = f"127.0.0.1:{port}"

    def counted(name: str) -> float:
        text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=60).text
        return sum(
            sample.value
            for metric in text_string_to_metric_families(text)
            for sample in metric.samples
            if sample.name == f"evergreen_groups_{name}"
        )

    with served(command) as service:
        token = session(sandbox.url, username="harbor_desk")
        for _ in range(12):
            service.ask("GET", "patrons/1001/block", token)
        wait_until(lambda: counted("requests_total") == 12)  # a late worker counts with its last figures
        victim = min(service.workers)
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: len(service.workers - {victim}) == PROCESSES)
        assert counted("requests_total") == 12
        assert counted("reloads_total") == 0
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: counted("reloads_total") == 1)
        assert counted("build_info") == 1


@pytest.mark.long
def test_new_settings_count_in_all(command: Command, sandbox: Sandbox) -> None:
    with served(command, '[desk]\npanel_link = "same"\n') as service:

        def links() -> set[str]:
            desk = f"{service.address}{PREFIX}/desk.json"
            answers = [requests.get(desk, timeout=60) for _ in range(4 * PROCESSES)]
            return {answer.json()["panel_link"] for answer in answers}

        assert links() == {"same"}
        right, errors = command.config.read_text(), service.process.stderr
        assert errors is not None
        command.config.write_text(right.replace("same", "wrong"))
        service.process.send_signal(signal.SIGHUP)
        assert "the settings are wrong, and those before stay" in errors.readline()
        assert links() == {"same"}
        command.config.write_text(right.replace("same", "new"))
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: links() == {"new"})


@pytest.mark.long
def test_what_is_wrong_is_said_once(command: Command) -> None:
    command.config.write_text(f'[serve]\nprocesses = {PROCESSES}\n[events]\nsecret_file = "/nowhere"\n')
    arguments = command.arguments("serve", "--port", "0")
    run = subprocess.run(arguments, env=command.environ, capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stderr.count("/nowhere")) == (exit_status.CONFIGURATION, 1)


@pytest.mark.long
def test_none_is_left_without_the_one_that_watches(command: Command, sandbox: Sandbox) -> None:
    with served(command) as service:
        workers = service.workers
        service.process.kill()
        wait_until(lambda: not any(Path(f"/proc/{worker}/fd").exists() for worker in workers))
