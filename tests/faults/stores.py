"""Snapshots of the sandbox's data, and the differences between two of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from evergreen_groups.changes import PENALTIES
from evergreen_groups.sandbox import Sandbox

NEW = "a new group"
FIELDS = ("usrgroup", "master_account")
_COMES_WITH_EVERY_CHANGE = {"last_xact_id", "last_update_time", "_position"}
_ANOTHER_MATTER = ("ausp", "aum")
_VOLATILE_TABLES = ("about", "sequences", "sqlite_stat1", "sqlite_sequence")

Place = tuple[int, str]
"""A patron's id and a field; the field ``penalties`` means the penalties in force."""


@dataclass(frozen=True)
class Stores:
    """All rows by table and key, the columns of each table, and the number of the next new group."""

    rows: dict[str, dict[Any, tuple[Any, ...]]]
    columns: dict[str, list[str]]
    next_group: int

    @classmethod
    def of(cls, sandbox: Sandbox) -> Stores:
        connection = sandbox._store.read()
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows: dict[str, dict[Any, tuple[Any, ...]]] = {}
        columns: dict[str, list[str]] = {}
        for table in tables:
            if table not in _VOLATILE_TABLES:
                found = connection.execute(f'SELECT * FROM "{table}"')
                columns[table] = names = [column[0] for column in found.description]
                key = names.index("id") if "id" in names else None
                rows[table] = {(row if key is None else row[key]): row for row in found}
        asked = "SELECT next FROM sequences WHERE name = 'actor.usr_usrgroup_seq'"
        return cls(rows, columns, int(connection.execute(asked).fetchone()[0]))

    def value(self, patron: int, field: str) -> int:
        return int(self.rows["au"][patron][self.columns["au"].index(field)])

    def penalties(self) -> dict[int, frozenset[tuple[Any, ...]]]:
        """Return the penalties in force by patron, without what differs when the same penalty is set again."""
        found: dict[int, set[tuple[Any, ...]]] = {}
        for row in self.rows["ausp"].values():
            values = dict(zip(self.columns["ausp"], row, strict=True))
            if values["stop_date"] is None:
                kind = (values["standing_penalty"], values["org_unit"], values["staff"])
                found.setdefault(values["usr"], set()).add(kind)
        return {patron: frozenset(kinds) for patron, kinds in found.items()}

    def changes_since(self, before: Stores) -> dict[Place, Any]:
        """Return the differences in groups, leads and penalties, with ``NEW`` for a group that didn't exist."""
        found: dict[Place, Any] = {}
        for patron in self.rows["au"]:
            for field in FIELDS:
                value = self.value(patron, field)
                if value != before.value(patron, field):
                    found[patron, field] = NEW if field == "usrgroup" and value >= before.next_group else value
        was, now = before.penalties(), self.penalties()
        for patron in {*was, *now}:
            if was.get(patron) != now.get(patron):
                found[patron, PENALTIES] = now.get(patron, frozenset())
        return found

    def foreign_since(self, before: Stores) -> list[str]:
        """Return all other differences."""
        patrons = {patron for patron, _field in self.changes_since(before)}
        found = []
        for table, rows in self.rows.items():
            if table in _ANOTHER_MATTER:
                continue
            for key in {**before.rows[table], **rows}:
                was, now = before.rows[table].get(key), rows.get(key)
                if was is None or now is None:
                    found.append(f"{table} {key} {'is new' if was is None else 'is gone'}")
                    continue
                known = {*FIELDS, *(_COMES_WITH_EVERY_CHANGE if key in patrons else ())} if table == "au" else ()
                for name, one, other in zip(self.columns[table], was, now, strict=True):
                    if one != other and name not in known:
                        found.append(f"{table} {key}: {name} {one!r} became {other!r}")
        return found
