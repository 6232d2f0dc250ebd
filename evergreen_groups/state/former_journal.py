"""The journal of release 0.1: a table that only grew for each thing that happened to a step."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select

from evergreen_groups.state import schema
from evergreen_groups.state.counters import set_counters
from evergreen_groups.state.former_file import Row, first_id, insert_rows, moment_of, opened

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_SUPERSEDED = "another change of the same patron was sent before it was known what became of this one"


def take_over_journal(connection: Connection, path: Path) -> int:
    changes, steps = schema.changes, schema.steps
    base = first_id(connection, changes), first_id(connection, steps)
    with opened(path) as file:
        entries = file.execute(
            "SELECT id, gateway, account, at, action, undoes,"
            " (SELECT count(*) FROM steps WHERE entry = entries.id) AS step_count FROM entries ORDER BY id"
        )
        count = insert_rows(
            connection,
            changes,
            (
                {
                    **dict(row),
                    "id": row["id"] + base[0],
                    "at": moment_of(row["at"]),
                    "undoes": None if row["undoes"] is None else row["undoes"] + base[0],
                }
                for row in entries
            ),
        )
        count += insert_rows(connection, steps, _steps(file, base, _open(connection)))
    set_counters(connection, changes, steps)
    return count


_STEPS = """
SELECT steps.id, entry, gateway, patron, field, before, after, coalesce(state, 'planned') AS state, value,
       coalesce(reason, '') AS reason, coalesce(events.at, entries.at) AS touched_at, {sending},
       state = 'sending' AND EXISTS (
           SELECT 1 FROM steps AS later JOIN entries AS its ON its.id = later.entry JOIN events AS last
               ON last.id = (SELECT max(id) FROM events AS one WHERE one.step = later.id)
           WHERE later.id > steps.id AND later.patron = steps.patron AND later.field = steps.field
               AND its.gateway = entries.gateway AND last.state = 'sending') AS superseded
FROM steps JOIN entries ON entries.id = entry
    LEFT JOIN events ON events.id = (SELECT max(latest.id) FROM events AS latest WHERE latest.step = steps.id)
    {sendings}
ORDER BY steps.id
"""
_OLDEST = {
    "sending": "NULL AS sent_at, NULL AS sent_until, NULL AS last_xact_id, NULL AS other_fields",
    "sendings": "",
}
_WITH_SENDINGS = {
    "sending": "sendings.at AS sent_at, sendings.until AS sent_until, last_xact_id, other_fields",
    "sendings": "LEFT JOIN sendings ON sendings.id = (SELECT max(id) FROM sendings AS one WHERE one.step = steps.id)",
}


def _open(connection: Connection) -> set[tuple[str, int, str]]:
    """What is open already: another machine's."""
    table = schema.steps
    found = select(table.c.gateway, table.c.patron, table.c.field).where(table.c.state == "sending")
    return {(row.gateway, row.patron, row.field) for row in connection.execute(found)}


def _steps(file: sqlite3.Connection, base: tuple[int, int], are_open: set[tuple[str, int, str]]) -> Iterator[Row]:
    has_sendings = file.execute("SELECT 1 FROM sqlite_master WHERE name = 'sendings'").fetchone()
    for row in file.execute(_STEPS.format(**(_WITH_SENDINGS if has_sendings else _OLDEST))):
        step = dict(row)
        superseded = step.pop("superseded") or (
            step["state"] == "sending" and (step["gateway"], step["patron"], step["field"]) in are_open
        )
        yield {
            **step,
            "id": step["id"] + base[1],
            "change": step.pop("entry") + base[0],
            "state": "failed" if superseded else step["state"],
            "reason": _SUPERSEDED if superseded else step["reason"],
            "touched_at": moment_of(step["touched_at"]),
            "sent_at": None if step["sent_at"] is None else moment_of(step["sent_at"]),
            "sent_until": None if step["sent_until"] is None else moment_of(step["sent_until"]),
        }
