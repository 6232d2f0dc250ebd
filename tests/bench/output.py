"""The cost of writing a report compared with reading it: CPU seconds, peak memory and bytes of each format.

    python tests/bench/output.py [--members 10000 100000] [--details sums full] [--formats csv json …]

A separate process reads the report from a sandbox with three times as many patrons as should be listed; every group
with a debt is listed. It forks for each row, so that it reads once. Peak memory is the higher one of reading and
writing. Formats are written to a file, or to a directory for reports by library, and mails are made with the
spreadsheet attached. ``history.py`` measures the history.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from programs import ACCOUNT, PASSWORD, address_in, command

FORMATS = ("csv", "json", "jsonl", "html", "xlsx")
BY_LIBRARY = "all formats by library"
MAIL = "mail with a spreadsheet"
EVERYTHING = (*FORMATS, *(f"{format} by library" for format in FORMATS), BY_LIBRARY, MAIL)
ENVIRONMENT = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
"""The environment of the nightly unit."""
_PATRONS_FOR_EACH = 3.15
"""Patrons in the sandbox per member of a group with debts."""


def peak_mb() -> float:
    """Return this process's peak memory in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measured(url: str, details: bool, wanted: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Read a report in this process, and write it in forks of it; yields one row per format."""
    from evergreen_groups.gateway import Credentials, Gateway
    from evergreen_groups.report import Criteria, build_report

    began = time.process_time()
    criteria = Criteria(min_total=Decimal("0.01"), min_members=1, details=details)
    with Gateway(url, credentials=Credentials(username=ACCOUNT, password=PASSWORD)) as gateway:
        report = build_report(gateway, criteria)
    read = {
        "members": report.totals.member_count,
        "read_seconds": time.process_time() - began,
        "read_peak_mb": peak_mb(),
    }
    for what in wanted:
        written = in_a_copy(lambda what=what: write(report, what))  # type: ignore[misc]
        yield {"what": what, **read, **written, "peak_mb": max(read["read_peak_mb"], written["peak_mb"])}


def in_a_copy(work: Callable[[], int]) -> dict[str, Any]:
    """Do something in a fork; returns its seconds, its peak memory and the bytes it reports."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    if not (child := os.fork()):
        try:
            began = time.process_time()
            size = work()
            found = {"write_seconds": time.process_time() - began, "peak_mb": peak_mb(), "bytes": size}
            os.write(writing, json.dumps(found).encode())
        finally:
            os._exit(0)  # whatever happened, the parent must go on, and notices the missing response
    os.close(writing)
    with os.fdopen(reading) as stream:
        found = json.loads(stream.read())
    os.waitpid(child, 0)
    return found


def write(report: Any, what: str) -> int:
    """Write a report in one way, and return the bytes."""
    from evergreen_groups.render import StaffClient
    from evergreen_groups.render.report import write_file

    client = StaffClient("eg2", "https://ils.example")
    with TemporaryDirectory() as scratch:
        directory = Path(scratch)
        if what in FORMATS:
            write_file(report, what, directory / f"report.{what}", client=client)
        elif what == MAIL:
            return mails(report, client)
        else:
            from evergreen_groups.nightly.output import publish

            formats = FORMATS if what == BY_LIBRARY else (what.partition(" ")[0],)
            publish(report, directory, formats, client=client)
        return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file() and not file.is_symlink())


def mails(report: Any, client: Any) -> int:
    """Make the mails for two recipients, each with a spreadsheet."""
    from evergreen_groups.nightly.mailing import messages
    from evergreen_groups.settings import MailSettings

    roots = [unit.shortname for unit in report.org_units if unit.parent is None]
    below = [unit.shortname for unit in report.org_units if unit.parent is not None][:1]
    settings = MailSettings(
        sender="report@library.example",
        recipients=tuple((name, ("manager@library.example",)) for name in (*roots, *below)),
        attach="xlsx",
        names_in_mail=True,
    )
    return sum(len(bytes(message)) for message in messages(report, settings, client=client))


def each_row(members: Sequence[int], details: Sequence[str], wanted: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield a row for each size, details and format, as it is measured."""
    for count in members:
        with command("sandbox", "--port", "0", "--patrons", str(int(count * _PATRONS_FOR_EACH))) as sandbox:
            url = address_in(sandbox)
            for what in details:
                one = [sys.executable, __file__, "--one", url, what, *wanted]
                environment = {**os.environ, **ENVIRONMENT}
                with subprocess.Popen(one, stdout=subprocess.PIPE, text=True, env=environment) as process:
                    assert process.stdout is not None
                    for line in process.stdout:
                        yield {"details": what, **json.loads(line)}
                assert process.returncode == 0


def main() -> None:
    """Measure what the command line asks for, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--members", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--details", nargs="+", choices=("sums", "full"), default=["sums", "full"])
    parser.add_argument("--formats", nargs="+", choices=EVERYTHING, default=EVERYTHING, metavar="WHAT")
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        url, details, *wanted = options.one
        for row in measured(url, details == "full", wanted):
            print(json.dumps(row), flush=True)
        return
    print("| what | details | members | reading, s | writing, s | peak of reading, MB | peak, MB | MB written |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for row in each_row(options.members, options.details, options.formats):
        print(
            f"| {row['what']} | {row['details']} | {row['members']:,} | {row['read_seconds']:.1f} | "
            f"{row['write_seconds']:.1f} | {row['read_peak_mb']:.0f} | {row['peak_mb']:.0f} | "
            f"{row['bytes'] / 1e6:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
