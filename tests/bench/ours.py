"""One report, or an audit, built by this package as a program does, in a separate process.

    EVERGREEN_GROUPS_PASSWORD=… python tests/bench/ours.py --url URL --account NAME [--min-total 25.00] [--details]
        [--audit FORMAT]

Prints the same JSON as :mod:`floor`. The time starts with the first connection to the gateway: imports before it are
measured separately, imports after it count. An audit ends with the last byte of a file.
"""

import argparse
import json
import os
import resource
import socket
import sys
import tempfile
import time
from decimal import Decimal
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


def report(gateway: Gateway, options: argparse.Namespace) -> dict[str, Any]:
    """Build a report, and return the figures that the floor must match."""
    report = build_report(gateway, Criteria(min_total=options.min_total, details=options.details))
    # Unknown fines of hidden members would make the sums differ.
    hidden_fines = sum((group.hidden_fines or Decimal(0) for group in report.groups), Decimal(0))
    return {
        "groups": report.totals.group_count,
        "members": report.totals.member_count,
        "fines": f"{report.totals.group_fines:.2f}",
        "visible_fines": f"{report.totals.group_fines - hidden_fines:.2f}",
        "hidden_fines": f"{hidden_fines:.2f}",
    }


def audit(gateway: Gateway, options: argparse.Namespace) -> dict[str, Any]:
    from evergreen_groups.audit import AuditCriteria, FindingKind, build_audit
    from evergreen_groups.render.audit import render_audit

    found = build_audit(gateway, AuditCriteria(top={"table": 200, "html": 500}.get(options.audit)))
    with tempfile.TemporaryFile("w", newline="") as stream:
        render_audit(found, options.audit, stream)
    return {"findings": sum(found.count(kind) for kind in FindingKind)}


def main() -> None:
    """Build what the command line asks for, and print the cost."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--url", required=True)
    parser.add_argument("--account", required=True)
    parser.add_argument("--min-total", type=Decimal, default=Decimal("25.00"))
    parser.add_argument("--details", action="store_true")
    parser.add_argument("--audit", metavar="FORMAT", help="the audit as table, csv, json or html")
    options = parser.parse_args()
    credentials = Credentials(username=options.account, password=os.environ["EVERGREEN_GROUPS_PASSWORD"])
    connections = note_connections()
    with Gateway(options.url, credentials=credentials, allow_plain_http=True) as gateway:
        found = (audit if options.audit else report)(gateway, options)
        cost = {
            "seconds": time.perf_counter() - connections[0][0],
            "cpu_seconds": time.process_time() - connections[0][1],
            "calls": gateway.statistics.calls,
            "bytes": gateway.statistics.bytes_sent + gateway.statistics.bytes_received,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
    json.dump({**found, **cost}, sys.stdout)


if __name__ == "__main__":
    main()
