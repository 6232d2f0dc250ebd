"""Compare web servers for the app: each in turn, with the same app, the same sandbox and the same clients.

    python tests/bench/servers.py [--clients 50] [--seconds 6] [--rounds 2] [--slow 200] [--only NAME ...]

The sandbox, each server and the clients are separate processes. Prints a table:

- *requests/s*, *p99*: summaries of patrons for all clients at once, over persistent connections. Servers take turns in
  each round; the table shows the medians of the rounds. *fresh* uses a connection per request, like Apache with
  ``disablereuse=on``. *CPU* is the server's seconds per 1,000 requests, the most reliable figure on a busy machine.
  *wrong*: responses other than 200.
- *slow*: the longest of ten requests by an honest client while slow clients send a byte of their headers every half
  second; ``none`` if it takes longer than 10 seconds.
- *memory*: all processes of the server, counting shared memory once, after the load.
- *stop*: seconds from SIGTERM to the end with 21 requests in progress, one of which takes 8 seconds; the number of
  responses, and the exit status. *reload*: requests that failed during SIGHUP; ``ends`` if it stops the server.
  *notify*: messages to the service manager.

It needs two more servers: ``pip install gunicorn cheroot``.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from programs import (
    ACCOUNT,
    API,
    PASSWORD,
    PATRONS,
    address_in,
    command,
    megabytes,
    processor_seconds,
)

from evergreen_groups.gateway import Credentials, Gateway
from evergreen_groups.settings import reading as load
from evergreen_groups.web import create_app

if TYPE_CHECKING:
    from flask import Flask

STATIC = "/evergreen-groups/panel.js"
"""Needs no ILS, so an honest client's time depends on the server only."""
HELD = [8.0] + [1.0] * 20
"""Seconds taken by the requests in progress when a server is told to stop."""


def application() -> Flask:
    """The app, and ``/hold``, which takes a while."""
    app = create_app(load.load(None, os.environ), os.environ)
    answer = app.wsgi_app

    def wrapped(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/hold":
            return answer(environ, start)
        time.sleep(float(environ["QUERY_STRING"]))
        start("200 OK", [("Content-Length", "4")])
        return [b"held"]

    app.wsgi_app = wrapped  # type: ignore[method-assign]  # Flask's documented way to add middleware
    return app


def run_waitress(listener: socket.socket, threads: int) -> None:
    """Waitress with the service's limits; SIGTERM acts like Ctrl-C in its own runner."""
    from waitress.server import create_server

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    create_server(
        application(), sockets=[listener], threads=threads, connection_limit=1000, backlog=1000,
        max_request_header_size=32 * 1024, asyncore_use_poll=True, ident=None,
    ).run()  # fmt: skip


def run_cheroot(listener: socket.socket, threads: int) -> None:
    """Cheroot on an existing socket."""
    from cheroot.wsgi import Server

    class Given(Server):
        def bind(self, *_args: Any) -> socket.socket:
            self.socket = listener
            return listener

    server = Given(
        listener.getsockname(), application(), numthreads=threads, request_queue_size=1000, shutdown_timeout=35
    )
    server.max_request_header_size = 32 * 1024
    server.keep_alive_conn_limit = 1000
    stopping = threading.Thread(target=server.stop)
    signal.signal(signal.SIGTERM, lambda *_: stopping.start())
    server.start()
    stopping.join()  # waits for requests in progress


def run_gunicorn(listener: socket.socket, threads: int) -> None:
    """Gunicorn with threads."""
    from gunicorn.app.base import BaseApplication

    class Application(BaseApplication):
        def load_config(self) -> None:
            options = {
                "bind": f"fd://{listener.fileno()}",
                "workers": 1,
                "worker_class": "gthread",
                "threads": threads,
                "worker_connections": 1000,
                "backlog": 1000,
                "graceful_timeout": 35,
                "keepalive": 75,
                "loglevel": "error",
                "control_socket_disable": True,
            }
            for name, value in options.items():
                self.cfg.set(name, value)

        def load(self) -> Any:
            return application()

    os.set_inheritable(listener.fileno(), True)
    Application().run()


def run_command() -> None:
    """``evergreen-groups serve``."""
    import evergreen_groups.web as face
    from evergreen_groups import cli

    face.create_app = lambda *_arguments: application()
    cli.main(["serve", "--port", "0"])


SERVERS: dict[str, tuple[Callable[[socket.socket, int], None], int]] = {
    "waitress": (run_waitress, 14),
    "cheroot": (run_cheroot, 14),
    "cheroot, 256 threads": (run_cheroot, 256),
    "gunicorn": (run_gunicorn, 14),
    "gunicorn, 256 threads": (run_gunicorn, 256),
}
TODAY = "evergreen-groups serve"


@dataclass
class Running:
    """A running server."""

    process: subprocess.Popen[str]
    port: int
    began: float
    told: list[str] = field(default_factory=list)


@contextlib.contextmanager
def serving(name: str, environ: dict[str, str]) -> Iterator[Running]:
    """Yield a server once it responds."""
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(f"{directory}/notify")
        environ = {
            **environ,
            "NOTIFY_SOCKET": f"{directory}/notify",
            "STATE_DIRECTORY": directory,
        }
        arguments = [sys.executable, __file__, "--serve", name]
        began = time.monotonic()
        with subprocess.Popen(
            arguments, env=environ, stdout=subprocess.PIPE, text=True, start_new_session=True
        ) as process:
            running = Running(process, int(address_in(process).split(":")[2].split("/")[0]), began)
            threading.Thread(target=listen, args=(notified, running.told), daemon=True).start()
            try:
                wait_for_answer(running.port)
                running.began = time.monotonic() - began
                yield running
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # a new session, so that children can be killed too


@dataclass
class Load:
    """What clients do until ``end``, over ``kept`` connections or one per request, and what they observe."""

    port: int
    end: float
    kept: bool
    times: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)


def listen(notified: socket.socket, told: list[str]) -> None:
    """Record the messages to the service manager."""
    with contextlib.suppress(OSError):
        while True:
            told += [line.split("=")[0] for line in notified.recv(4096).decode().split("\n") if line]


def wait_for_answer(port: int) -> None:
    """Send requests until there is a response."""
    while True:
        try:
            return ask(port, STATIC)
        except (OSError, http.client.HTTPException):
            time.sleep(0.02)


def ask(port: int, path: str, timeout: float = 30) -> None:
    """Send one request; a wrong response is an error."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise http.client.HTTPException(str(answer.status))


def desk(load: Load, number: int, token: str) -> None:
    """Request one patron after another until the time is over."""
    chance, connection = random.Random(number), http.client.HTTPConnection("127.0.0.1", load.port, timeout=30)
    headers = {"Authorization": f"Bearer {token}", "Connection": "keep-alive" if load.kept else "close"}
    while (began := time.monotonic()) < load.end:
        try:
            connection.request("GET", f"{API}/patrons/{chance.choice(PATRONS)}/summary", headers=headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                load.failures[str(answer.status)] += 1
        except (OSError, http.client.HTTPException) as error:
            load.failures[type(error).__name__] += 1
            connection.close()
        load.times.append(time.monotonic() - began)
    connection.close()


@contextlib.contextmanager
def loaded(port: int, tokens: list[str], seconds: float, *, kept: bool = True) -> Iterator[Load]:
    """Run clients during the block, and for at least so many seconds."""
    load = Load(port, time.monotonic() + seconds, kept)
    desks = [threading.Thread(target=desk, args=(load, number, token)) for number, token in enumerate(tokens)]
    for thread in desks:
        thread.start()
    yield load
    for thread in desks:
        thread.join()


def under_load(running: Running, tokens: list[str], seconds: float) -> dict[str, float]:
    """Return figures under load."""
    with loaded(running.port, tokens, 1):
        pass
    used, began = processor_seconds(running.process), time.monotonic()
    with loaded(running.port, tokens, seconds) as load:
        pass
    took, used = time.monotonic() - began, processor_seconds(running.process) - used
    began = time.monotonic()
    with loaded(running.port, tokens, seconds, kept=False) as fresh:
        pass
    return {
        "requests/s": len(load.times) / took,
        "p99 ms": statistics.quantiles(load.times, n=100)[98] * 1000,
        "CPU": used / len(load.times) * 1000,
        "fresh/s": len(fresh.times) / (time.monotonic() - began),
        "fresh p99 ms": statistics.quantiles(fresh.times, n=100)[98] * 1000,
        "wrong": (load.failures + fresh.failures).total(),
        "memory MB": megabytes(running.process),
        "start s": running.began,
    }


def honest_among_slow(running: Running, slow: int) -> str:
    """Return the longest of ten honest requests among slow clients."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", running.port))) for _ in range(slow)]
        ended = threading.Event()

        def trickle() -> None:
            for client in clients:
                with contextlib.suppress(OSError):
                    client.sendall(b"GET /evergreen-groups/healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
            while not ended.wait(0.5):
                for client in clients:
                    with contextlib.suppress(OSError):
                        client.sendall(b"x")

        thread = threading.Thread(target=trickle)
        thread.start()
        time.sleep(2)
        times = []
        try:
            for _ in range(10):
                began = time.monotonic()
                ask(running.port, STATIC, timeout=10)
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
        try:
            ask(running.port, f"/hold?{seconds}")
            outcomes["answered"] += 1
        except (OSError, http.client.HTTPException) as error:
            outcomes[type(error).__name__] += 1

    threads = [threading.Thread(target=hold, args=(seconds,)) for seconds in HELD]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    began = time.monotonic()
    running.process.send_signal(signal.SIGTERM)
    try:
        status = str(running.process.wait(45))
    except subprocess.TimeoutExpired:
        status = "never"
    took = time.monotonic() - began
    for thread in threads:
        thread.join()
    return f"{took:.1f} s, {outcomes['answered']} of {len(HELD)}, status {status}"


def reloaded(running: Running, tokens: list[str]) -> str:
    """Return what SIGHUP does under load."""
    with loaded(running.port, tokens[:8], 4, kept=False) as load:
        time.sleep(1)
        running.process.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    return "ends" if running.process.poll() is not None else f"{load.failures.total()} of {len(load.times)} failed"


def main() -> None:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--slow", type=int, default=200)
    parser.add_argument("--only", nargs="*", default=[TODAY, *SERVERS])
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve == TODAY:
        return run_command()
    if options.serve:
        listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
        print(f"http://127.0.0.1:{listener.getsockname()[1]}/", flush=True)
        run, threads = SERVERS[options.serve]
        return run(listener, threads)
    return compare(options)


def compare(options: argparse.Namespace) -> None:
    """Run each server in turn, and print the table."""
    cases: list[str] = options.only
    figures: dict[str, list[dict[str, float]]] = defaultdict(list)
    words: dict[str, list[str]] = {}
    with command("sandbox", "--port", "0") as sandbox, contextlib.ExitStack() as sessions:
        gateway = address_in(sandbox)
        credentials = Credentials(username=ACCOUNT, password=PASSWORD)
        accounts = [sessions.enter_context(Gateway(gateway, credentials=credentials)) for _ in range(options.clients)]
        with ThreadPoolExecutor(8) as executor:
            tokens = list(executor.map(lambda account: account.token, accounts))
        environ = {**os.environ, "EVERGREEN_GROUPS_GATEWAY_URL": gateway, "EVERGREEN_GROUPS_SERVE_THREADS": "8"}
        for number in range(options.rounds):
            for case in cases if number % 2 == 0 else cases[::-1]:
                with serving(case, environ) as running:
                    figures[case].append(under_load(running, tokens, options.seconds))
                    if number == 0:
                        words[case] = [honest_among_slow(running, options.slow)]
                if number == 0:
                    with serving(case, environ) as running:
                        words[case].append(stopped(running))
                        told = ", ".join(running.told) or "nothing"
                    with serving(case, environ) as running:
                        words[case] += [reloaded(running, tokens), told]
                print(case, figures[case][-1], words[case], file=sys.stderr, flush=True)
    names = list(figures[cases[0]][0])
    print("server | " + " | ".join(names) + " | slow | stop | reload | notify")
    for case in cases:
        medians = [statistics.median(each[name] for each in figures[case]) for name in names]
        print(f"{case} | " + " | ".join([f"{value:.3g}" for value in medians] + words[case]))


if __name__ == "__main__":
    main()
