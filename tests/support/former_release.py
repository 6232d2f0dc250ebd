"""The files that release 0.1.0 kept, written by it on its sandbox."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from evergreen_groups.state import State, schema

KEPT = Path(__file__).parents[1] / "state" / "release_0_1"


def lay_out(directory: Path) -> None:
    """Put the files of 0.1.0 where it had them."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for script in KEPT.glob("*.sql"):
        path = directory / f"{script.stem}.sqlite3"
        with closing(sqlite3.connect(path)) as database:
            database.executescript(script.read_text("utf-8"))
        path.chmod(0o600)
    shutil.copy(KEPT / "status.json", directory)
    shutil.copytree(KEPT / "mail", directory / "mail")
    for file in [directory / "status.json", *(directory / "mail").iterdir()]:
        file.chmod(0o600)


def counts(state: State) -> dict[str, int]:
    """How many rows each table has, of those that are taken over."""
    with state.database.reading() as connection:
        return {
            table.name: len(connection.execute(table.select()).all())
            for table in schema.metadata.sorted_tables
            if table.name not in ("former_files", "leases", "retention")
        }


ALL = {
    "changes": 5, "steps": 6, "series": 2, "runs": 3, "run_totals": 22, "run_groups": 11, "events": 2, "mails": 2,
    "run_status": 1, "plans": 0, "group_nights": 0, "groups_to_keep": 0,
}  # fmt: skip
"""How many rows they come to in each table."""
