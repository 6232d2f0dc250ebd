"""Compare web servers for the app: each in turn, with the same app, the same sandbox and the same clients.

    python tests/bench/servers.py [--clients 50] [--seconds 6] [--rounds 2] [--slow 200] [--only NAME ...]

The sandbox, each server and the clients are separate processes. Prints a table:

- *requests/s*, *p99*: summaries of patrons for all clients at once, over persistent connections. Servers take turns in
  each round; the table shows the medians of the rounds. *fresh* uses a connection per request, like Apache with
  ``disablereuse=on``. *CPU* is the server's seconds per 1,000 requests, the most reliable figure on a busy machine.
  *wrong*: responses other than the expected ones.
- *slow*: the longest of ten requests by an honest client while slow clients send a byte of their headers every half
  second; ``none`` if it takes longer than 10 seconds.
- *memory*: all processes of the server, counting shared memory once, after the load.
- *stop*: seconds from SIGTERM to the end with 21 requests in progress, one of which takes 8 seconds; the number of
  responses, and the exit status. *reload*: requests that failed during SIGHUP; ``ends`` if it stops the server.
  *notify*: messages to the service manager.

It needs another server: ``pip install gunicorn``.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bare_desk import Family, families, log_in
from load import Load, Outcome, clients_pool, under_load
from programs import ACCOUNT, PASSWORD, address_in, command, megabytes, processor_seconds, service_environ

if TYPE_CHECKING:
    from flask import Flask

    from evergreen_groups.web.rate_limits import Counters

STATIC = "/evergreen-groups/panel.js"
"""Needs no ILS, so an honest client's time depends on the server only."""
HELD = [8.0] + [1.0] * 20
"""Seconds taken by the requests in progress when a server is told to stop."""
OURS = "evergreen-groups serve"
GUNICORN = (
    *("-m", "gunicorn", "--worker-class", "gthread", "--threads", "14", "--worker-connections", "1000"),
    *("--backlog", "1000", "--graceful-timeout", "35", "--keep-alive", "75", "--log-level", "error"),
    *("servers:application()", "--bind", "127.0.0.1:{port}", "--workers", "{processes}"),
)
WAITRESS = (
    *("-m", "waitress", "--threads", "14", "--connection-limit", "1000", "--backlog", "1000"),
    *("--host", "127.0.0.1", "--port", "{port}", "--call", "servers:application"),
)
SERVERS = {OURS: (__file__, "--serve", "{port}"), "gunicorn": GUNICORN, "waitress": WAITRESS}
"""What Python is to run."""


def application(request_counters: Counters | None = None) -> Flask:
    """The app, and ``/hold``, which takes a while."""
    from evergreen_groups.settings import reading as load
    from evergreen_groups.web.app import create_app

    app = create_app(load.load(None, os.environ), os.environ, request_counters=request_counters)
    answer = app.wsgi_app

    def wrapped(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/hold":
            return answer(environ, start)
        time.sleep(float(environ["QUERY_STRING"]))
        start("200 OK", [("Content-Length", "4")])
        return [b"held"]

    app.wsgi_app = wrapped  # type: ignore[method-assign]  # Flask's documented way to add middleware
    return app


def run_ours(port: str) -> None:
    """Run the command with the app that has ``/hold``."""
    import evergreen_groups.web as face
    from evergreen_groups import cli

    face.create_app = lambda *_arguments, request_counters=None: application(request_counters)
    cli.main(["serve", "--port", port])


@dataclass
class Running:
    """A running server; ``began`` is how many seconds it took to start."""

    process: subprocess.Popen[str]
    port: int
    began: float = 0.0
    told: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Clients:
    executor: ProcessPoolExecutor
    tokens: tuple[str, ...]
    families: tuple[Family, ...]
    count: int
    seconds: float

    def ask(self, running: Running, count: int = 0, seconds: float = 0.0, *, fresh: bool = False) -> Outcome:
        """Request summaries, by default with all clients, and as long as configured."""
        url = f"http://127.0.0.1:{running.port}"
        count, seconds = count or self.count, seconds or self.seconds
        return under_load(
            self.executor, Load("summary", True, url, self.tokens, self.families, count, seconds, fresh=fresh)
        )


@contextlib.contextmanager
def serving(name: str, processes: int, environ: dict[str, str]) -> Iterator[Running]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(f"{directory}/notify")
        environ = {
            **environ,
            "NOTIFY_SOCKET": f"{directory}/notify",
            "STATE_DIRECTORY": directory,
            "EVERGREEN_GROUPS_SERVE_PROCESSES": str(processes),
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
        }
        arguments = [word.format(port=port, processes=processes) for word in SERVERS[name]]
        began = time.monotonic()
        with subprocess.Popen(
            [sys.executable, *arguments], env=environ, stdout=subprocess.DEVNULL, text=True, start_new_session=True
        ) as process:
            running = Running(process, port)
            threading.Thread(target=listen, args=(notified, running.told), daemon=True).start()
            try:
                wait_for_answer(running)
                running.began = time.monotonic() - began
                yield running
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # a new session, so that children can be killed too


def listen(notified: socket.socket, told: list[str]) -> None:
    """Record the messages to the service manager."""
    with contextlib.suppress(OSError):
        while True:
            told += [line.split("=")[0] for line in notified.recv(4096).decode().split("\n") if line]


def wait_for_answer(running: Running) -> None:
    """Send requests until there is a response."""
    while running.process.poll() is None:
        try:
            return ask(running, STATIC)
        except (OSError, http.client.HTTPException):
            time.sleep(0.02)
    raise SystemExit("it did not start")


def ask(running: Running, path: str, timeout: float = 30) -> None:
    """Send one request; a wrong response is an error."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", running.port, timeout=timeout)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise http.client.HTTPException(str(answer.status))


def figures_of(running: Running, clients: Clients) -> dict[str, float]:
    clients.ask(running, seconds=1.0)
    used = processor_seconds(running.process)
    kept = clients.ask(running)
    used = processor_seconds(running.process) - used
    fresh = clients.ask(running, fresh=True)
    return {
        "requests/s": kept.per_second,
        "p99 ms": kept.quantile(99),
        "CPU": used / max(1, len(kept.seconds)) * 1000,
        "fresh/s": fresh.per_second,
        "fresh p99 ms": fresh.quantile(99),
        "wrong": (kept.errors + fresh.errors).total(),
        "memory MB": megabytes(running.process),
        "start s": running.began,
    }


def honest_among_slow(running: Running, slow: int) -> str:
    """Return the longest of ten honest requests among slow clients."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", running.port))) for _ in range(slow)]
        ended = threading.Event()

        def trickle() -> None:
            sent = b"GET /evergreen-groups/healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
            while not ended.wait(0.5):
                for client in clients:
                    with contextlib.suppress(OSError):
                        client.sendall(sent)
                sent = b"x"

        thread = threading.Thread(target=trickle)
        thread.start()
        time.sleep(2)
        times = []
        try:
            for _ in range(10):
                began = time.monotonic()
                ask(running, STATIC, timeout=10)
                times.append(time.monotonic() - began)
            return f"{max(times) * 1000:.0f} ms"
        except (OSError, http.client.HTTPException):
            return f"none after {len(times)}"
        finally:
            ended.set()
            thread.join()


def stopped(running: Running) -> str:
    """Return what SIGTERM does, with requests in progress and some waiting for a thread."""
    outcomes = Counter[str]()

    def hold(seconds: float) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            ask(running, f"/hold?{seconds}")
            outcomes["answered"] += 1

    with ThreadPoolExecutor(len(HELD)) as threads:
        for seconds in HELD:
            threads.submit(hold, seconds)
        time.sleep(0.5)
        began = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        try:
            status = str(running.process.wait(45))
        except subprocess.TimeoutExpired:
            status = "never"
        took = time.monotonic() - began
    return f"{took:.1f} s, {outcomes['answered']} of {len(HELD)}, status {status}"


def reloaded(running: Running, clients: Clients) -> str:
    """Return what SIGHUP does under load."""
    threading.Timer(1.5, running.process.send_signal, [signal.SIGHUP]).start()
    outcome = clients.ask(running, 8, 4.0, fresh=True)
    failed = outcome.errors.total()
    if running.process.poll() is not None:
        return "ends"
    return f"{failed} of {len(outcome.seconds) + failed} failed"


def main() -> None:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--slow", type=int, default=200)
    parser.add_argument("--only", nargs="*", default=list(SERVERS))
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        run_ours(options.serve)
    else:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    """Run each server in turn, and print the table."""
    cases = [(name, count) for name in options.only for count in ((1,) if name == "waitress" else (1, 2))]
    figures: dict[tuple[str, int], list[dict[str, float]]] = defaultdict(list)
    others: dict[tuple[str, int], list[str]] = {}
    with command("sandbox", "--port", "0") as sandbox, clients_pool() as executor:
        gateway = address_in(sandbox).rstrip("/")
        tokens = tuple(log_in(gateway, ACCOUNT, PASSWORD) for _ in range(options.clients))
        asked = tuple(families(gateway, tokens[0], 100, above=1000))
        clients = Clients(executor, tokens, asked, options.clients, options.seconds)
        environ = service_environ(gateway)
        for number in range(options.rounds):
            for case in cases if number % 2 == 0 else cases[::-1]:
                with serving(*case, environ) as running:
                    figures[case].append(figures_of(running, clients))
                    if number == 0:
                        others[case] = [honest_among_slow(running, options.slow)]
                if number == 0:
                    with serving(*case, environ) as running:
                        others[case].append(stopped(running))
                        told = ", ".join(running.told) or "nothing"
                    with serving(*case, environ) as running:
                        others[case] += [reloaded(running, clients), told]
                print(case, figures[case][-1], others[case], file=sys.stderr, flush=True)
    names = list(figures[cases[0]][0])
    print("server | processes | " + " | ".join(names) + " | slow | stop | reload | notify")
    for case in cases:
        medians = [statistics.median(each[name] for each in figures[case]) for name in names]
        print(f"{case[0]} | {case[1]} | " + " | ".join([f"{value:.3g}" for value in medians] + others[case]))


if __name__ == "__main__":
    main()
