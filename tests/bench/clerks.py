"""Two clerks make random changes over a faulty network while services are killed: nothing may be lost.

    python tests/bench/clerks.py [--sequences 1000] [--servers 3] [--database postgresql] [--first 0]
        [--clocks 600 0 -600]

Each sequence has four actions by each of two concurrent clerks on three families: moves, removals, merges, leads,
undos, double clicks, and repeated requests. Of the requests that write, 12% are lost, or arrive late or twice, or lose
their response. In one of three sequences a service is killed and restarted, in one of fifty the database (PostgreSQL
only). After each sequence, everything is requested again: each key has one answer, each write belongs to one step, each
done step was written once, and undos match their answers. Exits with 1 if something is wrong. ``--first NUMBER
--sequences 1`` repeats a sequence. ``--clocks`` sets the services' clocks ahead or behind by
seconds (libfaketime). ``TESTS_POSTGRESQL_VERSION=15`` selects among the installed versions of PostgreSQL.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from support.clerk_runs import Town, town


def main() -> None:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sequences", type=int, default=1000)
    parser.add_argument("--servers", type=int, default=3)
    parser.add_argument("--database", choices=("postgresql", "sqlite"), default="postgresql")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--kill", type=float, default=1 / 3)
    parser.add_argument("--clocks", type=int, nargs="+", default=())
    options = parser.parse_args()
    outage = 0.02 if options.database == "postgresql" else 0.0
    began, wrong, done = time.monotonic(), 0, 0
    with town(options.servers, options.sequences, database=options.database, clocks=tuple(options.clocks)) as running:
        for number in range(options.first, options.first + options.sequences):
            errors = running.sequence(number, kill=options.kill, outage=outage)
            done += 1
            wrong += bool(errors)
            for error in errors:
                print(error, flush=True)
            if done % 50 == 0:
                print(f"{done} sequences, {wrong} wrong, {time.monotonic() - began:.0f} s", flush=True)
        report(running, done, wrong, time.monotonic() - began)
    sys.exit(1 if wrong else 0)


def report(running: Town, sequences: int, wrong: int, took: float) -> None:
    print(f"{sequences} sequences in {took:.0f} s: {wrong} wrong")
    for name, count in sorted(running.tally.items()):
        print(f"{name}: {count:,}")
    if "Traceback" in running.servers.errors or "a bug:" in running.servers.errors:
        print(running.servers.errors[-3000:])


if __name__ == "__main__":
    main()
