"""What the web service bears: many desks at once for a while, each with a session of its own, on a sandbox.

    python tests/bench/serve.py [--clients 200] [--seconds 120] [--threads 8]

Sandbox, service and clients are three processes. Each client asks for one patron after the other, as a desk does, and
for blocks as a self-check does. Prints requests a second, how long they took and the service's memory second by second
(the sandbox does its work on the same cores). Ends with status 1 if an answer was wrong, or if the memory grew.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from evergreen_groups.gateway import Credentials, Gateway

PASSWORD = "sandbox"
ACCOUNT = "consortium_staff"
PATRONS = [number for number in range(1001, 1054) if number not in (1031, 1048)]
"""The built-in patrons, but for one who is deleted and one without a card."""
GROUPS = range(1001, 1016)
API = "/evergreen-groups/api/v1"
WARMING_UP = 60.0
"""Seconds until pools, caches, allocator and the stacks of 256 threads have what they keep; memory is compared from
then on, so a shorter run says nothing of it."""
GROWTH_ALLOWED = 5.0
"""Megabytes."""


@dataclass
class Tally:
    """What the clients have seen: answers by status, and seconds of each request."""

    statuses: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)


@contextlib.contextmanager
def command(*words: str, environ: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """The command, running in a process of its own."""
    arguments = [sys.executable, "-m", "evergreen_groups", *words]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environ) as process:
        try:
            yield process
        finally:
            process.terminate()


def address_in(process: subprocess.Popen[str]) -> str:
    """The first address that it prints."""
    assert process.stdout is not None
    for line in process.stdout:
        for word in line.split():
            if word.startswith("http://"):
                return word
    raise SystemExit("it did not start")


def megabytes(process: subprocess.Popen[str]) -> float:
    """Memory in use by a process (its resident set)."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def processor_seconds(process: subprocess.Popen[str]) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def asked_for(chance: random.Random) -> Iterator[str]:
    """Paths without end: four summaries to one each of the others, and now and then a patron who isn't there."""
    while True:
        patron = chance.choice(PATRONS)
        yield from (f"{API}/patrons/{chance.choice(PATRONS)}/summary" for _ in range(4))
        yield f"{API}/patrons/{patron}/block"
        yield f"{API}/patrons/by-barcode/2000000000{patron}/block"
        yield f"{API}/groups/{chance.choice(GROUPS)}"
        yield f"{API}/patrons/{patron + 900_000}/block"


def right(path: str, status: int, body: bytes) -> bool:
    """Whether this is the answer to expect."""
    if status == 200:
        return json.loads(body)["version"] == 1
    return status == 404 and "/9" in path


def desk(number: int, address: str, token: str, end: float, tally: Tally) -> None:
    """One client: asks, over one connection, until the time is over."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    for path in asked_for(random.Random(number)):
        began = time.perf_counter()
        if time.monotonic() > end:
            break
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            body = answer.read()
        except OSError as problem:
            tally.statuses[type(problem).__name__] += 1
            connection.close()
            continue
        tally.seconds.append(time.perf_counter() - began)
        tally.statuses[str(answer.status) if right(path, answer.status, body) else f"{answer.status} wrong"] += 1
    connection.close()


def main() -> None:
    """Run it as the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--threads", type=int, default=8, help="threads of the service")
    options = parser.parse_args()
    with command("sandbox", "--port", "0") as sandbox:
        gateway = address_in(sandbox)
        environ = {
            **os.environ,
            "EVERGREEN_GROUPS_GATEWAY_URL": gateway,
            "EVERGREEN_GROUPS_SERVE_THREADS": str(options.threads),
        }
        with command("serve", "--port", "0", environ=environ) as service:
            address = address_in(service)
            well = bear(options.clients, options.seconds, gateway, address, service)
            used = {"service": processor_seconds(service), "sandbox": processor_seconds(sandbox)}
        print("processor, s: " + ", ".join(f"{name} {value:.1f}" for name, value in used.items()))
    sys.exit(0 if well else 1)


def bear(clients: int, seconds: float, gateway: str, address: str, service: subprocess.Popen[str]) -> bool:
    """Let the clients loose, and print what came of it; whether every answer was right and the memory flat."""
    with contextlib.ExitStack() as sessions:
        credentials = Credentials(username=ACCOUNT, password=PASSWORD)
        accounts = [sessions.enter_context(Gateway(gateway, credentials=credentials)) for _ in range(clients)]
        with ThreadPoolExecutor(8) as executor:
            tokens = list(executor.map(lambda account: account.token, accounts))
        tally, memory = Tally(), [megabytes(service)]
        began, end = time.perf_counter(), time.monotonic() + seconds
        desks = [threading.Thread(target=desk, args=(n, address, token, end, tally)) for n, token in enumerate(tokens)]
        for thread in desks:
            thread.start()
        while time.monotonic() < end:
            time.sleep(1)
            memory.append(megabytes(service))
        for thread in desks:
            thread.join()
        return told(clients, time.perf_counter() - began, tally, memory)


def told(clients: int, took: float, tally: Tally, memory: list[float]) -> bool:
    """Print the figures; whether every answer was right and the memory flat."""
    cuts = statistics.quantiles(tally.seconds, n=100)
    wrong = sum(count for status, count in tally.statuses.items() if status not in ("200", "404"))
    warm = memory[min(int(WARMING_UP), len(memory) - 1)]
    grown = max(memory[-3:]) - warm
    print(
        f"{clients} clients, {took:.1f} s: {len(tally.seconds):,} requests, {len(tally.seconds) / took:,.0f} a second"
    )
    print(f"answers: {dict(sorted(tally.statuses.items()))}, wrong: {wrong}")
    print(f"milliseconds: p50 {cuts[49] * 1000:.0f}, p95 {cuts[94] * 1000:.0f}, p99 {cuts[98] * 1000:.0f}")
    print("memory, MB: " + " ".join(f"{value:.0f}" for value in memory))
    print(f"grown after {WARMING_UP:.0f} s: {grown:+.1f} MB")
    return wrong == 0 and grown < GROWTH_ALLOWED


if __name__ == "__main__":
    main()
