"""The desk's cost: calls and times of each task, and many clerks at once.

    python tests/bench/desk.py [--clerks 100] [--seconds 60] [--every 3] [--threads 8] [--calls-only]

First, one clerk does each task a few times, with session and reference data cached: the bench prints the calls and the
median milliseconds, then the same for plans with hidden members. Then, each call takes 50 ms longer: the bench prints
the slowest chain of consecutive calls, and how many times as long the response takes, which may be at most 1.3.

Then each of many clerks, with own session, acts every three seconds: half of the time they read a patron's summary,
else they move or remove a member of their own family, or undo the last change. Sandbox, service and clerks are three
processes.

The bench prints the responses by status, the 503s by code, and p50 and p99 of reads and of whole changes (plan and
apply). Finally, the families are compared with the responses, which shows any doubled or missing write. It exits with 1
if there is one, with more than 1% of 503s, with any other error, or if a response takes longer than 1.3 times its
chain.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import requests
from programs import ACCOUNT, PASSWORD, address_in, command, processor_seconds, serve
from support.fault_proxy import Call, Fault, FaultProxy, fault_proxy
from support.web_caller import API, bearer, cookie, session

from evergreen_groups.gateway import Credentials, Gateway

ORDINARY_ACCOUNT = "harbor_desk"
"""An account of one library: patrons of other libraries are hidden from it."""
TIMES = 7
"""Repetitions of each task for its median."""
MOST_503 = 0.01
DELAY = 0.05
"""Additional seconds for each call while measuring chains of calls."""
LONGEST = 1.3
"""The longest response time allowed, as a multiple of its slowest chain of calls."""
FAMILY = 4


@dataclass
class Seen:
    """What the clerks have observed. ``misplaced`` are patrons who aren't in the group that a response said."""

    statuses: Counter[int] = field(default_factory=Counter)
    put_off: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    lock: threading.Lock = field(default_factory=threading.Lock)


class DeskClerk:
    """A clerk with a connection and a family (patron ids in order)."""

    def __init__(self, address: str, token: str, family: list[int], seen: Seen, seed: int) -> None:
        self._address, self._family, self._seen = address, family, seen
        self._chance = random.Random(seed)
        self._session = requests.Session()
        self._session.headers.update(bearer(token))
        self._last: str | None = None
        self.groups: dict[int, int] = {}
        """Each patron's group according to the responses."""
        self.changes = 0

    def act(self) -> None:
        what = self._chance.random()
        if what < 0.5:
            self._timed("read", lambda: self._ask("GET", f"patrons/{self._chance.choice(self._family)}/summary"))
        elif self._last is not None and what < 0.6:
            id, self._last = self._last, None
            self._timed("undo", lambda: self._changed(self._ask("POST", f"changes/{id}/undo")))
        elif what < 0.8:
            self._timed("change", lambda: self._change("remove", self._family[-1:]))
        else:
            self._timed("change", lambda: self._change("move", self._family[-1:], self._family[0]))

    def _change(self, action: str, patrons: list[int], target: int | None = None) -> None:
        body: dict[str, Any] = {"action": action, "patrons": [{"id": patron} for patron in patrons]}
        if target is not None:
            body["target"] = {"id": target}
        plan = self._ask("POST", "plans", body)
        if plan is not None and plan["steps"]:
            self._changed(self._ask("POST", "changes", {"plan": plan["id"]}))

    def _changed(self, change: dict[str, Any] | None) -> None:
        if change is None:
            return
        self.changes += 1
        self._last = change["id"]
        for step in change["steps"]:
            if step["state"] != "done":
                self._note(f"change {change['id']}: {step['state']} ({step['reason']})")
            elif step["field"] == "group":
                self.groups[step["patron"]] = step["value"]

    def _ask(self, method: str, path: str, body: object = None) -> dict[str, Any] | None:
        key = {"Idempotency-Key": f"{self._chance.getrandbits(64):x}"} if method == "POST" else {}
        for _ in range(5):
            try:
                answer = self._session.request(
                    method, f"{self._address}{API}/{path}", json=body, headers=key, timeout=60
                )
            except requests.RequestException as error:
                self._note(f"{path}: {type(error).__name__}")
                return None
            found: dict[str, Any] = answer.json()
            with self._seen.lock:
                self._seen.statuses[answer.status_code] += 1
            if answer.status_code != 503:
                break
            with self._seen.lock:
                self._seen.put_off[found["code"]] += 1
            time.sleep(float(answer.headers["Retry-After"]))
        if answer.status_code >= 400 and found["code"] not in ("plan-empty", "already-undone", "nothing-to-undo"):
            self._note(f"{path}: {answer.status_code} {found['code']}")
        return found if answer.status_code < 400 else None

    def _timed(self, what: str, do: Callable[[], object]) -> None:
        began = time.perf_counter()
        do()
        with self._seen.lock:
            self._seen.seconds[what].append(time.perf_counter() - began)

    def _note(self, error: str) -> None:
        with self._seen.lock:
            self._seen.errors.append(error)


def main() -> None:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clerks", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--every", type=float, default=3.0, help="seconds from one thing that a clerk does to the next")
    parser.add_argument("--threads", type=int, default=8, help="threads of the service")
    parser.add_argument("--calls-only", action="store_true", help="only what each thing costs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, command("sandbox", "--port", "0", "--patrons", "6000") as sandbox:
        gateway = address_in(sandbox)
        with fault_proxy(gateway) as proxy, serve(proxy.url, f"{directory}/one", options.threads) as (address, _):
            cost(gateway, address, proxy)
            cost_with_hidden(gateway, address, proxy)
            quick = chains(gateway, address, proxy)
        if options.calls_only:
            sys.exit(0 if quick else 1)
        with serve(gateway, f"{directory}/many", options.threads) as (address, service):
            well = run_load(options.clerks, options.seconds, options.every, gateway, address)
            used = {"service": processor_seconds(service), "sandbox": processor_seconds(sandbox)}
        print("processor, s: " + ", ".join(f"{name} {value:.1f}" for name, value in used.items()))
    sys.exit(0 if well and quick else 1)


_keys = count()


class Caller:
    """Calls the API with the session of an account; anything but success ends the bench."""

    def __init__(self, gateway: str, address: str, account: str) -> None:
        self._headers = bearer(session(gateway, username=account))
        self._address = address

    def __call__(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        more = {**self._headers, "Idempotency-Key": f"cost-{next(_keys)}"}
        answer = requests.request(method, f"{self._address}{API}/{path}", json=body, headers=more, timeout=60)
        assert answer.status_code < 400, answer.text
        return dict(answer.json())


def plan_of(action: str, *patrons: int, target: int | None = None) -> dict[str, Any]:
    body = {"action": action, "patrons": [{"id": patron} for patron in patrons]}
    return body if target is None else {**body, "target": {"id": target}}


def cost(gateway: str, address: str, proxy: FaultProxy) -> None:
    ask, state = Caller(gateway, address, ACCOUNT), dict[str, int | str]()

    def keep(name: str, body: dict[str, Any]) -> None:
        state[name] = body["id"]

    things: dict[str, Callable[[], object]] = {
        "plan of a move": lambda: keep("plan", ask("POST", "plans", plan_of("move", 1052, target=1007))),
        "that move": lambda: keep("change", ask("POST", "changes", {"plan": state["plan"]})),
        "a change": lambda: ask("GET", f"changes/{state['change']}"),
        "recent changes": lambda: ask("GET", "changes"),
        "taking it back": lambda: ask("POST", f"changes/{state['change']}/undo"),
        "plan of a removal": lambda: keep("plan", ask("POST", "plans", plan_of("remove", 1052))),
        "that removal": lambda: keep("change", ask("POST", "changes", {"plan": state["plan"]})),
        "taking that back": lambda: ask("POST", f"changes/{state['change']}/undo"),
        "a patron's group": lambda: ask("GET", "patrons/1001/group"),
        "a patron's summary": lambda: ask("GET", "patrons/1001/summary"),
    }
    measured(things, proxy)


def cost_with_hidden(gateway: str, address: str, proxy: FaultProxy) -> None:
    """Print the cost of plans with no hidden members, with some in one of the groups, and with some in both."""
    staff, clerk = (Caller(gateway, address, account) for account in (ACCOUNT, ORDINARY_ACCOUNT))
    changes: list[str] = []
    for where, patrons, target in (
        ("", (), 0),
        (", hidden in one", (1012, 1013), 1001),
        (", in both", (1014, 1020), 1051),
    ):
        if patrons:
            plan = staff("POST", "plans", plan_of("move", *patrons, target=target))["id"]
            changes.append(staff("POST", "changes", {"plan": plan})["id"])
        things = {
            f"move of two{where}": lambda: clerk("POST", "plans", plan_of("move", 1002, 1003, target=1051)),
            f"removal{where}": lambda: clerk("POST", "plans", plan_of("remove", 1002)),
        }
        measured(things, proxy)
    for change in reversed(changes):
        staff("POST", f"changes/{change}/undo", {})


def measured(things: dict[str, Callable[[], object]], proxy: FaultProxy) -> None:
    """Do tasks a few times, and print the calls and milliseconds of each."""
    calls: dict[str, set[int]] = defaultdict(set)
    seconds: dict[str, list[float]] = defaultdict(list)
    for turn in range(TIMES + 1):
        for name, do in things.items():
            before, began = len(proxy.seen), time.perf_counter()
            do()
            if turn:  # the first time fills the caches of sessions and reference data
                seconds[name].append(time.perf_counter() - began)
                calls[name].add(len(proxy.seen) - before)
    print(f"{'':33} {'calls':>7} {'ms':>7}")
    for name in things:
        numbers = "-".join(str(number) for number in sorted({min(calls[name]), max(calls[name])}))
        print(f"{name:33} {numbers:>7} {1000 * statistics.median(seconds[name]):7.0f}")


class CallTimes:
    """The start and end times of calls through a proxy; each call takes ``DELAY`` longer while measuring."""

    def __init__(self, proxy: FaultProxy) -> None:
        self._began: dict[int, float] = {}
        self._proxy = proxy
        self.times: list[tuple[float, float]] = []
        proxy.decide = self._begin
        proxy.before_answer = self._end

    def _begin(self, call: Call) -> Fault:
        self._began[threading.get_ident()] = time.perf_counter()
        return Fault.NONE

    def _end(self, call: Call) -> None:
        time.sleep(DELAY)
        self.times.append((self._began.pop(threading.get_ident()), time.perf_counter()))

    def slowest_chain(self) -> tuple[int, float]:
        """Return calls and seconds of the slowest chain; each of its calls starts after the previous one ends."""
        found: list[tuple[float, int, float]] = []  # each chain's end, calls and seconds
        for began, ended in sorted(self.times):
            before = max((chain for chain in found if chain[0] <= began), key=lambda chain: chain[2], default=(0, 0, 0))
            found.append((ended, before[1] + 1, before[2] + ended - began))
        _ended, calls, seconds = max(found, key=lambda chain: chain[2])
        return calls, seconds


def chains(gateway: str, address: str, proxy: FaultProxy) -> bool:
    """Print response times compared with the slowest chain of calls; returns whether none is too long."""
    headers = bearer(session(gateway, username=ACCOUNT))
    pages = cookie(session(gateway, username=ACCOUNT))
    plan = {"action": "move", "patrons": ["20000000001052"], "target": "20000000001007"}
    things: dict[str, Callable[[], requests.Response]] = {
        "the page of six": lambda: requests.get(
            f"{address}/evergreen-groups/patrons/1001/group", headers=pages, timeout=60
        ),
        "plan of a move": lambda: requests.post(f"{address}{API}/plans", json=plan, headers=headers, timeout=60),
        "a patron's summary": lambda: requests.get(f"{address}{API}/patrons/1001/summary", headers=headers, timeout=60),
    }
    print(f"\n{'':20} {'calls':>7} {'chain':>7} {'ms':>7} {'answer':>7} {'times':>7}")
    quick = True
    for name, do in things.items():
        do()  # fills the caches of sessions and reference data
        found = []
        for _ in range(TIMES):
            watched, began = CallTimes(proxy), time.perf_counter()
            answer = do()
            taken = time.perf_counter() - began
            assert answer.status_code < 400, answer.text
            length, seconds = watched.slowest_chain()
            found.append((taken / seconds, len(watched.times), length, seconds, taken))
        times, calls, length, seconds, taken = statistics.median_low(found)
        quick = quick and times <= LONGEST
        print(f"{name:20} {calls:7} {length:7} {1000 * seconds:7.0f} {1000 * taken:7.0f} {times:7.2f}")
    return quick


def run_load(clerks: int, seconds: float, every: float, gateway: str, address: str) -> bool:
    """Run the clerks and print the results; returns whether all is well."""
    seen = Seen()
    with Gateway(gateway, credentials=Credentials(username=ACCOUNT, password=PASSWORD)) as staff:
        families = families_of(staff, clerks)
        everybody = [
            DeskClerk(address, session(gateway, username=ACCOUNT), family, seen, number)
            for number, family in enumerate(families)
        ]
        end = time.monotonic() + seconds

        def work(clerk: DeskClerk, later: float) -> None:
            due = time.monotonic() + later
            while due < end:
                time.sleep(max(0.0, due - time.monotonic()))
                clerk.act()
                due = max(due + every, time.monotonic())

        with ThreadPoolExecutor(clerks) as threads:
            list(threads.map(work, everybody, [every * number / clerks for number in range(len(everybody))]))
        ids = [patron for clerk in everybody for patron in clerk.groups]
        found = staff.pcrud.columns_by_values("au", ("id", "usrgroup"), "id", ids)
        now = dict(found)
    misplaced = [patron for clerk in everybody for patron, group in clerk.groups.items() if now[patron] != group]
    changes = sum(clerk.changes for clerk in everybody)
    return print_figures(seen, changes, misplaced)


def families_of(staff: Gateway, count: int) -> list[list[int]]:
    """Return families of the population, one per clerk."""
    where = {"id": {">": 100_000}, "deleted": "f"}
    groups: dict[int, list[int]] = defaultdict(list)
    for record in staff.pcrud.search("au", where, select=["id", "usrgroup"], order_by={"au": "id"}, limit=20 * count):
        groups[record.usrgroup].append(record.id)
    return [sorted(members) for members in groups.values() if len(members) >= FAMILY][:count]


def print_figures(seen: Seen, changes: int, misplaced: list[int]) -> bool:
    total = seen.statuses.total()
    put_off = seen.statuses[503] / total
    print(f"{total:,} requests, {changes:,} changes; answers: {dict(sorted(seen.statuses.items()))}")
    print(
        f"503: {100 * put_off:.2f} %, {dict(seen.put_off)}; other errors: {len(seen.errors)} "
        f"{Counter(seen.errors).most_common(5)}"
    )
    for name, times in sorted(seen.seconds.items()):
        cuts = statistics.quantiles(times, n=100)
        print(f"{name}, ms: p50 {1000 * cuts[49]:.0f}, p95 {1000 * cuts[94]:.0f}, p99 {1000 * cuts[98]:.0f}")
    print(f"not where the answers have put them: {len(misplaced)}")
    return not misplaced and not seen.errors and put_off < MOST_503


if __name__ == "__main__":
    main()
