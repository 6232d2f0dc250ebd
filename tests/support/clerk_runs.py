"""Two clerks who plan, change and undo at random, with services that die and a network that loses messages.

In the end, each key has one answer, every write belongs to one step, every done step was written once, and undos match
their answers.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import requests
from support.command import clock_ahead
from support.desk_caller import NEW_GROUP, UPDATE, group_of
from support.fault_proxy import Call, Fault, FaultProxy, fault_proxy
from support.gateways import environ_of
from support.postgresql import Cluster, own_cluster
from support.repository import REPOSITORY
from support.web_caller import API, bearer, session
from support.write_log import WriteLog

from evergreen_groups.sandbox import Sandbox

FAMILIES = 3
"""Families per sequence; no other sequence touches them."""
ACTIONS = 4
"""Actions of each of the two clerks in a sequence."""
FAULT_RATE = 0.12
CONFIGURATION = """
[state]
{database}
[serve]
rate_limit = 1000000
timeout = 10
"""
PASSING = (502, 503, 504)
"""Statuses after which the request is repeated."""
TRIES = 2400
PAUSE = 0.05
"""Seconds between two requests."""
KINDS = ("move", "move", "move several", "remove", "merge", "lead", "undo", "double click", "again")
PLAN_REFUSALS = {403, 404, 409, 422}
REFUSALS = {403, 404, 409, 410, 422}


class Clerk(NamedTuple):
    """One of the clerks: ``user`` is an ``au.id``."""

    user: int
    token: str


@dataclass
class Asked:
    """A request under a key: its content, and all responses that weren't just delays."""

    clerk: Clerk
    path: str
    body: dict[str, Any] | None
    key: str
    answers: list[tuple[int, dict[str, Any]]] = field(default_factory=list)


class Sequence:
    """One sequence of both clerks' actions on some families (patron ids by group)."""

    def __init__(
        self,
        number: int,
        next_address: Callable[[], str],
        clerks: tuple[Clerk, Clerk],
        families: list[list[int]],
        tally: Counter[str],
    ) -> None:
        self._number = number
        self._next_address = next_address
        self._clerks = clerks
        self._families = families
        self._tally = tally
        self._lock = threading.Lock()
        self._asked: list[Asked] = []
        self.errors: list[str] = []

    def run(self, actions: int) -> None:
        """Let both clerks act concurrently."""

        def act(clerk: Clerk) -> None:
            chance = random.Random(f"{self._number} {clerk.user}")
            try:
                for _ in range(actions):
                    self._act(clerk, chance)
            except BaseException as error:
                self.errors.append(f"{type(error).__name__}: {error}")

        with ThreadPoolExecutor(len(self._clerks)) as threads:
            list(threads.map(act, self._clerks))

    def judge(self, log: WriteLog, sandbox: Sandbox, before: dict[int, dict[str, int]]) -> list[str]:
        """Repeat all requests, and return what is wrong."""
        errors = list(self.errors)
        changes: dict[str, dict[str, Any]] = {}
        for asked in self._asked:
            self._ask(asked)
            errors += _inconsistent(asked)
            status, body = asked.answers[-1]
            if status == 200:
                changes[body["id"]] = self._seen(asked.clerk, body["id"])
        self._tally["changes"] += len(changes)
        errors += list(self._untrue(changes, log))
        for change in changes.values():
            if change["undoes"] is not None:
                self._tally["changes undone"] += 1
                errors += list(_not_its_opposite(change, changes.get(change["undoes"])))
        for patron, fields in log.state().items():
            if patron in before and group_of(sandbox, patron) != fields["group"]:
                errors.append(f"patron {patron} was written past the proxy")
        if log.without_effect:
            errors.append(f"written again without any effect: {log.without_effect}")
        return errors

    def _seen(self, clerk: Clerk, id: str) -> dict[str, Any]:
        """Return a change's current state, after everything that can be resolved has been."""
        status, body = self._answer({*PASSING, 0}, "GET", clerk, f"changes/{id}")
        assert status == 200, f"change {id} can't be read: {status} {body}"
        return body

    def _untrue(self, changes: dict[str, dict[str, Any]], log: WriteLog) -> Iterator[str]:
        """Return writes without a step, and done steps without a write."""
        tokens = {clerk.token: clerk.user for clerk in self._clerks}
        left = Counter((tokens.get(write.token), write.patron, write.field, write.value) for write in log.writes)
        self._tally["writes"] += len(log.writes)
        unclear: list[tuple[int, int, str, int | None, str]] = []
        for change in changes.values():
            for step in change["steps"]:
                self._tally[f"step {step['state']}"] += 1
                if step["state"] == "done":
                    place = (change["staff"], step["patron"], step["field"], step["value"])
                    if not left[place]:
                        yield f"change {change['id']}: {step} is said to be done, and wasn't written"
                    left[place] -= 1
                elif step["state"] in ("sending", "failed"):
                    unclear.append((change["staff"], step["patron"], step["field"], step["after"], step["state"]))
        for (user, patron, name, value), count in (+left).items():
            # If a late request landed and was then overwritten, its step isn't called done.
            fitting = [step for step in unclear if step[:3] == (user, patron, name) and step[3] in (value, None)]
            if len(fitting) < count:
                yield f"written by {user} without a step that says so: {patron} {name} {value}, {count} times"
            else:
                self._tally["written, and said to be uncertain"] += count

    def _act(self, clerk: Clerk, chance: random.Random) -> None:
        kind = chance.choice(KINDS)
        mine = [asked for asked in self._asked if asked.clerk is clerk]
        if kind == "again" and mine:
            return self._ask(chance.choice(mine))
        if kind == "undo":
            return self._undo(clerk, chance)
        plan = self._plan(clerk, chance, kind)
        if plan is None:
            return None
        asked = self._new(clerk, "changes", {"plan": plan}, chance)
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(self._ask, [asked] * (2 if kind == "double click" else 1)))
        return None

    def _undo(self, clerk: Clerk, chance: random.Random) -> None:
        with self._lock:
            known = sorted({body["id"] for asked in self._asked for status, body in asked.answers if status == 200})
        if known:
            self._ask(self._new(clerk, f"changes/{chance.choice(known)}/undo", None, chance))

    def _plan(self, clerk: Clerk, chance: random.Random, kind: str) -> str | None:
        patrons = [patron for family in self._families for patron in family]
        some = [{"id": patron} for patron in chance.sample(patrons, 3)]
        body: dict[str, Any] = {"action": "move", "patrons": some[:1], "target": some[2]}
        if kind == "move several":
            body["patrons"] = some[:2]
        elif kind == "remove":
            body = {"action": "remove", "patrons": some[:1], "lead": chance.random() < 0.3}
        elif kind == "merge":
            body["action"] = "merge"
        elif kind == "lead":
            body = {"action": "lead", "patrons": some[:1], "off": chance.random() < 0.5}
        status, answer = self._answer({*PASSING, 0}, "POST", clerk, "plans", body)
        if status == 201:
            return str(answer["id"])
        if status not in PLAN_REFUSALS:
            self.errors.append(f"plan {body}: {status} {answer}")
        return None

    def _new(self, clerk: Clerk, path: str, body: dict[str, Any] | None, chance: random.Random) -> Asked:
        asked = Asked(clerk, path, body, f"{self._number}-{clerk.user}-{chance.getrandbits(48)}")
        with self._lock:
            self._asked.append(asked)
        return asked

    def _ask(self, asked: Asked) -> None:
        status, body = self._answer({*PASSING, 202, 0}, "POST", asked.clerk, asked.path, asked.body, asked.key)
        asked.answers.append((status, body))
        if status in REFUSALS:
            self._tally[f"refused: {body['code']}"] += 1
        if status not in {200, *REFUSALS} or body.get("code") in ("key-of-another-change", "plan-applied-before"):
            self.errors.append(f"{asked.path} {asked.body}: {status} {body}")

    def _answer(self, passing: set[int], *request: Any) -> tuple[int, dict[str, Any]]:
        """Send a request to any running service until there is a response that isn't just a delay."""
        for _ in range(TRIES):
            status, body = self._request(*request)
            if status not in passing:
                break
            threading.Event().wait(PAUSE)
        return status, body

    def _request(
        self, method: str, clerk: Clerk, path: str, body: dict[str, Any] | None = None, key: str | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Return a response's status and body; 0 if the service has died."""
        self._tally["requests"] += 1
        headers = bearer(clerk.token) | ({"Idempotency-Key": key} if key else {})
        try:
            answer = requests.request(
                method, f"{self._next_address()}{API}/{path}", json=body, headers=headers, timeout=60
            )
            found = answer.json()
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError, ValueError):
            self._tally["put off: no answer"] += 1
            return 0, {}
        if answer.status_code in PASSING:
            self._tally[f"put off: {found['code']}"] += 1
            if "Retry-After" not in answer.headers and answer.status_code == 503:
                self.errors.append(f"{path}: 503 without Retry-After")
        return answer.status_code, found


def _inconsistent(asked: Asked) -> Iterator[str]:
    """Return contradictions between the responses to a key."""
    last_status, last = asked.answers[-1]
    numbers = {body["id"] for status, body in asked.answers if status == 200}
    if len(numbers) > 1:
        yield f"key {asked.key} had several changes: {numbers}"
    if numbers and last_status != 200:
        yield f"the outcome under key {asked.key} was lost: {last_status} {last}"
    for status, body in asked.answers:
        if status != 200 or last_status != 200:
            continue
        for former, now in zip(body["steps"], last["steps"], strict=True):
            if former["state"] in ("done", "unchanged", "failed", "not done") and former != now:
                yield f"under key {asked.key} it was {former}, and is {now}"


def _not_its_opposite(undo: dict[str, Any], undone: dict[str, Any] | None) -> Iterator[str]:
    """Return what an undo did beyond reversing the change."""
    if undone is None:
        yield f"undo {undo['id']} is of a change that nobody knows"
        return
    opposites = {(step["patron"], step["field"], step["value"], step["before"]) for step in undone["steps"]}
    for step in undo["steps"]:
        if (step["patron"], step["field"], step["before"], step["after"]) not in opposites:
            yield f"undo {undo['id']} takes back what {undone['id']} didn't do: {step}"


class Servers:
    """Services by name, each a process with its environment; ``directory`` is for their errors."""

    def __init__(self, directory: Path, environs: Mapping[str, Mapping[str, str]]) -> None:
        self._errors = directory / "errors"
        self._environs = environs
        self._running: dict[str, subprocess.Popen[str]] = {}
        self.addresses: dict[str, str] = {}

    def start(self, name: str) -> None:
        """Start a service, and wait until it serves, at its own address."""
        command = [sys.executable, "-m", "evergreen_groups", "serve", "--port", "0"]
        with self._errors.open("a") as errors:
            process = subprocess.Popen(
                command, env=self._environs[name], stdout=subprocess.PIPE, stderr=errors, text=True, cwd=REPOSITORY
            )
        self._running[name] = process
        assert process.stdout is not None
        address = next((line.split()[-1] for line in process.stdout if line.startswith("Serving at ")), None)
        assert address is not None, self.errors
        self.addresses[name] = address.removesuffix("/evergreen-groups/")

    def kill_service(self, name: str) -> None:
        with self._running.pop(name) as process:
            process.kill()

    def kill_all(self) -> None:
        for name in list(self._running):
            self.kill_service(name)

    @property
    def errors(self) -> str:
        return self._errors.read_text()


class Town:
    """All processes of a run. ``names`` are those of the services."""

    def __init__(
        self, sandbox: Sandbox, proxy: FaultProxy, servers: Servers, names: list[str], cluster: Cluster | None
    ) -> None:
        self.sandbox, self.proxy, self.servers, self.names, self.cluster = sandbox, proxy, servers, names, cluster
        self.tally = Counter[str]()
        self.log = WriteLog(sandbox)
        proxy.carried_out = self.log.carried_out
        self._lock = threading.Lock()
        self._turns = cycle(names)
        self._families = self._all_families()
        self.clerks = (
            Clerk(2, session(sandbox.url, username="consortium_staff")),
            Clerk(1, session(sandbox.url, username="admin")),
        )

    def next_address(self) -> str:
        """Return the service for the next request, round robin, running or not."""
        return self.servers.addresses[next(self._turns)]

    def sequence(self, number: int, *, kill: float, outage: float = 0.0) -> list[str]:
        """Run one sequence, reproducible by its number, and return what was wrong.

        ``kill`` is the probability that a service is killed and restarted in the middle, ``outage`` that the database
        is.
        """
        chance = random.Random(number)
        families = [next(self._families) for _ in range(FAMILIES)]
        patrons = [patron for family in families for patron in family]
        self.log.watch(patrons)
        before = self.log.state()
        sequence = Sequence(number, self.next_address, self.clerks, families, self.tally)
        fates = random.Random(chance.random())
        self.proxy.decide = lambda call: self._fate_of(call, fates)
        trouble = threading.Thread(target=self._trouble, args=(chance, kill, outage))
        trouble.start()
        sequence.run(ACTIONS)
        trouble.join()
        self.proxy.decide = lambda call: Fault.NONE
        self.proxy.let_go()  # the requests that were held back
        return [f"sequence {number}: {error}" for error in sequence.judge(self.log, self.sandbox, before)]

    def _fate_of(self, call: Call, chance: random.Random) -> Fault:
        """Choose a fault for a share of the writes, and for a tenth of that share of the reads."""
        with self._lock:
            if chance.random() >= (FAULT_RATE if call.method in (UPDATE, NEW_GROUP) else FAULT_RATE / 10):
                return Fault.NONE
            kinds = [Fault.DROP_REQUEST, Fault.DROP_ANSWER]
            if call.method == UPDATE:
                kinds += [Fault.HELD_REQUEST, Fault.REQUEST_TWICE, Fault.REQUEST_REPEATED]
            fault = chance.choice(kinds)
            self.tally["faults"] += 1
            self.tally[f"fault: {fault.name}"] += 1
            return fault

    def _trouble(self, chance: random.Random, kill: float, outage: float) -> None:
        if chance.random() < kill:
            threading.Event().wait(chance.uniform(0.0, 0.6))
            name = chance.choice(self.names)
            self.servers.kill_service(name)
            self.servers.start(name)
            self.tally["services killed"] += 1
        if self.cluster is not None and chance.random() < outage:
            self.cluster.stop("immediate")
            self.cluster.run_server()
            self.tally["database stopped"] += 1

    def _all_families(self) -> Iterator[list[int]]:
        rows = self.sandbox._store.read().execute(
            "SELECT usrgroup, group_concat(id) FROM au WHERE NOT deleted AND id > 100000 GROUP BY usrgroup"
            " HAVING count(*) BETWEEN 2 AND 5 ORDER BY usrgroup"
        )
        for _, ids in rows.fetchall():
            yield [int(id) for id in ids.split(",")]


@contextmanager
def town(servers: int, sequences: int, *, database: str, clocks: tuple[int, ...] = ()) -> Iterator[Town]:
    """Yield a town with so many services, and enough families for so many sequences; ``database`` is an engine's name.

    ``clocks`` has the seconds that the services' clocks are ahead, in turn.
    """
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sandbox = stack.enter_context(Sandbox(patrons=max(1_500, 60 * sequences)))
        proxy = stack.enter_context(fault_proxy(sandbox.url))
        cluster, line = None, ""
        if database == "postgresql":
            cluster = stack.enter_context(own_cluster())
            line = f'database = "{cluster.url(stack.enter_context(cluster.database()))}"'
        environs = {}
        for number in range(servers):
            its = directory / f"server-{number}"
            its.mkdir()
            (its / "config.toml").write_text(CONFIGURATION.format(database=line))
            environs[its.name] = {
                "HOME": str(its),
                "PATH": "/usr/bin:/bin",
                "STATE_DIRECTORY": str((directory / "state") if database == "sqlite" else its / "state"),
                "CACHE_DIRECTORY": str(its / "cache"),
                "EVERGREEN_GROUPS_CONFIG": str(its / "config.toml"),
                **environ_of(proxy.url),
                **(clock_ahead(clocks[number % len(clocks)]) if clocks else {}),
            }
        running = Servers(directory, environs)
        stack.callback(running.kill_all)
        for name in environs:
            running.start(name)
        yield Town(sandbox, proxy, running, list(environs), cluster)
