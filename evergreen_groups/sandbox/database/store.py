"""The sandbox's state: an SQLite database with a table for each class of the IDL.

It is one module because a store is one object: reading, writing, sequences and passwords share its connections
and its one lock.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
import threading
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.sandbox.database import schema
from evergreen_groups.sandbox.database.classes import idl_classes
from evergreen_groups.sandbox.database.functions import register
from evergreen_groups.sandbox.database.replica import Replica
from evergreen_groups.sandbox.database.statements import stored_values, where_clause
from evergreen_groups.sandbox.database.trees import OrgTree, ProfileTree
from evergreen_groups.sandbox.database.values import TO_WIRE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Row = dict[str, Any]
POSITIONS = "positions"


class Store:
    """Rows by class, in the wire types of pcrud: ints, money ``"4.50"``, booleans ``"t"``, timestamps, null.

    ``fill`` writes the fresh state into the empty tables when the file is new. Many threads may read at once; there is
    one writer at a time. Rows without another order come in the physical order of PostgreSQL as seen there: by id,
    those that were updated or added since the fresh state after them (``move-fleshed-009``).

    Raises:
        ConfigurationError: the file is there, but no sandbox made it.
    """

    def __init__(self, fill: Callable[[sqlite3.Connection], None], path: Path | None = None) -> None:
        self._folder = None if path else tempfile.TemporaryDirectory(prefix="evergreen-groups-")
        self.path = path or Path(self._folder.name if self._folder else "") / "sandbox.db"
        self._fresh_path = self.path.with_name(self.path.name + ".fresh")
        self._write_lock = threading.RLock()
        self._transaction_depth = 0
        self._drawn: dict[str, int] = {}
        self._refill: Callable[[sqlite3.Connection], None] | None = None
        self._pool: list[sqlite3.Connection] = []
        self._all: list[sqlite3.Connection] = []
        self._pool_lock = threading.Lock()
        self._local = threading.local()
        if not self._fresh_path.exists():
            if self.path.exists() and self.path.stat().st_size:
                raise ConfigurationError(
                    "{path} isn't a sandbox's database",
                    advice="name another file, or delete it",
                    code="not-a-sandbox",
                    values={"path": self.path},
                )
            try:
                self._make(fill)
            except BaseException:  # half a database would be taken for a whole one the next time
                self._discard()
                raise
        self._writer = self._connect()
        self.replica: Replica | None = None
        self.orgs  # noqa: B018 - the SQL function org_walk needs them while a query runs

    def _make(self, fill: Callable[[sqlite3.Connection], None]) -> None:
        self._fresh_path.touch(mode=0o600)
        self.path.touch(mode=0o600)
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = OFF")
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("PRAGMA cache_size = -65536")
            connection.executescript(schema.script(indexes=False))
            connection.execute("BEGIN")
            fill(connection)
            connection.execute("COMMIT")
            connection.executescript(schema.script(indexes=True))
            connection.execute("ANALYZE")
            connection.execute("PRAGMA journal_mode = WAL")
            with closing(sqlite3.connect(self._fresh_path)) as fresh:
                connection.backup(fresh)

    def _discard(self) -> None:
        for path in (self.path, self._fresh_path):
            path.unlink(missing_ok=True)
        if self._folder:
            self._folder.cleanup()

    def add_replica(self, delay: float) -> None:
        """Have a copy for plain reads, which is ``delay`` seconds behind."""
        path = self.path.with_name(self.path.name + ".replica")
        self.replica = Replica(path, delay, self._connect, lambda: self._writer)

    def _connect(self, path: Path | None = None) -> sqlite3.Connection:
        connection = sqlite3.connect(path or self.path, isolation_level=None, check_same_thread=False, timeout=30)
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("PRAGMA cache_size = -32768")
        connection.execute("PRAGMA mmap_size = 1073741824")
        register(connection)
        connection.create_function("org_walk", 3, self._org_walk)
        self._all.append(connection)
        return connection

    def _org_walk(self, walk: str, org_unit: int, depth: int | None) -> str:
        """The org units around one, as a JSON list for SQL; ``depth`` is that of the ancestor to begin at."""
        orgs = self.orgs
        if walk == "ancestor_at_depth":
            found = orgs.ancestor_at_depth(org_unit, depth or 0)
            return json.dumps([] if found is None else [found])
        start = org_unit if depth is None else orgs.ancestor_at_depth(org_unit, depth)
        walks = {
            "descendants": orgs.descendants,
            "descendants_distance": orgs.descendants,
            "ancestors": orgs.ancestors,
            "full_path": orgs.full_path,
        }
        return json.dumps(walks[walk](start))

    def read(self) -> sqlite3.Connection:
        """This thread's connection for reading; inside a transaction of this thread, the one that writes."""
        if getattr(self._local, "writing", False):
            return self._writer
        if self.replica is not None and (copy := self.replica.serves) is not None:
            return copy
        connection: sqlite3.Connection | None = getattr(self._local, "reader", None)
        if connection is None:
            with self._pool_lock:
                connection = self._pool.pop() if self._pool else None
            connection = connection or self._connect()
            self._local.reader = connection
        return connection

    def release(self) -> None:
        """Give this thread's connection back, at the thread's end."""
        connection = getattr(self._local, "reader", None)
        if connection is not None:
            self._local.reader = None
            with self._pool_lock:
                self._pool.append(connection)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Write; all is undone if an exception leaves the block. A block inside another belongs to the outer one."""
        with self._write_lock:
            if self._transaction_depth == 0:
                self._writer.execute("BEGIN IMMEDIATE")
            self._transaction_depth += 1
            self._local.writing = True
            try:
                yield self._writer
            except BaseException:
                if self._transaction_depth == 1:
                    self._writer.execute("ROLLBACK")
                    self._keep_drawn()
                raise
            else:
                if self._transaction_depth == 1:
                    self._writer.execute("COMMIT")
                    if self.replica is not None:
                        self.replica.fall_behind()
            finally:
                self._transaction_depth -= 1
                self._local.writing = self._transaction_depth > 0
                if self._transaction_depth == 0:
                    self._drawn.clear()

    def _keep_drawn(self) -> None:
        """Write again what sequences have given: PostgreSQL doesn't take that back either."""
        self._writer.executemany("INSERT OR REPLACE INTO sequences VALUES (?, ?)", list(self._drawn.items()))

    def reset(self) -> None:
        """Put everything back to the fresh state."""
        if self._refill is not None:
            self.refill(self._refill)
            return
        with self._write_lock, closing(sqlite3.connect(self._fresh_path)) as fresh:
            fresh.backup(self._writer)
            if self.replica is not None:
                self.replica.catch_up()

    def refill(self, fill: Callable[[sqlite3.Connection], None]) -> None:
        """Write other data in place of all there is; what ``fill`` writes is the fresh state from then on.

        Much quicker than another database for data that are small.
        """
        with self.transaction() as connection:
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            for (name,) in tables:
                if not name.startswith("sqlite_"):
                    connection.execute(f'DELETE FROM "{name}"')
            fill(connection)
        self._refill = fill
        for name in ("orgs", "profiles"):  # read anew when they are next needed
            self.__dict__.pop(name, None)
        self.orgs  # noqa: B018 - the SQL function org_walk needs them while a query runs
        if self.replica is not None:
            self.replica.catch_up()

    def close(self) -> None:
        """Close the database, and delete it where it is a temporary one."""
        for connection in self._all:
            connection.close()
        if self._folder:
            self._folder.cleanup()

    @cached_property
    def orgs(self) -> OrgTree:
        """The org units."""
        connection = self.read()
        parents = connection.execute("SELECT id, parent_ou FROM aou ORDER BY id").fetchall()
        depths = connection.execute("SELECT aou.id, aout.depth FROM aou JOIN aout ON aout.id = aou.ou_type").fetchall()
        return OrgTree(parents, dict(depths))

    @cached_property
    def profiles(self) -> ProfileTree:
        """The permission profiles."""
        return ProfileTree(self.read().execute("SELECT id, parent FROM pgt ORDER BY id").fetchall())

    def rows(self, class_id: str, where: Mapping[str, Any] | None = None, order_by: str | None = None) -> list[Row]:
        """The rows whose fields have the values given (a list: one of them; None: null).

        ``order_by`` is a list of fields as in SQL (``"family_name, id DESC"``).

        Raises:
            BadValueError: a value doesn't fit its field.
        """
        known = idl_classes()[class_id]
        conditions, parameters = where_clause(known, where or {})
        names = ", ".join(f'"{item.name}"' for item in known.columns)
        order = order_by or f'_position, "{known.primary}"'
        statement = f"SELECT {names} FROM {class_id}{conditions} ORDER BY {order}"
        columns = [(item.name, TO_WIRE[item.kind]) for item in known.columns]
        return [
            {
                name: value if convert is None or value is None else convert(value)
                for (name, convert), value in zip(columns, values, strict=True)
            }
            for values in self.read().execute(statement, parameters)
        ]

    def row(self, class_id: str, key: Any) -> Row | None:
        """The row with that primary key, or None."""
        found = self.rows(class_id, {idl_classes()[class_id].primary: key})
        return found[0] if found else None

    def insert(self, class_id: str, values: Mapping[str, Any]) -> int:
        """Add a row and return its id, the next of the class's sequence where none is given.

        Raises:
            BadValueError: a value doesn't fit its field.
        """
        known = idl_classes()[class_id]
        with self.transaction() as connection:
            stored = stored_values(known, values)
            if stored.get(known.primary) is None:
                stored[known.primary] = self.next_value(known.sequence or known.table)
            stored["_position"] = self.next_value(POSITIONS)
            names = ", ".join(f'"{name}"' for name in stored)
            marks = ", ".join("?" * len(stored))
            connection.execute(
                f"INSERT INTO {class_id} ({names}) VALUES ({marks})",
                list(stored.values()),
            )
            return int(stored[known.primary])

    def update(self, class_id: str, key: Any, changes: Mapping[str, Any]) -> None:
        """Change fields of one row, which then comes last where no order is asked for.

        Raises:
            BadValueError: a value doesn't fit its field.
        """
        known = idl_classes()[class_id]
        with self.transaction() as connection:
            stored = stored_values(known, changes)
            stored["_position"] = self.next_value(POSITIONS)
            names = ", ".join(f'"{name}" = ?' for name in stored)
            connection.execute(
                f'UPDATE {class_id} SET {names} WHERE "{known.primary}" = ?',
                [*stored.values(), key],
            )

    def delete(self, class_id: str, key: Any) -> None:
        """Delete one row."""
        statement = f'DELETE FROM {class_id} WHERE "{idl_classes()[class_id].primary}" = ?'
        with self.transaction() as connection:
            connection.execute(statement, [key])

    def next_value(self, sequence: str) -> int:
        """Draw from a sequence, by its name in PostgreSQL (``actor.usr_usrgroup_seq``)."""
        with self.transaction() as connection:
            connection.execute(
                "INSERT INTO sequences VALUES (?, 2) ON CONFLICT (name) DO UPDATE SET next = next + 1", [sequence]
            )
            (following,) = connection.execute("SELECT next FROM sequences WHERE name = ?", [sequence]).fetchone()
            self._drawn[sequence] = int(following)
            return int(following) - 1

    def password(self, user_id: int) -> str | None:
        """The password of an account, None where it has none."""
        row = (
            self.read()
            .execute(
                "SELECT password FROM passwords WHERE usr = :id UNION ALL "
                "SELECT password FROM default_passwords WHERE above < :id LIMIT 1",
                {"id": user_id},
            )
            .fetchone()
        )
        return row[0] if row else None

    def set_password(self, user_id: int, password: str) -> None:
        """Give an account another password."""
        with self.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO passwords VALUES (?, ?)", [user_id, password])
