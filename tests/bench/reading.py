"""The rows of the table: the report by a program, the audit, and the startup time."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from .rows import Row, Spread
from .sites import Account, Site

ANSWER = ("groups", "members", "visible_fines", "hidden_fines")
"""Figures on which the product and the floor must agree; the last only if the floor has read it."""
HERE = Path(__file__).resolve().parent
Found = TypeVar("Found")
PROGRAM = (sys.executable, "-m", "evergreen_groups")
MOST_CALLS = 60
"""Maximum calls for an account that doesn't see everyone, besides one per group whose hidden members owe something."""
START_SECONDS = 0.3
IMPORT_SECONDS = 0.005
AUDIT_TIMES, AUDIT_MB = 1.5, 120


def figures(program: str, arguments: Sequence[str], environ: dict[str, str]) -> dict[str, Any]:
    """Return the figures that a program of this directory prints as JSON."""
    command = [sys.executable, str(HERE / program), *arguments]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{program} {' '.join(arguments)} ended with status {done.returncode}\n{done.stderr}")
    return dict(json.loads(done.stdout))


def seconds_of(command: Sequence[str], environ: dict[str, str]) -> float:
    """Return how long a command takes from start to end."""
    started = time.perf_counter()
    subprocess.run(command, env=environ, capture_output=True, check=True)
    return time.perf_counter() - started


def by_turns(ours: Callable[[], Found], floor: Callable[[], Found], pairs: int) -> tuple[list[Found], list[Found]]:
    """Run both so many times, alternating the order."""
    products, floors = [], []
    for number in range(pairs):
        if number % 2:
            floors.append(floor())
        products.append(ours())
        if not number % 2:
            floors.append(floor())
    return products, floors


def report(site: Site, account: Account, runs: int, *options: str, what: str = "report") -> Row:
    """Yield the rows of the report by a program; ends the bench if the product and the floor disagree."""
    given = ("--url", site.url, "--account", account.name, *options)
    environ = site.environ(account)

    def ours() -> dict[str, Any]:
        return figures("ours.py", [*given, "--idl", str(site.directory)], environ)

    def floor(*more: str) -> dict[str, Any]:
        return figures("floor.py", [*given, "--idl", str(site.idl), *more], environ)

    # A first run warms the caches, and also compares hidden members' fines.
    _agreed(what, account, [ours(), floor("--hidden-fines")])
    products, floors = by_turns(ours, floor, runs)
    _agreed(what, account, [*products, *floors])
    one, other = (_middle(found) for found in (products, floors))
    size = f"{one['groups']:,} groups, {one['members']:,} members, {one['fines']}"
    cpu = (median(each["cpu_seconds"] for each in products), median(each["cpu_seconds"] for each in floors))
    row = replace(_row(what, account, size, products, floors), cpu=cpu, more={"ours": one, "floor": other})
    return _judged(row, account, other["groups_asked"])


def _agreed(what: str, account: Account, said: Sequence[dict[str, Any]]) -> None:
    """End the bench unless all answers are equal."""
    for name in ANSWER:
        answers = {str(one[name]) for one in said if one[name] is not None}
        if len(answers) > 1:
            raise SystemExit(f"{what}, {account.name}: ours and the floor differ in {name}: {sorted(answers)}")


def _middle(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return sorted(found, key=lambda one: one["seconds"])[len(found) // 2]


def _row(
    what: str, account: Account, size: str, products: Sequence[dict[str, Any]], floors: Sequence[dict[str, Any]]
) -> Row:
    one, other = _middle(products), _middle(floors)
    return Row(
        what,
        account.name,
        size,
        ours=Spread(tuple(each["seconds"] for each in products)),
        floor=Spread(tuple(each["seconds"] for each in floors)),
        calls=(one["calls"], other["calls"]),
        bytes=(one["bytes"], other["bytes"]),
        peak_mb=max(each["peak_mb"] for each in products),
    )


def _judged(row: Row, account: Account, groups_asked: int) -> Row:
    assert row.floor is not None
    assert row.ratio is not None
    assert row.calls is not None
    if account.sees_all:
        goal, met = "1.1 × floor", row.ratio <= 1.1
    else:
        allowed = 1.3 + 0.003 * groups_asked / row.floor.median
        most = MOST_CALLS + groups_asked
        goal = f"1.3 × floor + {3 * groups_asked} ms (= {allowed:.2f}); {most:,} calls"
        met = row.ratio <= allowed and row.calls[0] <= most
    return replace(row, goal=goal, met=met)


def audit(site: Site, account: Account, runs: int, output_format: str) -> Row:
    """Return the row of the audit in one format, compared with its bare queries."""
    given = ("--url", site.url, "--account", account.name)
    environ = site.environ(account)
    products, floors = by_turns(
        lambda: figures("ours.py", [*given, "--audit", output_format], environ),
        lambda: figures("audit.py", given, environ),
        runs,
    )
    row = _row(f"audit, {output_format}", account, f"{products[-1]['findings']:,} findings", products, floors)
    assert row.ratio is not None
    assert row.peak_mb is not None
    met = row.ratio <= AUDIT_TIMES and row.peak_mb <= AUDIT_MB
    return replace(row, goal=f"{AUDIT_TIMES} × floor; {AUDIT_MB} MB", met=met)


def start_up(site: Site, account: Account, runs: int) -> Iterator[Row]:
    """Yield the seconds to import the package, until the command prints its version, and until its first request."""
    environ = site.environ(account)
    imported, bare = by_turns(
        lambda: seconds_of([sys.executable, "-c", "import evergreen_groups"], environ),
        lambda: seconds_of([sys.executable, "-c", "pass"], environ),
        runs,
    )
    met = median(imported) - median(bare) <= IMPORT_SECONDS
    goal = f"{IMPORT_SECONDS} s more"
    yield Row("start: import", "", "", Spread(tuple(imported)), Spread(tuple(bare)), goal=goal, met=met)
    version = [seconds_of([*PROGRAM, "--version"], environ) for _ in range(runs + 1)]
    yield _start("start: --version", version[1:])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        configuration = site.directory / "config.toml"
        configuration.write_text(
            f'[gateway]\nurl = "{url}"\nusername = "{account.name}"\nallow_plain_http = true\n', "utf-8"
        )
        report = [*PROGRAM, "-q", "--config", str(configuration), "report", "--no-history"]
        floor = [sys.executable, str(HERE / "floor.py"), "--url", url, "--account", account.name]
        products, floors = by_turns(
            lambda: _until_first_request(report, listening, environ),
            lambda: _until_first_request([*floor, "--idl", str(site.idl)], listening, environ),
            runs,
        )
    yield _start("start: until the first request", products, Spread(tuple(floors)))


def _start(what: str, seconds: Sequence[float], floor: Spread | None = None) -> Row:
    met = median(seconds) <= START_SECONDS
    return Row(what, "", "", Spread(tuple(seconds)), floor, goal=f"{START_SECONDS} s", met=met)


def _until_first_request(command: Sequence[str], listening: socket.socket, environ: dict[str, str]) -> float:
    started = time.perf_counter()
    with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        listening.settimeout(60)
        connection, _address = listening.accept()
        with connection:
            connection.recv(1)
            seconds = time.perf_counter() - started
            process.kill()
    # A killed process may have opened a second connection, which mustn't be taken for the next one's.
    listening.settimeout(0)
    with contextlib.suppress(BlockingIOError):
        while True:
            listening.accept()[0].close()
    return seconds
