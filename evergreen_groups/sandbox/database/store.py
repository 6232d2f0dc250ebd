"""The sandbox's state: an SQLite database with a table for each class of the IDL."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.sandbox.database import schema as fresh_file
from evergreen_groups.sandbox.database.classes import IdlClasses, idl_classes
from evergreen_groups.sandbox.database.trees import OrgTree, Tree
from evergreen_groups.sandbox.database.values import TO_WIRE, hash_of, register, to_storage

if TYPE_CHECKING:
    from evergreen_groups.sandbox.data import Contents
    from evergreen_groups.sandbox.database.classes import StoredClass
    from evergreen_groups.sandbox.database.schema import Progress


def stored_values(idl_class: StoredClass, values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a row's wire values to database values.

    Raises:
        BadValueError: a value doesn't fit its field.
    """
    return {name: to_storage(idl_class.by_name[name].kind, value) for name, value in values.items()}


def where_clause(idl_class: StoredClass, where: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """Return a WHERE clause and its parameters: fields equal a value, are in a list of values, or are null (None).

    Raises:
        BadValueError: a value doesn't fit its field.
    """
    conditions: list[str] = []
    parameters: list[Any] = []
    for name, value in where.items():
        kind = idl_class.by_name[name].kind
        if value is None:
            conditions.append(f'"{name}" IS NULL')
        elif isinstance(value, Sequence) and not isinstance(value, str):
            conditions.append(f'"{name}" IN ({", ".join("?" * len(value))})')
            parameters.extend(to_storage(kind, item) for item in value)
        else:
            conditions.append(f'"{name}" = ?')
            parameters.append(to_storage(kind, value))
    return (" WHERE " + " AND ".join(conditions) if conditions else ""), parameters


def flesh(store: Store, class_id: str, row: Row, fields: Iterable[Any]) -> dict[str, Any]:
    """Return the linked objects of a row, as the ``fleshed`` argument of ``IdlClasses.wire_object``.

    Fields that aren't links are ignored (``patrons-042``). Links to classes that the sandbox doesn't have give nothing,
    or an empty list for ``has_many`` links.
    """
    classes, found = store.classes, dict[str, Any]()
    for name in fields:
        link = classes[class_id].links.get(name) if isinstance(name, str) else None
        if link is None:
            continue
        available = link.class_id in classes and not link.map
        if link.reltype == "has_many":
            rows = store.rows(link.class_id, {link.key: row[classes[class_id].primary]}) if available else []
            found[name] = [classes.wire_object(link.class_id, linked) for linked in rows]
            continue
        value = row.get(name) if link.reltype == "has_a" else row[classes[class_id].primary]
        rows = store.rows(link.class_id, {link.key: value}) if available and value is not None else []
        if rows:
            found[name] = classes.wire_object(link.class_id, rows[0])
    return found


class Replica:
    """A copy of the database that lags up to ``delay`` seconds behind; with infinity, until :meth:`catch_up`.

    ``connect`` opens a database file; ``primary`` returns a connection to the database to copy. One reader at a time.
    """

    def __init__(
        self,
        path: Path,
        delay: float,
        connect: Callable[[Path], sqlite3.Connection],
        primary: Callable[[], sqlite3.Connection],
    ) -> None:
        path.touch(mode=0o600)
        self._delay = delay
        self._primary = primary
        self._connection = connect(path)
        self._lock = threading.RLock()
        self._local = threading.local()
        self._behind_since: float | None = None
        self.catch_up()

    @property
    def serves(self) -> sqlite3.Connection | None:
        """The replica's connection inside :meth:`serving` in this thread, else None."""
        return self._connection if getattr(self._local, "served", False) else None

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Let this thread read from the replica inside the block."""
        with self._lock:
            if self._behind_since is not None and time.monotonic() - self._behind_since >= self._delay:
                self.catch_up()
            self._local.served = True
            try:
                yield
            finally:
                self._local.served = False

    def fall_behind(self) -> None:
        """Record that the primary was written to; the replica's lag starts with the first write it hasn't seen."""
        if self._behind_since is None:
            self._behind_since = time.monotonic()

    def catch_up(self) -> None:
        """Copy the primary's current state."""
        with self._lock:
            self._behind_since = None
            self._primary().backup(self._connection)


Row = dict[str, Any]
POSITIONS = "positions"


class Store:
    """Rows by class, in the wire types of pcrud: ints, money ``"4.50"``, booleans ``"t"``, timestamps, null.

    ``contents`` writes the fresh state if its file doesn't exist yet, and ``report`` gets the progress. The file is
    ``fresh``, which sandboxes may share, or a file next to ``path``. It is never changed: the first write copies it to
    ``path``. Tables have the columns of the latest release; ``classes`` are those of the imitated release.

    Threads may read concurrently; there is one writer at a time. Without an ORDER BY, rows come in PostgreSQL's
    physical order: by id, followed by rows updated or added since the fresh state (``move-fleshed-009``).

    Raises:
        ConfigurationError: the file isn't a sandbox's database, or the dataset is invalid.
        DiskError: the disk is full, or another process is creating the file.
    """

    def __init__(
        self,
        contents: Contents,
        path: Path | None = None,
        fresh: Path | None = None,
        report: Progress | None = None,
        classes: IdlClasses | None = None,
    ) -> None:
        self.classes = classes or idl_classes()
        self._folder = None if path else fresh_file.state_folder(fresh.parent if fresh else None)
        self.path = path or Path(self._folder.name if self._folder else "") / "sandbox.db"
        self._fresh_path = fresh or self.path.with_name(self.path.name + ".fresh")
        self._write_lock = threading.RLock()
        self._transaction_depth = 0
        self._drawn: dict[str, int] = {}
        self._refill: Callable[[sqlite3.Connection], None] | None = None
        self._pool: list[sqlite3.Connection] = []
        self._all: list[sqlite3.Connection] = []
        self._pool_lock = threading.Lock()
        self._local = threading.local()
        try:
            self._make(contents, report, lasting=bool(path or fresh))
        except BaseException:
            if self._folder:
                self._folder.cleanup()
            raise
        unchanged = not self.path.exists() or self.path.samefile(self._fresh_path)
        self._writer = None if unchanged else self._connect(self.path)
        self.replica: Replica | None = None
        self.orgs  # noqa: B018 - org_walk can't read them while a query runs

    def _make(self, contents: Contents, report: Progress | None, *, lasting: bool) -> None:
        if not self._fresh_path.exists():
            if self.path.exists() and self.path.stat().st_size:
                raise ConfigurationError(
                    "{path} isn't a sandbox database",
                    advice="move {path} away, or choose another path",
                    code="not-a-sandbox",
                    values={"path": self.path},
                )
            fresh_file.make(self._fresh_path, contents, report, lasting=lasting)
        if self._folder is None and not self.path.exists():
            # Users expect the file they named. A hard link is enough until the first write replaces it with a copy.
            try:
                self.path.hardlink_to(self._fresh_path)
            except OSError:  # not supported by every file system
                fresh_file.clone(self._fresh_path, self.path)

    def add_replica(self, delay: float) -> None:
        """Serve plain reads from a replica that lags ``delay`` seconds behind."""
        path = self.path.with_name(self.path.name + ".replica")
        self.replica = Replica(path, delay, self._connect, lambda: self._writer or self.read())

    def _connect(self, path: Path) -> sqlite3.Connection:
        # The fresh state never changes. As "immutable", SQLite reads it without locks or journal files.
        address = f"{path.absolute().as_uri()}{'?immutable=1' if path == self._fresh_path else ''}"
        connection = sqlite3.connect(address, isolation_level=None, check_same_thread=False, timeout=30, uri=True)
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("PRAGMA cache_size = -32768")
        register(connection)
        connection.create_function("org_walk", 3, self._org_walk)
        self._all.append(connection)
        return connection

    def _org_walk(self, walk: str, org_unit: int, depth: int | None) -> str:
        """Return org units as a JSON list for SQL; ``depth`` moves the start to the ancestor at that depth."""
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
        """Return this thread's connection for reading: inside its own transaction, the writer's."""
        writer = self._writer
        if writer is not None and getattr(self._local, "writing", False):
            return writer
        if self.replica is not None and (copy := self.replica.serves) is not None:
            return copy
        connection: sqlite3.Connection | None = getattr(self._local, "reader", None)
        if connection is None or self._local.of_fresh != (writer is None):
            with self._pool_lock:
                connection = self._pool.pop() if self._pool else None
            connection = connection or self._connect(self._fresh_path if writer is None else self.path)
            self._local.reader, self._local.of_fresh = connection, writer is None
        return connection

    def release(self) -> None:
        """Return this thread's connection to the pool when the thread ends."""
        connection = getattr(self._local, "reader", None)
        if connection is not None:
            self._local.reader = None
            with self._pool_lock:
                if self._local.of_fresh == (self._writer is None):
                    self._pool.append(connection)

    def _begin_writing(self) -> sqlite3.Connection:
        if self._writer is None:  # the first write: copy the fresh state
            fresh_file.clone(self._fresh_path, self.path)
            writer = self._connect(self.path)
            writer.execute("PRAGMA journal_mode = WAL")
            with self._pool_lock:
                self._pool.clear()
                self._writer = writer
        return self._writer

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Write in a transaction, rolled back if an exception leaves the block. Nested blocks join the outer one."""
        with self._write_lock:
            writer = self._begin_writing()
            if self._transaction_depth == 0:
                writer.execute("BEGIN IMMEDIATE")
            self._transaction_depth += 1
            self._local.writing = True
            try:
                yield writer
            except BaseException:
                if self._transaction_depth == 1:
                    writer.execute("ROLLBACK")
                    # In PostgreSQL, a rollback doesn't return values to a sequence.
                    drawn = list(self._drawn.items())
                    writer.executemany("INSERT OR REPLACE INTO sequences VALUES (?, ?)", drawn)
                raise
            else:
                if self._transaction_depth == 1:
                    writer.execute("COMMIT")
                    if self.replica is not None:
                        self.replica.fall_behind()
            finally:
                self._transaction_depth -= 1
                self._local.writing = self._transaction_depth > 0
                if self._transaction_depth == 0:
                    self._drawn.clear()

    def reset(self) -> None:
        """Restore the fresh state."""
        if self._refill is not None:
            self.refill(self._refill)
            return
        with self._write_lock, closing(self._connect(self._fresh_path)) as fresh:
            if self._writer is not None:
                fresh.backup(self._writer)
            if self.replica is not None:
                self.replica.catch_up()

    def refill(self, fill: Callable[[sqlite3.Connection], None]) -> None:
        """Replace all data; what ``fill`` writes is the fresh state from now on.

        For small datasets this is much faster than creating another database.
        """
        with self.transaction() as connection:
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            for (name,) in tables:
                if not name.startswith("sqlite_"):
                    connection.execute(f'DELETE FROM "{name}"')
            fill(connection)
        self._refill = fill
        for name in ("orgs", "profiles"):  # drop the cached trees
            self.__dict__.pop(name, None)
        self.orgs  # noqa: B018 - org_walk can't read them while a query runs
        if self.replica is not None:
            self.replica.catch_up()

    def close(self) -> None:
        """Close the database, and delete it if it is temporary."""
        for connection in self._all:
            connection.close()
        if self._folder:
            self._folder.cleanup()

    @cached_property
    def orgs(self) -> OrgTree:
        """The org unit tree."""
        connection = self.read()
        parents = connection.execute("SELECT id, parent_ou FROM aou ORDER BY id").fetchall()
        depths = connection.execute("SELECT aou.id, aout.depth FROM aou JOIN aout ON aout.id = aou.ou_type").fetchall()
        return OrgTree(parents, dict(depths))

    @cached_property
    def profiles(self) -> Tree:
        """The tree of permission profiles (``pgt``)."""
        return Tree(self.read().execute("SELECT id, parent FROM pgt ORDER BY id").fetchall())

    def rows(self, class_id: str, where: Mapping[str, Any] | None = None, order_by: str | None = None) -> list[Row]:
        """Return rows by field values (a list: any of them; None: null), as in :func:`where_clause`.

        ``order_by`` is SQL (``"family_name, id DESC"``).

        Raises:
            BadValueError: a value doesn't fit its field.
        """
        idl_class = idl_classes()[class_id]
        conditions, parameters = where_clause(idl_class, where or {})
        names = ", ".join(f'"{item.name}"' for item in idl_class.columns)
        order = order_by or f'_position, "{idl_class.primary}"'
        statement = f"SELECT {names} FROM {class_id}{conditions} ORDER BY {order}"
        columns = [(item.name, TO_WIRE[item.kind]) for item in idl_class.columns]
        found = [
            {
                name: value if convert is None or value is None else convert(value)
                for (name, convert), value in zip(columns, values, strict=True)
            }
            for values in self.read().execute(statement, parameters)
        ]
        if unstored := self.classes[class_id].unstored:
            found = [{**row, **dict.fromkeys(unstored, hash_of(row[idl_class.primary]))} for row in found]
        return found

    def row(self, class_id: str, key: Any) -> Row | None:
        """Return the row with a primary key, or None."""
        found = self.rows(class_id, {idl_classes()[class_id].primary: key})
        return found[0] if found else None

    def insert(self, class_id: str, values: Mapping[str, Any]) -> int:
        """Insert a row and return its id; without an id in ``values``, the next one of the class's sequence.

        Raises:
            BadValueError: a value doesn't fit its field.
        """
        idl_class = idl_classes()[class_id]
        with self.transaction() as connection:
            stored = stored_values(idl_class, values)
            if stored.get(idl_class.primary) is None:
                stored[idl_class.primary] = self.next_value(idl_class.sequence or idl_class.table)
            stored["_position"] = self.next_value(POSITIONS)
            names = ", ".join(f'"{name}"' for name in stored)
            marks = ", ".join("?" * len(stored))
            connection.execute(f"INSERT INTO {class_id} ({names}) VALUES ({marks})", list(stored.values()))
            return int(stored[idl_class.primary])

    def update(self, class_id: str, key: Any, changes: Mapping[str, Any]) -> None:
        """Change fields of one row; without an ORDER BY it comes last from now on.

        Raises:
            BadValueError: a value doesn't fit its field.
        """
        idl_class = idl_classes()[class_id]
        with self.transaction() as connection:
            stored = stored_values(idl_class, changes)
            stored["_position"] = self.next_value(POSITIONS)
            names = ", ".join(f'"{name}" = ?' for name in stored)
            statement = f'UPDATE {class_id} SET {names} WHERE "{idl_class.primary}" = ?'
            connection.execute(statement, [*stored.values(), key])

    def delete(self, class_id: str, key: Any) -> None:
        """Delete one row."""
        statement = f'DELETE FROM {class_id} WHERE "{idl_classes()[class_id].primary}" = ?'
        with self.transaction() as connection:
            connection.execute(statement, [key])

    def next_value(self, sequence: str) -> int:
        """Return the next value of a sequence, named as in PostgreSQL (``actor.usr_usrgroup_seq``)."""
        with self.transaction() as connection:
            connection.execute(
                "INSERT INTO sequences VALUES (?, 2) ON CONFLICT (name) DO UPDATE SET next = next + 1", [sequence]
            )
            (following,) = connection.execute("SELECT next FROM sequences WHERE name = ?", [sequence]).fetchone()
            self._drawn[sequence] = int(following)
            return int(following) - 1

    def password(self, user_id: int) -> str | None:
        """Return a user's password, or None."""
        statement = (
            "SELECT password FROM passwords WHERE usr = :id UNION ALL "
            "SELECT password FROM default_passwords WHERE above < :id LIMIT 1"
        )
        row = self.read().execute(statement, {"id": user_id}).fetchone()
        return row[0] if row else None

    def set_password(self, user_id: int, password: str) -> None:
        """Change a user's password."""
        with self.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO passwords VALUES (?, ?)", [user_id, password])
