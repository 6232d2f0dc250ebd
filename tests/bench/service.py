"""The time that the service adds to Evergreen's: each task of the desk, compared with the bare calls it needs.

    python tests/bench/service.py [--clients 1 50 200 500] [--pairs 5] [--seconds 2] [--only summary page …]
        [--patrons 6000] [--url https://… --account NAME --password-file FILE]
    python tests/bench/service.py --steady 120 [--clients 200]

The first form has many clients repeat one task with the service, then with a minimal client of Evergreen's gateway
(``bare_desk.py``), then with the service again, in pairs. Both clients only use ``http.client``, so that they cause the
same load. It prints requests per second, response times, the milliseconds that the service adds for one client (the
median of the pairs' differences), errors, and CPU milliseconds per request of the service, of the gateway if it is the
sandbox, and of the clients. Sandbox, service and two processes of clients share the machine's cores.

Without ``--url``, it starts a sandbox with so many patrons. It changes nothing. The second form runs mixed reads for so
many seconds and prints the memory every second: it mustn't grow. Exits with 1 if a response was wrong, or the memory
grew.
"""

import argparse
import contextlib
import http.client
import json
import os
import re
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from subprocess import Popen
from typing import Any
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).parent))

from bare_desk import BareDesk, Desk, Family, families, log_in
from programs import ACCOUNT, PASSWORD, address_in, command

API = "/evergreen-groups/api/v1"
TASKS = ("summary", "panel", "page", "plan")
CLIENTS = (1, 50, 200, 500)
PROCESSES = 2
"""Processes of clients: Python's threads share a processor, and the clients mustn't be the bottleneck."""
TAKES_A_THREAD = 256 * 1024
"""Bytes of stack per thread; most of five hundred clients are waiting."""
MOST_SESSIONS = 50
WARMING_UP = 60
"""Seconds until pools, caches, allocator and stacks have their final size; memory is compared from then on."""
GROWTH_ALLOWED = 5.0
"""Megabytes."""
COLUMNS = (
    *("what", "clients", "ours/s", "floor/s", "ratio", "ours p50, p99 ms", "floor p50, p99 ms", "added ms", "errors"),
    "processor, ms each",
)


class RefusedError(Exception):
    """An unexpected response, with its content."""


class OurDesk(Desk):
    """A desk that calls the service over one connection, or two where the panel uses two."""

    def summary(self, family: Family) -> None:
        """Read the summary, like programs do."""
        self._right_summary(self._asked(("GET", f"{API}/patrons/{family.members[0]}/summary", None))[0], family)

    def panel(self, family: Family) -> None:
        """Send the panel's requests for a patron's page."""
        settings, summary = self._asked(
            ("GET", "/evergreen-groups/desk.json?client=angular%2Fen-US", None),
            ("GET", f"{API}/patrons/{family.members[0]}/summary", None),
        )
        assert json.loads(settings)["page"] is True
        self._right_summary(summary, family)

    def page(self, family: Family) -> None:
        """Read the list in HTML."""
        (page,) = self._asked(("GET", f"/evergreen-groups/patrons/{family.members[0]}/group", None))
        assert len(re.findall(b'name="member" value=', page)) == len(family.members), "a member is missing on the page"

    def plan(self, family: Family) -> None:
        """Make a plan, like programs do."""
        body = {"action": "remove", "patrons": [{"id": family.members[-1]}]}
        plan = json.loads(self._asked(("POST", f"{API}/plans", body))[0])
        assert plan["steps"][0]["patron"]["id"] == family.members[-1], plan

    def _right_summary(self, body: bytes, family: Family) -> None:
        found = json.loads(body)
        assert found["patron"] == family.members[0], found
        assert {member["id"] for member in found["members"]} == set(family.members), found

    def _asked(self, *requests: tuple[str, str, Any]) -> list[bytes]:
        sent = []
        for method, path, body in requests:
            if path.startswith(API):
                headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
            else:
                cookie = quote(json.dumps(self.token), safe="")
                headers = {"Cookie": f"eg.auth.token={cookie}", "Sec-Fetch-Site": "same-origin"}
            sent.append((method, path, None if body is None else json.dumps(body), headers))
        answers = self.send(*sent)
        for (status, content), (_method, path, _body) in zip(answers, requests, strict=True):
            if status >= 400:
                raise RefusedError(f"{status} {path.rpartition('/')[2]} {content[:200]!r}")
        return [content for _status, content in answers]


@dataclass(frozen=True)
class Load:
    """A task for many clients; ``ours`` says which server they call."""

    what: str
    ours: bool
    url: str
    tokens: tuple[str, ...]
    families: tuple[Family, ...]
    clients: int
    seconds: float


@dataclass
class Outcome:
    """The results: seconds of each task, and errors."""

    seconds: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    took: float = 0.0
    """Seconds from first to last."""
    processor: float = 0.0
    """CPU seconds of the clients."""

    @property
    def per_second(self) -> float:
        return len(self.seconds) / self.took if self.took else 0.0

    def quantile(self, percent: int) -> float:
        if len(self.seconds) < 2:
            return 1000 * (self.seconds or [0.0])[0]
        return 1000 * statistics.quantiles(self.seconds, n=100, method="inclusive")[percent - 1]


def under_load(executor: ProcessPoolExecutor, load: Load) -> Outcome:
    count = min(PROCESSES, load.clients)
    start = time.monotonic() + 0.3 + load.clients / 1000
    parts = list(executor.map(_part, [load] * count, range(count), [count] * count, [start] * count))
    return together(parts, max(part.took for part in parts))


def together(outcomes: Sequence[Outcome], took: float) -> Outcome:
    whole = Outcome(took=took)
    for one in outcomes:
        whole.seconds += one.seconds
        whole.errors += one.errors
        whole.processor += one.processor
    return whole


def _part(load: Load, part: int, parts: int, start: float) -> Outcome:
    threading.stack_size(TAKES_A_THREAD)
    outcome, used = Outcome(), time.process_time()
    clients = range(part, load.clients, parts)
    threads = [threading.Thread(target=_client, args=(load, number, start, outcome)) for number in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outcome.processor = time.process_time() - used
    return outcome


def _client(load: Load, number: int, start: float, outcome: Outcome) -> None:
    desk = (OurDesk if load.ours else BareDesk)(load.url, load.tokens[number % len(load.tokens)])
    act = getattr(desk, load.what)
    time.sleep(max(0.0, start - time.monotonic()))
    turn = number
    while (began := time.monotonic()) < start + load.seconds:
        try:
            act(load.families[turn % len(load.families)])
        except (AssertionError, RefusedError, OSError, http.client.HTTPException, KeyError, ValueError) as error:
            outcome.errors[f"{type(error).__name__} {str(error)[:120]}"] += 1
            desk.close()
        else:
            outcome.seconds.append(time.monotonic() - began)
        outcome.took = max(outcome.took, time.monotonic() - start)
        turn += 7  # so that clients don't request the same at the same time
    desk.close()


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

    def known(self, clients: int) -> None:
        """Make the service cache the sessions, which it does for half a minute."""
        with ThreadPoolExecutor(4) as executor:
            list(
                executor.map(
                    lambda token: OurDesk(self.service, token).summary(self.families[0]), self.tokens[:clients]
                )
            )

    def used(self) -> dict[str, float]:
        return {name: processor_seconds(process) for name, process in self.processes.items()}


def measured(site: Site, executor: ProcessPoolExecutor, what: str, clients: int, options: argparse.Namespace) -> bool:
    """Measure one task, the product and the floor in turns, and print a row; returns whether all was right."""
    runs: dict[str, list[Outcome]] = {"ours": [], "floor": []}
    processor: Counter[str] = Counter()
    for _ in range(options.pairs):
        site.known(clients)
        for name, found in runs.items():
            before = site.used()
            found.append(under_load(executor, site.load(what, clients, options.seconds, ours=name == "ours")))
            for program, used in site.used().items():
                processor[f"{name}: {program}"] += used - before[program]
            processor[f"{name}: clients"] += found[-1].processor
    whole = {name: together(found, 0.0) for name, found in runs.items()}
    per_second, bare = (statistics.median(one.per_second for one in found) for found in runs.values())
    differences = [one.quantile(50) - other.quantile(50) for one, other in zip(*runs.values(), strict=True)]
    first_error = next(iter(whole["ours"].errors or whole["floor"].errors), "")
    cells = (
        what,
        clients,
        f"{per_second:.0f}",
        f"{bare:.0f}",
        f"{per_second / max(bare, 0.1):.2f}",
        *(f"{one.quantile(50):.1f}, {one.quantile(99):.0f}" for one in whole.values()),
        f"{statistics.median(differences):.1f}" if clients == 1 else "",
        ", ".join(str(one.errors.total()) for one in whole.values()) + (f" ({first_error})" if first_error else ""),
        ", ".join(
            f"{name} {1000 * seconds / max(1, len(whole[name.partition(':')[0]].seconds)):.1f}"
            for name, seconds in sorted(processor.items())
        ),
    )
    print(f"| {' | '.join(map(str, cells))} |", flush=True)
    return not whole["ours"].errors


@contextlib.contextmanager
def sandboxed(patrons: int, clients: int) -> Iterator[Site]:
    with command("sandbox", "--port", "0", "--patrons", str(patrons)) as sandbox:
        url = address_in(sandbox).rstrip("/")
        with served(url, ACCOUNT, PASSWORD, clients, above=100_000) as site:
            yield replace(site, processes={**site.processes, "gateway": sandbox})


@contextlib.contextmanager
def served(
    url: str, account: str, password: str, clients: int, *, above: int = 0, environ: Mapping[str, str] | None = None
) -> Iterator[Site]:
    """Yield a service without a rate limit in front of the gateway at ``url``, and sessions of the account.

    ``environ`` is added to its environment.
    """
    own = {"GATEWAY_URL": url, "SERVE_THREADS": "8", "SERVE_RATE_LIMIT": "1000000"}
    settings = {f"EVERGREEN_GROUPS_{name}": value for name, value in own.items()}
    with (
        tempfile.TemporaryDirectory() as state,
        command(
            "serve", "--port", "0", environ={**os.environ, **settings, "STATE_DIRECTORY": state, **(environ or {})}
        ) as service,
    ):
        address = address_in(service).removesuffix("/evergreen-groups/")
        tokens = tuple(log_in(url, account, password) for _ in range(min(clients, MOST_SESSIONS)))
        found = tuple(families(url, tokens[0], 2 * clients, above=above))
        if len(found) < 2:
            raise SystemExit("there are no groups of three to eight members to ask about")
        yield Site(url, address, tokens, found, {"service": service})


def steady(site: Site, executor: ProcessPoolExecutor, clients: int, seconds: int) -> bool:
    """Run mixed reads and print the memory; returns whether all responses were right and memory didn't grow."""
    memory, outcomes = [], []
    for second in range(seconds):
        if second % 20 == 0:
            site.known(clients)
        outcomes.append(under_load(executor, site.load(TASKS[second % len(TASKS)], clients, 1.0, ours=True)))
        memory.append(megabytes(site.processes["service"]))
    whole = together(outcomes, sum(one.took for one in outcomes))
    grown = max(memory[-3:]) - memory[min(WARMING_UP, len(memory) - 1)]
    print(f"{clients} clients: {len(whole.seconds):,} requests, {whole.per_second:,.0f} a second")
    print(f"milliseconds: p50 {whole.quantile(50):.0f}, p99 {whole.quantile(99):.0f}; errors: {dict(whole.errors)}")
    print("memory, MB: " + " ".join(f"{value:.0f}" for value in memory))
    print(f"grown after {WARMING_UP} s: {grown:+.1f} MB")
    return not whole.errors and grown < GROWTH_ALLOWED


def family_of(process: Popen[str]) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [process.pid, *map(int, children)]


def megabytes(process: Popen[str]) -> float:
    """Return the memory of a process and its children, counting shared memory once (the proportional set size)."""
    rolled = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in family_of(process)]
    return sum(int(text.split("\nPss:")[1].split()[0]) for text in rolled) / 1024


def processor_seconds(process: Popen[str]) -> float:
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in family_of(process)]
    return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clients", type=int, nargs="+", default=list(CLIENTS))
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each turn")
    parser.add_argument("--only", nargs="+", default=TASKS, choices=TASKS)
    parser.add_argument("--patrons", type=int, default=6000, help="of the sandbox")
    parser.add_argument("--url", help="an Evergreen's gateway, in place of the sandbox")
    parser.add_argument("--account", default=ACCOUNT)
    parser.add_argument("--password-file", type=Path)
    parser.add_argument("--steady", type=int, metavar="SECONDS", help="mixed reads for so long, on the sandbox")
    options = parser.parse_args()
    password = options.password_file.read_text().strip() if options.password_file else PASSWORD
    most = max(options.clients)
    place = served(options.url, options.account, password, most) if options.url else sandboxed(options.patrons, most)
    # The processes of the clients haven't loaded the package.
    with place as site, ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as executor:
        if options.steady:
            sys.exit(0 if steady(site, executor, most, options.steady) else 1)
        print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
        right = [measured(site, executor, what, count, options) for what in options.only for count in options.clients]
    sys.exit(0 if all(right) else 1)


if __name__ == "__main__":
    main()
