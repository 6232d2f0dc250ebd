"""What a patron has out, as the IDL's views ``ocirclist`` and ``ocirccount`` sort it (``fm_IDL.xml``)."""

from __future__ import annotations

import re

from evergreen_groups.sandbox.database import Row, Store, now, timestamp_text

KINDS = ("out", "overdue", "lost", "claims_returned", "long_overdue")

_HOURS = re.compile(r"(\d+):\d\d:\d\d")
INFINITY_AS_SENT = "1970-01-01T00:00:00+0000"
_STOPPED = {"LOST": "lost", "CLAIMSRETURNED": "claims_returned", "LONGOVERDUE": "long_overdue"}


def _by_the_day(interval: str) -> bool:
    """Whether a fine interval is a day or more, in PostgreSQL's spelling (``1 day``, ``01:00:00``)."""
    if re.search(r"day|mon|year|week", interval):
        return True
    match = _HOURS.match(interval)
    return match is not None and int(match[1]) >= 24


def _is_overdue(row: Row) -> bool:
    moment = timestamp_text(now())
    if _by_the_day(row["fine_interval"] or ""):
        moment = f"{moment[:10]}T00:00:00+0000"
    return due_before(row, moment)


def due_before(row: Row, moment: str) -> bool:
    """Whether a circulation is due before a moment. The database compares the infinity that is sent as 1970."""
    return bool(row["due_date"] != INFINITY_AS_SENT and row["due_date"] < moment)


def open_circulations(store: Store, user_id: int) -> dict[str, list[int]]:
    """The ids of a patron's circulations that haven't been checked in, by kind (:data:`KINDS`)."""
    found: dict[str, list[int]] = {kind: [] for kind in KINDS}
    for row in store.rows("circ", {"usr": user_id, "checkin_time": None}):
        kind = _STOPPED.get(row["stop_fines"])
        if kind is None:
            kind = "overdue" if _is_overdue(row) else "out"
        elif kind != "claims_returned" and row["xact_finish"] is not None:
            continue
        found[kind].append(row["id"])
    return found
