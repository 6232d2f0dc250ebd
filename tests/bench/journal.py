"""What a long journal costs the desk: the same tasks with no changes recorded, and with a million.

    python tests/bench/journal.py [--changes 1000000] [--database postgresql] [--replica] [--release 3.11]
        [--rounds 200]

Two services ask one sandbox in turns, as the panel, the group's page and a plan do. Then half of the changes are
deleted, as the nightly run deletes old rows, while the desk goes on. Prints milliseconds. Exits with 1 if the panel's
median is more than 20 ms slower.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from itertools import count
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bare_desk import Family
from programs import ACCOUNT, PASSWORD, address_in, command
from service import OurDesk, Site, served
from support.postgresql import own_cluster

from evergreen_groups.state import State, prune, schema

MOST_ADDED = 20.0
"""Milliseconds that a million changes may add to the panel."""
TASKS = ("panel", "page", "plan")
DAYS = 730
"""The changes are spread evenly over so many days before now."""


def fill(state: State, gateway: str, changes: int, families: Sequence[Family]) -> None:
    """Record so many moves in the journal, of all members of all families in turn."""
    now, members = state.database.now(), [(family, id) for family in families for id in family.members]
    for first in range(1, changes + 1, 10_000):
        entries, steps = [], []
        for number in range(first, min(first + 10_000, changes + 1)):
            at = now - timedelta(days=DAYS) * (1 - number / changes)
            family, patron = members[number % len(members)]
            of = {"gateway": gateway, "at": at, "account": ACCOUNT, "staff": 1, "action": "move", "step_count": 1}
            entries.append({"id": number, **of})
            step = {"change": number, "gateway": gateway, "patron": patron, "field": "usrgroup", "state": "done"}
            steps.append({**step, "before": 1, "after": family.group, "value": family.group, "touched_at": at})
        with state.database.writing() as connection:
            connection.execute(schema.changes.insert(), entries)
            connection.execute(schema.steps.insert(), steps)


def delete_old(directory: Path, url: str | None) -> str:
    """Delete the older half, and return how many changes in how many seconds."""
    with State(directory, url) as state:
        began = time.monotonic()
        days = {"history": DAYS, "journal": DAYS // 2, "events": DAYS, "follow-ups": DAYS}
        gone = prune(state.database, days, state.database.now())["journal"]
    return f"{gone:,} changes deleted in {time.monotonic() - began:.0f} s"


def timed(site: Site, what: str, families: Sequence[Family]) -> list[float]:
    """Return the milliseconds of a task for each of the families."""
    desk, took = OurDesk(site.service, site.tokens[0]), []
    for family in families:
        began = time.monotonic()
        getattr(desk, what)(family)
        took.append(1000 * (time.monotonic() - began))
    desk.close()
    return took


def figures(took: Sequence[float]) -> str:
    highest = statistics.quantiles(took, n=100, method="inclusive")[98]
    return f"{statistics.median(took):.1f}, {highest:.0f}, {max(took):.0f}"


def compare(empty: Site, full: Site, rounds: int) -> bool:
    """Print a row for each task, and return whether the panel is quick enough."""
    print("| task | no changes: p50, p99, longest ms | with changes | added ms |\n| --- | --- | --- | --- |")
    added = {}
    for what in TASKS:
        found: dict[str, list[float]] = {"empty": [], "full": []}
        for turn in range(rounds // 10):
            ten = [empty.families[(turn * 10 + one) % len(empty.families)] for one in range(10)]
            for name, site in (("empty", empty), ("full", full)):
                found[name] += timed(site, what, ten)
        added[what] = statistics.median(found["full"]) - statistics.median(found["empty"])
        print(f"| {what} | {figures(found['empty'])} | {figures(found['full'])} | {added[what]:+.1f} |", flush=True)
    return added["panel"] <= MOST_ADDED


def while_deleting(full: Site, delete: Callable[[], str], executor: ProcessPoolExecutor) -> None:
    """Print the tasks' times while old changes are deleted."""
    deleting, found = executor.submit(delete), {what: list[float]() for what in TASKS}
    for number in count():
        for what in TASKS:
            found[what] += timed(full, what, [full.families[number % len(full.families)]])
        if deleting.done() and number > 1:
            break
    print(deleting.result())
    for what, took in found.items():
        print(f"| {what}, while deleting | {figures(took)} | {len(took)} times |", flush=True)


def main() -> None:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--changes", type=int, default=1_000_000)
    parser.add_argument("--database", choices=("postgresql", "sqlite"), default="sqlite")
    parser.add_argument("--replica", action="store_true", help="plain reads come from a replica")
    parser.add_argument("--release", default="3.17", help="of the sandbox")
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args()
    words = ["sandbox", "--port", "0", "--patrons", "6000", "--release", options.release]
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cluster = stack.enter_context(own_cluster()) if options.database == "postgresql" else None
        sandbox = stack.enter_context(command(*words, *(["--replica", "0"] if options.replica else [])))
        gateway = address_in(sandbox).rstrip("/")
        sites, stored = [], []
        for number in (0, options.changes):
            url = cluster.url(stack.enter_context(cluster.database())) if cluster else None
            stored.append((directory / str(number), url))
            own = {"STATE_DIRECTORY": str(stored[-1][0]), **({"EVERGREEN_GROUPS_STATE_DATABASE": url} if url else {})}
            sites.append(stack.enter_context(served(gateway, ACCOUNT, PASSWORD, 150, above=100_000, environ=own)))
            with State(*stored[-1]) as state:
                fill(state, gateway, number, sites[-1].families)
        quick = compare(*sites, options.rounds)
        executor = stack.enter_context(ProcessPoolExecutor(1, mp_context=get_context("spawn")))
        while_deleting(sites[1], partial(delete_old, *stored[1]), executor)
    sys.exit(0 if quick else 1)


if __name__ == "__main__":
    main()
