"""Overhead compared with a minimal client: the product and the client take turns, and the result is a Markdown table.

    python -m tests.bench
    python -m tests.bench --patrons 20000 200000 --only report limited
    EVERGREEN_GROUPS_PASSWORD=… python -m tests.bench --url https://evergreen.example.org --account groups_report

Without ``--url`` it starts sandboxes. The minimal client is :mod:`floor`; the audit has one in :mod:`outputs`.
``--account NAME`` may be repeated; the password is in the variable EVERGREEN_GROUPS_PASSWORD, or in the variable of
``NAME=VARIABLE``. The bench changes nothing. It exits with 1 if the product and the minimal client differ by a cent.
"""

import argparse
import json
import os
import platform
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .floor import Bare, log_in, positions_of, start

Figures = dict[str, Any]
"""What a program of this directory prints."""

ANSWER = ("groups", "members", "visible_fines", "hidden_fines")
"""Figures on which the product and the floor must agree; the last only if the floor has read it."""
HEADINGS = ("what", "account", "size", "ours, s", "floor, s", "ratio", "CPU s", "calls", "MB", "peak MB")
HERE = Path(__file__).resolve().parent
PROGRAM = (sys.executable, "-m", "evergreen_groups")
SANDBOX_ACCOUNTS = ("admin", "consortium_staff", "harbor_desk")
SUBJECTS = ("report", "limited", "startup", "audit", "growth")
GROWING = (200_000, 1_000_000, 3_000_000)
MIN_TOTALS = ("400.00", "200.00", "100.00", "50.00", "25.00", "15.00")
LISTED = 4_250
LARGE = 100_000
"""From this number of patrons on, generating them takes long."""
PREPARED = HERE.parents[1] / "build" / "sandboxes"
SANDBOX = """
import json, signal, sys
from pathlib import Path
from evergreen_groups.sandbox import Sandbox
signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that it takes away what it has kept
options = json.loads(sys.argv[1])
with Sandbox(**options, prepared=Path(sys.argv[2]) if sys.argv[2:] else None) as sandbox:
    print(sandbox.url, flush=True)
    sandbox.wait()
"""


@dataclass(frozen=True)
class Account:
    """A login; ``sees_all`` says that no patron is hidden."""

    name: str
    password: str
    sees_all: bool


@dataclass(frozen=True)
class Site:
    """A gateway with accounts; ``directory`` is for the files of measured programs: the IDL, state, output."""

    url: str
    accounts: tuple[Account, ...]
    directory: Path

    def environ(self, account: Account) -> dict[str, str]:
        """Return the environment of a measured program, with the password, but without the user's own settings.

        Python may write compiled modules, as it does when the package is installed; compiling takes a second.
        """
        left_out = ("EVERGREEN_GROUPS_", "PYTHONDONTWRITEBYTECODE")
        own = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
        places = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"), str(self.directory))
        passwords = {"EVERGREEN_GROUPS_PASSWORD": account.password, "FLOOR_PASSWORD": account.password}
        return {**own, **places, **passwords}


@dataclass(frozen=True)
class Row:
    """One row: ``what`` was measured, by which ``account``, and the ``size``; the runs of the product and the floor.

    Both are in pairs; a row may have no ``floor``.
    """

    what: str
    account: str
    size: str
    ours: Sequence[Figures]
    floor: Sequence[Figures] = ()

    @property
    def ratio(self) -> float:
        """The product divided by the floor: the median of the pairs, so both had the same conditions."""
        pairs = zip(self.ours, self.floor, strict=True)
        return statistics.median(one["seconds"] / other["seconds"] for one, other in pairs)

    def cells(self) -> tuple[str, ...]:
        def pair(name: str, form: str, scale: float = 1) -> str:
            found = [_middle(runs).get(name) for runs in (self.ours, self.floor) if runs]
            return " / ".join(format(value * scale, form) for value in found if value is not None)

        floor = (_spread(self.floor), f"{self.ratio:.2f}") if self.floor else ("", "")
        peak = max((one["peak_mb"] for one in self.ours if "peak_mb" in one), default=None)
        cost = (pair("cpu_seconds", ".2f"), pair("calls", ","), pair("bytes", ".2f", 1e-6))
        last = "" if peak is None else f"{peak:.0f}"
        return (self.what, self.account, self.size, _spread(self.ours), *floor, *cost, last)


def _middle(found: Sequence[Figures]) -> Figures:
    return sorted(found, key=lambda one: float(one["seconds"]))[len(found) // 2]


def _spread(found: Sequence[Figures]) -> str:
    """Return the median, with the minimum and maximum."""
    seconds = [float(one["seconds"]) for one in found]
    return f"{statistics.median(seconds):,.2f} ({min(seconds):,.2f}–{max(seconds):,.2f})"


def markdown(rows: Sequence[Row]) -> str:
    lines = [HEADINGS, tuple("---" for _ in HEADINGS), *(row.cells() for row in rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def figures(program: str, arguments: Sequence[str], environ: dict[str, str]) -> Figures:
    """Return the figures that a program of this directory prints as JSON."""
    command = [sys.executable, str(HERE / program), *arguments]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{program} {' '.join(arguments)} ended with status {done.returncode}\n{done.stderr}")
    return dict(json.loads(done.stdout))


def by_turns(
    ours: Callable[[], Figures], floor: Callable[[], Figures], pairs: int
) -> tuple[list[Figures], list[Figures]]:
    """Run both so many times, alternating the order."""
    found: tuple[list[Figures], list[Figures]] = ([], [])
    for number in range(pairs):
        for place in (0, 1) if number % 2 == 0 else (1, 0):
            found[place].append((ours, floor)[place]())
    return found


def report(site: Site, account: Account, pairs: int, *options: str, what: str) -> Row:
    """Return the row of the report; ends the bench if the product and the floor disagree."""
    given = ("--url", site.url, "--account", account.name, *options)
    environ = site.environ(account)

    def ours() -> Figures:
        return figures("ours.py", given, environ)

    def floor(*more: str) -> Figures:
        return figures("floor.py", [*given, "--idl", str(site.directory / "fields.json"), *more], environ)

    # A first run warms the caches, and also compares hidden members' fines.
    first = [ours(), floor("--hidden-fines")]
    products, floors = by_turns(ours, floor, pairs)
    for said in (first, [*products, *floors]):
        for name in ANSWER:
            answers = {str(one[name]) for one in said if one[name] is not None}
            if len(answers) > 1:
                raise SystemExit(f"{what}, {account.name}: ours and the floor differ in {name}: {sorted(answers)}")
    one = products[0]
    size = f"{one['groups']:,} groups, {one['members']:,} members, {one['fines']}"
    return Row(what, account.name, size, products, floors)


def audit(site: Site, account: Account, pairs: int, output_format: str) -> Row:
    """Return the row of the audit in one format."""
    given = ("--url", site.url, "--account", account.name, "--audit", output_format)
    found = [figures("ours.py", given, site.environ(account)) for _ in range(pairs)]
    return Row(f"audit, {output_format}", account.name, f"{found[-1]['findings']:,} findings", found)


def start_up(site: Site, account: Account, pairs: int) -> Iterator[Row]:
    """Yield the seconds to import the package, until the command prints its version, and until its first request."""
    environ = site.environ(account)

    def run(*command: str) -> Figures:
        started = time.perf_counter()
        subprocess.run(command, env=environ, capture_output=True, check=True)
        return {"seconds": time.perf_counter() - started}

    def first_request() -> Figures:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            own = {"URL": f"http://127.0.0.1:{listening.getsockname()[1]}", "USERNAME": account.name}
            own = {f"EVERGREEN_GROUPS_GATEWAY_{name}": value for name, value in own.items()}
            command, started = [*PROGRAM, "-q", "report", "--no-history"], time.perf_counter()
            streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            with subprocess.Popen(command, env=environ | own, **streams) as process:  # type: ignore[call-overload]
                listening.settimeout(60)
                with listening.accept()[0] as connection:
                    connection.recv(1)
                process.kill()
            return {"seconds": time.perf_counter() - started}

    python = (sys.executable, "-c")
    imports = by_turns(lambda: run(*python, "import evergreen_groups"), lambda: run(*python, "pass"), pairs)
    yield Row("start: import", "", "", *imports)
    yield Row("start: --version", "", "", [run(*PROGRAM, "--version") for _ in range(pairs + 1)][1:])
    yield Row("start: until the first request", "", "", [first_request() for _ in range(pairs)])


def rows_of(site: Site, subjects: list[str], pairs: int) -> Iterator[Row]:
    for account in site.accounts:
        if ("report" if account.sees_all else "limited") in subjects:
            yield report(site, account, pairs, what="report, sums")
            yield report(site, account, pairs, "--details", what="report with details")
    if "startup" in subjects:
        yield from start_up(site, site.accounts[0], pairs)
    for account in site.accounts if "audit" in subjects else ():
        for output_format in ("json", "html"):
            yield audit(site, account, pairs, output_format)


def growing(sizes: list[int], pairs: int, prepared: Path) -> Iterator[Row]:
    """Yield rows on growth with the number of patrons, then with the number of listed groups (first site)."""
    names = ("consortium_staff",)
    for size in sizes:
        with sandbox(names, size, prepared, listed_groups=LISTED) as site:
            yield report(site, site.accounts[0], pairs, what=f"report, {size:,} patrons")
    with sandbox(names, sizes[0], prepared, listed_groups=LISTED) as site:
        for amount in MIN_TOTALS:
            what = f"report, {amount} and more"
            yield report(site, site.accounts[0], pairs, "--min-total", amount, what=what)


@contextmanager
def site_of(url: str, passwords: dict[str, str]) -> Iterator[Site]:
    with tempfile.TemporaryDirectory(prefix="evergreen-groups-bench-") as name:
        positions = positions_of(url, Path(name, "fields.json"))
        accounts = []
        for account, password in passwords.items():
            bare = Bare(url, positions)
            log_in(bare, account, password)
            with ThreadPoolExecutor(1) as pool:
                accounts.append(Account(account, password, sees_all=not start(bare, pool).libraries))
            bare.call("open-ils.auth", "open-ils.auth.session.delete", bare.token)
        yield Site(url, tuple(accounts), Path(name))


@contextmanager
def sandbox(names: Sequence[str], patrons: int, prepared: Path, *, listed_groups: int | None = None) -> Iterator[Site]:
    """Start a sandbox with so many patrons, with some of its accounts; a large one is cached in ``prepared``."""
    command = [sys.executable, "-c", SANDBOX, json.dumps({"patrons": patrons, "listed_groups": listed_groups})]
    if patrons >= LARGE:
        prepared.mkdir(mode=0o700, parents=True, exist_ok=True)
        command.append(str(prepared))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            with site_of(process.stdout.readline().strip(), dict.fromkeys(names, "sandbox")) as site:
                yield site
        finally:
            process.terminate()


def password(account: str) -> tuple[str, str]:
    """Split ``NAME`` or ``NAME=VARIABLE`` into an account's name and password."""
    name, _sign, variable = account.partition("=")
    variable = variable or "EVERGREEN_GROUPS_PASSWORD"
    if variable not in os.environ:
        raise SystemExit(f"set {variable} to the password of {name}")
    return name, os.environ[variable]


def machine() -> str:
    """Describe processor, cores and memory."""
    model = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
    total = re.search(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text("utf-8"), re.MULTILINE)
    memory = f"{int(total[1]) / 2**20:.0f} GB" if total else "memory unknown"
    return f"{len(os.sched_getaffinity(0))} cores, {memory}, {model[1] if model else platform.machine()}"


def measured(chosen: argparse.Namespace) -> Iterator[Row]:
    if chosen.url:
        with site_of(chosen.url.rstrip("/"), dict(password(one) for one in chosen.account)) as site:
            yield from rows_of(site, chosen.only, chosen.pairs)
        return
    for patrons in chosen.patrons if set(chosen.only) - {"growth"} else ():
        with sandbox(SANDBOX_ACCOUNTS, patrons, chosen.prepared) as site:
            print(f"sandbox, {patrons:,} patrons", file=sys.stderr)
            yield from rows_of(site, chosen.only, chosen.pairs)
    if "growth" in chosen.only:
        yield from growing(chosen.growing, chosen.pairs, chosen.prepared)


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--url", help="an Evergreen's address; none: sandboxes")
    parser.add_argument("--account", action="append", default=[], metavar="NAME[=VARIABLE]")
    parser.add_argument("--patrons", type=int, nargs="+", default=[200_000], help="of the sandboxes")
    parser.add_argument("--growing", type=int, nargs="+", default=list(GROWING), help="patrons, for growth")
    parser.add_argument("--prepared", type=Path, default=PREPARED, help="where large sandboxes are kept, made once")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    chosen = parser.parse_args()
    before = os.getloadavg()[0]
    found: list[Row] = []
    for row in measured(chosen):
        print(markdown([row]).splitlines()[-1], file=sys.stderr, flush=True)
        found.append(row)
    print(markdown(found))
    load = f"load {before:.1f} before and {os.getloadavg()[0]:.1f} after"
    print(f"\n{machine()}; Python {platform.python_version()}; {load}; {chosen.pairs} pairs.")
