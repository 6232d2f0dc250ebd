"""The sandbox's state: an SQLite database with a table for each class of the IDL.

It is one module because a store is one object: reading, writing, sequences and passwords share its connections
and its one lock.
"""

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
from evergreen_groups.sandbox.database.trees import OrgTree, ProfileTree
from evergreen_groups.sandbox.database.values import TO_WIRE, hash_of, register, to_storage

if TYPE_CHECKING:
    from evergreen_groups.sandbox.database.classes import StoredClass
    from evergreen_groups.sandbox.database.schema import Filling, Steps


def stored_values(known: StoredClass, values: Mapping[str, Any]) -> dict[str, Any]:
    """A row's values as the database holds them.

    Raises:
        BadValueError: a value doesn't fit its field.
    """
    return {name: to_storage(known.by_name[name].kind, value) for name, value in values.items()}


def where_clause(known: StoredClass, where: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """A WHERE clause for fields that have the values given (a list: one of them; None: null), and its parameters.

    Raises:
        BadValueError: a value doesn't fit its field.
    """
    conditions: list[str] = []
    parameters: list[Any] = []
    for name, value in where.items():
        kind = known.by_name[name].kind
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
    """The objects that the row's links lead to, for
    :meth:`~evergreen_groups.sandbox.database.classes.IdlClasses.wire_object`.

    Fields that are no links are passed over (``patrons-042``), and so are single links to classes that the sandbox
    doesn't keep; lists of those are empty.
    """
    classes, found = store.classes, dict[str, Any]()
    for name in fields:
        link = classes[class_id].links.get(name) if isinstance(name, str) else None
        if link is None:
            continue
        known = link.class_id in classes and not link.map
        if link.reltype == "has_many":
            rows = store.rows(link.class_id, {link.key: row[classes[class_id].primary]}) if known else []
            found[name] = [classes.wire_object(link.class_id, linked) for linked in rows]
            continue
        value = row.get(name) if link.reltype == "has_a" else row[classes[class_id].primary]
        rows = store.rows(link.class_id, {link.key: value}) if known and value is not None else []
        if rows:
            found[name] = classes.wire_object(link.class_id, rows[0])
    return found


class Replica:
    """The state as it was ``delay`` seconds ago at the latest; infinity: until :meth:`catch_up`.

    ``connect`` opens a database; ``original`` is the one to copy. One reader at a time.
    """

    def __init__(
        self,
        path: Path,
        delay: float,
        connect: Callable[[Path], sqlite3.Connection],
        original: Callable[[], sqlite3.Connection],
    ) -> None:
        path.touch(mode=0o600)
        self._delay = delay
        self._original = original
        self._connection = connect(path)
        self._lock = threading.RLock()
        self._local = threading.local()
        self._behind_since: float | None = None
        self.catch_up()

    @property
    def serves(self) -> sqlite3.Connection | None:
        """The connection for this thread while it is being served; None otherwise."""
        return self._connection if getattr(self._local, "served", False) else None

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Let this thread read from here."""
        with self._lock:
            if self._behind_since is not None and time.monotonic() - self._behind_since >= self._delay:
                self.catch_up()
            self._local.served = True
            try:
                yield
            finally:
                self._local.served = False

    def fall_behind(self) -> None:
        """Something was written into the original."""
        if self._behind_since is None:
            self._behind_since = time.monotonic()

    def catch_up(self) -> None:
        """Take over everything that the original has."""
        with self._lock:
            self._behind_since = None
            self._original().backup(self._connection)


Row = dict[str, Any]
POSITIONS = "positions"


class Store:
    """Rows by class, in the wire types of pcrud: ints, money ``"4.50"``, booleans ``"t"``, timestamps, null.

    The tables are those of the latest release's classes; ``classes`` are those of the release that is served, None for
    the same. ``filling`` writes the fresh state when the file is new, and ``report`` hears how far it is. The fresh
    state is a file beside ``path``, or the one named by ``fresh``, which many may use at once: it is only read, and
    copied when something is written for the first time. Many threads may read at once; there is one writer at a time.
    Rows without another order come in the physical order of PostgreSQL as seen there: by id, those that were updated or
    added since the fresh state after them (``move-fleshed-009``).

    Raises:
        ConfigurationError: the file is there, but no sandbox made it; what making the file raises.
    """

    def __init__(
        self,
        filling: Filling,
        path: Path | None = None,
        fresh: Path | None = None,
        report: Steps | None = None,
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
            self._make(filling, report, lasting=bool(path or fresh))
        except BaseException:
            if self._folder:
                self._folder.cleanup()
            raise
        self._writer = None if self._is_fresh else self._connect(self.path)
        self.replica: Replica | None = None
        self.orgs  # noqa: B018 - the SQL function org_walk needs them while a query runs

    def _make(self, filling: Filling, report: Steps | None, *, lasting: bool) -> None:
        if not self._fresh_path.exists():
            if self.path.exists() and self.path.stat().st_size:
                raise ConfigurationError(
                    "{path} isn't a sandbox's database",
                    advice="name another file, or delete it",
                    code="not-a-sandbox",
                    values={"path": self.path},
                )
            fresh_file.make(self._fresh_path, filling, report, lasting=lasting)
        if self._folder is None and not self.path.exists():
            # Whoever looks for the file finds it; both are one until something is written.
            try:
                self.path.hardlink_to(self._fresh_path)
            except OSError:  # not every file system has that
                fresh_file.clone(self._fresh_path, self.path)

    @property
    def _is_fresh(self) -> bool:
        """Whether nothing has been written since the file was made."""
        return not self.path.exists() or self.path.samefile(self._fresh_path)

    def add_replica(self, delay: float) -> None:
        """Have a copy for plain reads, which is ``delay`` seconds behind."""
        path = self.path.with_name(self.path.name + ".replica")
        self.replica = Replica(path, delay, self._connect, self._latest)

    def _latest(self) -> sqlite3.Connection:
        """A connection that sees everything written."""
        return self._writer or self.read()

    def _connect(self, path: Path) -> sqlite3.Connection:
        # Nobody ever writes into the fresh state, so reading it takes no locks, and leaves nothing beside it.
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
        """Give this thread's connection back, at the thread's end."""
        connection = getattr(self._local, "reader", None)
        if connection is not None:
            self._local.reader = None
            with self._pool_lock:
                if self._local.of_fresh == (self._writer is None):
                    self._pool.append(connection)

    def _begin_writing(self) -> sqlite3.Connection:
        """The connection that writes, into a copy of the fresh state where nothing has been written yet."""
        if self._writer is None:
            fresh_file.clone(self._fresh_path, self.path)
            writer = self._connect(self.path)
            writer.execute("PRAGMA journal_mode = WAL")
            with self._pool_lock:
                self._pool.clear()
                self._writer = writer
        return self._writer

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Write; all is undone if an exception leaves the block. A block inside another belongs to the outer one."""
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
                    self._keep_drawn(writer)
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

    def _keep_drawn(self, writer: sqlite3.Connection) -> None:
        """Write again what sequences have given: PostgreSQL doesn't take that back either."""
        writer.executemany("INSERT OR REPLACE INTO sequences VALUES (?, ?)", list(self._drawn.items()))

    def reset(self) -> None:
        """Put everything back to the fresh state."""
        if self._refill is not None:
            self.refill(self._refill)
            return
        with self._write_lock, closing(self._connect(self._fresh_path)) as fresh:
            if self._writer is not None:
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
        found = [
            {
                name: value if convert is None or value is None else convert(value)
                for (name, convert), value in zip(columns, values, strict=True)
            }
            for values in self.read().execute(statement, parameters)
        ]
        unstored = self.classes[class_id].unstored
        return [{**row, **dict.fromkeys(unstored, hash_of(row[known.primary]))} for row in found] if unstored else found

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
