"""One report, built by this package as a program does, in a separate process.

    EVERGREEN_GROUPS_PASSWORD=… python tests/bench/ours.py --url URL --account NAME [--min-total 25.00] [--details]

Prints the same JSON as :mod:`floor`. The time starts with the first connection to the gateway: imports before it are
measured separately, imports after it count.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import socket
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

from evergreen_groups.gateway import Credentials, Gateway
from evergreen_groups.report import Criteria, build_report


def note_connections() -> list[tuple[float, float]]:
    """Record the times of connections in the returned list: wall-clock and CPU time."""
    found: list[tuple[float, float]] = []
    connect = socket.socket.connect

    def noting(self: socket.socket, address: Any) -> None:
        found.append((time.perf_counter(), time.process_time()))
        connect(self, address)

    socket.socket.connect = noting  # type: ignore[method-assign, assignment]
    return found


def main() -> None:
    """Build what the command line asks for, and print the cost."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--url", required=True)
    parser.add_argument("--account", required=True)
    parser.add_argument("--min-total", type=Decimal, default=Decimal("25.00"))
    parser.add_argument("--details", action="store_true")
    parser.add_argument("--idl", type=Path, help="a directory, where the IDL is kept between runs")
    options = parser.parse_args()
    credentials = Credentials(username=options.account, password=os.environ["EVERGREEN_GROUPS_PASSWORD"])
    connections = note_connections()
    with Gateway(options.url, credentials=credentials, cache_directory=options.idl, allow_plain_http=True) as gateway:
        report = build_report(gateway, Criteria(min_total=options.min_total, details=options.details))
        seconds, cpu_seconds = time.perf_counter() - connections[0][0], time.process_time() - connections[0][1]
        counted = gateway.statistics
        calls, sent_and_received = counted.calls, counted.bytes_sent + counted.bytes_received
    # Unknown fines of hidden members would make the sums differ.
    hidden_fines = sum((group.hidden_fines or Decimal(0) for group in report.groups), Decimal(0))
    result = {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "calls": calls,
        "bytes": sent_and_received,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "groups": report.totals.group_count,
        "members": report.totals.member_count,
        "fines": f"{report.totals.combined_fines:.2f}",
        "visible_fines": f"{report.totals.combined_fines - hidden_fines:.2f}",
        "hidden_fines": f"{hidden_fines:.2f}",
    }
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
