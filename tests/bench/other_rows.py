"""The rows of benches with their own measures: the audit, the service, and writing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from statistics import median
from typing import Any

from . import audit, output, service
from .rows import Row, Spread
from .sites import Account, Site

AUDIT_TIMES, AUDIT_MB = 1.5, 120
AUDIT_SECONDS = {True: 10, False: 30}
"""For a superuser, and for others, on the real population that the goal was set for."""
CLIENTS = (1, 50, 200)
ADDED_MS, THROUGHPUT = 5, 0.95
FORMAT_MB = {"html": 250}
"""The limit for the other formats, and for the audit."""


def audits(site: Site, account: Account, pairs: int) -> Iterator[Row]:
    """Yield rows on the audit's overhead compared with its bare queries, written as JSON."""
    for found in audit.rows(site.url, account.name, account.password, pairs, formats=("json",)):
        ours, floor = Spread(tuple(found["ours_seconds"])), Spread(tuple(found["floor_seconds"]))
        ratio = median(mine / other for mine, other in zip(ours.values, floor.values, strict=True))
        yield Row(
            what=found["what"],
            account=account.name,
            size=f"{sum(found['counts'].values()):,} findings",
            ours=ours,
            floor=floor,
            calls=(found["ours_calls"], found["floor_calls"]),
            bytes=(found["bytes"], found["floor_bytes"]),
            peak_mb=found["peak_mb"],
            goal=f"{AUDIT_TIMES} × floor; {AUDIT_MB} MB",
            met=ratio <= AUDIT_TIMES and found["peak_mb"] <= AUDIT_MB,
        )


def services(site: Site, account: Account, pairs: int) -> Iterator[Row]:
    """Yield rows on the service's throughput compared with the gateway's, for each task that changes nothing."""
    with redirect_stdout(sys.stderr):
        rows = service.rows(site.url, account.name, account.password, pairs, clients=CLIENTS)
    return map(_of_service, rows)


def _of_service(found: dict[str, Any]) -> Row:
    ours, floor, alone = found["ours_per_second"], found["floor_per_second"], found["clients"] == 1
    if alone:
        goal, met = f"adds {ADDED_MS} ms", found["added_ms"] <= ADDED_MS
    else:
        goal = f"{THROUGHPUT} × floor, p99 no worse"
        met = ours >= THROUGHPUT * floor and found["ours_p99"] <= found["floor_p99"]
    said = f"adds {found['added_ms']:.1f} ms; " if alone else ""
    return Row(
        what=f"desk: {found['what']}",
        account="",
        size=f"{found['clients']} clients; {said}p99 {found['ours_p99']:.0f}, floor {found['floor_p99']:.0f} ms",
        ours=Spread((ours,)),
        floor=Spread((floor,)),
        unit="a second",
        goal=goal,
        met=met and not found["errors"],
    )


def writings() -> Iterator[Row]:
    """Yield rows on the cost of writing each format, compared with reading, in CPU seconds."""
    for found in output.rows(details=("sums",), wanted=output.FORMATS):
        most = FORMAT_MB.get(found["what"], AUDIT_MB)
        yield Row(
            what=f"writing, {found['what']}",
            account="",
            size=f"{found['members']:,} members, {found['bytes'] / 1e6:.1f} MB written; the floor is reading them",
            ours=Spread((found["write_seconds"],)),
            floor=Spread((found["read_seconds"],)),
            peak_mb=found["peak_mb"],
            goal=f"as long as reading; {most} MB",
            met=found["write_seconds"] <= found["read_seconds"] and found["peak_mb"] <= most,
        )
