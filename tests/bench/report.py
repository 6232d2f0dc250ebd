"""What the report costs: seconds, calls, bytes and peak memory, for growing numbers of patrons.

    python tests/bench/report.py [--patrons 10000 50000 200000] [--runs 5] [--account NAME]

Beside the report's own seconds stand those that bare urllib3 needs to send the same requests again without decoding an
answer, which is the sandbox's share of the time: one after the other, and as the report did, three at a time and each
after those that it had to wait for.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

CONCURRENCY = 3
GATEWAY = "/osrf-gateway-v1"


@dataclass
class Sent:
    """One request as the report sent it, with the seconds at which it began and ended."""

    method: str
    path: str
    body: str
    began: float
    ended: float = 0.0


@contextlib.contextmanager
def sandbox(patrons: int) -> Iterator[tuple[str, str, str]]:
    """A sandbox with a large population in a process of its own: its address, a user name and the password."""
    code = (
        "import sys; from evergreen_groups.sandbox.sandbox import Sandbox\n"
        "with Sandbox(patrons=int(sys.argv[1])) as sandbox:\n"
        "    print(sandbox.url, *sandbox.report_account, flush=True)\n"
        "    sandbox.wait()"
    )
    command = [sys.executable, "-c", code, str(patrons)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url, username, password = process.stdout.readline().split()
        try:
            yield url, username, password
        finally:
            process.terminate()


def run_report(url: str, username: str, password: str) -> dict[str, object]:
    """Build one report in this process, taking down every request."""
    from evergreen_groups.gateway import Credentials, Gateway
    from evergreen_groups.gateway.transport import Transport
    from evergreen_groups.report import Criteria, build_report

    sent: list[Sent] = []
    send = Transport._send

    def taking_down(self: Transport, call: Any, request: Any, *rest: Any, **options: Any) -> Any:
        body = (request.body or b"").decode()
        entry = Sent(request.method, request.url[len(url) :], body, time.perf_counter())
        sent.append(entry)
        reply = send(self, call, request, *rest, **options)
        entry.ended = time.perf_counter()
        return reply

    Transport._send = taking_down  # type: ignore[method-assign]  # the bench's own tap
    started = time.perf_counter()
    with Gateway(
        url, credentials=Credentials(username=username, password=password), concurrency=CONCURRENCY
    ) as gateway:
        report = build_report(gateway, Criteria())
        seconds = time.perf_counter() - started
        token, counted = gateway.token, gateway.statistics
    return {
        "seconds": seconds,
        "calls": counted.calls,
        "sent": counted.bytes_sent,
        "received": counted.bytes_received,
        "groups": report.totals.group_count,
        "members": report.totals.member_count,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "token": token,
        "requests": [vars(entry) for entry in sent],
    }


def send_again(url: str, recorded: list[dict[str, Any]], old_token: str, threads: int) -> float:
    """Send the same requests with bare urllib3 and throw the answers away; gives the seconds it took."""
    import urllib3

    entries = [Sent(**entry) for entry in recorded if "session.delete" not in entry["body"]]
    pool = urllib3.connection_from_url(url, maxsize=threads)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    token = old_token

    def send(entry: Sent) -> bytes:
        body = entry.body.replace(old_token, token)
        return pool.request(entry.method, entry.path, body=body or None, headers=headers).data

    started = time.perf_counter()
    done: list[tuple[Sent, Future[bytes]]] = []
    with ThreadPoolExecutor(threads) as executor:
        for entry in entries:
            for earlier, future in done:
                if earlier.ended <= entry.began:
                    answer = future.result()
                    if "auth.login" in earlier.body and token == old_token:
                        token = re.findall(rb'"authtoken":"(\w+)"', answer)[0].decode()
            done.append((entry, executor.submit(send, entry)))
    return time.perf_counter() - started


def in_a_process(arguments: list[str], given: str | None = None) -> str:
    """Run one measurement in a fresh interpreter, so that memory and imports are its own."""
    command = [sys.executable, __file__, *arguments]
    return subprocess.run(command, input=given, capture_output=True, text=True, check=True).stdout


def measure(patrons: int, runs: int) -> None:
    """Print one row: medians over ``runs`` rounds of a report and the same requests sent bare in both ways."""
    reports, in_turn, side_by_side = [], [], []
    with sandbox(patrons) as (url, username, password):
        in_a_process(["--one-report", url, username, password])
        for _ in range(runs):
            text = in_a_process(["--one-report", url, username, password])
            reports.append(json.loads(text))
            in_turn.append(float(in_a_process(["--send-again", url, "1"], text)))
            side_by_side.append(float(in_a_process(["--send-again", url, str(CONCURRENCY)], text)))
    seconds = [report["seconds"] for report in reports]
    last = reports[-1]
    allowed = 10 + 3 * last["members"] / 1000
    print(
        f"{patrons:>9,} {last['groups']:>7,} {last['members']:>8,} {statistics.median(seconds):>8.2f} "
        f"{statistics.median(in_turn):>8.2f} {_ratio(seconds, in_turn):>6.2f} "
        f"{statistics.median(side_by_side):>8.2f} {_ratio(seconds, side_by_side):>6.2f} "
        f"{last['calls']:>6} {allowed:>7.1f} {last['sent'] / 1e6:>7.2f} {last['received'] / 1e6:>7.2f} "
        f"{max(report['peak_mb'] for report in reports):>7.0f}",
        flush=True,
    )


def _ratio(seconds: list[float], bare: list[float]) -> float:
    return statistics.median(mine / other for mine, other in zip(seconds, bare, strict=True))


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--patrons", type=int, nargs="+", default=[10_000, 50_000, 200_000])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--one-report", nargs=3, metavar=("URL", "USERNAME", "PASSWORD"), help=argparse.SUPPRESS)
    parser.add_argument("--send-again", nargs=2, metavar=("URL", "THREADS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one_report:
        json.dump(run_report(*options.one_report), sys.stdout)
    elif options.send_again:
        recorded = json.load(sys.stdin)
        url, threads = options.send_again
        print(send_again(url, recorded["requests"], recorded["token"], int(threads)))
    else:
        print("                             report  in turn         3 at once")
        print(
            "  patrons  groups  members  seconds  seconds  ratio  seconds  ratio  calls allowed MB sent MB back peak MB"
        )
        for patrons in options.patrons:
            measure(patrons, options.runs)


if __name__ == "__main__":
    main()
