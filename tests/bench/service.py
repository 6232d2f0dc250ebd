"""The time that the service adds to Evergreen's: each task of the desk, compared with the bare calls it needs.

    python tests/bench/service.py [--clients 1 50 200 500] [--pairs 5] [--seconds 2] [--only summary page …]
        [--patrons 6000] [--url https://… --account NAME --password-file FILE [--writes]]
    python tests/bench/service.py --steady 120 [--clients 200]

The first form has many clients repeat one task with the service, then with a minimal client of Evergreen's gateway
(``bare_desk.py``: only ``http.client``), then with the service again, in pairs. It prints requests per second, response
times, the milliseconds that the service adds for one client (the median of the pairs' differences), errors, and CPU
milliseconds per request of the service, of the gateway if it is the sandbox, and of the clients. Sandbox, service and
two processes of clients share the machine's cores.

Without ``--url``, it starts a sandbox with so many patrons. In a real Evergreen, it changes nothing without
``--writes``, which moves patrons of small groups to another group and back, one at a time.

The second form runs mixed reads for so many seconds and prints the memory every second: it mustn't grow.

Exits with 1 if a response was wrong, or the memory grew.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from subprocess import Popen

sys.path.insert(0, str(Path(__file__).parent))

from bare_desk import Family, families, log_in
from load import READS, WRITES, Load, OurDesk, Outcome, clients_pool, together, under_load
from programs import ACCOUNT, PASSWORD, address_in, command, megabytes, processor_seconds, serve

CLIENTS = (1, 50, 200, 500)
MOST_SESSIONS = 50
WARMING_UP = 60
"""Seconds until pools, caches, allocator and stacks have their final size; memory is compared from then on."""
GROWTH_ALLOWED = 5.0
"""Megabytes."""


@dataclass(frozen=True)
class Site:
    """A gateway with a service in front of it, with sessions and families."""

    gateway: str
    service: str
    tokens: tuple[str, ...]
    families: tuple[Family, ...]
    processes: dict[str, Popen[str]] = field(default_factory=dict)

    def load(self, what: str, clients: int, seconds: float, *, ours: bool) -> Load:
        url = self.service if ours else self.gateway
        return Load(what, ours, url, self.tokens[:clients], self.families, clients, seconds)

    def used(self) -> dict[str, float]:
        return {name: processor_seconds(process) for name, process in self.processes.items()}


@dataclass
class Row:
    """One task with a number of clients: the results of each pair."""

    what: str
    clients: int
    ours: list[Outcome] = field(default_factory=list)
    floor: list[Outcome] = field(default_factory=list)
    processor: Counter[str] = field(default_factory=Counter)
    """Seconds by program, for the product and the floor."""

    def as_line(self) -> str:
        ours, floor = (together(one, 0.0) for one in (self.ours, self.floor))
        per_second, bare = (statistics.median(one.per_second for one in found) for found in (self.ours, self.floor))
        differences = [one.quantile(50) - other.quantile(50) for one, other in zip(self.ours, self.floor, strict=True)]
        first_error = next(iter(ours.errors or floor.errors), "")
        used = (
            f"{name} {1000 * seconds / max(1, len((floor if name.startswith('floor') else ours).seconds)):.1f}"
            for name, seconds in sorted(self.processor.items())
        )
        cells = (
            self.what,
            self.clients,
            f"{per_second:.0f}",
            f"{bare:.0f}",
            f"{per_second / max(bare, 0.1):.2f}",
            f"{ours.quantile(50):.1f}, {ours.quantile(99):.0f}",
            f"{floor.quantile(50):.1f}, {floor.quantile(99):.0f}",
            f"{statistics.median(differences):.1f}" if self.clients == 1 else "",
            f"{ours.errors.total()}, {floor.errors.total()}" + (f" ({first_error})" if first_error else ""),
            ", ".join(used),
        )
        return f"| {' | '.join(map(str, cells))} |"


def measured(site: Site, executor: ProcessPoolExecutor, what: str, clients: int, *, pairs: int, seconds: float) -> Row:
    """Measure one task; the product and the floor take turns."""
    row = Row(what, clients)
    for _ in range(pairs):
        known(site, clients)
        for ours in (True, False):
            before = site.used()
            outcome = under_load(executor, site.load(what, clients, seconds, ours=ours))
            name = "ours" if ours else "floor"
            (row.ours if ours else row.floor).append(outcome)
            for program, used in site.used().items():
                row.processor[f"{name}: {program}"] += used - before[program]
            row.processor[f"{name}: clients"] += outcome.processor
    return row


def known(site: Site, clients: int) -> None:
    """Make the service cache the sessions, which it does for half a minute."""
    with ThreadPoolExecutor(4) as executor:
        list(executor.map(lambda token: OurDesk(site.service, token).summary(site.families[0]), site.tokens[:clients]))


@contextlib.contextmanager
def sandboxed(patrons: int, clients: int) -> Iterator[Site]:
    with command("sandbox", "--port", "0", "--patrons", str(patrons)) as sandbox:
        url = address_in(sandbox).rstrip("/")
        with served(url, ACCOUNT, PASSWORD, clients, above=100_000) as site:
            yield replace(site, processes={**site.processes, "gateway": sandbox})


@contextlib.contextmanager
def served(url: str, account: str, password: str, clients: int, *, above: int = 0) -> Iterator[Site]:
    """Yield a service in front of the gateway at ``url``, and sessions of the account."""
    with tempfile.TemporaryDirectory() as directory, serve(url, directory) as (address, service):
        tokens = tuple(log_in(url, account, password) for _ in range(min(clients, MOST_SESSIONS)))
        found = tuple(families(url, tokens[0], 2 * clients, above=above))
        if len(found) < 2:
            raise SystemExit("there are no groups of three to eight members to ask about")
        yield Site(url, address, tokens, found, {"service": service})


COLUMNS = (
    *("what", "clients", "ours/s", "floor/s", "ratio", "ours p50, p99 ms", "floor p50, p99 ms", "added ms", "errors"),
    "processor, ms each",
)
HEAD = f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}"


def compare(site: Site, options: argparse.Namespace) -> bool:
    """Print a row for each task and number of clients; returns whether all responses were right."""
    right = True
    writes = WRITES if options.writes or options.url is None else ()
    print(HEAD)
    with clients_pool() as executor:
        for what in [one for one in (*READS, *writes) if not options.only or one in options.only]:
            for count in options.clients:
                if what in WRITES and 2 * count > len(site.families):
                    continue
                row = measured(site, executor, what, count, pairs=options.pairs, seconds=options.seconds)
                right = right and not any(one.errors for one in row.ours)
                print(row.as_line(), flush=True)
    return right


def steady(site: Site, clients: int, seconds: int) -> bool:
    """Run mixed reads and print the memory; returns whether all responses were right and memory didn't grow."""
    memory, outcomes = [], []
    with clients_pool() as executor:
        for second in range(seconds):
            if second % 20 == 0:
                known(site, clients)
            outcomes.append(under_load(executor, site.load(READS[second % 4], clients, 1.0, ours=True)))
            memory.append(megabytes(site.processes["service"]))
    whole = together(outcomes, sum(one.took for one in outcomes))
    grown = max(memory[-3:]) - memory[min(WARMING_UP, len(memory) - 1)]
    print(f"{clients} clients: {len(whole.seconds):,} requests, {whole.per_second:,.0f} a second")
    print(f"milliseconds: p50 {whole.quantile(50):.0f}, p99 {whole.quantile(99):.0f}; errors: {dict(whole.errors)}")
    print("memory, MB: " + " ".join(f"{value:.0f}" for value in memory))
    print(f"grown after {WARMING_UP} s: {grown:+.1f} MB")
    return not whole.errors and grown < GROWTH_ALLOWED


def main() -> None:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clients", type=int, nargs="+", default=list(CLIENTS))
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each turn")
    parser.add_argument("--only", nargs="+", default=[], choices=[*READS, *WRITES])
    parser.add_argument("--patrons", type=int, default=6000, help="of the sandbox")
    parser.add_argument("--url", help="an Evergreen's gateway, in place of the sandbox")
    parser.add_argument("--account", default=ACCOUNT)
    parser.add_argument("--password-file", type=Path)
    parser.add_argument("--writes", action="store_true", help="change that Evergreen: move patrons, and move them back")
    parser.add_argument("--steady", type=int, metavar="SECONDS", help="mixed reads for so long, on the sandbox")
    options = parser.parse_args()
    if options.steady:
        clients = options.clients[-1] if options.clients != list(CLIENTS) else 200
        with sandboxed(options.patrons, clients) as site:
            sys.exit(0 if steady(site, clients, options.steady) else 1)
    password = options.password_file.read_text().strip() if options.password_file else PASSWORD
    most = max(options.clients)
    place = served(options.url, options.account, password, most) if options.url else sandboxed(options.patrons, most)
    with place as site:
        sys.exit(0 if compare(site, options) else 1)


if __name__ == "__main__":
    main()
