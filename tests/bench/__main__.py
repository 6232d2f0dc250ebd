"""Overhead compared with a minimal client: the product and the client take turns, and the result is a Markdown table.

    python -m tests.bench
    python -m tests.bench --patrons 20000 200000 --only report limited
    EVERGREEN_GROUPS_PASSWORD=… python -m tests.bench --url https://evergreen.example.org --account groups_report

Without ``--url`` it starts sandboxes. The minimal client is :mod:`floor`. ``--account NAME`` may be repeated; the
password is in the variable EVERGREEN_GROUPS_PASSWORD, or in the variable of ``NAME=VARIABLE``. The bench changes
nothing. It exits with 1 if the product and the minimal client differ by a cent, and with 2 if a goal is missed and
``--strict`` is given.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from . import growth, reading
from .rows import Row, markdown
from .sites import Site, evergreen, sandbox

SANDBOX_ACCOUNTS = ("admin", "consortium_staff", "harbor_desk")
SUBJECTS = ("report", "limited", "startup", "audit", "growth")

GROWING = (200_000, 1_000_000, 3_000_000)
LISTED = 4_250
PREPARED = Path(__file__).resolve().parents[2] / "build" / "sandboxes"


def rows_of(site: Site, subjects: list[str], pairs: int) -> Iterator[Row]:
    for account in site.accounts:
        if ("report" if account.sees_all else "limited") in subjects:
            yield reading.report(site, account, pairs, what="report, sums")
            yield reading.report(site, account, pairs, "--details", what="report with details")
    if "startup" in subjects:
        yield from reading.start_up(site, site.accounts[0], pairs)
    if "audit" in subjects:
        for account in site.accounts:
            for output_format in ("json", "html"):
                yield reading.audit(site, account, pairs, output_format)


def growing(sizes: list[int], pairs: int, prepared: Path) -> Iterator[Row]:
    """Yield rows on growth with the number of patrons, then with the number of listed groups (first site)."""
    account = ("consortium_staff",)
    first: Row | None = None
    for size in sizes:
        with sandbox(account, size, prepared, listed_groups=LISTED) as site:
            row = growth.with_patrons(site, site.accounts[0], size, pairs, first)
            first = first or row
            yield row
    with sandbox(account, sizes[0], prepared, listed_groups=LISTED) as site:
        yield from growth.with_list(site, site.accounts[0], pairs)


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


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--url", help="an Evergreen's address; none: sandboxes")
    parser.add_argument("--account", action="append", default=[], metavar="NAME[=VARIABLE]")
    parser.add_argument("--patrons", type=int, nargs="+", default=[200_000], help="of the sandboxes")
    parser.add_argument("--growing", type=int, nargs="+", default=list(GROWING), help="patrons, for growth")
    parser.add_argument("--prepared", type=Path, default=PREPARED, help="where large sandboxes are kept, made once")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument("--note", default="", help="what can't be seen from here, such as whether JIT is on")
    parser.add_argument("--save", type=Path, help="write all figures to this file, as JSON")
    parser.add_argument("--strict", action="store_true", help="end with status 2 where a goal is missed")
    return parser.parse_args()


def main() -> int:
    chosen = options()
    before = os.getloadavg()[0]
    found: list[Row] = []
    for row in measured(chosen):
        print(markdown([row]).splitlines()[-1], file=sys.stderr, flush=True)
        found.append(row)
    print(markdown(found))
    print()
    load = f"load {before:.1f} before and {os.getloadavg()[0]:.1f} after"
    print(f"{machine()}; Python {platform.python_version()}; {load}; {chosen.pairs} pairs. {chosen.note}")
    if chosen.save:
        chosen.save.write_text(json.dumps([asdict(row) for row in found], indent=1) + "\n")
    return 2 if chosen.strict and any(row.met is False for row in found) else 0


def measured(chosen: argparse.Namespace) -> Iterator[Row]:
    if chosen.url:
        with evergreen(chosen.url, dict(password(one) for one in chosen.account)) as site:
            print(f"{site.url}, release {site.release}, {site.size}", file=sys.stderr)
            yield from rows_of(site, chosen.only, chosen.pairs)
        return
    if set(chosen.only) - {"growth"}:
        for patrons in chosen.patrons:
            with sandbox(SANDBOX_ACCOUNTS, patrons, chosen.prepared) as site:
                print(f"sandbox, {patrons:,} patrons", file=sys.stderr)
                yield from rows_of(site, chosen.only, chosen.pairs)
    if "growth" in chosen.only:
        yield from growing(chosen.growing, chosen.pairs, chosen.prepared)


if __name__ == "__main__":
    sys.exit(main())
