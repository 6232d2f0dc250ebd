"""Thousands of runs over a bad network, and a table of how they ended.

    python tests/bench/faults.py [--runs 10000] [--seed 0] [--jobs 2] [--release 3.12] [--gateway rust] [--replica]
        [--only reading]

A number, counted from ``--seed``, determines each run: the command, the account, the fault and the affected call.
Failures are printed with the number; ``--seed NUMBER --runs 1`` repeats the run (with the same ``--only``, which
changes the choices). Exits with 1 if anything was wrong.
"""

import argparse
import multiprocessing
import sys
import time
from collections import Counter, defaultdict
from functools import partial
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Literal

# Replaces this directory in the path, where this file has the name of a package.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from faults.one_run import SUBJECTS, Runner  # noqa: E402
from faults.verdict import Ending  # noqa: E402
from faults.world import World  # noqa: E402

COLUMNS = {
    "wrong number": (Ending.WRONG_NUMBER,),
    "foreign write": (Ending.WRITE,),
    "untrue journal": (Ending.UNTRUE,),
    "traceback": (Ending.TRACEBACK,),
    "other": (Ending.BAD_ERROR, Ending.NOT_REPEATED, Ending.SLOW),
    "error": (Ending.ERROR,),
    "right": (Ending.RIGHT,),
}

Outcome = tuple[str, Ending, str, str]
"""Kind of fault (empty: none occurred), ending, cause and description of a run."""

RUST_SHARE = 5
"""One in so many runs uses the Rust gateway."""

_runners: list[Runner] = []


def start(release: str | None, gateway: Literal["apache", "rust"], only: str | None, *, replica: bool) -> None:
    """Create the world of this process, closed at its end."""
    world = World(release, gateway, replica=replica)
    Finalize(None, world.close, exitpriority=1)
    _runners.append(Runner(world, SUBJECTS[only]) if only else Runner(world))


def make(seed: int) -> Outcome:
    verdict = _runners[0].run(seed)
    return (
        verdict.kind.name if verdict.hit else "",
        verdict.ending,
        verdict.cause,
        "" if verdict.ending.is_well else str(verdict),
    )


def _gateway_of(seed: int) -> str:
    return "rust" if seed % RUST_SHARE == RUST_SHARE - 1 else "apache"


def table(outcomes: dict[str, Counter[Ending]]) -> str:
    """Return the lines of a table: one per kind of fault, and one for all."""
    lines = [f"{'kind of fault':38} {'runs':>6} " + " ".join(f"{name:>14}" for name in COLUMNS)]
    total: Counter[Ending] = Counter()
    for counted in outcomes.values():
        total.update(counted)
    for name, counted in [*sorted(outcomes.items()), ("all", total)]:
        sums = (sum(counted[ending] for ending in endings) for endings in COLUMNS.values())
        lines.append(f"{name:38} {counted.total():>6} " + " ".join(f"{number:>14}" for number in sums))
    return "\n".join(lines)


def main() -> int:
    """Make the runs that the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--release", help="which release the sandbox is like, if not the latest")
    parser.add_argument(
        "--gateway", choices=["apache", "rust"], help="which gateway it is over, if not now and then each"
    )
    parser.add_argument("--replica", action="store_true", help="where plain reads come from a copy that is behind")
    parser.add_argument("--only", choices=sorted(SUBJECTS), help="what is to be run, if not everything")
    options = parser.parse_args()
    seeds = range(options.seed, options.seed + options.runs)
    outcomes: dict[str, Counter[Ending]] = defaultdict(Counter)
    causes: Counter[str] = Counter()
    started = time.perf_counter()
    context = multiprocessing.get_context("spawn")
    for gateway in ("apache", "rust"):
        chosen = [seed for seed in seeds if gateway == (options.gateway or _gateway_of(seed))]
        if not chosen:
            continue
        arguments = (options.release, gateway, options.only)
        begin = partial(start, replica=options.replica)
        with context.Pool(min(options.jobs, len(chosen)), begin, arguments) as pool:
            for kind, ending, cause, description in pool.imap_unordered(make, chosen, chunksize=4):
                outcomes[kind or "(none befell it)"][ending] += 1
                if description:
                    causes[cause] += 1
                    print(description, end="\n\n", flush=True)
            pool.close()
            pool.join()  # so that the processes end normally and delete their files
    print(table(outcomes))
    for cause, number in causes.most_common():
        print(f"{number:>6}  {cause}")
    print(f"{options.runs} runs in {time.perf_counter() - started:.0f} s")
    return 1 if causes else 0


if __name__ == "__main__":
    sys.exit(main())
