"""The cost of writing a report compared with reading it: CPU seconds, peak memory and bytes of each format.

    python tests/bench/output.py [--members 10000 100000] [--formats csv json …]

A separate process reads the report with all details from a sandbox with three times as many patrons as should be
listed; every group with a debt is listed. It forks for each row, so that it reads once. Peak memory is the higher one
of reading and writing.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from programs import ACCOUNT, PASSWORD, address_in, command

FORMATS = ("csv", "json", "jsonl", "html", "xlsx")
ENVIRONMENT = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
"""The environment of the nightly unit."""
_PATRONS_FOR_EACH = 3.15
"""Patrons in the sandbox per member of a group with debts."""


def peak_mb() -> float:
    """Return this process's peak memory in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(url: str, formats: Sequence[str]) -> None:
    """Read a report in this process, and write it in forks of it; prints a row of the table for each format."""
    from evergreen_groups.gateway import Credentials, Gateway
    from evergreen_groups.report import Criteria, build_report

    began = time.process_time()
    criteria = Criteria(min_total=Decimal("0.01"), min_members=1, details=True)
    with Gateway(url, credentials=Credentials(username=ACCOUNT, password=PASSWORD)) as gateway:
        report = build_report(gateway, criteria)
    read, peak = time.process_time() - began, peak_mb()
    for format in formats:
        wrote = written(report, format)
        cells = (f"{format} | {report.totals.member_count:,} | {read:.1f} | {wrote['seconds']:.1f}", f"{peak:.0f}")
        print(f"| {' | '.join(cells)} | {max(peak, wrote['peak_mb']):.0f} | {wrote['bytes'] / 1e6:.1f} |", flush=True)


def written(report: Any, format: str) -> dict[str, float]:
    """Write a report in a fork; returns its seconds, its peak memory and the size."""
    from evergreen_groups.render import StaffClient
    from evergreen_groups.render.report import write_file

    reading, writing = os.pipe()
    if not (child := os.fork()):
        try:
            with TemporaryDirectory() as directory:
                file, began = Path(directory, f"report.{format}"), time.process_time()
                write_file(report, format, file, client=StaffClient("eg2", "https://ils.example"))
                seconds = time.process_time() - began
                found = {"seconds": seconds, "peak_mb": peak_mb(), "bytes": file.stat().st_size}
                os.write(writing, json.dumps(found).encode())
        finally:
            os._exit(0)  # whatever happened, the parent must go on, and notices the missing response
    os.close(writing)
    with os.fdopen(reading) as stream:
        figures: dict[str, float] = json.loads(stream.read())
    os.waitpid(child, 0)
    return figures


def main() -> None:
    """Measure what the command line asks for, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--members", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS)
    parser.add_argument("--url", help=argparse.SUPPRESS)  # of the sandbox, for the process that reads
    options = parser.parse_args()
    if options.url:
        measure(options.url, options.formats)
        return
    print("| format | members | reading, s | writing, s | peak of reading, MB | peak, MB | MB written |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    for count in options.members:
        with command("sandbox", "--port", "0", "--patrons", str(int(count * _PATRONS_FOR_EACH))) as sandbox:
            one = [sys.executable, __file__, "--url", address_in(sandbox), "--formats", *options.formats]
            subprocess.run(one, env={**os.environ, **ENVIRONMENT}, check=True)


if __name__ == "__main__":
    main()
