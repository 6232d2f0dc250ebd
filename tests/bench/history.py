"""The cost of the history: seconds to record a night, to compare and to make the trend, and its size on disk.

    python tests/bench/history.py [--nights 400] [--groups 5000] [--libraries 40] [--runs 15] [--postgresql]

Each night, one in fifty groups owes another amount than the night before, and one in two hundred is another group.
--postgresql also measures a PostgreSQL server started for this (needs Debian's postgresql).
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

# Replaces this directory in the path, where files have the names of rooms.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from support.postgresql import own_cluster  # noqa: E402
from support.report_samples import GATEWAY, large_report, owing_more, report_of  # noqa: E402

from evergreen_groups.groups import Group  # noqa: E402
from evergreen_groups.ils import OrgUnit  # noqa: E402
from evergreen_groups.report import History, Report  # noqa: E402
from evergreen_groups.state import State, examine, prune  # noqa: E402

KEPT = {"history": 400, "journal": 730, "events": 90, "follow-ups": 400}


def nights(count: int, group_count: int, libraries: int) -> Iterator[Report]:
    """Yield one report per night, and one more for the night to compare."""
    chance = random.Random(7)
    branches = [OrgUnit(2 + number, f"BR{number + 1}", "", 1) for number in range(libraries)]
    org_units = (OrgUnit(1, "CONS", "", None), *branches)
    first = large_report(group_count)
    groups = [_at(group, branches[number % libraries]) for number, group in enumerate(first.groups)]
    latest = max(group.number for group in groups)
    for night in range(count + 1):
        for index in chance.sample(range(group_count), group_count // 50):
            groups[index] = owing_more(groups[index], Decimal(chance.randint(-300, 500)) / 100)
        for index in chance.sample(range(group_count), group_count // 200):
            latest += 1
            groups[index] = replace(groups[index], number=latest)
        ordered = sorted(groups, key=lambda group: group.combined_fines, reverse=True)
        moment = first.generated_at + timedelta(days=night)
        yield replace(report_of(ordered), generated_at=moment, org_units=org_units)


def _at(group: Group, library: OrgUnit) -> Group:
    members = (replace(member, patron=replace(member.patron, home_library=library)) for member in group.members)
    return replace(group, members=tuple(members))


def measure(state: State, options: argparse.Namespace, clean_up: Callable[[], None]) -> None:
    """Record the nights, then compare; ``clean_up`` is what the server does by itself before the next night."""
    recording, pruning = [], []
    reports = nights(options.nights, options.groups, options.libraries)
    for report in islice(reports, options.nights):
        with state.report_lease() as lease:
            recording.append(_seconds(lambda: History(lease, GATEWAY).record(report)))  # noqa: B023 - called at once
            pruning.append(_seconds(lambda: prune(lease, KEPT, report.generated_at)))  # noqa: B023 - called at once
        clean_up()
    tonight = next(reports)
    state.close()  # like the next night's process
    first = _seconds(lambda: History(state.database, GATEWAY).compare(tonight))
    began = time.process_time()
    comparing = [_seconds(lambda: History(state.database, GATEWAY).compare(tonight)) for _ in range(options.runs)]
    own = (time.process_time() - began) / options.runs
    changes = History(state.database, GATEWAY).compare(tonight)
    found = examine(state.database, thoroughly=True)
    print(f"  recorded: {found.amounts[0].rows} runs, {found.size / 1e6:.1f} MB")
    print(f"  record a night:       median {statistics.median(recording):.3f} s, longest {max(recording):.3f} s")
    print(f"  prune:                median {statistics.median(pruning):.3f} s, longest {max(pruning):.3f} s")
    print(f"  comparison and trend: first {first:.3f} s, then median {statistics.median(comparing):.3f} s", end="")
    print(f" (shortest {min(comparing):.3f} s, the processor's own time {own:.3f} s)")
    print(f"    {len(changes.trend)} runs in the trend, {len(changes.library_trends)} org units")


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nights", type=int, default=400)
    parser.add_argument("--groups", type=int, default=5000)
    parser.add_argument("--libraries", type=int, default=40)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--postgresql", action="store_true")
    options = parser.parse_args()
    print(f"{options.nights} nights, {options.groups} groups, {options.libraries} libraries")
    print("SQLite")
    with TemporaryDirectory() as directory, State(Path(directory)) as state:
        measure(state, options, lambda: None)
    if options.postgresql:
        print("PostgreSQL (without fsync)")
        with (
            own_cluster() as cluster,
            cluster.database() as name,
            TemporaryDirectory() as directory,
            State(Path(directory), cluster.url(name)) as state,
        ):
            measure(state, options, lambda: cluster.execute("VACUUM ANALYZE", name))


if __name__ == "__main__":
    main()
