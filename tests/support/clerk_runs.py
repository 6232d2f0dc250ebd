"""Runs of clerks' sequences: a sandbox behind a faulty network, services in front of it, and kills."""

from __future__ import annotations

import random
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path

from support.desk_clerks import Clerk, Faults, Sequence, Tally
from support.fault_proxy import FaultProxy, fault_proxy
from support.forked_servers import ForkedServers
from support.gateways import PASSWORD
from support.postgresql import Cluster, own_cluster
from support.web_caller import session
from support.write_log import WriteLog
from support.wrong_clocks import clock_ahead

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


class Town:
    """All processes of a run. ``names`` are those of the services."""

    def __init__(
        self, sandbox: Sandbox, proxy: FaultProxy, servers: ForkedServers, names: list[str], cluster: Cluster | None
    ) -> None:
        self.sandbox, self.proxy, self.servers, self.names, self.cluster = sandbox, proxy, servers, names, cluster
        self.tally = Tally()
        self.log = WriteLog(sandbox)
        proxy.carried_out = self.log.carried_out
        self._faults = Faults(proxy, self.tally)
        self._turns = cycle(names)
        self._families = self._all_families()
        self.clerks = (
            Clerk(2, session(sandbox.url, username="consortium_staff")),
            Clerk(1, session(sandbox.url, username="admin")),
        )
        self.kills = 0
        self.outages = 0

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
        self._faults.begin(chance, FAULT_RATE)
        trouble = threading.Thread(target=self._trouble, args=(chance, kill, outage))
        trouble.start()
        sequence.run(ACTIONS)
        trouble.join()
        self._faults.end()
        return [f"sequence {number}: {error}" for error in sequence.judge(self.log, self.sandbox, before)]

    def _trouble(self, chance: random.Random, kill: float, outage: float) -> None:
        if chance.random() < kill:
            threading.Event().wait(chance.uniform(0.0, 0.6))
            name = chance.choice(self.names)
            self.servers.kill_service(name)
            self.servers.start(name)
            self.kills += 1
        if self.cluster is not None and chance.random() < outage:
            self.cluster.stop("immediate")
            self.cluster.run_server()
            self.outages += 1

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
                "EVERGREEN_GROUPS_GATEWAY_URL": proxy.url,
                "EVERGREEN_GROUPS_GATEWAY_USERNAME": "consortium_staff",
                "EVERGREEN_GROUPS_PASSWORD": PASSWORD,
                **(clock_ahead(clocks[number % len(clocks)]) if clocks else {}),
            }
        shared = clock_ahead(0) if clocks else {}
        running = stack.enter_context(ForkedServers(directory, environs, shared))
        for name in environs:
            running.start(name)
        yield Town(sandbox, proxy, running, list(environs), cluster)
